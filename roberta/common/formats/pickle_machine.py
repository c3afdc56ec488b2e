"""A pickle read as data: a machine that knows the instructions of plain data, and calls nothing.

A pickle is a program for a stack machine, and Python's own machine imports and calls whatever it names. This one
knows the instructions that `torch.save` writes; a name is a word to it, and what "calling" it builds is looked up in a
table that the caller gives. A name outside of the table is an error, or, for files with more in them than the caller
needs, a record that nobody looks into. Source: the documentation of `pickletools`.
"""

from __future__ import annotations

import pickletools
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from roberta.common.formats.pickle_names import is_harmless
from roberta.common.storage.folders import CheckpointError

MAX_STEPS = 1_000_000  # a checkpoint with the state of its optimizer has fifty thousand

_GETATTR = ("builtins getattr", "__builtin__ getattr")


@dataclass(frozen=True)
class Name:
    """A class or function that a pickle names; never imported."""

    text: str


@dataclass(eq=False, repr=False)  # what refers to itself, or to one value many times, has no text
class Record:
    """An object that a pickle would make: the name of its class, what it would be made from, and its attributes."""

    name: str
    arguments: tuple[Any, ...] = ()
    state: Any = field(default_factory=dict)


Builder = Callable[..., Any]


def keyed(pairs: Iterable[tuple[Any, Any]]) -> dict[Any, Any]:
    """A dictionary of pairs, whose keys are texts, numbers, records, and tuples of these.

    Raises:
        TypeError: a key is a tuple in a tuple. Some hundred bytes of those, each the one before twice, take years to
            hash; and Python crashes where they are a million deep.
    """
    result = {}
    for key, value in pairs:
        if isinstance(key, tuple) and any(isinstance(item, tuple) for item in key):
            raise TypeError("a key of a dictionary is nested")
        result[key] = value
    return result


class Machine:
    """Runs one pickle after another over one table of names.

    Args:
        path: the file, for the texts of errors.
        builders: name, as "module attribute" -> what makes a value from its arguments; None makes a `Record`.
        persistent: what makes a value from a persistent id.
        keeps_unknown: make a `Record` of each name that the table lacks, instead of an error.
    """

    def __init__(
        self,
        path: Path,
        builders: Mapping[str, Builder | None],
        persistent: Callable[[Any], Any] | None = None,
        *,
        keeps_unknown: bool = False,
    ) -> None:
        self.path = path
        self.builders = builders
        self.persistent = persistent
        self.keeps_unknown = keeps_unknown
        self.stack: list[Any] = []
        self.marks: list[int] = []
        self.memo: dict[int, Any] = {}

    def run(self, stream: IO[bytes]) -> Any:
        """The value of the next pickle in a stream.

        Raises:
            CheckpointError: it is damaged, or holds an instruction or a name that is not known.
        """
        self.stack, self.marks, self.memo = [], [], {}
        try:
            for step, (opcode, argument, _) in enumerate(pickletools.genops(stream)):
                if opcode.name == "STOP":
                    return self.stack.pop()
                if step > MAX_STEPS:
                    raise CheckpointError(f"{self.path} has a pickle of over {MAX_STEPS} steps; it is not opened")
                if opcode.name not in _STEPS:
                    raise CheckpointError(
                        f"{self.path} has a pickle with {opcode.name}, which torch.save does not write; it is not opened"
                    )
                _STEPS[opcode.name](self, argument)
        except CheckpointError:
            raise
        except (ValueError, TypeError, IndexError, KeyError, AttributeError, MemoryError, RecursionError) as error:
            raise CheckpointError(f"{self.path} cannot be read, its pickle is damaged: {str(error)[:200]}") from None
        raise CheckpointError(f"{self.path} is cut short inside a pickle")

    def pop_marked(self) -> list[Any]:
        """Everything above the last mark."""
        start = self.marks.pop()
        items = self.stack[start:]
        if start > len(self.stack):
            raise IndexError("a mark above the stack")
        del self.stack[start:]
        return items

    def name(self, text: str) -> None:
        """Push a name: one that the table has, or a harmless one where unknown ones are kept."""
        self.stack.append(self.checked_name(text))

    def checked_name(self, text: str) -> Name:
        """A name that may occur."""
        if text not in self.builders and not (self.keeps_unknown and is_harmless(text)):
            raise CheckpointError(
                f"{self.path} would call {text.replace(' ', '.')[:200]}, which a checkpoint does not need; it is not "
                "opened. A file of the weights alone has no such name: torch.save(model.state_dict(), file)"
            )
        return Name(text)

    def build(self) -> None:
        """Replace a name and its arguments by what the table makes of them."""
        arguments, name = self.stack.pop(), self.stack.pop()
        if self.keeps_unknown and isinstance(name, Record):  # what an unknown call has made may be called in turn
            name = Name(name.name)
        if not isinstance(name, Name) or not isinstance(arguments, tuple):
            raise TypeError("a value that is not a name is called")
        if name.text in _GETATTR:
            self.stack.append(self.attribute(*arguments))
            return
        builder = self.builders.get(name.text)
        self.stack.append(Record(name.text, arguments) if builder is None else builder(*arguments))

    def attribute(self, owner: object, attribute: str, *_: object) -> Name | Record:
        """The value of `getattr`, which a member of an enumeration or a method is written with: a longer name.

        Args:
            owner: a name, or an object.
        """
        if not isinstance(attribute, str) or " " in attribute:
            raise TypeError("an attribute that is not a name")
        if isinstance(owner, Name):
            return self.checked_name(f"{owner.text}.{attribute}")
        if not isinstance(owner, Record):
            raise TypeError("an attribute of a value")
        return Record(self.checked_name(f"{owner.name}.{attribute}").text)

    def set_state(self) -> None:
        """Give a record its attributes; those of dictionaries and tensors are dropped."""
        state = self.stack.pop()
        if isinstance(self.stack[-1], Record):
            self.stack[-1].state = state

    def refer(self) -> None:
        """Replace a persistent id by its value."""
        if self.persistent is None:
            raise TypeError("a persistent id where none is allowed")
        self.stack.append(self.persistent(self.stack.pop()))

    def take_items(self, items: list[Any]) -> None:
        """Put pairs into the dictionary on the stack; those of a record are dropped."""
        if self.keeps_unknown and isinstance(self.stack[-1], Record):
            return
        if len(items) % 2 or not isinstance(self.stack[-1], dict):
            raise TypeError("items for a value that is not a dictionary")
        keys = [_shallow(key) for key in items[::2]] if self.keeps_unknown else items[::2]
        self.stack[-1].update(keyed(zip(keys, items[1::2], strict=True)))

    def take_values(self, values: list[Any]) -> None:
        """Append values to the list on the stack; those of a record are dropped."""
        if self.keeps_unknown and isinstance(self.stack[-1], Record):
            return
        if not isinstance(self.stack[-1], list):
            raise TypeError("values for a value that is not a list")
        self.stack[-1].extend(values)


def _last(count: int) -> Callable[[Machine, Any], None]:
    """A step that makes a tuple of the last values."""

    def step(machine: Machine, _: object) -> None:
        values = tuple(machine.stack[-count:])
        if len(values) < count:
            raise IndexError("the stack is too short for a tuple")
        machine.stack[-count:] = [values]

    return step


def _shallow(key: object) -> object:
    """A key that `keyed` takes; a record stands for a tuple in a tuple, which no name of a tensor is."""
    is_nested = isinstance(key, tuple) and any(isinstance(item, tuple) for item in key)
    return Record("builtins tuple") if is_nested else key


def _name_of_two(machine: Machine, _: object) -> None:
    """A name whose module and attribute lie on the stack."""
    attribute, module = machine.stack.pop(), machine.stack.pop()
    if not isinstance(module, str) or not isinstance(attribute, str):
        raise TypeError("a name that is not of texts")
    machine.name(f"{module} {attribute}")


def _build_with_keywords(machine: Machine, _: object) -> None:
    keywords = machine.stack.pop()
    machine.build()
    if isinstance(machine.stack[-1], Record):
        machine.stack[-1].state = keywords


def _set_of(values: Iterable[Any]) -> Record:
    """A set, as a record: hashing what a file holds may take years."""
    return Record("builtins set", tuple(values))


def _push(machine: Machine, value: object) -> None:
    machine.stack.append(value)


def _keep(machine: Machine, place: int) -> None:
    machine.memo[place] = machine.stack[-1]


def _recall(machine: Machine, place: int) -> None:
    machine.stack.append(machine.memo[place])


# Instruction -> what it does, one row each; whatever is not here is refused.
_STEPS: dict[str, Callable[[Machine, Any], Any]] = {
    "PROTO": lambda machine, version: None,
    "MARK": lambda machine, _: machine.marks.append(len(machine.stack)),
    "NONE": lambda machine, _: machine.stack.append(None),
    "NEWTRUE": lambda machine, _: machine.stack.append(True),
    "NEWFALSE": lambda machine, _: machine.stack.append(False),
    "BININT": _push,
    "BININT1": _push,
    "BININT2": _push,
    "LONG1": _push,
    "LONG4": _push,
    "BINFLOAT": _push,
    "BINUNICODE": _push,
    "SHORT_BINUNICODE": _push,
    "SHORT_BINBYTES": _push,
    "BINBYTES": _push,
    "EMPTY_DICT": lambda machine, _: machine.stack.append({}),
    "EMPTY_LIST": lambda machine, _: machine.stack.append([]),
    "EMPTY_TUPLE": lambda machine, _: machine.stack.append(()),
    "TUPLE": lambda machine, _: machine.stack.append(tuple(machine.pop_marked())),
    "TUPLE1": _last(1),
    "TUPLE2": _last(2),
    "TUPLE3": _last(3),
    "SETITEM": lambda machine, _: machine.take_items([machine.stack.pop(-2), machine.stack.pop()]),
    "SETITEMS": lambda machine, _: machine.take_items(machine.pop_marked()),
    "APPEND": lambda machine, _: machine.take_values([machine.stack.pop()]),
    "APPENDS": lambda machine, _: machine.take_values(machine.pop_marked()),
    "BINPUT": _keep,
    "LONG_BINPUT": _keep,
    "BINGET": _recall,
    "LONG_BINGET": _recall,
    "GLOBAL": Machine.name,
    "REDUCE": lambda machine, _: machine.build(),
    "NEWOBJ": lambda machine, _: machine.build(),
    "BUILD": lambda machine, _: machine.set_state(),
    "BINPERSID": lambda machine, _: machine.refer(),
    "POP": lambda machine, _: machine.stack.pop(),
    "POP_MARK": lambda machine, _: machine.pop_marked(),
    # of protocols 3 to 5, which a caller of torch.save may choose
    "FRAME": lambda machine, size: None,
    "MEMOIZE": lambda machine, _: _keep(machine, len(machine.memo)),
    "STACK_GLOBAL": _name_of_two,
    "NEWOBJ_EX": _build_with_keywords,
    "EMPTY_SET": lambda machine, _: machine.stack.append(_set_of(())),
    "FROZENSET": lambda machine, _: machine.stack.append(_set_of(machine.pop_marked())),
    "ADDITEMS": lambda machine, _: machine.take_values(machine.pop_marked()),
    "BINUNICODE8": _push,
    "BINBYTES8": _push,
    "BYTEARRAY8": _push,
}

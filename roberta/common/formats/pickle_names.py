"""Names in a pickle that is read as data: which may occur beside the weights, by lists of what is allowed.

Nothing that a pickle names is imported or called. A name is refused all the same where `pickle` would run what it
names, so that a file made to attack is an error and not a model. Of Python's own library only the values below may be
named: it holds everything that starts programs, and whatever reaches it. Other packages' names are words, as long as
they do not lead through a module of Python's library, or through an attribute that every object has.
"""

from __future__ import annotations

import builtins
import sys
from _compat_pickle import IMPORT_MAPPING, NAME_MAPPING

# Module of Python's library -> the names of values that people keep beside weights.
_VALUES: dict[str, tuple[str, ...]] = {
    "builtins": (
        "bool", "bytearray", "bytes", "complex", "dict", "float", "frozenset", "int", "list", "object", "range", "set",
        "slice", "str", "tuple", "type", "Ellipsis", "NotImplemented", "enumerate", "iter", "reversed", "zip",
        "abs", "len", "max", "min", "round", "sorted", "sum", "getattr",
        *(name for name, kind in vars(builtins).items() if isinstance(kind, type) and issubclass(kind, BaseException)),
    ),
    "_codecs": ("encode",),
    "_io": ("BytesIO", "StringIO"), "io": ("BytesIO", "StringIO"),
    "argparse": ("Namespace",),
    "array": ("array", "_array_reconstructor"),
    "collections": ("ChainMap", "Counter", "OrderedDict", "UserDict", "UserList", "defaultdict", "deque"),
    "copyreg": ("__newobj__", "__newobj_ex__", "_reconstructor"),
    "datetime": ("date", "datetime", "time", "timedelta", "timezone"),
    "decimal": ("Decimal",),
    "fractions": ("Fraction",),
    "functools": ("partial",),
    "itertools": ("chain", "count", "cycle", "islice", "product", "repeat"),
    "logging": ("Logger", "getLogger"),
    "math": ("ceil", "cos", "exp", "floor", "log", "log2", "pow", "sin", "sqrt", "tanh"),
    "operator": ("add", "itemgetter", "mul", "neg", "sub", "truediv"),
    "pathlib": ("Path", "PosixPath", "PurePath", "PurePosixPath", "PureWindowsPath", "WindowsPath"),
    "pathlib._local": ("Path", "PosixPath", "PurePath", "PurePosixPath", "PureWindowsPath", "WindowsPath"),
    "random": ("Random",),
    "re": ("_compile",),
    "types": ("MappingProxyType", "SimpleNamespace"),
    "typing": ("Any", "Callable", "Dict", "List", "Literal", "Mapping", "Optional", "Sequence", "Tuple", "Type", "Union"),
    "uuid": ("SafeUUID", "UUID"),
    "zoneinfo": ("ZoneInfo",),
}  # fmt: skip
_SAME = {"_operator": "operator", "_collections": "collections", "_functools": "functools", "_datetime": "datetime"}

# Modules of Python's library that other packages pass on under their own names, such as `six.moves.builtins`.
_PASSED_ON = frozenset({
    "builtins", "commands", "ctypes", "importlib", "nt", "os", "posix", "pty", "runpy", "shutil", "socket", "subprocess",
    "sys", "webbrowser",
})  # fmt: skip


def is_harmless(text: str) -> bool:
    """Whether a name may occur beside weights.

    Args:
        text: "module attribute", where the attribute may be several, with points between.
    """
    module, _, attribute = text.partition(" ")
    if (module, attribute) in NAME_MAPPING:  # the names of Python 2, which older protocols write
        module, attribute = NAME_MAPPING[module, attribute]
    module = IMPORT_MAPPING.get(module, module)
    first, *inner = module.split(".")
    if first in sys.stdlib_module_names:
        return attribute in _VALUES.get(_SAME.get(module, module), ())
    *path, last = attribute.split(".")
    leads_through = any(part in sys.stdlib_module_names for part in path) or last in _PASSED_ON
    return not (leads_through or _PASSED_ON.intersection(inner) or any(map(is_of_every_object, (*path, last))))


def is_of_every_object(attribute: str) -> bool:
    """Whether an attribute is one of Python's own, such as `__globals__`, from which everything is reached."""
    return attribute.startswith("__") and attribute.endswith("__")

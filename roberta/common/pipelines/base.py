"""The base of all pipelines: one input, a list or a stream; windows of texts in bounded memory; results in order."""

from __future__ import annotations

import contextlib
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, ClassVar, Generic, Literal, NamedTuple, Protocol, TypeVar

import numpy as np
from tqdm import tqdm

from roberta.common.config import RobertaConfig
from roberta.common.devices import device_of
from roberta.common.finite import are_finite, listed, not_finite
from roberta.common.inference.batching import bounded, check_budget, groups
from roberta.common.parameters import Head
from roberta.common.pipelines.arrays import rectangle
from roberta.common.pipelines.inputs import InputError, Item, PipelineOptions, TextOptions, text_of
from roberta.common.tokenizer.base import TokenizerBase
from roberta.common.values import Arrays

WINDOW_TEXTS = 1024  # texts that are tokenised together, at most, so that rows of one length meet
WINDOW_CHARACTERS = 2**20  # length of these texts together: a token takes about a hundred bytes until its results exist
FIRST_WINDOW = 16  # texts of a stream: its first results come before 1024 texts have been read
RESULT_BYTES = 64 * 2**20  # of model outputs at once: one mask alone has 200 kB of logits
PROGRESS_SECONDS = 2.0  # work that takes longer gets a progress bar on a terminal
OnError = Literal["stop", "skip"]


class Model(Protocol):
    """What pipelines need of a model, in any framework."""

    config: RobertaConfig
    head: ClassVar[Head]
    framework: str

    def infer(
        self,
        batch: Mapping[str, np.ndarray],
        *,
        where: np.ndarray | None = ...,
        dtype: str | None = ...,
        batch_tokens: int = ...,
    ) -> Arrays:
        """Outputs as numpy, in the order of the rows."""


class Row(NamedTuple):
    """One row of model inputs: its ids, special tokens included.

    Attributes:
        note: whatever the task needs for its results.
        types: of the tokens, if the tokenizer gives the model types other than 0.
    """

    ids: Sequence[int]
    note: Any = None
    types: Sequence[int] | None = None


O = TypeVar("O", bound=PipelineOptions)  # noqa: E741


class Pipeline(ABC, Generic[O]):
    """Text in, results out, with a model of any framework.

    Args:
        model: has `config` and `infer`.
        tokenizer: of the model.
        options: the defaults of each call.
        dtype: what `infer` computes in: None for the model's own, "bfloat16", "int8".
        batch_tokens: tokens that go through the model at once; a longer text goes alone.
        progress: show a bar, on a terminal, for lists that take longer than two seconds.
        on_error: for an unusable input of a list or a stream: "stop" raises its error, "skip" returns the error
            instead of its result and continues. In a stream, an input that is a `ValueError` counts as unusable.

    Attributes:
        full: number of rows so far that truncation has cut, or that have exactly the length it allows.
        task: its name, as in `roberta.pipeline(task)`. head: of the models it takes.
        device: where the model is.
    """

    task: ClassVar[str]
    head: ClassVar[Head]
    gives_one_of_one: ClassVar[bool] = False  # whether a list of one input gives its result without a list

    def __init__(
        self,
        model: Model,
        tokenizer: TokenizerBase,
        options: O,
        *,
        dtype: str | None = None,
        batch_tokens: int = 1024,
        progress: bool = True,
        on_error: OnError = "stop",
    ) -> None:
        check_budget(batch_tokens)
        if on_error not in ("stop", "skip"):
            raise ValueError(f"on_error={on_error!r} must be one of stop, skip")
        if model.head != self.head:
            raise ValueError(
                f"{self.task} takes a model of the class Roberta{self.head}, not {type(model).__name__}; "
                "give its folder to load what it holds as that class"
            )
        self.model = model
        self.tokenizer = tokenizer
        self.options = options
        self.dtype = dtype
        self.batch_tokens = batch_tokens
        self.progress = progress
        self.on_error = on_error
        self.full = 0

    def __repr__(self) -> str:
        """The task, the model's class and framework, and the settings."""
        return (
            f"{type(self).__name__}(task={self.task!r}, model={type(self.model).__name__}, "
            f"framework={self.model.framework!r}, dtype={self.dtype or 'of the model'!r}, "
            f"batch_tokens={self.batch_tokens}, options={self.options})"
        )

    @property
    def device(self) -> Any:
        """Where the model is: a torch.device, "GPU:0" of TensorFlow, a device of JAX."""
        return device_of(self.model)

    @property
    def limit(self) -> int:
        """The largest number of tokens in a row that both the model and the tokenizer allow."""
        return min(self.model.config.max_length_tokens, self.tokenizer.model_max_length)

    # -- calls ---------------------------------------------------------------------------------------------------

    def __call__(self, inputs: object, **options: Any) -> Any:
        """The result of one input, a list for a list, an iterator for any other iterable, which is read on request.

        Args:
            options: fields of this pipeline's options, for this call.

        Raises:
            TypeError: an option that does not exist.
            ValueError: an unusable input; names it. All inputs of a list are checked before any is computed.
        """
        chosen = self.options.updated(options)
        if isinstance(inputs, list | tuple):
            results = self.of_list(inputs, chosen)
            return results[0] if self.gives_one_of_one and len(results) == 1 else results
        if isinstance(inputs, str | bytes | Mapping) or not isinstance(inputs, Iterable):
            return next(self.window([Item(self.checked(Item(inputs, None)), None)], chosen))
        return self.of_stream(inputs, chosen)

    def of_list(self, inputs: Sequence[Any], options: O) -> list[Any]:
        """The result of each input of a list."""
        items = [self._item(value, number) for number, value in enumerate(inputs)]
        results: list[Any] = []
        # `delay` keeps short work quiet; with disable=None there is no bar where stderr is not a terminal
        bar = tqdm(
            total=len(items), unit=" inputs", delay=PROGRESS_SECONDS, disable=None if self.progress else True
        )  # fmt: skip
        with bar:
            for window in bounded(items, self._size, budget=self.window_characters(options), most=WINDOW_TEXTS):
                results += self.window(window, options)
                bar.update(len(window))
        return results

    def of_stream(self, inputs: Iterable[Any], options: O) -> Iterator[Any]:
        """The result of each input of a stream, which may be endless.

        If an input is unusable, or the stream fails, the earlier results come first.
        """
        items = (self._item(value, number) for number, value in enumerate(inputs))
        budget = self.window_characters(options)
        for window in bounded(items, self._size, budget=budget, most=WINDOW_TEXTS, first=FIRST_WINDOW):
            yield from self.window(window, options)

    def window_characters(self, options: O) -> int:
        """The total length of the inputs that may be in memory together, with their results."""
        return WINDOW_CHARACTERS

    def _item(self, value: object, number: int) -> Item:
        """A checked input of a list or a stream; its value is its error if it is unusable and to be skipped."""
        if isinstance(value, ValueError) and self.on_error == "skip":
            return Item(value, number)
        try:
            return Item(self.checked(Item(value, number)), number)
        except ValueError as error:
            if self.on_error == "stop":
                raise
            return Item(error, number)

    def _size(self, item: Item) -> int:
        return 0 if isinstance(item.value, ValueError) else self.characters(item)

    def window(self, items: Sequence[Item], options: O) -> Iterator[Any]:
        """The results of inputs that are in memory together; errors in the places of skipped ones."""
        usable = [item for item in items if not isinstance(item.value, ValueError)]
        try:
            rows = self.rows(usable, options) if usable else []
        except InputError as error:
            if self.on_error == "skip" and error.number is not None:
                yield from self.window([self._tried(item, options) for item in items], options)
                return
            if error.number is not None and items[0].number is not None and error.number > items[0].number:
                yield from self.window(items[: error.number - items[0].number], options)
            raise
        results = self._of_rows(usable, rows, options)
        for item in items:
            yield item.value if isinstance(item.value, ValueError) else next(results)

    def _tried(self, item: Item, options: O) -> Item:
        """An input; its value is its error if no rows can be made of it."""
        try:
            if not isinstance(item.value, ValueError):
                self.rows([item], options)
        except InputError as error:
            return Item(error, item.number)
        return item

    def _of_rows(self, items: Sequence[Item], rows: Sequence[Sequence[Row]], options: O) -> Iterator[Any]:
        """The results of inputs from their rows."""
        flat = [row for of_item in rows for row in of_item]
        values: list[Any] = [None] * len(flat)
        units, bytes_each, padded = self.memory(flat, options)
        for group in groups(units, max(RESULT_BYTES // bytes_each, 1), padded=padded):
            for index, value in zip(group, self.run([flat[index] for index in group], options), strict=True):
                values[index] = value
        start = 0
        for item, of_item in zip(items, rows, strict=True):
            stop = start + len(of_item)
            yield self.result(item, of_item, values[start:stop], options)
            start = stop

    # -- what a task defines -------------------------------------------------------------------------------------

    @abstractmethod
    def checked(self, item: Item) -> Any:
        """The input as the task uses it; raises `ValueError`, with the item's name, for an unusable one."""

    @abstractmethod
    def characters(self, item: Item) -> int:
        """The length of an input."""

    @abstractmethod
    def rows(self, items: Sequence[Item], options: O) -> list[list[Row]]:
        """The rows of each input; raises `InputError` if none can be made of one."""

    @abstractmethod
    def memory(self, rows: Sequence[Row], options: O) -> tuple[np.ndarray, int, bool]:
        """The size of the model's outputs: units of each row, bytes of a unit, whether shorter rows are padded."""

    @abstractmethod
    def run(self, rows: Sequence[Row], options: O) -> Iterable[Any]:
        """For each row, the part of the model's outputs that is kept."""

    @abstractmethod
    def result(self, item: Item, rows: Sequence[Row], values: Sequence[Any], options: O) -> Any:
        """The result of an input, from what `run` kept of its rows."""

    # -- helpers -------------------------------------------------------------------------------------------------

    def infer(self, rows: Sequence[Row], where: np.ndarray | None = None) -> Arrays:
        """The model's outputs for rows, padded on the right."""
        return self.outputs(self.batch(rows), where)

    def outputs(self, batch: Arrays, where: np.ndarray | None) -> Arrays:
        """The model's outputs for its inputs.

        Raises:
            ValueError: they are nan or infinite; names the weights that are, too.
        """
        output = self.model.infer(batch, where=where, dtype=self.dtype, batch_tokens=self.batch_tokens)
        if not all(map(are_finite, output.values())):
            raise ValueError(_why_not_finite(self.model, self.dtype))
        return output

    def batch(self, rows: Sequence[Row]) -> Arrays:
        """The model's inputs, (rows, tokens), padded on the right."""
        ids, mask = rectangle([row.ids for row in rows], self.model.config.pad_token_id)
        batch = {"input_ids": ids, "attention_mask": mask}
        if any(row.types is not None for row in rows):
            batch["token_type_ids"] = rectangle([row.types or [0] * len(row.ids) for row in rows], 0)[0]
        return batch

    def has_types(self, pair: bool) -> bool:
        """Whether the tokenizer gives the model token types other than 0."""
        return "token_type_ids" in self.tokenizer.model_input_names and self.tokenizer.layout(pair).has_types

    def encode(self, texts: Sequence[str], pairs: Sequence[str] | None = None, *, options: TextOptions) -> list[Row]:
        """The rows of texts, or of pairs of texts, truncated if the options say so."""
        longest = self.limit if options.max_length is None else min(options.max_length, self.limit)
        encoded = self.tokenizer(
            list(texts),
            pairs,
            truncation=options.truncation,
            max_length=longest if options.truncation else None,
            verbose=False,
        )
        if options.truncation:
            self.full += sum(len(ids) >= longest for ids in encoded["input_ids"])
        if not self.has_types(pairs is not None):
            return [Row(ids) for ids in encoded["input_ids"]]
        return [
            Row(ids, None, kinds) for ids, kinds in zip(encoded["input_ids"], encoded["token_type_ids"], strict=True)
        ]

    def row_of(self, ids: list[int], pair: list[int] | None = None, note: object = None) -> Row:
        """A row `<s> ids </s>`, or `<s> ids </s></s> pair </s>`, with token types if the tokenizer has them."""
        layout = self.tokenizer.layout(pair is not None)
        types = layout.row_types(ids, pair) if self.has_types(pair is not None) else None
        return Row(layout.row(ids, pair), note, types)

    def check_length(self, tokens: int, item: Item) -> None:
        """Raise `InputError` for a row that is longer than the model allows."""
        if tokens > self.limit:
            raise InputError(item, f"has {tokens} tokens, and the model takes {self.limit}; truncation=True cuts it")


def _why_not_finite(model: Any, dtype: str | None) -> str:
    """Why the outputs of a model are nan or infinite."""
    name = model.config.name_or_path or "the model"
    with contextlib.suppress(ValueError):  # a model that cannot be saved has no tensors by name
        tensors = model.to_save()[1]
        found = {name_: not_finite(load()) for name_, (_, _, load) in tensors.items()}
        wrong = {name_: what for name_, what in found.items() if what is not None}
        if wrong:
            return (
                f"the checkpoint {name} holds nan or infinity in {listed(wrong)}, so its answers are nan; use another"
            )
    again = f"give a dtype other than {dtype!r}" if dtype else 'try dtype="float64"'
    return (
        f"{name} answers nan or infinity, though all its weights are finite numbers: they are too large to compute with; "
        f"{again}"
    )


class TextPipeline(Pipeline[O]):
    """A pipeline whose inputs are texts."""

    def checked(self, item: Item) -> str:
        """The text; raises for anything else."""
        return text_of(item.value, item.name)

    def characters(self, item: Item) -> int:
        """Length of the text."""
        return len(item.value)

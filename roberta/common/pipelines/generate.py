"""Text generation: prompts are continued by `model.generate`."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, Protocol, Self, cast

import numpy as np

from roberta.common.frameworks import tensor_maker
from roberta.common.generation.config import GenerationConfig
from roberta.common.inference.batching import groups
from roberta.common.pipelines.arrays import rectangle
from roberta.common.pipelines.base import Model, OnError, Row, TextPipeline
from roberta.common.pipelines.inputs import InputError, Item, PipelineOptions
from roberta.common.tokenizer.base import TokenizerBase

# Defaults of the pipeline, beneath the settings in the model's folder and in the call; as in transformers.
_USUAL: dict[str, Any] = {"max_new_tokens": 256, "do_sample": True, "temperature": 0.7}
_SETTINGS = {setting.name for setting in dataclasses.fields(GenerationConfig)} - {"extra", "return_dict_in_generate"}
_TENSORS = {"pt": "pt", "tf": "tf", "flax": "jax"}  # framework -> its name in `return_tensors`


class GeneratingModel(Model, Protocol):
    """A model that generates."""

    @property
    def generation_config(self) -> GenerationConfig:
        """The model's own settings."""

    def generate(
        self, input_ids: Any, *, attention_mask: Any, seed: Sequence[tuple[int, int]] | None, **settings: Any
    ) -> Any:
        """Prompts and new tokens, (rows * returns, tokens)."""


class PromptNote(NamedTuple):
    """The number of new tokens of a row, and the place of its prompt in the list or stream."""

    new: int
    place: int


@dataclass(frozen=True)
class GenerateOptions(PipelineOptions):
    """How prompts are continued; every setting of `GenerationConfig` is an option too.

    Args:
        return_full_text: whether the text includes the prompt.
        return_tensors: "generated_token_ids" instead of "generated_text".
        prefix: text before each prompt, which is not in the result.
        add_special_tokens: put `<s>` before the prompt: every row that a model is trained on begins with it.
        end_prompt: put `</s>` after it too, as transformers does; a model then begins something new.
        truncation: cut a prompt that is too long for the model.
        handle_long_generation: "hole" drops the beginning of a prompt that leaves no room for max_new_tokens.
        clean_up_tokenization_spaces: of `tokenizer.decode`, as in transformers' pipeline; None for the
            tokenizer's own setting.
        seed: of sampling; the same in the three frameworks. The draws of a prompt depend only on the seed and on its
            place in the list or stream.
        settings: of `GenerationConfig`, by name.
    """

    return_full_text: bool = True
    return_tensors: bool = False
    prefix: str = ""
    add_special_tokens: bool = True
    end_prompt: bool = False
    truncation: bool = False
    handle_long_generation: Literal["hole"] | None = None
    clean_up_tokenization_spaces: bool | None = True
    seed: int | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.handle_long_generation not in (None, "hole"):
            raise ValueError(f'handle_long_generation={self.handle_long_generation!r} must be "hole" or None')

    def updated(self, changes: Mapping[str, Any]) -> Self:
        """The options with some replaced, settings of generation among them."""
        settings = {name: value for name, value in changes.items() if name in _SETTINGS}
        others = {name: value for name, value in changes.items() if name not in _SETTINGS}
        return super().updated({"settings": {**self.settings, **settings}, **others})


class Generate(TextPipeline[GenerateOptions]):
    """Prompts in, texts out.

    The result of a prompt is a list of {"generated_text"}, one for each of `num_return_sequences`.
    """

    task = "text-generation"
    head = "ForCausalLM"

    def __init__(
        self,
        model: Model,
        tokenizer: TokenizerBase,
        options: GenerateOptions,
        *,
        dtype: str | None = None,
        batch_tokens: int = 1024,
        progress: bool = True,
        on_error: OnError = "stop",
    ) -> None:
        if dtype is not None:
            raise ValueError(f"dtype={dtype!r} is of `infer`; to generate in it, load the model in it")
        super().__init__(model, tokenizer, options, batch_tokens=batch_tokens, progress=progress, on_error=on_error)
        self.convert = tensor_maker(_TENSORS[model.framework])
        mask = tokenizer("a", return_special_tokens_mask=True)["special_tokens_mask"]
        self.tokens_behind = mask[::-1].index(0)  # special tokens that end a row

    def rows(self, items: Sequence[Item], options: GenerateOptions) -> list[list[Row]]:
        """One row for each prompt; a `PromptNote` is its note."""
        ids = self.tokenizer(
            [options.prefix + item.value for item in items],
            add_special_tokens=options.add_special_tokens,
            truncation=options.truncation,
            max_length=self.limit if options.truncation else None,
            verbose=False,
        )["input_ids"]
        if options.add_special_tokens and not options.end_prompt:
            ids = [prompt[: len(prompt) - self.tokens_behind] for prompt in ids]
        return [[self.row(item, prompt, options)] for item, prompt in zip(items, ids, strict=True)]

    def row(self, item: Item, ids: list[int], options: GenerateOptions) -> Row:
        """A prompt, cut on the left if `handle_long_generation` says so, and its number of new tokens."""
        settings, is_usual = self.settings(options)
        new = settings["max_new_tokens"] if "max_new_tokens" in settings else settings["max_length"] - len(ids)
        if options.handle_long_generation == "hole" and len(ids) + new > self.limit:
            if new >= self.limit:
                raise ValueError(
                    f"max_new_tokens={new} leaves no room for a prompt: the model takes {self.limit} tokens"
                )
            ids = ids[new - self.limit :]
        if not ids:
            raise InputError(item, "is empty, and without special tokens there is nothing to continue")
        room = self.limit - len(ids)
        if is_usual:
            new = min(new, room)  # the pipeline's own default yields to the model's length
        if room < 1 or new > room:
            raise InputError(
                item,
                f"has {len(ids)} tokens, and with {max(new, 1)} new ones exceeds the {self.limit} that the model takes; "
                'lower max_new_tokens, or pass handle_long_generation="hole" to drop its beginning',
            )
        if new < 1:
            raise InputError(
                item,
                f"has {len(ids)} tokens, which max_length={settings['max_length']} counts, so that nothing is left to "
                "generate; pass max_new_tokens",
            )
        return Row(ids, PromptNote(new, item.number or 0))

    def settings(self, options: GenerateOptions) -> tuple[dict[str, Any], bool]:
        """All settings, and whether the number of new tokens is the pipeline's default."""
        model = cast(GeneratingModel, self.model).generation_config.to_diff_dict()
        if "max_length" in options.settings:  # it takes the place of max_new_tokens
            model.pop("max_new_tokens", None)
        own = {**model, **options.settings}
        own = {name: value for name, value in own.items() if name in _SETTINGS}
        settings = {**_USUAL, **own}
        if "max_length" in own and "max_new_tokens" not in own:
            del settings["max_new_tokens"]
        if not settings["do_sample"] and "temperature" not in own:
            del settings["temperature"]
        return settings, "max_length" not in own and "max_new_tokens" not in own

    def memory(self, rows: Sequence[Row], options: GenerateOptions) -> tuple[np.ndarray, int, bool]:
        """One group for all rows, as `run` makes batches by tokens itself."""
        return np.ones(len(rows), np.int64), 1, False

    def run(self, rows: Sequence[Row], options: GenerateOptions) -> list[np.ndarray]:
        """The sequences of each row, (returns, tokens), prompts included and padding left out."""
        settings, _ = self.settings(options)
        kinds: dict[tuple[int, int], list[int]] = {}
        for index, row in enumerate(rows):  # a batch shares its settings, and min_length counts the prompt
            kinds.setdefault((row.note.new, len(row.ids) if "min_length" in settings else 0), []).append(index)
        found: dict[int, np.ndarray] = {}
        for (new, _), kind in kinds.items():
            sizes = np.array([len(rows[index].ids) + new for index in kind])
            for group in groups(sizes, self.batch_tokens, padded=True):
                chosen = [kind[index] for index in group]
                seeds = None if options.seed is None else [(options.seed, rows[index].note.place) for index in chosen]
                sequences = self.generated([rows[index].ids for index in chosen], new, settings, seeds)
                found.update(zip(chosen, sequences, strict=True))
        return [found[index] for index in range(len(rows))]

    def generated(
        self,
        prompts: Sequence[Sequence[int]],
        new: int,
        settings: Mapping[str, Any],
        seeds: Sequence[tuple[int, int]] | None,
    ) -> list[np.ndarray]:
        """The sequences that the model makes of a batch of prompts."""
        pad = self.model.config.pad_token_id
        ids, mask = rectangle(prompts, pad, left=True)
        told = {name: value for name, value in settings.items() if name not in ("max_length", "max_new_tokens")}
        output = cast(GeneratingModel, self.model).generate(
            self.convert(ids), attention_mask=self.convert(mask), seed=seeds, max_new_tokens=new, **told
        )
        # numpy cannot read a GPU's tensor of PyTorch; TensorFlow's `cpu` is deprecated, and warns
        sequences = np.asarray(output.cpu() if hasattr(output, "detach") else output)
        found = []
        for prompt, part in zip(prompts, np.split(sequences, len(prompts)), strict=True):
            used = np.flatnonzero((part[:, ids.shape[1] :] != pad).any(axis=0))
            stop = ids.shape[1] + (int(used[-1]) + 1 if len(used) else 0)
            found.append(part[:, ids.shape[1] - len(prompt) : stop])
        return found

    def result(
        self, item: Item, rows: Sequence[Row], values: Sequence[np.ndarray], options: GenerateOptions
    ) -> list[dict[str, Any]]:
        """One dictionary for each sequence."""
        if options.return_tensors:
            return [{"generated_token_ids": sequence.tolist()} for sequence in values[0]]
        before = item.value if options.return_full_text else ""
        start = len(self.decoded(rows[0].ids, options))
        return [{"generated_text": before + self.decoded(s.tolist(), options)[start:]} for s in values[0]]

    def decoded(self, ids: Sequence[int], options: GenerateOptions) -> str:
        """The text of ids, without special tokens."""
        spaces = options.clean_up_tokenization_spaces
        return self.tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=spaces)

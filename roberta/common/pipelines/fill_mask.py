"""Fill-mask: the likeliest tokens for each `<mask>` of a text."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from roberta.common.pipelines.arrays import rectangle, softmax, top
from roberta.common.pipelines.base import Row, TextPipeline
from roberta.common.pipelines.inputs import InputError, Item, TextOptions, require_count, shown, take_text_options


@dataclass(frozen=True)
class FillMaskOptions(TextOptions):
    """How masks are filled.

    Args:
        top_k: results for each mask.
        targets: score only these words.
        tokenizer_kwargs: another way to give truncation and max_length.

    Source of names and defaults, here and in the other tasks: the pipelines of transformers 4.57.
    """

    top_k: int = 5
    targets: str | Sequence[str] | None = None
    tokenizer_kwargs: Mapping[str, Any] | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        require_count("top_k", self.top_k)
        if isinstance(self.targets, str):
            object.__setattr__(self, "targets", [self.targets])
        if self.targets is not None and not self.targets:
            raise ValueError("targets is empty; name at least one word, or omit it")
        take_text_options(self, "tokenizer_kwargs")


class FillMask(TextPipeline[FillMaskOptions]):
    """Texts with masks in, likely tokens out.

    The result of a text is a list of {"score", "token", "token_str", "sequence"}, best first; for a text with several
    masks it is a list of such lists, whose sequences keep the other masks and the special tokens.
    """

    task = "fill-mask"
    head = "ForMaskedLM"
    gives_one_of_one = True

    def rows(self, items: Sequence[Item], options: FillMaskOptions) -> list[list[Row]]:
        """One row for each text; the ids of the targets are its note."""
        encoded = self.encode([item.value for item in items], options=options)
        mask_id = self.mask_id
        for item, row in zip(items, encoded, strict=True):
            self.check_length(len(row.ids), item)
            if mask_id not in row.ids:
                raise InputError(
                    item,
                    f"has no {self.tokenizer.mask_token} to fill: {shown(item.value)}; write one, unless "
                    "truncation has cut it off",
                )
        targets = None if options.targets is None else self.target_ids(options.targets)
        return [[row._replace(note=targets)] for row in encoded]

    @property
    def mask_id(self) -> int:
        """The id of the mask token."""
        mask_id: int | None = self.tokenizer.mask_token_id
        if mask_id is None:
            raise ValueError("the tokenizer has no mask_token; set tokenizer.mask_token to fill masks")
        return mask_id

    def target_ids(self, targets: Sequence[str]) -> np.ndarray:
        """The token of each target: the target itself if the vocabulary has it, else its first piece as a text."""
        vocabulary, found = self.tokenizer.get_vocab(), []
        for target in targets:
            if not isinstance(target, str) or not target:
                raise ValueError(f"targets must be non-empty strings, got {target!r}")
            ids = [vocabulary[target]] if target in vocabulary else self.pieces(target)
            if len(ids) > 1:
                first = self.tokenizer.convert_ids_to_tokens(ids[0])
                warnings.warn(
                    f"target {target!r} is not a single token; its first piece {first!r} is scored", stacklevel=5
                )
            found.append(ids[0])
        return np.unique(found)

    def pieces(self, target: str) -> list[int]:
        """The ids of a word as a text."""
        ids: list[int] = self.tokenizer(target, add_special_tokens=False, verbose=False)["input_ids"]
        return ids

    def memory(self, rows: Sequence[Row], options: FillMaskOptions) -> tuple[np.ndarray, int, bool]:
        """The logits of each mask over the vocabulary, and as many again for their softmax."""
        masks = np.array([row.ids.count(self.mask_id) for row in rows])
        return masks, 8 * self.model.config.vocab_size, False

    def run(self, rows: Sequence[Row], options: FillMaskOptions) -> list[list[tuple[np.ndarray, np.ndarray]]]:
        """For each row, for each of its masks, the best tokens and their probabilities."""
        ids, mask = rectangle([row.ids for row in rows], self.model.config.pad_token_id)
        where = (ids == self.mask_id) & (mask == 1)
        scores = softmax(self.infer(rows, where)["logits"])
        tokens = rows[0].note
        chosen = scores if tokens is None else scores[:, tokens]
        best = top(chosen, min(options.top_k, chosen.shape[-1]))
        values = np.take_along_axis(chosen, best, axis=-1)
        pairs = list(zip(best if tokens is None else tokens[best], values, strict=True))
        ends = np.cumsum(where.sum(axis=1)).tolist()
        return [pairs[start:stop] for start, stop in zip([0, *ends], ends, strict=False)]

    def result(self, item: Item, rows: Sequence[Row], values: Sequence[Any], options: FillMaskOptions) -> Any:
        """A list for one mask, a list of lists for several."""
        ids = np.asarray(rows[0].ids)
        places = np.flatnonzero(ids == self.mask_id)
        is_one = len(places) == 1
        found = [
            [self.filled(ids, place, int(token), float(score), is_one) for token, score in zip(*best, strict=True)]
            for place, best in zip(places.tolist(), values[0], strict=True)
        ]
        return found[0] if is_one else found

    def filled(self, ids: np.ndarray, place: int, token: int, score: float, is_one: bool) -> dict[str, Any]:
        """One result: the text with a token instead of a mask."""
        filled = ids.copy()
        filled[place] = token
        kept = filled[filled != self.tokenizer.pad_token_id].tolist()
        return {
            "score": score,
            "token": token,
            "token_str": self.tokenizer.decode([token]),
            "sequence": self.tokenizer.decode(kept, skip_special_tokens=is_one),
        }

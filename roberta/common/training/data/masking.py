"""Dynamic masking: which tokens of a row are hidden, and what replaces them, drawn again in every epoch.

What is drawn for a row depends only on (seed, epoch, index), not on the rows beside it, the framework or the process.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from roberta.common.tokenizer.base import TokenizerBase
from roberta.common.training.data.batches import Draw

Method = Literal["exact", "bernoulli"]

# How the byte-level vocabulary writes the white space that a token can start with: " ", \n, \t, \r, \v, \f.


@dataclass(frozen=True)
class Masking:
    """How tokens are hidden.

    Attributes:
        rate: the share of tokens that are chosen.
        random_share: the share of the chosen ones that are replaced by a token drawn from the vocabulary.
        unchanged_share: the share of the chosen ones that are left as they are. The others become <mask>.
        method: "exact" chooses floor(rate * tokens + U[0, 1)) of a row's tokens, <s> and </s> among them, and draws
            replacements from all tokens but <s>, <pad>, </s> and <unk> (fairseq). "bernoulli" chooses each token
            independently, never special tokens, and draws replacements from the whole vocabulary (transformers).
        whole_words: choose words, whose tokens all have the same fate; a special token is a word. `rate` is then the
            share of words.

    Raises:
        ValueError: the rate is not between 0 and 1, or the shares add up to more than 1.

    Source: the paper's section 4.1; fairseq's `MaskTokensDataset` and transformers' `DataCollatorForLanguageModeling`.
    """

    rate: float = 0.15
    random_share: float = 0.1
    unchanged_share: float = 0.1
    method: Method = "exact"
    whole_words: bool = False

    def __post_init__(self) -> None:
        if not 0 < self.rate < 1:
            raise ValueError(f"masking: rate={self.rate!r} must be above 0 and below 1; RoBERTa has 0.15")
        shares = (self.random_share, self.unchanged_share)
        if not (min(shares) >= 0 and sum(shares) <= 1):
            raise ValueError(
                f"masking: random_share={shares[0]!r} and unchanged_share={shares[1]!r} must be at least 0 and add up "
                "to at most 1; RoBERTa has 0.1 and 0.1"
            )
        if self.method not in ("exact", "bernoulli"):
            raise ValueError(f"masking: method={self.method!r} is unknown; it must be 'exact' or 'bernoulli'")


@dataclass(frozen=True)
class MaskingVocabulary:
    """What masking needs to know about a vocabulary.

    Attributes:
        size: the largest id + 1.
        mask_token_id: of <mask>.
        special_ids: of all special tokens, <mask> among them.
        undrawn_ids: never drawn as replacements by the "exact" method: <s>, <pad>, </s> and <unk>.
        word_starts: bool, (size,): whether a token starts a word.
        word_ends: bool, (size,): whether a token ends a word, so that the next one starts one; None for no such token.
    """

    size: int
    mask_token_id: int
    special_ids: tuple[int, ...]
    undrawn_ids: tuple[int, ...]
    word_starts: np.ndarray
    word_ends: np.ndarray | None = None

    @classmethod
    def of(cls, tokenizer: TokenizerBase) -> MaskingVocabulary:
        """The vocabulary of a tokenizer; `ValueError` if it has no <mask>."""
        if tokenizer.mask_token_id is None:
            raise ValueError(
                "the tokenizer has no mask token; set tokenizer.mask_token to train masked language models"
            )
        specials = {id_ for id_ in tokenizer.all_special_ids if id_ is not None}
        named = ("bos", "pad", "eos", "unk", "cls", "sep")
        undrawn = {getattr(tokenizer, f"{name}_token_id") for name in named} - {None}
        tokens = tokenizer.get_vocab()
        size = max(tokens.values()) + 1
        starts, ends = np.zeros((2, size), bool)
        for token, id_ in tokens.items():
            begins, finishes = tokenizer.word_borders(token)
            starts[id_], ends[id_] = begins or id_ in specials, finishes
        return cls(size, tokenizer.mask_token_id, tuple(sorted(specials)), tuple(sorted(undrawn)), starts, ends)


class Masker:
    """Hides tokens of rows."""

    def __init__(self, vocabulary: MaskingVocabulary, masking: Masking | None = None) -> None:
        self.masking = Masking() if masking is None else masking
        self.vocabulary = vocabulary
        self._is_special = np.zeros(vocabulary.size, bool)
        self._is_special[list(vocabulary.special_ids)] = True
        every = np.arange(vocabulary.size)
        exact = self.masking.method == "exact"
        self._replacements = np.setdiff1d(every, vocabulary.undrawn_ids) if exact else every

    def __call__(
        self, ids: np.ndarray, draw: Draw, word_ids: Sequence[int | None] | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """The row as the model reads it, and the places of the chosen tokens, increasing.

        Args:
            ids: int64, (tokens,), with its special tokens and without padding. A <mask> in it is never chosen.
            draw: seeds everything that is drawn.
            word_ids: for whole words, the number of each token's word, or None, as tokenizers give them; without them a
                word starts where a token starts with white space or follows a special token.
        """
        if not len(ids):
            return ids, np.zeros(0, np.int64)
        # The order of an epoch is drawn from (seed, epoch), which seeds like (seed, epoch, 0); + 1 keeps them apart.
        generator = np.random.default_rng((draw[0], draw[1], draw[2] + 1))
        unit = self._units(ids, word_ids)
        is_chosen, fate = self._choose(ids, unit, generator)
        places = np.flatnonzero(is_chosen[unit])
        return self._replace(ids, places, fate[unit[places]], generator), places

    def _units(self, ids: np.ndarray, word_ids: Sequence[int | None] | None) -> np.ndarray:
        """The number of each token's unit: its word, or without whole words the token itself; (tokens,)."""
        if not self.masking.whole_words:
            return np.arange(len(ids))
        starts = np.ones(len(ids), bool)
        if word_ids is not None:
            words = np.array(word_ids, np.float64)  # None becomes nan, which differs from every word
            starts[1:] = words[1:] != words[:-1]
        else:
            starts[1:] = self.vocabulary.word_starts[ids[1:]] | self._is_special[ids[:-1]]
            if self.vocabulary.word_ends is not None:
                starts[1:] |= self.vocabulary.word_ends[ids[:-1]]
        return np.cumsum(starts) - 1

    def _choose(
        self, ids: np.ndarray, unit: np.ndarray, generator: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray]:
        """Whether each unit is chosen, and a number in [0, 1) that decides what becomes of it; both (units,)."""
        exact = self.masking.method == "exact"
        barred = ids == self.vocabulary.mask_token_id if exact else self._is_special[ids]
        count = unit[-1] + 1
        rank, fate = generator.random((2, count))
        rank[unit[barred]] = 2.0  # after all others, and above every rate
        if not exact:
            return rank < self.masking.rate, fate
        wanted = min(int(self.masking.rate * count + generator.random()), int((rank < 1).sum()))
        is_chosen = np.zeros(count, bool)
        is_chosen[np.argsort(rank)[:wanted]] = True
        return is_chosen, fate

    def _replace(
        self, ids: np.ndarray, places: np.ndarray, fate: np.ndarray, generator: np.random.Generator
    ) -> np.ndarray:
        unchanged = self.masking.unchanged_share
        random = places[(fate >= unchanged) & (fate < unchanged + self.masking.random_share)]
        drawn = (generator.random(len(random)) * len(self._replacements)).astype(np.int64)
        result = ids.copy()
        result[places[fate >= unchanged + self.masking.random_share]] = self.vocabulary.mask_token_id
        result[random] = self._replacements[drawn]
        return result


def __getattr__(name: str) -> Any:
    """The name that `MaskingVocabulary` had before, for one release."""
    if name != "Vocabulary":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    warnings.warn(f"{__name__}.Vocabulary is now called MaskingVocabulary", DeprecationWarning, stacklevel=2)
    return MaskingVocabulary

"""Parts of documents in pairs: half of them follow one another, half do not.

BERT draws a partner for every second part from anywhere, so that some tokens are there twice and others never. Here
parts trade partners instead: each is in exactly one pair.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TypeVar

import numpy as np

T = TypeVar("T")


def paired(documents: Sequence[Sequence[T]], seed: int) -> Iterator[tuple[T, T | None, bool]]:
    """(first, second, whether the second follows the first) of each pair; a part that is left over has None.

    A last part that nothing follows goes with that of another document. Of the pairs that follow one another, as many
    trade their seconds as makes up half of all pairs: with another document's where no document has more than half
    of those that trade, else some with another place of their own. Documents of few parts can be in more pairs of
    the second kind than half.
    """
    generator = np.random.default_rng(seed)
    last = [document[-1] for document in documents if len(document) % 2]
    last = [last[place] for place in generator.permutation(len(last))]
    firsts = [part for document in documents for part in document[: len(document) // 2 * 2 : 2]]
    seconds = [part for document in documents for part in document[1::2]]
    owners = np.repeat(np.arange(len(documents)), [len(document) // 2 for document in documents])
    wanted = (len(firsts) + len(last) // 2) // 2 - len(last) // 2
    partners = _traded(owners, wanted, generator)
    for place, partner in enumerate(partners):
        yield firsts[place], seconds[partner], bool(place == partner)
    for place in range(0, len(last) - 1, 2):
        yield last[place], last[place + 1], False
    if len(last) % 2:
        yield last[-1], None, False


def _traded(owners: np.ndarray, wanted: int, generator: np.random.Generator) -> np.ndarray:
    """The pair whose second each pair gets; `wanted` of them, where there are two, not their own.

    Those that trade are drawn, laid in a circle document by document, and each takes the second of the one so far
    ahead as the largest document is long: within its own document it cannot land, unless that has more than half.

    Args:
        owners: (pairs,), the number of the document of each.
    """
    partners = np.arange(len(owners))
    if wanted < 2:
        return partners
    chosen = generator.permutation(len(owners))[:wanted]
    shuffled = generator.permutation(int(owners.max()) + 1)
    circle = chosen[np.argsort(shuffled[owners[chosen]], kind="stable")]
    largest = int(np.bincount(owners[chosen]).max())
    partners[circle] = np.roll(circle, -min(largest, wanted // 2))
    return partners

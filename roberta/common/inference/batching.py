"""Which rows go through a model together: order by length, token budgets, packs, length buckets, windows over a stream.

All of it is numpy on lengths; the tokens stay where they are. The way back to the caller's order is numpy's own:
`result[group] = values` for each group of `groups`.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

import numpy as np

_T = TypeVar("_T")

# Below it a shorter bucket saves no time: the layers' fixed cost is larger than that of sixteen tokens.
SHORTEST_BUCKET = 16
BUCKET_MULTIPLE = 8  # what vector units and matrix libraries divide by


def groups(lengths: np.ndarray, budget: int, *, padded: bool) -> list[np.ndarray]:
    """The rows of each group, as indices, longest rows first; every row is in exactly one group.

    Args:
        lengths: int, (rows,): tokens of each row. An empty row counts as one token.
        budget: tokens of a group, at most. A row that is longer goes alone.
        padded: count rows * longest, what a rectangle of tokens costs; else the sum of the lengths, what packed
            tokens cost.

    Returns:
        Arrays of int64. Example: lengths [3, 9, 4], budget 9 -> [[1], [2, 0]] padded or not. Rows of one length keep
        their order.

    Raises:
        ValueError: a budget below 1.
    """
    check_budget(budget)
    costs = np.maximum(np.asarray(lengths, np.int64), 1)
    order = np.argsort(-costs, kind="stable")
    sizes = costs[order]
    ends = np.cumsum(sizes)
    result, start, before = [], 0, 0
    while start < len(order):
        packed = int(np.searchsorted(ends, before + budget, side="right"))
        stop = start + budget // int(sizes[start]) if padded else packed
        stop = min(max(stop, start + 1), len(order))
        result.append(order[start:stop])
        start, before = stop, int(ends[stop - 1])
    return result


def packs(lengths: np.ndarray, size: int) -> list[np.ndarray]:
    """The rows that share `size` places, as indices; every row is in exactly one pack, and few places stay empty.

    Best fit decreasing: the longest row first, each into the fullest pack that has room. So no pack has room for the
    first row of a later one: putting rows in this order into one pack until the next does not fit finds these packs.

    Args:
        lengths: int, (rows,): tokens of each row. An empty row counts as one token.
        size: a row that is longer goes alone.

    Returns:
        Arrays of int64. Example: lengths [3, 9, 4, 2], size 9 -> [[1], [2, 0, 3]].

    Raises:
        ValueError: a size below 1.
    """
    check_budget(size)
    costs = np.minimum(np.maximum(np.asarray(lengths, np.int64), 1), size)
    found: list[list[int]] = []
    by_room: dict[int, list[int]] = {}
    rooms = 0  # bit r is set where a pack has room for r tokens: the best fit without looking at every pack
    for row in np.argsort(-costs, kind="stable").tolist():
        cost = int(costs[row])
        fitting = rooms >> cost
        if fitting:
            room = cost + (fitting & -fitting).bit_length() - 1
            pack = by_room[room].pop()
            rooms ^= 0 if by_room[room] else 1 << room
        else:
            room, pack = size, len(found)
            found.append([])
        found[pack].append(row)
        by_room.setdefault(room - cost, []).append(pack)
        rooms |= 1 << room - cost
    return [np.array(pack, np.int64) for pack in found]


def check_budget(budget: int) -> None:
    """Raise `ValueError` unless a token budget is an int of at least 1."""
    if isinstance(budget, bool) or not isinstance(budget, int | np.integer) or budget < 1:
        raise ValueError(f"a token budget of {budget!r} holds no token; batch_tokens must be an int of at least 1")


def buckets(longest: int, count: int = 8) -> tuple[int, ...]:
    """At most `count` increasing lengths, the last one `longest`, to one of which each row is padded.

    They grow by one factor, so that the share of padding is the same for short and long rows; all but the last are
    multiples of 8, and none but the last is below 16. Example: 512 -> (16, 32, 48, 72, 120, 192, 320, 512).

    Raises:
        ValueError: `longest` or `count` below 1.
    """
    for name, value in (("longest", longest), ("count", count)):
        if value < 1:
            raise ValueError(f"{name}={value} must be at least 1")
    first = min(SHORTEST_BUCKET, longest)
    wanted = np.geomspace(first, longest, count)[:-1]  # the last is exact, not rounded
    rounded = (-(-wanted // BUCKET_MULTIPLE) * BUCKET_MULTIPLE).astype(int)
    shorter = {int(length) for length in rounded if length < longest}
    return (*sorted(shorter), longest)


def lists_of(items: Iterable[_T], size: int) -> Iterator[list[_T]]:
    """The items in lists of `size`, the last one shorter; one list at a time is taken from a stream.

    Raises:
        ValueError: a size below 1.
    """
    if size < 1:
        raise ValueError(f"a window of {size} items would never end; size must be at least 1")
    return _lists_of(iter(items), size)


def _lists_of(stream: Iterator[_T], size: int) -> Iterator[list[_T]]:
    while window := list(itertools.islice(stream, size)):
        yield window


def bounded(
    items: Iterable[_T], cost: Callable[[_T], int], *, budget: int, most: int, first: int | None = None
) -> Iterator[list[_T]]:
    """Consecutive items in lists of at most `most`, whose costs stay within a budget; a stream is read list by list.

    Where the stream fails, the items before are given first, and then its error is raised.

    Args:
        cost: of an item, in units of the budget. An item above the budget is in a list alone.
        first: items of the first list, at most; each further one may be twice as long, so that the first results
            of a slow stream come soon. None for `most`.

    Raises:
        ValueError: `most` or `first` below 1.
    """
    if most < 1 or (first is not None and first < 1):
        raise ValueError(f"lists of at most {most} items, the first of {first}; both must be at least 1")
    return _bounded(iter(items), cost, budget, most, most if first is None else min(first, most))


def _bounded(stream: Iterator[_T], cost: Callable[[_T], int], budget: int, most: int, size: int) -> Iterator[list[_T]]:
    window: list[_T] = []
    total, failure = 0, None
    while True:
        try:
            item = next(stream)
        except StopIteration:
            break
        except Exception as error:
            failure = error
            break
        if window and total + cost(item) > budget:
            yield window
            window, total = [], 0
        window.append(item)
        total += cost(item)
        if len(window) == size:
            yield window
            window, total, size = [], 0, min(2 * size, most)
    if window:
        yield window
    if failure is not None:
        raise failure

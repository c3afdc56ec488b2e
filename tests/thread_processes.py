"""Processes of a training that are threads, for tests of what they send each other."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any


class Threads:
    """Processes that are threads of this one."""

    def __init__(self, rank: int, count: int, shared: list[Any], barrier: threading.Barrier) -> None:
        self.rank, self.count, self.shared, self.barrier = rank, count, shared, barrier

    def gathered(self, value: int) -> list[int]:
        self.shared[self.rank] = value
        self.barrier.wait(20)
        found = list(self.shared)
        self.barrier.wait(20)
        return found


def in_all(count: int, work: Callable[[Threads], Any]) -> list[Any]:
    """What a function returns or raises in each of several processes."""
    barrier, shared, results = threading.Barrier(count), [0] * count, [None] * count

    def run(rank: int) -> None:
        try:
            results[rank] = work(Threads(rank, count, shared, barrier))
        except BaseException as error:
            results[rank] = error

    threads = [threading.Thread(target=run, args=(rank,)) for rank in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    return results

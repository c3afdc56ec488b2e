"""How far apart two runs are, how much of it rounding explains, and where it first explains too little.

We measure rounding on the model itself: the reference runs in float32 and in float64. Rounding is proportional to the
step between two numbers, so float64 explains 2^-29 of that. In our measurements, correct implementations were at most 8
times that apart (random and trained checkpoints up to roberta-base's size, values and gradients).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from roberta.common.values import Arrays

MARGIN = 32  # times what rounding explains; correct implementations reach 8, a wrong epsilon 10^6 and more
FLOOR = 8  # steps between numbers of the size of the largest value, in case the measured rounding happens to be 0

# The step between 1 and the next number, of each dtype that we compute or store tensors in.
STEPS = {"float64": 2.0**-52, "float32": 2.0**-23, "float16": 2.0**-10, "bfloat16": 2.0**-7}


@dataclass(frozen=True)
class Difference:
    """The largest difference of one run from the reference at one place.

    Attributes:
        absolute, relative: `relative` to the largest value of the reference there; nan where either is not finite.
        is_explained: whether rounding explains it.
    """

    absolute: float
    relative: float
    is_explained: bool


@dataclass(frozen=True)
class Comparison:
    """One place, or the gradient of one parameter.

    Attributes:
        largest: value of the reference there.
        rounding: absolute difference that rounding explains, before the margin.
        bound: the absolute difference up to which runs agree.
        differences: by run, the reference left out.
    """

    place: str
    largest: float
    rounding: float
    bound: float
    differences: Mapping[str, Difference]


def apart(found: np.ndarray, wanted: np.ndarray) -> float:
    """The largest absolute difference; nan when a value is not finite, 0 for arrays without values."""
    if found.shape != wanted.shape:
        return float("nan")
    with np.errstate(invalid="ignore"):
        return float(np.abs(found.astype(np.float64) - wanted).max(initial=0.0))


def rounding(single: Arrays, double: Arrays, step: float) -> dict[str, float]:
    """How much rounding in steps of `step` explains at each place, from the same run in float32 and in float64."""
    return {name: apart(single[name], double[name]) * step / STEPS["float32"] for name in double}


def comparisons(
    reference: Arrays, explained: Mapping[str, float], others: Mapping[str, Arrays], step: float
) -> list[Comparison]:
    """A comparison for each array of the reference, in its order.

    Args:
        explained: the result of `rounding`.
        others: the other runs by name.
        step: of `STEPS`.
    """
    result = []
    for place, wanted in reference.items():
        largest = float(np.abs(wanted.astype(np.float64)).max(initial=0.0))
        bound = MARGIN * explained[place] + FLOOR * step * largest
        found = {name: difference(arrays[place], wanted, largest, bound) for name, arrays in others.items()}
        result.append(Comparison(place, largest, explained[place], bound, found))
    return result


def difference(found: np.ndarray, wanted: np.ndarray, largest: float, bound: float) -> Difference:
    """How far one array is from the reference's; nan is never within a bound."""
    absolute = apart(found, wanted)
    relative = absolute / largest if largest else (0.0 if absolute == 0.0 else float("inf"))
    return Difference(absolute, relative, absolute <= bound)


def first_beyond(table: list[Comparison], run: str) -> Comparison | None:
    """The first place where a run is further from the reference than rounding explains; None when nowhere."""
    return next((row for row in table if not row.differences[run].is_explained), None)


def odd_one_out(place: str, runs: Mapping[str, Arrays], bound: float) -> str | None:
    """The run that all others disagree with at a place; None when there is no majority against one.

    Args:
        runs: by name, the reference included; three or more make a majority.
    """
    for suspect in runs:
        others = [arrays[place] for name, arrays in runs.items() if name != suspect]
        agree = all(apart(other, others[0]) <= bound for other in others[1:])
        if len(others) > 1 and agree and not apart(runs[suspect][place], others[0]) <= bound:
            return suspect
    return None

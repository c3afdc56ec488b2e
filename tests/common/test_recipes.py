"""Recipes and their schedule of learning rates."""

from __future__ import annotations

import math
import re
from dataclasses import replace
from typing import Any

import pytest

from roberta import Training
from roberta.common.training.data.tasks import HEADS
from roberta.common.training.recipes import (
    RECIPES,
    Recipe,
    Schedule,
    check_warmup,
    default_recipe,
    learning_rate,
    recipe_named,
    total_updates,
)

PLAIN = Recipe(1e-3, 8, warmup=10)

# The values of fairseq's configurations and of the paper, typed again: rate, batch, updates or epochs, warm-up, decay.
PRINTED: dict[str, tuple[float, int, int, float, float]] = {
    "roberta-base": (0.0006, 8192, 500000, 24000, 0.01),
    "roberta-large": (0.0004, 8192, 500000, 30000, 0.01),
    "fairseq-base": (0.0005, 2048, 125000, 10000, 0.01),
    "mnli": (1e-05, 32, 123873, 7432, 0.1),
    "qnli": (1e-05, 32, 33112, 1986, 0.1),
    "qqp": (1e-05, 32, 113272, 28318, 0.1),
    "rte": (2e-05, 16, 2036, 122, 0.1),
    "sst-2": (1e-05, 32, 20935, 1256, 0.1),
    "mrpc": (1e-05, 16, 2296, 137, 0.1),
    "cola": (1e-05, 16, 5336, 320, 0.1),
    "sts-b": (2e-05, 16, 3598, 214, 0.1),
    "commonsense-qa": (1e-05, 16, 3000, 150, 0.01),
    "winogrande": (1e-05, 32, 23750, 2375, 0.01),
    "wsc": (2e-05, 64, 2000, 250, 0.01),
    "imdb": (1e-05, 32, 7812, 469, 0.1),
    "squad": (1.5e-05, 48, 2, 0.06, 0.01),
    "race": (1e-05, 16, 4, 0.06, 0.1),
}


@pytest.mark.parametrize("name", PRINTED)
def test_a_recipe_is_what_its_source_prints(name: str) -> None:
    recipe = recipe_named(name)
    length = recipe.updates or recipe.epochs
    found = (recipe.learning_rate, recipe.batch_size, length, recipe.warmup, recipe.weight_decay)
    assert found == PRINTED[name]
    assert (recipe.beta1, recipe.beta2, recipe.epsilon, recipe.clip_norm) == (0.9, 0.98, 1e-6, 0)
    assert (recipe.power, recipe.end_learning_rate, recipe.decays_all) == (1, 0, True)


def test_every_recipe_says_where_it_is_from() -> None:
    assert all(recipe.source for recipe in RECIPES.values())


@pytest.mark.parametrize("task", HEADS)
def test_every_task_has_a_recipe_that_knows_how_long_to_train(task: Any) -> None:
    assert total_updates(default_recipe(task), examples=1000) > 1


def test_unknown_names_are_answered_with_the_known_ones() -> None:
    with pytest.raises(ValueError, match=r"recipe 'bert' is unknown; it must be one of roberta-base, .*tagging"):
        recipe_named("bert")
    with pytest.raises(ValueError, match=r"task='nsp' is unknown; it must be one of mlm, clm"):
        default_recipe("nsp")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"learning_rate": 0.0}, "learning_rate=0 must be above 0"),
        ({"learning_rate": math.nan}, "learning_rate=nan must be a number of at least 0, and finite"),
        ({"learning_rate": "1e-3"}, "learning_rate='1e-3' must be a number"),
        ({"batch_size": 0}, "batch_size=0 must be an int of at least 1"),
        ({"batch_size": 2.5}, "batch_size=2.5 must be an int of at least 1"),
        ({"batch_size": True}, "batch_size=True must be an int"),
        ({"updates": 0}, "updates=0 must be an int of at least 1, and finite, or None"),
        ({"epochs": 0}, "epochs=0 must be above 0"),
        ({"warmup": -1}, "warmup=-1 must be a number of at least 0"),
        ({"power": math.inf}, "power=inf must be a number of at least 0, and finite"),
        ({"end_learning_rate": 1.0}, "end_learning_rate=1.0 must be at most learning_rate=0.001"),
        ({"beta1": 1.0}, "beta1=1.0 must be a number of at least 0 and below 1"),
        ({"beta2": -0.1}, "beta2=-0.1 must be a number of at least 0 and below 1"),
        ({"epsilon": 0.0}, "epsilon=0 must be above 0"),
        ({"weight_decay": -0.1}, "weight_decay=-0.1 must be a number of at least 0"),
        ({"clip_norm": -1.0}, "clip_norm=-1.0 must be a number of at least 0"),
        ({"dropout": 1.0}, "dropout=1.0 must be a number of at least 0 and below 1, or None"),
        ({"schedule": "step"}, "schedule='step' must be one of polynomial, linear, cosine, constant, inverse_sqrt"),
        ({"schedule": "cosine", "power": 2.0}, "power=2.0 is for schedule='polynomial'; omit it for schedule='cosine'"),
        ({"schedule": "constant", "end_learning_rate": 1e-5}, "end_learning_rate=1e-05 is for a schedule with an end"),
        ({"updates": 5, "epochs": 2}, "updates=5 and epochs=2 both say how long to train"),
    ],
)
def test_a_number_out_of_range_is_named(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match="^recipe: " + re.escape(message)):
        replace(PLAIN, **changes)


@pytest.mark.parametrize("warmup", [10, 0.1])
@pytest.mark.parametrize(("power", "end"), [(1.0, 0.0), (2.0, 1e-4), (0.5, 1e-5)])
def test_the_rate_rises_and_falls_by_the_formula(warmup: float, power: float, end: float) -> None:
    recipe = replace(PLAIN, warmup=warmup, power=power, end_learning_rate=end)
    rates = [learning_rate(number, recipe, 100) for number in range(1, 101)]
    assert rates[:10] == pytest.approx([1e-4 * number for number in range(1, 11)], rel=1e-12)
    falling = [(1e-3 - end) * ((100 - number) / 90) ** power + end for number in range(11, 101)]
    assert rates[10:] == pytest.approx(falling, rel=1e-12)


@pytest.mark.parametrize(
    ("warmup", "number", "wanted"),
    [
        (10, 1, 1e-4),  # not 0: the first update learns
        (10, 10, 1e-3),
        (10, 100, 0.0),
        (10, 1000, 0.0),
        (0, 1, 0.99e-3),
        (100, 100, 1e-3),  # everything is warm-up
        (200, 100, 0.5e-3),
        (0.999, 99, 99 / 99.9 * 1e-3),
    ],
)
def test_the_rate_at_the_corners(warmup: float, number: int, wanted: float) -> None:
    assert learning_rate(number, replace(PLAIN, warmup=warmup), 100) == pytest.approx(wanted, rel=1e-12)


@pytest.mark.parametrize("warmup", [0, 10, 0.1])
@pytest.mark.parametrize("schedule", ["cosine", "constant", "inverse_sqrt", "linear"])
def test_every_schedule_is_its_formula_in_optax(schedule: Schedule, warmup: float) -> None:
    optax = pytest.importorskip("optax", reason="optax is not installed")
    end = 1e-4 if schedule in ("cosine", "linear") else 0.0
    recipe = replace(PLAIN, schedule=schedule, warmup=warmup, end_learning_rate=end)
    updates = 10 if warmup else 0
    after = {
        "cosine": lambda: optax.cosine_decay_schedule(1e-3, 100 - updates, alpha=0.1),
        "constant": lambda: optax.constant_schedule(1e-3),
        "linear": lambda: optax.linear_schedule(1e-3, 1e-4, 100 - updates),
        # optax has none: Vaswani et al. 2017, equation 3, is d^-0.5 * step^-0.5 after the warm-up
        "inverse_sqrt": lambda: lambda step: 1e-3 * ((step + (updates or 10_000)) / (updates or 10_000)) ** -0.5,
    }[schedule]()
    rising = optax.linear_schedule(0.0, 1e-3, updates)
    wanted = [float(rising(number) if number <= updates else after(number - updates)) for number in range(1, 101)]
    assert [learning_rate(number, recipe, 100) for number in range(1, 101)] == pytest.approx(wanted, rel=1e-5)


def test_another_schedule_takes_back_the_shape_of_a_recipe_and_refuses_a_power() -> None:
    given: dict[str, Any] = {"task": "multiple-choice", "model": "m", "train": ["t"], "output": "o"}
    fixed = Training(**given, recipe="race-fairseq", schedule="cosine").chosen_recipe
    assert (fixed.schedule, fixed.power, fixed.end_learning_rate) == ("cosine", 1.0, 0.0)
    assert Training(**given, schedule="linear", end_learning_rate=1e-6).chosen_recipe.end_learning_rate == 1e-6
    with pytest.raises(ValueError, match=r"power=1.0 is for schedule='polynomial'; omit it for schedule='cosine'"):
        Training(**given, schedule="cosine", power=1.0)


@pytest.mark.parametrize("end", [0.0, 1e-4])
def test_without_decay_the_last_update_has_the_full_rate(end: float) -> None:
    """(rate - end) * (1 - 1) ** 0 + end, as the formula of pretraining.md has it."""
    recipe = replace(PLAIN, power=0, end_learning_rate=end)
    assert [learning_rate(number, recipe, 100) for number in (10, 99, 100)] == [1e-3, 1e-3, 1e-3]


def test_a_fixed_rate_stays_to_the_last_update() -> None:
    recipe = recipe_named("race-fairseq")
    assert {learning_rate(number, recipe, 50) for number in range(1, 51)} == {1e-5}


@pytest.mark.parametrize(
    ("changes", "examples", "wanted"),
    [({"updates": 7}, 1000, 7), ({"epochs": 2}, 12, 3), ({"epochs": 2}, 13, 4), ({"epochs": 0.01}, 13, 1)],
)
def test_epochs_become_updates(changes: dict[str, Any], examples: int, wanted: int) -> None:
    assert total_updates(replace(PLAIN, **changes), examples) == wanted


def test_a_warmup_that_is_longer_than_the_training_is_refused_and_the_way_out_reaches_the_rate() -> None:
    short = replace(recipe_named("sst-2"), updates=500)
    assert max(learning_rate(number, short, 500) for number in range(1, 501)) < short.learning_rate / 2
    with pytest.raises(ValueError, match=r"warmup=1256 is more than the 500 updates .* give warmup=0.06 .* up to 500"):
        check_warmup(short, 500)
    for warmup in (0.06, 500):
        given = replace(short, warmup=warmup)
        check_warmup(given, 500)
        assert max(learning_rate(number, given, 500) for number in range(1, 501)) == short.learning_rate


def test_how_long_to_train_has_to_be_said() -> None:
    with pytest.raises(ValueError, match="updates=None and epochs=None; one of them must say how long"):
        total_updates(PLAIN, 10)
    with pytest.raises(ValueError, match="the data has no examples"):
        total_updates(PLAIN, 0)


def test_a_training_of_one_update_learns_something() -> None:
    assert learning_rate(1, replace(PLAIN, warmup=0), 1) == PLAIN.learning_rate

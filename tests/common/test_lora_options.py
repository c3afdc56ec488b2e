"""The options of an adapter that is trained, what it begins with, and the requests that are refused."""

from __future__ import annotations

from pathlib import Path

import adapters
import numpy as np
import pytest
from checkpoints import make, small_config

from roberta import Training
from roberta.common.parameters import parameters
from roberta.common.training.lora import LoraOptions, base_named, check_new, lora_options, new_adapter

TABLE = parameters(small_config("ForSequenceClassification"), "ForSequenceClassification")


def test_options_are_read_from_a_text() -> None:
    assert lora_options("r=4, alpha=8,targets=query+output.dense") == LoraOptions(4, 8.0, ("query", "output.dense"))
    assert lora_options("r=4") == LoraOptions(4, None, ("query", "value"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("r=0", "r=0 must be a whole number of at least 1"),
        ("r=two", "r=two must be"),
        ("alpha=nan", "alpha=nan must be a number above 0"),
        ("rank=8", "'rank=8' must be one of r, alpha and targets"),
        ("r=8,r=4", "'r=4' must be one of"),
        ("", "'' must be one of"),
        ("r=8,dropout=0.05", "is not supported; omit dropout=0.05"),
    ],
)
def test_an_option_that_cannot_be_is_refused_before_anything_is_read(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Training(task="mlm", model="m", train=["t"], output="o", lora=text)


def test_a_begins_uniform_and_b_with_zero() -> None:
    start = new_adapter(LoraOptions(3, 6.0, ("query", "output.dense")), TABLE, 5, "base")
    assert len(start.pairs) == 6
    assert start.whole == tuple(name for name in TABLE if name.startswith("classifier."))
    for name, (a, b) in start.pairs.items():
        assert a.shape == (3, TABLE[name].shape[1])
        assert b.shape == (TABLE[name].shape[0], 3)
        assert not b.any()
        limit = TABLE[name].shape[1] ** -0.5
        assert 0.8 * limit < np.abs(a).max() <= limit, "torch's kaiming_uniform_ with a = sqrt(5)"
        assert start.scale(name) == 2.0
    again = new_adapter(LoraOptions(3, 6.0, ("query",)), TABLE, 5, "base")
    assert all(np.array_equal(a, start.pairs[name][0]) for name, (a, _) in again.pairs.items())
    other = new_adapter(LoraOptions(3, 6.0, ("query",)), TABLE, 6, "base")
    assert not any(np.array_equal(a, start.pairs[name][0]) for name, (a, _) in other.pairs.items())


def test_what_an_adapter_cannot_be_trained_on_is_refused(tmp_path: Path) -> None:
    with pytest.raises(
        ValueError, match="targets='querry' is not a module of the encoder; it must be one of dense, key"
    ):
        new_adapter(LoraOptions(targets=("query", "querry")), TABLE, 0, None)
    with pytest.raises(ValueError, match="r=25 is more than the rank of roberta"):
        new_adapter(LoraOptions(25), TABLE, 0, None)
    with pytest.raises(ValueError, match=r"the base has no lm_head.bias, and an adapter does not hold it"):
        check_new(["lm_head.bias"], new_adapter(LoraOptions(), TABLE, 0, None))
    base = make(tmp_path / "base", "Model")
    assert base_named(base) == str(base.resolve())
    for wrong in (base / "config.json", base / "model.safetensors"):
        with pytest.raises(ValueError, match="a folder with weights, or a name on the hub"):
            base_named(wrong)
    adapters.write(base, adapters.two_layers())
    with pytest.raises(ValueError, match="merge it first"):
        base_named(base)

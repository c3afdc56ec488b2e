"""After each change of a model, a save can be loaded unchanged in all frameworks, or nothing is written."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import checkpoints
import numpy as np
import pytest
from backends import NEEDS, assert_close, backend
from changes import CHANGES, Change
from saves import contents

HEAD = "ForMaskedLM"
INPUTS = checkpoints.batch(HEAD, checkpoints.small_config(HEAD))


def cases() -> list[Any]:
    """Every change for every framework that is installed."""
    found = []
    for name, make in CHANGES.items():
        if all(importlib.util.find_spec(module) for module in NEEDS[name]):
            backend(name)
            found += [
                pytest.param(name, change, id=f"{name}-{what.replace(' ', '-')}") for what, change in make().items()
            ]
    return found


def logits(name: str, model: Any) -> np.ndarray:
    """The results of the model, in float64, for a batch."""
    if name == "pt":
        model.double()
    if name == "flax":
        import jax

        return np.asarray(
            model(**INPUTS, params=jax.tree.map(lambda leaf: leaf.astype("float64"), model.params)).logits
        )
    return backend(name).run(model, INPUTS)["logits"]


@pytest.mark.filterwarnings("ignore:.*quantize:UserWarning")  # Keras warns about layers it cannot quantise
@pytest.mark.parametrize(("framework", "change"), cases())
def test_a_changed_model_is_loaded_as_it_was_or_nothing_is_written(
    framework: str, change: Change, tmp_path: Path
) -> None:
    folder = checkpoints.make(tmp_path / "model", HEAD, num_hidden_layers=1)
    before, options = contents(folder), {}
    model = backend(framework).load(HEAD, folder)
    change.make(model)
    if change.refused:
        with pytest.raises(ValueError, match=change.refused):
            model.save_pretrained(folder)
        assert contents(folder) == before
    if change.refused and change.mend is None:
        return
    if change.mend is not None:
        given = change.mend(model)
        options = given if isinstance(given, dict) else {}
    model.save_pretrained(folder, **options)
    wanted = logits(framework, backend(framework).load(HEAD, folder) if options else model)
    for other in CHANGES:
        found = backend(other).run(backend(other).load(HEAD, folder), INPUTS)["logits"]
        assert_close(found, wanted, 1e-10, other)


@pytest.mark.parametrize("options", [{"safe_serialization": False}, {"max_shard_size": "8KB"}], ids=str)
@pytest.mark.parametrize("framework", ["pt", "tf", "flax"], ids="in_{}".format)
def test_every_way_to_write_a_folder_refuses_it(framework: str, options: dict[str, Any], tmp_path: Path) -> None:
    folder = checkpoints.make(tmp_path / "model", HEAD, num_hidden_layers=1)
    before = contents(folder)
    model = backend(framework).load(HEAD, folder)
    model.config.update({"vocab_size": 99})
    for save in (lambda: model.save_pretrained(folder, **options), model.to_save, lambda: model.push_to_hub("me/it")):
        with pytest.raises(ValueError, match=r"cannot be saved(.|\n)*\[99, 24\] by the config"):
            save()
    assert contents(folder) == before

"""Adapters of a loaded model: put in, switched, merged, taken out bit for bit, and saved."""

from __future__ import annotations

import copy
import io
import pickle
from pathlib import Path
from typing import Any

import adapters
import checkpoints
import numpy as np
import pytest
from backends import Arrays, Backend, assert_close

from roberta.common.storage.folders import CheckpointError

HEAD = "ForSequenceClassification"
NAME = f"{adapters.QUERY}.weight"


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("live")
    checkpoints.make(root / "base", HEAD)
    adapters.write(root / "first", adapters.two_layers())
    tensors = adapters.draw(adapters.pair(adapters.QUERY, 24, 24), seed=9) | adapters.head(5)
    adapters.write(root / "second", tensors, modules_to_save=["classifier"])
    return root


def copies(backend: Backend, model: object) -> Arrays:
    return {name: np.array(value) for name, value in backend.parameters(model).items()}


def same_bits(one: Arrays, other: Arrays) -> bool:
    return one.keys() == other.keys() and all(np.array_equal(value, other[name]) for name, value in one.items())


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_the_base_is_back_bit_for_bit(backend: Backend, root: Path, dtype: str) -> None:
    model = backend.load(HEAD, root / "base", dtype=dtype)
    before = copies(backend, model)
    model.load_adapter(root / "first")
    change = adapters.change(adapters.two_layers(), adapters.QUERY, 3.0)
    bound = 1e-13 if dtype == "float64" else 1e-6
    assert_close(copies(backend, model)[NAME], before[NAME] + change, bound)
    for take_out, put_in in (
        (model.unmerge_adapter, model.merge_adapter),
        (model.disable_adapters, model.enable_adapters),
    ):
        take_out()
        assert same_bits(copies(backend, model), before)
        put_in()
        assert_close(copies(backend, model)[NAME], before[NAME] + change, bound)
    model.delete_adapter("default")
    assert same_bits(copies(backend, model), before)
    with pytest.raises(ValueError, match="the model has no adapter"):
        model.active_adapters()


def test_adapters_are_switched_and_added_up(backend: Backend, root: Path) -> None:
    model = backend.load(HEAD, root / "base")
    inputs = checkpoints.batch(HEAD, model.config)
    plain = np.array(copies(backend, model)[NAME])
    model.load_adapter(root / "first", "one")
    model.load_adapter(root / "second", "two")
    assert model.active_adapters() == ["two"]
    alone = backend.load(HEAD, root / "base", adapter=root / "second")
    assert_close(backend.run(model, inputs)["logits"], backend.run(alone, inputs)["logits"])
    two = copies(backend, model)[NAME] - plain
    model.set_adapter("one")
    one = copies(backend, model)[NAME] - plain
    model.set_adapter(["one", "two"])
    assert_close(copies(backend, model)[NAME], plain + one + two, 1e-13)
    model.delete_adapter("one")
    assert model.active_adapters() == ["two"]
    assert_close(copies(backend, model)[NAME], plain + two, 1e-13)
    with pytest.raises(ValueError, match="has an adapter 'two' already; give another adapter_name"):
        model.load_adapter(root / "first", "two")
    with pytest.raises(ValueError, match=r"has no adapter 'three'; it has \['two'\]"):
        model.set_adapter("three")


def test_infer_computes_with_the_adapter(backend: Backend, root: Path) -> None:
    model = backend.load(HEAD, root / "base")
    inputs = checkpoints.batch(HEAD, model.config)
    before = model.infer(inputs)["logits"]
    model.load_adapter(root / "first")
    assert_close(model.infer(inputs)["logits"], backend.run(model, inputs)["logits"], 1e-9)
    model.disable_adapters()
    assert np.array_equal(model.infer(inputs)["logits"], before)


def test_an_adapter_is_saved_alone_until_it_is_merged(backend: Backend, root: Path, tmp_path: Path) -> None:
    model = backend.load(HEAD, root / "base")
    model.load_adapter(root / "second")
    with_adapter = copies(backend, model)
    for save, folder in ((model.save_pretrained, tmp_path / "alone"), (model.save_adapter, tmp_path / "too")):
        save(folder)
        names = sorted(path.name for path in folder.iterdir())
        assert names == ["adapter_config.json", "adapter_model.safetensors"]
        assert same_bits(copies(backend, backend.load(HEAD, root / "base", adapter=folder)), with_adapter)
    model.merge_adapter()
    model.save_pretrained(tmp_path / "whole")
    assert same_bits(copies(backend, backend.load(HEAD, tmp_path / "whole")), with_adapter)
    model.unmerge_adapter()
    model.save_pretrained(tmp_path / "base")
    plain = copies(backend, backend.load(HEAD, root / "base"))
    assert same_bits(copies(backend, backend.load(HEAD, tmp_path / "base")), plain)


def test_training_an_adapted_weight_is_not_undone_without_a_warning(backend: Backend, root: Path) -> None:
    model = backend.load(HEAD, root / "base")
    model.load_adapter(root / "first")
    model.write_weights({NAME: model.read_weights([NAME])[NAME] + 1})
    with pytest.raises(ValueError, match=r"was changed while the adapters \['default'\] were in the weights"):
        model.disable_adapters()


def test_an_adapter_of_another_base_leaves_the_model_as_it_was(backend: Backend, root: Path, tmp_path: Path) -> None:
    model = backend.load(HEAD, root / "base")
    before = copies(backend, model)
    folder = adapters.write(tmp_path, adapters.draw(adapters.pair(adapters.QUERY, 32, 32)))
    with pytest.raises(CheckpointError, match="does not fit this model"):
        model.load_adapter(folder)
    assert same_bits(copies(backend, model), before)
    model.load_adapter(root / "first")


def test_whole_weights_are_not_written_beside_an_adapter_that_would_be_merged_again(
    backend: Backend, root: Path, tmp_path: Path
) -> None:
    model = backend.load(HEAD, root / "base")
    model.load_adapter(root / "first")
    model.save_pretrained(tmp_path / "out")
    model.merge_adapter()
    with pytest.raises(CheckpointError, match=r"holds an adapter, which would be merged .* again"):
        model.save_pretrained(tmp_path / "out")
    # the way out
    model.save_pretrained(tmp_path / "whole")
    assert same_bits(copies(backend, backend.load(HEAD, tmp_path / "whole")), copies(backend, model))


def test_an_adapter_whose_weights_were_trained_is_not_saved_as_it_was(
    backend: Backend, root: Path, tmp_path: Path
) -> None:
    model = backend.load(HEAD, root / "base")
    model.load_adapter(root / "first")
    model.write_weights({NAME: copies(backend, model)[NAME] + 1.0})
    with pytest.raises(ValueError, match=r"was changed while the adapters .* merge_adapter\(\)"):
        model.save_pretrained(tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_choice_that_cannot_be_made_leaves_the_active_adapter(backend: Backend, root: Path) -> None:
    model = backend.load(HEAD, root / "base")
    model.load_adapter(root / "first", "one")
    model.load_adapter(root / "second", "two")
    model.load_adapter(root / "second", "three")
    model.set_adapter(["one", "two", "two"])
    there = copies(backend, model)
    with pytest.raises(ValueError, match="both bring classifier"):
        model.set_adapter(["two", "three"])
    assert model.active_adapters() == ["one", "two"]
    assert same_bits(copies(backend, model), there)


def test_what_was_trained_beside_an_adapter_is_not_lost(backend: Backend, root: Path, tmp_path: Path) -> None:
    model = backend.load(HEAD, root / "base")
    model.load_adapter(root / "first")
    name = f"{adapters.OUT_PROJ}.weight"  # which this adapter does not touch
    trained = copies(backend, model)[name] + 1.0
    model.write_weights({name: trained})
    with pytest.raises(ValueError, match=r"out_proj.* was changed .* merge_adapter\(\)"):
        model.save_pretrained(tmp_path / "out")
    # the way out
    model.merge_adapter()
    model.save_pretrained(tmp_path / "out")
    assert np.array_equal(backend.parameters(backend.load(HEAD, tmp_path / "out"))[name], trained)


@pytest.mark.parametrize("way", ["deepcopy", "pickle", "torch.save"])
def test_a_copy_has_the_adapters_of_its_own(backend: Backend, root: Path, tmp_path: Path, way: str) -> None:
    if way == "torch.save" and backend.name != "pt":
        pytest.skip("of PyTorch alone")
    folder = adapters.write(tmp_path / "adapter", adapters.two_layers())
    model = backend.load(HEAD, root / "base")
    plain = copies(backend, model)
    model.load_adapter(folder, "one")
    model.load_adapter(root / "second", "two")
    there = copies(backend, model)
    copied = copy_by(way, model)
    # the copy has both, and taking them out of it leaves the model as it is
    assert (copied.active_adapters(), copied.saves_adapter) == (["two"], True)
    assert same_bits(copies(backend, copied), there)
    copied.set_adapter("one")
    copied.save_adapter(tmp_path / "saved")
    assert same_bits(
        copies(backend, backend.load(HEAD, root / "base", adapter=tmp_path / "saved")), copies(backend, copied)
    )
    copied.disable_adapters()
    assert same_bits(copies(backend, copied), plain)
    assert same_bits(copies(backend, model), there)
    copied.delete_adapter(["one", "two"])
    assert model.active_adapters() == ["two"]
    # a model without adapters has none as a copy
    assert not copy_by(way, copied).has_live_adapters


def copy_by(way: str, model: Any) -> Any:
    if way == "deepcopy":
        return copy.deepcopy(model)
    if way == "pickle":
        return pickle.loads(pickle.dumps(model))
    import torch

    file = io.BytesIO()
    torch.save(model, file)
    file.seek(0)
    return torch.load(file, weights_only=False)

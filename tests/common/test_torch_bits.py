"""Tensors that torch saves with a bit: the values of a negative or conjugate view are those that torch computes with."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from roberta.common.formats import torch_bin
from roberta.common.storage.folders import CheckpointError

torch = pytest.importorskip("torch", reason="torch is not installed")

NAME = "roberta.embeddings.word_embeddings.weight"


def complex_numbers(dtype: Any) -> Any:
    return torch.randn(4, 6, dtype=dtype, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("is_zip", [True, False], ids=["zip", "old form"])
@pytest.mark.parametrize("dtype", [torch.complex64, torch.complex128])
def test_the_sign_is_that_of_the_tensor(dtype: Any, is_zip: bool, tmp_path: Path) -> None:
    numbers = complex_numbers(dtype).conj()
    tensors = {
        NAME: numbers.imag,
        "real": numbers.real,
        "turned": numbers.imag.T,
        "parameter": torch.nn.Parameter(numbers.imag),
    }
    assert tensors[NAME].is_neg()
    file = tmp_path / "pytorch_model.bin"
    # a view of a complex storage is saved with it; what torch computes with is of real numbers
    real = {name: torch._neg_view(tensor.detach().resolve_neg().neg()) for name, tensor in tensors.items()}
    torch.save(real, file, _use_new_zipfile_serialization=is_zip)
    wanted = torch.load(file)
    found = torch_bin.read_tensors(file, [])
    for name, tensor in tensors.items():
        assert wanted[name].is_neg()
        assert np.array_equal(found[name].load(), wanted[name].resolve_neg().numpy())
        assert np.array_equal(found[name].load(), tensor.detach().resolve_neg().numpy())


def test_the_imaginary_part_of_a_conjugate_has_its_sign_or_is_an_error(tmp_path: Path) -> None:
    imaginary = complex_numbers(torch.complex64).conj().imag
    file = tmp_path / "pytorch_model.bin"
    torch.save({NAME: imaginary, "other": torch.ones(2)}, file)
    found = torch_bin.read_tensors(file, [])
    assert np.array_equal(found[NAME].load(), imaginary.resolve_neg().numpy())
    assert np.array_equal(found["other"].load(), np.ones(2, np.float32))


def test_a_conjugate_is_an_error_as_every_complex_tensor_is(tmp_path: Path) -> None:
    file = tmp_path / "pytorch_model.bin"
    torch.save({NAME: complex_numbers(torch.complex64).conj(), "real": torch.ones(2)}, file)
    with pytest.raises(CheckpointError, match=rf"{NAME} is a torch\.ComplexFloatStorage; only dense tensors are read"):
        torch_bin.read_tensors(file, [])


@pytest.mark.parametrize("bits", [{"new": True}, {"neg": 1}, ["neg"]], ids=str)
def test_an_unknown_bit_is_an_error(bits: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch._utils, "get_tensor_metadata", lambda tensor: bits)
    file = tmp_path / "pytorch_model.bin"
    torch.save({NAME: torch.ones(2, 2)}, file)
    with pytest.raises(
        CheckpointError, match=r"pytorch_model\.bin has a tensor marked .*save tensor\.clone\(\) instead"
    ):
        torch_bin.read_tensors(file, [])

"""What callers call devices, and the error that lists those that exist; no framework is needed."""

from __future__ import annotations

import logging
from types import SimpleNamespace
from typing import Any

import pytest

from roberta.common import devices
from roberta.common.devices import ACCELERATOR, DeviceName, device_name, existing_device, say_taken, single_device

TWO_GPUS = {"cuda": 2, "cpu": 1}


@pytest.mark.parametrize(
    ("value", "wanted"),
    [
        ("cpu", DeviceName("cpu")), ("cuda:1", DeviceName("cuda", 1)), (-1, DeviceName("cpu")), ("-1", DeviceName("cpu")),
        (0, DeviceName(ACCELERATOR, 0)), ("3", DeviceName(ACCELERATOR, 3)), ("/GPU:1", DeviceName("gpu", 1)),
        ("/job:localhost/replica:0/task:0/device:GPU:0", DeviceName("gpu", 0)),
        (SimpleNamespace(type="cuda", index=None), DeviceName("cuda")),
        (SimpleNamespace(platform="gpu", id=1), DeviceName("gpu", 1)),
        (SimpleNamespace(name="/physical_device:GPU:1"), DeviceName("gpu", 1)),
    ],
)  # fmt: skip
def test_a_device_has_many_names(value: Any, wanted: DeviceName) -> None:
    assert device_name(value) == wanted


@pytest.mark.parametrize("value", [True, 1.5, -2, "", "cuda:x", "cuda:1:2", object()])
def test_what_is_no_device_is_refused(value: Any) -> None:
    with pytest.raises(ValueError, match=r"device=.* is not a device; give a name such as"):
        device_name(value)


@pytest.mark.parametrize(
    ("value", "there", "wanted"),
    [
        ("cuda", TWO_GPUS, "cuda"), ("gpu:1", TWO_GPUS, "cuda:1"), (1, TWO_GPUS, "cuda:1"), (-1, TWO_GPUS, "cpu"),
        ("cuda:0", {"gpu": 1, "cpu": 1}, "gpu:0"), ("gpu", {"mps": 1, "cpu": 1}, "mps"), ("cpu:1", {"cpu": 2}, "cpu:1"),
    ],
)  # fmt: skip
def test_names_of_other_frameworks_mean_the_same(value: Any, there: dict[str, int], wanted: str) -> None:
    assert str(existing_device(value, there, "PyTorch")) == wanted


@pytest.mark.parametrize(
    ("value", "there", "text"),
    [
        (
            "cuda:2",
            TWO_GPUS,
            "device='cuda:2' does not exist here: PyTorch finds cuda:0, cuda:1, cpu; give one of these",
        ),
        ("cuda", {"cpu": 1}, "PyTorch finds only cpu (no driver?); give one of these, or omit device"),
        (0, {"cpu": 2}, "PyTorch finds only cpu:0, cpu:1 (no driver?)"),
        ("cpu:1", {"cpu": 1}, "PyTorch finds only cpu; give"),
    ],
)
def test_an_error_lists_what_there_is(value: Any, there: dict[str, int], text: str) -> None:
    with pytest.raises(ValueError) as error:  # noqa: PT011 - the text is compared below
        existing_device(value, there, "PyTorch", advice="no driver?")
    assert text in str(error.value)


def test_a_map_names_one_device() -> None:
    assert single_device({"": 1}) == 1
    assert single_device("auto") is None
    with pytest.raises(ValueError, match="splits the model over"):
        single_device({"roberta": 0, "lm_head": 1})


def test_what_was_taken_is_said_once_and_loudly_if_it_is_no_cpu(caplog: pytest.LogCaptureFixture) -> None:
    say_taken.cache_clear()
    with caplog.at_level(logging.INFO, devices.__name__):
        for device in ("cpu", "cpu", "cuda", "cuda"):
            say_taken(device, "PyTorch")
    assert [record.levelname for record in caplog.records] == ["INFO", "WARNING"]
    assert "no device was named" in caplog.text

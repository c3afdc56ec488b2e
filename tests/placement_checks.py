"""Checks of `device` in TensorFlow and JAX with two devices that the CPU is split into, in a process of their own.

Called with "tf" or "flax"; prints a line for each. `tests/one_backend/test_devices_split.py` runs them, and splits JAX's.
"""

from __future__ import annotations

import dataclasses
import logging
import sys
import tempfile
from pathlib import Path
from typing import Any

import checkpoints
import numpy as np
import pytest
import updates
from backends import assert_close, backend

import roberta
from roberta.common.devices import device_of, say_taken
from roberta.common.frameworks import backend_module

FRAMEWORK = sys.argv[1]
if FRAMEWORK == "tf":
    import tensorflow as tf

    CPU = tf.config.list_physical_devices("CPU")[0]
    tf.config.set_logical_device_configuration(CPU, [tf.config.LogicalDeviceConfiguration()] * 2)

BACKEND = backend(FRAMEWORK)
FOLDER = Path(tempfile.mkdtemp())
SECOND = {"tf": "CPU:1", "flax": "cpu:1"}[FRAMEWORK]


def place(value: Any) -> str:
    """Where a tensor is."""
    if FRAMEWORK == "tf":
        return ":".join(tf.convert_to_tensor(value).device.rsplit(":", 2)[-2:])
    return str(next(iter(value.devices())))


def load(head: Any, device: Any = 1, **options: Any) -> Any:
    folder = FOLDER / head
    if not folder.exists():
        checkpoints.make(folder, head, num_hidden_layers=1)
    device = f"cpu:{device}" if isinstance(device, int) else device
    return BACKEND.load(head, folder, device_map=device, **options)


def places(model: Any) -> set[str]:
    if FRAMEWORK == "tf":
        return {place(variable.value) for variable in model.variables}
    import jax

    return {place(leaf) for leaf in jax.tree.leaves(model.params)}


def a_model_is_loaded_and_computes_there() -> None:
    inputs = checkpoints.batch("ForCausalLM", checkpoints.small_config("ForCausalLM"))
    wanted = BACKEND.run(load("ForCausalLM", 0), inputs)["logits"]
    model = load("ForCausalLM")
    assert places(model) == {SECOND}, places(model)
    output = model(**{name: BACKEND.constant(value) for name, value in inputs.items()})
    assert place(output.logits) == SECOND, place(output.logits)
    assert_close(np.asarray(output.logits), wanted)
    assert places(load("ForCausalLM", {"": "cpu:1"})) == {SECOND}
    assert SECOND not in places(load("ForCausalLM", "auto"))


def infer_and_generate_compute_there() -> None:
    inputs = checkpoints.batch("ForCausalLM", checkpoints.small_config("ForCausalLM"))
    inputs = {name: value for name, value in inputs.items() if name != "token_type_ids"}
    first, second = load("ForCausalLM", 0), load("ForCausalLM")
    assert_close(second.infer(inputs)["logits"], first.infer(inputs)["logits"])
    prompt = BACKEND.constant(np.array([[0, 7, 9]], np.int32))
    found = [model.generate(prompt, max_new_tokens=4, do_sample=False) for model in (first, second)]
    assert np.array_equal(*map(np.asarray, found))


def a_pipeline_is_where_it_is_asked_for() -> None:
    pipe = roberta.pipeline("fill-mask", framework=FRAMEWORK, device="cpu:1")
    assert str(pipe.device) == SECOND
    assert places(pipe.model) == {SECOND}
    assert pipe("To be, or not to <mask>")[0]["token"] == 18
    texts = {
        "cuda": "finds only cpu:0, cpu:1",
        "cpu:2": "does not exist",
        "mps": "of PyTorch alone",
        0: "finds only cpu:0",
    }
    for wrong, text in texts.items():
        with pytest.raises(ValueError, match=text):
            roberta.pipeline("fill-mask", framework=FRAMEWORK, device=wrong)
    with pytest.raises(ValueError, match="is not a device"):
        roberta.pipeline("fill-mask", framework=FRAMEWORK, device=True)


def the_default_is_said_once() -> None:
    said: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: said.append(record.getMessage())  # type: ignore[method-assign]
    logging.getLogger("roberta.common.devices").addHandler(handler)
    logging.getLogger("roberta.common.devices").setLevel(logging.INFO)
    say_taken.cache_clear()
    for _ in range(2):
        roberta.pipeline("fill-mask", framework=FRAMEWORK)
    assert len(said) == 1, said
    assert "no device was named" in said[0]


def a_training_step_is_made_there() -> None:
    for case in ("mlm", "classes"):
        folder = updates.folder_of(FOLDER / case, case)
        module, chosen = backend_module(FRAMEWORK, "training"), updates.settings(case)
        both = []
        for device in ("cpu:0", "cpu:1"):
            head = updates.HEADS[chosen.task]
            trainer = module.Trainer(BACKEND.load(head, folder, device_map=device), chosen)
            parts = updates.micro_batches(case, updates.inputs(case, trainer.model.config), 4)
            loss = trainer.update(parts, 2e-3, 1)
            both.append((loss, trainer.state().moments, trainer))
        assert places(both[1][2].model) == {SECOND}, places(both[1][2].model)
        averaging = dataclasses.replace(chosen.recipe, ema_decay=0.9)
        last = module.Trainer(
            BACKEND.load(head, folder, device_map="cpu:1"), dataclasses.replace(chosen, recipe=averaging)
        )
        last.update(parts, 2e-3, 1)
        assert places(last.model) == {SECOND}, places(last.model)
        if FRAMEWORK == "tf":
            averages = {place(one) for one in last._averages._kept}
            assert averages == {SECOND}, averages
            moments = {place(variable.value) for variable in both[1][2].optimizer._momentums}
            assert moments == {SECOND}, moments
        assert abs(both[0][0] - both[1][0]) < 1e-10 * abs(both[0][0])
        for name, value in both[0][1].items():
            assert np.abs(both[1][1][name] - value).max() < 1e-10
        assert str(device_of(both[1][2].model)) == SECOND


CHECKS = (
    a_model_is_loaded_and_computes_there, infer_and_generate_compute_there, a_pipeline_is_where_it_is_asked_for,
    the_default_is_said_once, a_training_step_is_made_there,
)  # fmt: skip


def main() -> None:
    """Run the checks named, or all."""
    for check in CHECKS:
        if check.__name__ in sys.argv[2:] or not sys.argv[2:]:
            check()
            print(check.__name__, flush=True)


if __name__ == "__main__":
    main()

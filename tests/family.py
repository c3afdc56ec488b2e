"""The recorded models of the RoBERTa family (`golden/family/models`), and how their cases are run and judged."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from backends import Arrays, Backend, assert_close

from roberta import RobertaConfig


@dataclass(frozen=True)
class Recorded:
    """One model: its files, its cases, and the results of transformers."""

    folder: Path

    @cached_property
    def info(self) -> dict[str, Any]:
        return json.loads((self.folder / "golden.json").read_text())

    @cached_property
    def arrays(self) -> Arrays:
        with np.load(self.folder / "golden.npz") as file:
            return dict(file)

    @property
    def may_be_refused(self) -> bool:
        """Whether an error at loading is also correct."""
        all_fail = all("error" in case for case in self.info["cases"])
        return bool(self.info["load_error"] or self.info.get("refusal_ok") or all_fail)

    @property
    def must_be_refused(self) -> bool:
        return bool(self.info["load_error"] and not self.info.get("or_right"))

    def inputs(self, case: Mapping[str, Any]) -> Arrays:
        """The arguments of a call; floats in float64."""
        found = {name: self.arrays[f"{case['name']}/in/{name}"] for name in case["inputs"]}
        return {name: a.astype(np.float64) if a.dtype.kind == "f" else a for name, a in found.items()}

    def wanted(self, case: Mapping[str, Any]) -> Arrays:
        """The recorded values, by the name of the output."""
        prefix = f"{case.get('same_as') or case['name']}/f64/"
        return {name.removeprefix(prefix): a for name, a in self.arrays.items() if name.startswith(prefix)}

    def check(self, backend: Backend, model: Any, case: Mapping[str, Any]) -> None:
        """Run a case and compare; where transformers raises an error, an error or a correct result passes."""
        inputs = self.inputs(case)
        wanted = self.wanted(case)
        if backend.name == "flax" and not case.get("error"):
            inputs = uniform(inputs, model.config.pad_token_id, has_loss="loss" in wanted)
        try:
            found = self.run(backend, model, case, inputs)
        except ValueError:
            if not case.get("error"):
                raise
            return
        assert wanted, f"{case['name']} must be an error"
        for name, values in wanted.items():
            value = found[name][tuple(slice(size) for size in values.shape)]
            self.compare(value, values, case, name)

    def run(self, backend: Backend, model: Any, case: Mapping[str, Any], inputs: Arrays) -> Arrays:
        """The outputs of a case, computed at once or in steps with the cache."""
        if "steps" in case:
            return {"logits": backend.decode(model, inputs, case["steps"])}
        return backend.run(model, inputs, **case["flags"])

    def compare(self, found: np.ndarray, wanted: np.ndarray, case: Mapping[str, Any], name: str) -> None:
        if case.get("valid") == "mask" and wanted.ndim == 3:
            real = self.inputs(case)["attention_mask"] > 0
            found, wanted = found[real], wanted[real]
        # transformers computes this loss in float32
        bound = 1e-6 if name == "loss" and self.info["head"] == "ForCausalLM" else 1e-10
        assert_close(found, wanted, case.get("tolerance") or bound, f"{case['name']} {name}")

    def check_config(self, config: RobertaConfig) -> None:
        """Compare the loaded config with the recorded values, some of which have an alternative."""
        found = {name: json.loads(json.dumps(getattr(config, name))) for name in self.info["config"] or ()}
        for name, value in (self.info["config"] or {}).items():
            assert found[name] in (value, self.info["config_or"].get(name, value)), name


ROWS, COLUMNS = 3, 12


def uniform(inputs: Arrays, pad_token_id: int, *, has_loss: bool) -> Arrays:
    """Pad inputs to one shape if they fit: JAX compiles every operation for every shape, which is slow.

    The added columns are masked, and the added rows repeat the last one; results start with those of `inputs`.
    """
    given = inputs.get("input_ids", inputs.get("inputs_embeds"))
    rows, columns = given.shape[:2]
    is_span = "start_positions" in inputs  # whose loss compares all columns, padding too
    if given.ndim - ("inputs_embeds" in inputs) != 2 or columns > COLUMNS or rows > ROWS or is_span:
        return inputs
    made = {"attention_mask": np.ones((rows, columns), np.int64), **inputs}
    fillers = {"input_ids": pad_token_id, "position_ids": pad_token_id, "labels": -100}
    for name, array in made.items():
        if array.ndim > 1 and array.shape[1] == columns and not name.startswith("encoder_"):
            more = [(0, 0), (0, COLUMNS - columns), *[(0, 0)] * (array.ndim - 2)]
            if name == "attention_mask" and array.ndim == 3:
                more[2] = more[1]
            made[name] = np.pad(array, more, constant_values=fillers.get(name, 0))
    index = np.arange(rows) if has_loss else np.minimum(np.arange(ROWS), rows - 1)
    return {name: array[index] for name, array in made.items()}

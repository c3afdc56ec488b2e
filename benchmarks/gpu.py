"""PyTorch on an accelerator against our CPU in float64: every class forward and backward, `infer`, and an update.

Then the speed of packed tokens beside padded rows, and beside transformers where it can be imported (`gpu_speed`).
Without an accelerator it says so, and ends with status 0. `make gpu` runs it.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

import roberta
from benchmarks.gpu_speed import Scale, comparisons
from roberta.common.checkpoint.checkpoint import save_checkpoint
from roberta.common.parameters import Head, parameters
from roberta.common.training.data.batches import MicroBatch
from roberta.common.training.data.tasks import HEADS
from roberta.common.training.recipes import Recipe, Settings
from roberta.pt.devices import as_device, computes_bfloat16
from roberta.pt.training import Trainer
from roberta.pt.weights import to_numpy

BOUNDS = {"float64": 1e-9, "float32": 1e-3, "bfloat16": 0.1}  # of differences, as a part of the largest number
ROWS, SEQ = 4, 48
TRAINED: tuple[Head, ...] = tuple(HEADS.values())


def model_folder(folder: Path, head: Head) -> Path:
    """A checkpoint of four layers with wide random weights."""
    config = roberta.RobertaConfig(
        vocab_size=512, hidden_size=64, num_hidden_layers=4, num_attention_heads=4, intermediate_size=128,
        max_position_embeddings=SEQ + 2, num_labels=2 if head == "ForQuestionAnswering" else 3,
        is_decoder=head == "ForCausalLM", hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0,
    )  # fmt: skip
    rng = np.random.default_rng(0)
    values = {
        p.name: rng.normal(float(p.kind == "norm"), 0.2, p.shape).astype(np.float64)
        for p in parameters(config, head).values()
    }
    sources = {name: (value.shape, "float64", lambda value=value: value) for name, value in values.items()}
    save_checkpoint(folder / head, {"config.json": config.to_json_string()}, sources)
    return folder / head


def batch_of(head: Head) -> dict[str, np.ndarray]:
    """A ragged batch with labels."""
    rng = np.random.default_rng(1)
    shape = (ROWS, 2, SEQ) if head == "ForMultipleChoice" else (ROWS, SEQ)
    mask = np.arange(SEQ) < rng.integers(SEQ // 2, SEQ + 1, shape[:-1])[..., None]
    ids = np.where(mask, rng.integers(4, 512, shape), 1)
    found = {"input_ids": ids, "attention_mask": mask.astype(np.int64)}
    if head == "ForQuestionAnswering":
        return found | {"start_positions": rng.integers(0, 9, ROWS), "end_positions": rng.integers(9, 20, ROWS)}
    per_token = {"ForMaskedLM": 512, "ForCausalLM": 512, "ForTokenClassification": 3}
    if head in per_token:
        return found | {"labels": np.where(mask, rng.integers(0, per_token[head], shape), -100)}
    classes = {"ForSequenceClassification": 3, "ForMultipleChoice": 2}
    return found | ({"labels": rng.integers(0, classes[head], ROWS)} if head in classes else {})


def answers(model: Any, batch: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Outputs and gradients."""
    output = model(**{name: torch.from_numpy(array).to(model.device) for name, array in batch.items()})
    total = output["loss"] if "loss" in output else output["last_hidden_state"].square().mean()
    total.backward()
    found = {name: value for name, value in output.items() if isinstance(value, torch.Tensor)}
    found |= {f"d {name}": one.grad for name, one in model.named_parameters() if one.grad is not None}
    return {name: to_numpy(value.double()) for name, value in found.items()}


def difference(found: dict[str, np.ndarray], wanted: dict[str, np.ndarray]) -> float:
    """The largest difference, of outputs and of gradients, as a part of the largest number of each."""
    parts = []
    for is_gradient in (False, True):
        names = [name for name in wanted if name.startswith("d ") == is_gradient]
        if names:
            largest = max(np.abs(wanted[name]).max() for name in names)
            parts.append(max(np.abs(found[name] - wanted[name]).max() for name in names) / largest)
    return float(max(parts))


def updated(folder: Path, head: Head, device: str, dtype: str) -> dict[str, np.ndarray]:
    """The loss of two updates; the weights are compared by the second."""
    task = next(task for task, own in HEADS.items() if own == head)
    settings = Settings(task, Recipe(1e-3, ROWS, updates=2, clip_norm=1.0), updates=2, dtype="float64")
    settings = dataclasses.replace(settings, dtype=dtype)  # type: ignore[arg-type]
    kind = "float64" if dtype == "float64" else "float32"
    model = getattr(roberta, f"Roberta{head}").from_pretrained(folder, dtype=kind, device_map=device)
    trainer, batch = Trainer(model, settings), batch_of(head)
    if task == "mlm":
        places = np.flatnonzero(batch["labels"] != -100)
        batch |= {"positions": places, "labels": batch["labels"].reshape(-1)[places]}
    losses = [trainer.update([MicroBatch(batch, 1.0)], 1e-3, number) for number in (1, 2)]
    return {"losses": np.array(losses)}


def rows(device: str, folder: Path) -> Iterator[tuple[str, str, float]]:
    """Each comparison: its name, the dtype and the difference."""
    dtypes = ["float32"] if device.startswith("mps") else ["float64", "float32"]
    low = ["bfloat16"] if computes_bfloat16(as_device(device)) else []
    for head in ("Model", *TRAINED):
        place, batch = model_folder(folder, head), batch_of(head)
        cls = getattr(roberta, f"Roberta{head}")
        reference = cls.from_pretrained(place, dtype="float64", device_map="cpu")
        wanted = answers(reference, batch)
        inputs = {name: batch[name] for name in ("input_ids", "attention_mask")}
        inferred = reference.infer(inputs)
        for dtype in dtypes:
            model = cls.from_pretrained(place, dtype=dtype, device_map=device)
            yield f"{head} forward and backward", dtype, difference(answers(model, batch), wanted)
        for dtype in (*dtypes, *low):
            model = cls.from_pretrained(place, dtype=dtypes[0] if dtype == "float64" else "float32", device_map=device)
            yield f"{head} infer", dtype, difference(model.infer(inputs, dtype=dtype), inferred)
        if head != "Model":
            losses = updated(place, head, "cpu", "float64")
            for dtype in (*dtypes, *low):
                yield f"{head} update", dtype, difference(updated(place, head, device, dtype), losses)


def main(arguments: Sequence[str] = ()) -> int:
    """Print a line for each comparison. Returns 1 if one is beyond its bound."""
    options = argparse.ArgumentParser(prog="python -m benchmarks gpu", description=__doc__)
    options.add_argument("--device", help="instead of the accelerator, such as cpu to try this out")
    options.add_argument("--without-speed", action="store_true", help="compare numbers alone")
    given = options.parse_args(arguments)
    chosen = given.device
    if chosen is None and not torch.accelerator.is_available():
        print("skipped: PyTorch finds no accelerator here")
        return 0
    device = str(as_device(chosen))
    print(f"PyTorch {torch.__version__} on {device}, against our CPU in float64")
    is_missed = False
    with tempfile.TemporaryDirectory() as folder:
        for what, dtype, found in rows(device, Path(folder)):
            verdict = "" if found < BOUNDS[dtype] else f"  missed: more than {BOUNDS[dtype]:.0e}"
            is_missed |= bool(verdict)
            print(f"{what:<47} {dtype:<9} {found:.1e}{verdict}", flush=True)
        if not given.without_speed and computes_bfloat16(as_device(device)):
            for comparison in comparisons(device, Path(folder), Scale()):
                print(comparison.line(), flush=True)
                is_missed |= comparison.is_missed
    return int(is_missed)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

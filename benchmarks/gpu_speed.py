"""The speed of packed tokens on an accelerator, in bfloat16: a ragged job, and updates, beside padded rows. For `gpu`.

Each side runs once before it is measured; rounds take all sides in turn, and the median counts.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch

import roberta
from benchmarks import checkpoints, jobs
from roberta.common.checkpoint.checkpoint import save_checkpoint
from roberta.common.parameters import Head, parameters
from roberta.common.training.data.batches import MicroBatch
from roberta.common.training.recipes import Recipe, Settings
from roberta.pt.training import Trainer

RATE, MASKED = 1e-4, 0.15
GOALS = {jobs.GIVEN: 2.0, jobs.SORTED: 1.5, "MLM": 1.3}


@dataclass(frozen=True)
class Scale:
    """How much is measured.

    Attributes:
        sequences: of the ragged job.
        budget: tokens that go through the model at once, of the job.
        rows, seq: of an update.
        sizes: fields of the config that differ from roberta-base.
    """

    sequences: int = 2048
    budget: int = 16_384
    rows: int = 32
    seq: int = 512
    rounds: int = 5
    sizes: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Comparison:
    """One work by two sides.

    Attributes:
        tokens: real ones of the work.
        seconds, megabytes: ours, and the other's; megabytes are peaks of the device's memory, None on a CPU.
        goal: how many times as fast ours should be; None for no goal.
    """

    work: str
    other: str
    tokens: int
    seconds: tuple[float, float]
    megabytes: tuple[float, float] | None
    goal: float | None = None

    @property
    def is_missed(self) -> bool:
        """Whether the goal is."""
        return self.goal is not None and self.seconds[1] / self.seconds[0] < self.goal

    def line(self) -> str:
        """As it is printed."""
        speeds = ", ".join(f"{self.tokens / seconds:,.0f}" for seconds in self.seconds)
        memory = (
            "" if self.megabytes is None else f"; peak {self.megabytes[0]:,.0f} against {self.megabytes[1]:,.0f} MB"
        )
        goal = "" if self.goal is None else f"; goal {self.goal}{', missed' if self.is_missed else ''}"
        ratio = self.seconds[1] / self.seconds[0]
        return f"{self.work}, beside {self.other}: {ratio:.2f} times as fast ({speeds} tokens/s{memory}{goal})"


def comparisons(device: str, folder: Path, scale: Scale) -> Iterator[Comparison]:
    """Everything that is measured; transformers' sides only where it can be imported."""
    for work in jobs.JOBS:
        yield from job(device, folder, scale, work)
    yield from updates(device, folder, scale)


def job(device: str, folder: Path, scale: Scale, work: str) -> Iterator[Comparison]:
    """A job of classification, whose rows have lognormal lengths, in the given order or sorted."""
    place = checkpoint(folder, "ForSequenceClassification", scale)
    model = roberta.RobertaForSequenceClassification.from_pretrained(place, device_map=device)
    (whole,) = jobs.batches(work, scale.sequences, budget=None)
    batches = jobs.batches(work, scale.sequences, budget=scale.budget)
    inputs = {"input_ids": whole.ids, "attention_mask": whole.mask}
    ours = partial(model.infer, inputs, dtype="bfloat16", batch_tokens=scale.budget)
    low = roberta.RobertaForSequenceClassification.from_pretrained(place, dtype="bfloat16", device_map=device)
    others: dict[str, Callable[[], object]] = {"our padded rows": partial(padded_job, low.eval(), batches)}
    if has_transformers():
        from transformers import RobertaForSequenceClassification

        theirs = RobertaForSequenceClassification.from_pretrained(
            place, dtype=torch.bfloat16, attn_implementation="sdpa"
        )
        others["transformers with SDPA"] = partial(padded_job, theirs.to(device).eval(), batches)
    yield from compared(device, f"{work} of {scale.sequences}", int(whole.mask.sum()), ours, others, scale, GOALS[work])


def updates(device: str, folder: Path, scale: Scale) -> Iterator[Comparison]:
    """An update of a masked language model with full rows, and one of a classifier with ragged rows."""
    place = checkpoint(folder, "ForMaskedLM", scale)
    trainer, batch = our_trainer("mlm", place, device, scale), masked_rows(scale)
    others: dict[str, Callable[[], object]] = {}
    if has_transformers():
        others["transformers with SDPA"] = their_update(place, device, batch, scale)
    ours = partial(trainer.update, [MicroBatch(batch, 1.0)], RATE, 1)
    tokens = batch["input_ids"].size
    yield from compared(device, f"MLM update of {scale.rows} x {scale.seq}", tokens, ours, others, scale, GOALS["MLM"])
    # the same rows, packed or not
    place, ragged = checkpoint(folder, "ForSequenceClassification", scale), ragged_rows(scale)
    packing, padding = (our_trainer("text-classification", place, device, scale) for _ in range(2))
    padding._pack.obstacle = "measured beside it"
    ours, other = (partial(one.update, [MicroBatch(ragged, 1.0)], RATE, 1) for one in (packing, padding))
    tokens = int(ragged["attention_mask"].sum())
    work = f"update of {scale.rows} ragged rows"
    yield from compared(device, work, tokens, ours, {"our padded rows": other}, scale, None)


def checkpoint(folder: Path, head: Head, scale: Scale) -> Path:
    """The weights of a new model."""
    place = folder / f"speed-{head}"
    if not place.exists():
        config = roberta.RobertaConfig.base(architectures=[f"Roberta{head}"], num_labels=3, **scale.sizes)
        table = parameters(config, head).values()
        sources = {p.name: (p.shape, "float32", partial(checkpoints.draw, p, index)) for index, p in enumerate(table)}
        save_checkpoint(place, {"config.json": config.to_json_string()}, sources)
    return place


def has_transformers() -> bool:
    """Whether transformers can be imported here."""
    try:
        import transformers  # noqa: F401
    except ImportError:
        return False
    return True


def padded_job(model: Any, batches: list[jobs.Batch]) -> list[np.ndarray]:
    """The logits of padded batches."""
    found = []
    with torch.inference_mode():
        for batch in batches:
            ids, mask = (torch.from_numpy(array).to(model.device) for array in (batch.ids, batch.mask))
            found.append(model(ids, attention_mask=mask).logits)
    return [logits.float().cpu().numpy() for logits in found]


def our_trainer(task: Any, place: Path, device: str, scale: Scale) -> Trainer:
    """A new trainer in bfloat16."""
    head = {"mlm": "ForMaskedLM", "text-classification": "ForSequenceClassification"}[task]
    model = getattr(roberta, f"Roberta{head}").from_pretrained(place, device_map=device)
    return Trainer(model, Settings(task, Recipe(RATE, scale.rows, clip_norm=1.0), updates=1000, dtype="bfloat16"))


def masked_rows(scale: Scale) -> dict[str, np.ndarray]:
    """Rows without padding, with 15 % of the tokens masked, as collation has them."""
    rng = np.random.default_rng(0)
    ids = rng.integers(4, jobs.VOCABULARY, (scale.rows, scale.seq))
    places = np.sort(rng.choice(ids.size, round(MASKED * ids.size), replace=False))
    labels = ids.reshape(-1)[places]
    return {"input_ids": ids, "attention_mask": np.ones_like(ids), "positions": places, "labels": labels}


def ragged_rows(scale: Scale) -> dict[str, np.ndarray]:
    """Rows of the ragged job, with a class each."""
    lengths = np.sort(jobs.lengths(scale.rows).clip(max=scale.seq))[::-1]
    mask = np.arange(lengths[0]) < lengths[:, None]
    rng = np.random.default_rng(0)
    ids = np.where(mask, rng.integers(4, jobs.VOCABULARY, mask.shape), jobs.PAD)
    return {"input_ids": ids, "attention_mask": mask.astype(np.int64), "labels": rng.integers(0, 3, scale.rows)}


def their_update(place: Path, device: str, batch: dict[str, np.ndarray], scale: Scale) -> Callable[[], object]:
    """A step of transformers' class: autocast, fused AdamW, clipping, and the logits of all tokens."""
    from transformers import RobertaForMaskedLM

    model = RobertaForMaskedLM.from_pretrained(place, attn_implementation="sdpa").to(device).train()
    optimizer = torch.optim.AdamW(model.parameters(), RATE, fused=True)
    labels = np.full(batch["input_ids"].size, -100)
    labels[batch["positions"]] = batch["labels"]
    ids, labels = batch["input_ids"], labels.reshape(scale.rows, scale.seq)

    def update() -> float:
        given = [torch.from_numpy(array).to(device) for array in (ids, labels)]
        with torch.autocast(torch.device(device).type, torch.bfloat16):
            loss = model(given[0], labels=given[1]).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        return float(loss.detach())

    return update


def compared(
    device: str, work: str, tokens: int, ours: Callable[[], object], others: dict[str, Callable[[], object]], scale: Scale,
    goal: float | None,
) -> Iterator[Comparison]:  # fmt: skip
    """One work by ours and by each other side."""
    sides = {"ours": ours, **others}
    times: dict[str, list[float]] = {name: [] for name in sides}
    peaks = {name: peak_megabytes(device, run) for name, run in sides.items()}
    for _ in range(scale.rounds):
        for name, run in sides.items():
            times[name].append(seconds_of(device, run))
    for name in others:
        both = (peaks["ours"], peaks[name])
        memory = None if both[0] is None or both[1] is None else (both[0], both[1])
        yield Comparison(work, name, tokens, (median(times["ours"]), median(times[name])), memory, goal)


def seconds_of(device: str, run: Callable[[], object]) -> float:
    """Until the device has done everything."""
    wait(device)
    start = time.perf_counter()
    run()
    wait(device)
    return time.perf_counter() - start


def peak_megabytes(device: str, run: Callable[[], object]) -> float | None:
    """The most memory that the device had in use; what this side runs first is compiled or laid out here."""
    run()
    if not device.startswith("cuda"):
        return None
    wait(device)
    torch.cuda.reset_peak_memory_stats(device)
    run()
    wait(device)
    return float(torch.cuda.max_memory_allocated(device)) / 1e6


def wait(device: str) -> None:
    """Let an accelerator finish."""
    if not device.startswith("cpu"):
        torch.accelerator.synchronize()

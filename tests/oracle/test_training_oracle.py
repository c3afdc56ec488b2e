"""The losses of 20 updates against transformers 4.57 with PyTorch's AdamW: same weights, batches and rates.

Run as a program, this file is the peer: `python test_training_oracle.py FOLDER` in an environment with transformers
4.57 trains each FOLDER/CASE/model on FOLDER/CASE/N.npz and writes FOLDER/CASE/losses.json.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

UPDATES, BATCHES = 20, 4
RATE, BETAS, EPSILON, DECAY, CLIP = 2e-3, (0.9, 0.98), 1e-6, 0.1, 1.0
CLASSES = {
    "mlm": "RobertaForMaskedLM",
    "clm": "RobertaForCausalLM",
    "classes": "RobertaForSequenceClassification",
    "several labels": "RobertaForSequenceClassification",
    "numbers": "RobertaForSequenceClassification",
    "tokens": "RobertaForTokenClassification",
    "answers": "RobertaForQuestionAnswering",
    "choices": "RobertaForMultipleChoice",
}


@pytest.fixture(scope="module")
def peer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with models, batches, and the losses of transformers."""
    import checkpoints
    import peers
    import updates

    environment = peers.environment(4)
    folder = tmp_path_factory.mktemp("training")
    for case in CLASSES:
        config = updates.config_of(case)
        (folder / case).mkdir()
        overrides = {**updates.SMALL, **updates.CASES[case][1]}
        checkpoints.make(folder / case / "model", config.architectures[0].removeprefix("Roberta"), **overrides)
        for number in range(BATCHES):
            np.savez(folder / case / f"{number}.npz", **updates.inputs(case, config, seed=number))
    subprocess.run([sys.executable, __file__, str(folder)], check=True, env=environment, timeout=300)
    return folder


@pytest.mark.parametrize("case", CLASSES)
def test_the_losses_of_a_training_are_those_of_transformers(case: str, peer: Path) -> None:
    import updates
    from backends import backend

    from roberta.common.training.recipes import Recipe

    recipe = Recipe(RATE, 6, beta1=BETAS[0], beta2=BETAS[1], epsilon=EPSILON, weight_decay=DECAY, clip_norm=CLIP)
    trainer = updates.trainer(backend("pt"), case, peer / case / "model", recipe)
    losses = []
    for number in range(1, UPDATES + 1):
        with np.load(peer / case / f"{number % BATCHES}.npz") as file:
            batches = updates.micro_batches(case, dict(file))
        losses.append(trainer.update(batches, RATE / number, number))
    assert losses == pytest.approx(json.loads((peer / case / "losses.json").read_text()), rel=1e-6)


def run_peer(folder: Path) -> None:
    """Train every case in float64 with transformers' classes, on the whole logits."""
    import torch
    import transformers

    for case, name in CLASSES.items():
        kind = getattr(transformers, name)  # eager: sdpa cannot build the causal mask in float64 there
        model = kind.from_pretrained(folder / case / "model", dtype=torch.float64, attn_implementation="eager").train()
        optimizer = torch.optim.AdamW(model.parameters(), RATE, BETAS, EPSILON, DECAY)
        losses = []
        for number in range(1, UPDATES + 1):
            with np.load(folder / case / f"{number % BATCHES}.npz") as file:
                inputs = {key: torch.from_numpy(array) for key, array in file.items()}
            if inputs.get("labels") is not None and inputs["labels"].is_floating_point():
                inputs["labels"] = inputs["labels"].double()
            optimizer.param_groups[0]["lr"] = RATE / number
            optimizer.zero_grad()
            loss = model(**inputs).loss
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), CLIP)
            optimizer.step()
            losses.append(loss.item())
        (folder / case / "losses.json").write_text(json.dumps(losses))


if __name__ == "__main__":
    run_peer(Path(sys.argv[1]))

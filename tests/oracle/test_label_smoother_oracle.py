"""Label smoothing against transformers' `LabelSmoother`, which is torch's without class weights.

Run as a program, this file is the peer: it prints the smoothed losses in an environment with transformers 4.57.
"""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest

SMOOTHING = 0.2


def given() -> tuple[np.ndarray, np.ndarray]:
    """Logits, (4, 7, 5), and labels of which some do not count."""
    rng = np.random.default_rng(0)
    logits, labels = rng.normal(size=(4, 7, 5), scale=3), rng.integers(0, 5, (4, 7))
    labels[1, 2:] = -100
    return logits, labels


def test_smoothed_losses_are_those_of_transformers() -> None:
    import peers
    from backends import backend

    from roberta.common.training.loss_options import LossOptions

    command = [sys.executable, __file__]
    done = subprocess.run(command, env=peers.environment(4), capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    backend("pt")
    from roberta.pt.losses import next_token_loss, token_loss

    tensors, options = [backend("pt").constant(array) for array in given()], LossOptions(SMOOTHING)
    found = [float(loss(*tensors, options=options)) for loss in (token_loss, next_token_loss)]
    assert found == pytest.approx(json.loads(done.stdout), rel=1e-6)  # it adds up in float32


if __name__ == "__main__":
    import torch
    from transformers.trainer_pt_utils import LabelSmoother

    outputs, targets = map(torch.from_numpy, given())
    smoother = LabelSmoother(epsilon=SMOOTHING)
    print(json.dumps([float(smoother({"logits": outputs}, targets, shift_labels=s)) for s in (False, True)]))

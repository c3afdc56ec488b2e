"""The Flax sides of the training benchmark: one MLM update of the base size, by ours and by transformers 4.57.

As in `benchmarks.engines`, a side is a function (folder, dtype) -> step that imports its system inside, in a process
whose path has what the peer needs. A step takes one batch as collation makes it (ids, mask, positions, labels), makes
one update with dropout on, and returns the loss.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.engines import Engine

Step = Callable[[Mapping[str, np.ndarray]], float]
RATE, BETAS, EPSILON, DECAY = 1e-4, (0.9, 0.98), 1e-6, 0.01


def ours(folder: Path, dtype: str) -> Step:
    """This project's trainer."""
    import roberta
    from roberta.common.recipes import Recipe
    from roberta.common.training.batches import MicroBatch
    from roberta.common.training.settings import Settings
    from roberta.flax.training import Trainer

    beta1, beta2 = BETAS
    recipe = Recipe(RATE, 8, beta1=beta1, beta2=beta2, epsilon=EPSILON, weight_decay=DECAY)
    model = roberta.FlaxRobertaForMaskedLM.from_pretrained(folder)
    trainer = Trainer(model, Settings("mlm", recipe, 1000, dtype=dtype))  # type: ignore[arg-type]
    made = 0

    def step(batch: Mapping[str, np.ndarray]) -> float:
        nonlocal made
        made += 1
        tokens = int(batch["attention_mask"].sum())
        return trainer.update([MicroBatch(dict(batch), 1.0, tokens)], RATE, made)

    return step


def transformers_flax(folder: Path, dtype: str) -> Step:
    """Its Flax class and the step of its own MLM example: the head at every token, optax.adamw, a TrainState."""
    import jax
    import jax.numpy as jnp
    import optax
    from flax.training.train_state import TrainState
    from transformers import FlaxRobertaForMaskedLM

    model = FlaxRobertaForMaskedLM.from_pretrained(folder, from_pt=True)
    optimizer = optax.adamw(RATE, *BETAS, eps=EPSILON, weight_decay=DECAY)
    state = TrainState.create(apply_fn=model.__call__, params=model.params, tx=optimizer)

    def update(state: TrainState, ids: Any, mask: Any, labels: Any, key: Any) -> tuple[TrainState, Any]:
        def loss(params: Any) -> Any:
            logits = state.apply_fn(ids, mask, params=params, dropout_rng=key, train=True)[0]
            counts = labels != -100
            each = optax.softmax_cross_entropy_with_integer_labels(logits, jnp.where(counts, labels, 0))
            return jnp.where(counts, each, 0).sum() / counts.sum()

        value, gradients = jax.value_and_grad(loss)(state.params)
        return state.apply_gradients(grads=gradients), value

    compiled = jax.jit(update, donate_argnums=0)
    made = 0

    def step(batch: Mapping[str, np.ndarray]) -> float:
        nonlocal state, made
        made += 1
        key = jax.random.fold_in(jax.random.PRNGKey(0), made)
        state, value = compiled(state, batch["input_ids"], batch["attention_mask"], every_label(batch), key)
        return float(value)

    return step


def every_label(batch: Mapping[str, np.ndarray]) -> np.ndarray:
    """The labels of a batch for a head at every token: (rows, seq), -100 where nothing is asked."""
    labels = np.full(batch["input_ids"].size, -100)
    is_real = batch["labels"] != -100
    labels[batch["positions"][is_real]] = batch["labels"][is_real]
    return labels.reshape(batch["input_ids"].shape)


ENGINES: dict[str, Engine] = {
    "ours, Flax": Engine(ours, ("float32", "bfloat16"), is_ours=True),  # type: ignore[arg-type]
    "transformers 4.57, Flax": Engine(
        transformers_flax, paths=("transformers4-flax", "transformers4"), environment=(("USE_TF", "0"),)  # type: ignore[arg-type]
    ),
}  # fmt: skip

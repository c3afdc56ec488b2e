"""Every system that `benchmarks.training` measures, in a separate process: one update of a masked language model.

    python -m benchmarks.trainers SIDE DTYPE FOLDER

Each side has one function: (folder, dtype) -> update; update: micro-batch as collation makes it -> loss. The process
answers each line of JSON on standard input with one on standard output, as `benchmarks.worker` does.
"""

from __future__ import annotations

import importlib
import json
import resource
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.worker import answers, timed

ROWS, SEQ, MASKED, VOCABULARY = 8, 128, 0.15, 50_265
RATE, BETAS, EPSILON, DECAY = 1e-4, (0.9, 0.98), 1e-6, 0.01
Arrays = dict[str, np.ndarray]
Update = Callable[[Arrays], float]


def batch(seed: int) -> Arrays:
    """Rows without padding, with 15 % of the tokens masked: their places and ids, as collation returns them."""
    rng = np.random.default_rng(seed)
    ids = rng.integers(4, VOCABULARY, (ROWS, SEQ))
    count = round(MASKED * ROWS * SEQ)
    places = np.sort(rng.choice(ROWS * SEQ, count, replace=False))
    padding = -count % 64
    return {
        "input_ids": ids,
        "attention_mask": np.ones_like(ids),
        "positions": np.pad(places, (0, padding)),
        "labels": np.pad(ids.reshape(-1)[places], (0, padding), constant_values=-100),
    }


def whole_labels(arrays: Arrays) -> Arrays:
    """The batch as peers expect it: labels (rows, seq), -100 where nothing is masked."""
    labels = np.full(ROWS * SEQ, -100)
    is_real = arrays["labels"] != -100
    labels[arrays["positions"][is_real]] = arrays["labels"][is_real]
    given = {name: arrays[name] for name in ("input_ids", "attention_mask")}
    return {**given, "labels": labels.reshape(ROWS, SEQ)}


def ours(framework: str, prefix: str) -> Callable[[Path, str], Update]:
    """This project's trainer in a framework, in a process that is set up like that of `roberta train`."""

    def load(folder: Path, dtype: str) -> Update:
        import roberta
        from roberta.common.commands.memory import keep_freed_memory
        from roberta.common.training.data.batches import MicroBatch
        from roberta.common.training.recipes import Recipe, Settings

        keep_freed_memory()
        model = getattr(roberta, f"{prefix}RobertaForMaskedLM").from_pretrained(folder)
        recipe = Recipe(RATE, ROWS, beta1=BETAS[0], beta2=BETAS[1], epsilon=EPSILON, weight_decay=DECAY, clip_norm=1.0)
        settings: Any = Settings("mlm", recipe, updates=1000, dtype=dtype)  # type: ignore[arg-type]
        trainer = importlib.import_module(f"roberta.{framework}.training").Trainer(model, settings)
        made = iter(range(1, 1000))
        return lambda arrays: trainer.update([MicroBatch(arrays, 1.0)], RATE, next(made))

    return load


def transformers_torch(folder: Path, dtype: str) -> Update:
    """A step as its Trainer does it: its class with SDPA, PyTorch's fused AdamW and clipping, logits of all tokens."""
    import torch
    from transformers import RobertaForMaskedLM

    model = RobertaForMaskedLM.from_pretrained(folder, attn_implementation="sdpa").train()
    optimizer = torch.optim.AdamW(model.parameters(), RATE, BETAS, EPSILON, DECAY, fused=True)

    def update(arrays: Arrays) -> float:
        inputs = {name: torch.from_numpy(array) for name, array in whole_labels(arrays).items()}
        with torch.autocast("cpu", torch.bfloat16, enabled=dtype == "bfloat16"):
            loss = model(**inputs).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        return float(loss)

    return update


def transformers_tf(folder: Path, dtype: str) -> Update:
    """Its TensorFlow class with tf_keras' AdamW in one `tf.function`, logits of all tokens."""
    import tensorflow as tf
    import tf_keras
    from transformers import TFRobertaForMaskedLM

    model: Any = TFRobertaForMaskedLM.from_pretrained(folder, from_pt=True)
    optimizer = tf_keras.optimizers.AdamW(
        RATE, weight_decay=DECAY, beta_1=BETAS[0], beta_2=BETAS[1], epsilon=EPSILON, global_clipnorm=1.0, jit_compile=False
    )  # fmt: skip

    @tf.function(input_signature=[tf.TensorSpec([None, None], tf.int64)] * 3)
    def update(ids: Any, mask: Any, labels: Any) -> Any:
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(model(input_ids=ids, attention_mask=mask, labels=labels, training=True).loss)
        variables = model.trainable_variables
        optimizer.apply_gradients(zip(tape.gradient(loss, variables), variables, strict=True))
        return loss

    return lambda arrays: float(update(*map(tf.constant, whole_labels(arrays).values())))


def transformers_flax(folder: Path, dtype: str) -> Update:
    """Its Flax class and optax.adamw in one jitted step of a TrainState, logits of all tokens."""
    import jax
    import jax.numpy as jnp
    import optax
    from flax.training.train_state import TrainState
    from transformers import FlaxRobertaForMaskedLM

    model = FlaxRobertaForMaskedLM.from_pretrained(folder, from_pt=True)
    adamw = optax.adamw(RATE, *BETAS, eps=EPSILON, weight_decay=DECAY)
    optimizer = optax.chain(optax.clip_by_global_norm(1.0), adamw)
    state = TrainState.create(apply_fn=model.__call__, params=model.params, tx=optimizer)
    keys = iter(jax.random.split(jax.random.PRNGKey(0), 1000))

    def step(state: TrainState, ids: Any, mask: Any, labels: Any, key: Any) -> tuple[TrainState, Any]:
        def loss(params: Any) -> Any:
            logits = state.apply_fn(ids, mask, params=params, dropout_rng=key, train=True)[0]
            counts = labels != -100
            each = optax.softmax_cross_entropy_with_integer_labels(logits, jnp.where(counts, labels, 0))
            return jnp.where(counts, each, 0).sum() / counts.sum()

        value, gradients = jax.value_and_grad(loss)(state.params)
        return state.apply_gradients(grads=gradients), value

    compiled = jax.jit(step, donate_argnums=0)

    def update(arrays: Arrays) -> float:
        nonlocal state
        state, value = compiled(state, *whole_labels(arrays).values(), next(keys))
        return float(value)

    return update


@dataclass(frozen=True)
class Side:
    """One system.

    Attributes:
        paths: the peers in `benchmarks.peers` whose folders go on its path.
        environment: settings in its environment.
    """

    load: Callable[[Path, str], Update]
    dtypes: tuple[str, ...] = ("float32",)
    paths: tuple[str, ...] = ()
    environment: tuple[tuple[str, str], ...] = ()


TORCH_ONLY = (("USE_TF", "0"), ("USE_FLAX", "0"))
SIDES: dict[str, Side] = {
    "ours, PyTorch": Side(ours("pt", ""), ("float32", "bfloat16")),
    "ours, TensorFlow": Side(ours("tf", "TF"), ("float32", "bfloat16")),
    "ours, Flax": Side(ours("flax", "Flax"), ("float32", "bfloat16")),
    "transformers 4.57, PyTorch": Side(transformers_torch, ("float32", "bfloat16"), ("transformers4",), TORCH_ONLY),
    "transformers 4.57, TensorFlow": Side(
        transformers_tf, paths=("transformers4",), environment=(("USE_FLAX", "0"), ("TF_USE_LEGACY_KERAS", "1"))
    ),
    "transformers 4.57, Flax": Side(
        transformers_flax, paths=("transformers4-flax", "transformers4"), environment=(("USE_TF", "0"),)
    ),
}  # fmt: skip


def main() -> None:
    """Serve until standard input ends."""
    name, dtype, folder = sys.argv[1:]
    with answers() as stream:
        start = time.perf_counter()
        update = SIDES[name].load(Path(folder), dtype)
        print(json.dumps({"seconds": time.perf_counter() - start}), file=stream, flush=True)
        for line in sys.stdin:
            request = json.loads(line)
            arrays, losses = batch(request["seed"]), []
            seconds = timed(lambda arrays=arrays, losses=losses: losses.append(update(arrays)), 1)
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6
            print(json.dumps({**seconds, "loss": losses[0], "MB": peak}), file=stream, flush=True)


if __name__ == "__main__":
    main()

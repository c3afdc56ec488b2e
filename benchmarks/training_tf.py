"""The TensorFlow sides of a training benchmark: one MLM update of a folder's model, in float32 with its dropout.

One function a system: folder -> step; step: micro-batch of `roberta.common.training` -> loss, the weights changed.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from roberta.common.training.batches import MicroBatch

Step = Callable[[MicroBatch], float]


def ours(folder: Path) -> Step:
    """This project: `roberta.tf.training.Trainer`."""
    from itertools import count

    import roberta
    from roberta.common.recipes import Recipe
    from roberta.common.training.settings import Settings
    from roberta.tf.training import Trainer

    model = roberta.TFRobertaForMaskedLM.from_pretrained(folder)
    trainer, numbers = Trainer(model, Settings("mlm", Recipe(1e-5, 8, 100), 100)), count(1)
    return lambda batch: trainer.update([batch], 1e-5, next(numbers))


def transformers(folder: Path) -> Step:
    """Its TensorFlow class with tf_keras' AdamW in one `tf.function`; its head runs at every token."""
    import tensorflow as tf
    import tf_keras
    from transformers import TFRobertaForMaskedLM

    model: Any = TFRobertaForMaskedLM.from_pretrained(folder, from_pt=True)
    optimizer = tf_keras.optimizers.AdamW(1e-5, weight_decay=0.1, beta_2=0.98, epsilon=1e-6, jit_compile=False)

    @tf.function(input_signature=[tf.TensorSpec([None, None], tf.int64)] * 3)
    def step(ids: Any, mask: Any, labels: Any) -> Any:
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(model(input_ids=ids, attention_mask=mask, labels=labels, training=True).loss)
        variables = model.trainable_variables
        optimizer.apply_gradients(zip(tape.gradient(loss, variables), variables, strict=True))
        return loss

    def run(batch: MicroBatch) -> float:
        inputs = batch.inputs
        labels = np.full(inputs["input_ids"].size, -100)
        is_real = inputs["labels"] != -100
        labels[inputs["positions"][is_real]] = inputs["labels"][is_real]
        arrays = (inputs["input_ids"], inputs["attention_mask"], labels.reshape(inputs["input_ids"].shape))
        return float(step(*(tf.constant(array) for array in arrays)))

    return run

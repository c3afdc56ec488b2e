"""The updates of the weights in TensorFlow: AdamW on the loss of a task, with Keras' callbacks, on one device or several.

The devices may be those of several processes. All of them collate every micro-batch, and each computes its own rows.
Nothing random is kept from one update to the next: the states of the dropouts are given to every micro-batch, by
(seed, number of the update, number of the micro-batch), and never stored. Gradients are computed in one compiled
function for micro-batches of every shape, and put into the weights in another, so that the loss is known in between.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow import Tensor

from roberta.common.training.data.batches import TARGETS, MicroBatch, rows_of_rank
from roberta.common.training.data.tasks import Task, check_model_class
from roberta.common.training.loss_options import PLAIN_LOSS, LossOptions
from roberta.common.training.loss_scale import LossScale
from roberta.common.training.optimizer_state import TrainingState, check_trained_weights
from roberta.common.training.parameter_groups import check_frozen, decays, groups_of, rate_scale
from roberta.common.training.processes import between, check_same_training
from roberta.common.training.recipes import Recipe, Settings, average_share
from roberta.common.training.run import Run
from roberta.common.values import IGNORED
from roberta.tf import sharding
from roberta.tf.adamw import AdamW
from roberta.tf.averaging import AveragedWeights
from roberta.tf.devices import on_device_of
from roberta.tf.lora import LoraWeights
from roberta.tf.losses import classification_loss, next_token_loss, span_loss, token_loss, widened
from roberta.tf.optimizers import Named, fill_optimizer, read_optimizer
from roberta.tf.sharding import EachDevice
from roberta.tf.trained_copy import dropout_seeds, fitting
from roberta.tf.weights import keras, native, to_numpy


class Trainer:
    """A model and its AdamW.

    Args:
        model: one of the public classes, that of `tasks.HEADS`.
        resumed: what the optimizer knew when the training stopped; None for a new one.

    Raises:
        ValueError: the model is of another task; the settings want weights and optimizer split; or they want several
            devices, and there is one.
        CheckpointError: `resumed` is of another model.
    """

    def __init__(self, model: keras.Model, settings: Settings, resumed: TrainingState | None = None) -> None:
        check_model_class(model, settings.task)
        settings.loss_options.check_classes(model.config.num_labels)
        self.settings = settings
        self._scale = LossScale(settings.dtype == "float16", None if resumed is None else resumed.loss_scale)
        self.processes = sharding.join(settings.sharding)
        self.strategy = sharding.strategy_of(settings.sharding, model.device_name)
        self.world = self.strategy.num_replicas_in_sync
        devices = self.world // self.processes.count
        self._ranks = range(self.processes.rank * devices, (self.processes.rank + 1) * devices)  # of this process
        with self._scope(model):
            self._model = fitting(model, settings, is_copied=self.world > 1)
            self._adapter = None if settings.lora is None else LoraWeights(self._model, settings.lora)
            self._named = None if self._adapter is None else self._adapter.named
            # what is trained, and what is not
            table = native(self._model)
            check_frozen(settings.frozen, table)
            for name in settings.frozen:
                table[name][0].trainable = False
            if settings.gradient_checkpointing:
                self._model.gradient_checkpointing_enable()
            self.optimizer = adamw(self._model, settings.recipe, self._named)
        if resumed is not None:
            fill_optimizer(resumed, self.optimizer, self._model, self._named)
        trained = trained_variables(self._model, self._named)
        self._variables = [variable.value for variable in trained]
        names = {id(variable): name for name, (variable, _) in (self._named or native(self._model)).items()}
        layers = self._model.config.num_hidden_layers
        self._scales = [rate_scale(names[id(variable)], settings.recipe, layers) for variable in trained]
        decay, table = settings.recipe.ema_decay, self._named or native(self._model)
        with self._scope(self._model):
            named = {names[id(variable)]: table[names[id(variable)]] for variable in trained}
            self._averages = None if decay is None else AveragedWeights(named)
        self._put_in = None if self._adapter is None else EachDevice(self.strategy, self._adapter.put_in)
        if resumed is not None and self._averages is None:
            check_trained_weights(resumed, None)
        elif resumed is not None and self._averages is not None:
            self._averages.restore(resumed)
            if self._put_in is not None:
                self._put_in()
        self._sources = self._variables if self._adapter is None else self._adapter.sources
        # what is compiled
        self._seeds = dropout_seeds(self._model)
        self._sums: list[Any] = []  # of gradients, where an update has several micro-batches
        self._add = EachDevice(self.strategy, self._compute_and_add, takes_inputs=True)
        self._gradients = EachDevice(self.strategy, self._compute_once, takes_inputs=True)
        self._clear, self._size, self._apply = (
            EachDevice(self.strategy, function) for function in (self._zero_sums, self._norm, self._step)
        )

    def _scope(self, model: keras.Model) -> Any:
        """Where variables are made: on all devices of the strategy, or on that of the model."""
        return self.strategy.scope() if self.world > 1 else on_device_of(model)

    @property
    def model(self) -> keras.Model:
        """The model, or its averages: the given one where it has the dtype and the dropout of the settings and there is
        no sharding, else a copy, as Keras cannot change these of a model that is built.
        """
        self._show(averages=True)
        return self._model

    def update(self, micro_batches: Sequence[MicroBatch], learning_rate: float, number: int) -> float:
        """Make update `number`, and return the loss that the weights had before.

        Where loss or gradients are not finite, weights and optimizer stay as they were, and what is returned is not
        finite either.

        Raises:
            ValueError: an id, a length or a label is not of this model.
        """
        with on_device_of(self._model):
            return self._update(micro_batches, learning_rate, number)

    def _update(self, micro_batches: Sequence[MicroBatch], learning_rate: float, number: int) -> float:
        self._show(averages=False)
        loss, size, gradients = self._computed(micro_batches, number)
        while self._scale.overflows(loss, size):
            loss, size, gradients = self._computed(micro_batches, number)
        if math.isfinite(loss) and math.isfinite(size):
            limit, decay = self.settings.recipe.clip_norm, self.settings.recipe.ema_decay
            scale = (limit / size if 0 < limit < size else 1.0) / self._scale.value
            share = 0.0 if decay is None else average_share(number, decay)
            self._apply(gradients, *(tf.constant(one, tf.float64) for one in (learning_rate, scale, share)))
            self.optimizer.iterations.assign_add(1)
            self.optimizer.learning_rate = learning_rate
            self._scale.made()
        return loss if math.isfinite(size) else loss + size

    def _computed(self, micro_batches: Sequence[MicroBatch], number: int) -> tuple[float, float, list[Tensor]]:
        """The loss of an update, the norm of its gradients, and these, if they are not in the sums."""
        loss, gradients = 0.0, []  # no gradients: they are in the sums
        has_sums = len(micro_batches) > 1
        if has_sums:
            self._clear_sums()
        for index, micro_batch in enumerate(micro_batches):
            arguments = self._arguments(micro_batch, number, index)
            try:
                losses, gradients = (self._add if has_sums else self._gradients)(*arguments)
            except tf.errors.InvalidArgumentError as error:
                raise ValueError(f"update {number}: {reason(error)}") from error
            loss += math.fsum(float(one) for one in self.strategy.experimental_local_results(losses))
        loss = sharding.total(loss, self.processes)
        size = float(self.strategy.experimental_local_results(self._size(gradients))[0])
        return loss / self._scale.value, size / self._scale.value, gradients

    def state(self) -> TrainingState:
        """What the optimizer knows."""
        self._show(averages=True)
        state, recipe = read_optimizer(self.optimizer, self._model, self._named), self.settings.recipe
        weights = {} if self._averages is None else self._averages.weights()
        state = replace(state, weights=weights, loss_scale=self._scale.state())
        if recipe.layer_decay == 1:
            return state
        rate, layers = float(to_numpy(self.optimizer.learning_rate)), self._model.config.num_hidden_layers
        return replace(state, groups=groups_of(state.parameters, recipe, layers, rate))

    def pairs(self) -> dict[str, tuple[np.ndarray, np.ndarray]]:
        """A and B of the adapter that is trained, by weight; none without an adapter."""
        self._show(averages=True)
        return {} if self._adapter is None else self._adapter.pairs()

    def _show(self, *, averages: bool) -> None:
        """Have the averages in the model, if there are any, or the weights that are trained."""
        if self._averages is not None and self._averages.show(averages) and self._put_in is not None:
            self._put_in()

    def fit(self, run: Run, callbacks: Sequence[keras.callbacks.Callback] = ()) -> None:
        """Make the updates of a run that are left, and call `run.finished` after each, then Keras' callbacks.

        Args:
            callbacks: a batch is an update, and the run an epoch. Each of several processes calls its own.
        """
        if run.start >= run.stop:
            return
        has_callbacks = any(self.processes.gathered(len(callbacks)))
        self._model.compile(optimizer=self.optimizer)  # which callbacks look at
        self._model.stop_training = False
        told = keras.callbacks.CallbackList(
            list(callbacks), add_history=True, model=self._model, epochs=1, steps=run.stop - run.start, verbose=0
        )
        self._model._initial_epoch = None  # as `fit` does: BackupAndRestore sets it, where the epoch was done before
        told.on_train_begin()
        if len(set(self.processes.gathered(bool(self._model._initial_epoch)))) > 1:
            raise ValueError(
                "a callback of some of the processes has restored an epoch (BackupAndRestore does), and none of the "
                "others: give all the same callbacks, with a folder that all of them see"
            )
        logs: dict[str, float] = {}
        if not self._model._initial_epoch:
            told.on_epoch_begin(0)
            for batch, number in enumerate(range(run.start + 1, run.stop + 1)):
                told.on_train_batch_begin(batch)
                loss = self.update(run.batches.update(number), run.learning_rate(number), number)
                logs = {"loss": loss, "number": number}
                is_stopped = between(self, run, partial(run.finished, number, loss))
                told.on_train_batch_end(batch, logs)
                if has_callbacks:  # one of a process may stop it, and all must stop
                    is_stopped |= any(self.processes.gathered(bool(self._model.stop_training)))
                if is_stopped:
                    break
            told.on_epoch_end(0, logs)
        told.on_train_end(logs)

    # -- what is compiled ----------------------------------------------------------------------------------------

    def _arguments(self, micro_batch: MicroBatch, number: int, index: int) -> tuple[Any, ...]:
        """What each device of this process computes: its inputs, their part of the loss, and the states of its dropouts."""
        parts, weights, draws = [], [], []
        for rank in self._ranks:
            inputs, share = rows_of_rank(
                micro_batch.inputs, self.settings.task, rank, self.world, self.settings.class_weights
            )
            parts.append({name: tf.constant(array) for name, array in without_padding(inputs).items()})
            weights.append(tf.constant(micro_batch.weight * share * self._scale.value, tf.float64))
            seeds = np.random.SeedSequence((self.settings.seed, number, index, rank))
            drawn = seeds.generate_state(2 * len(self._seeds)).reshape(-1, 2)
            draws.append(tf.constant(drawn, tf.uint32))
        return parts, weights, draws

    def _clear_sums(self) -> None:
        """Make the sums of gradients zero; the first time, make them."""
        if self._sums:
            self._clear()
            return
        with self.strategy.scope():
            self._sums = [tf.Variable(tf.zeros_like(one), trainable=False) for one in self._variables]

    def _compute(
        self, parts: list[dict[str, Tensor]], weights: list[Tensor], draws: list[Tensor]
    ) -> tuple[Tensor, list[Tensor]]:
        """This device's part of the loss, and its gradients."""
        own = sharding.replica_number() - self._ranks.start if self.world > 1 else 0
        drawn = tf.unstack(tf.reshape(draws[own], (len(self._seeds), 2)))
        with tf.GradientTape() as tape, keras.StatelessScope(list(zip(self._seeds, drawn, strict=True))):
            loss = task_loss(self._model, parts[own], self.settings.task, self.settings.loss_options, training=True)
            loss *= tf.cast(weights[own], loss.dtype)
        gradients = tape.gradient(loss, self._sources, unconnected_gradients=tf.UnconnectedGradients.ZERO)
        gradients = [tf.convert_to_tensor(gradient) for gradient in gradients]
        if self._adapter is not None:
            gradients = self._adapter.gradients(gradients)
        return loss, gradients

    def _compute_once(self, *arguments: Any) -> tuple[Tensor, list[Tensor]]:
        """As `_compute`; the gradients are those of all devices together."""
        loss, gradients = self._compute(*arguments)
        return loss, self._over_devices(gradients)

    def _over_devices(self, gradients: list[Tensor]) -> list[Tensor]:
        """The sums of gradients over all devices."""
        if self.world == 1:
            return gradients
        summed: list[Tensor] = tf.distribute.get_replica_context().all_reduce(tf.distribute.ReduceOp.SUM, gradients)
        return summed

    def _zero_sums(self) -> None:
        """Make the sums zero."""
        for total in self._sums:
            tf.raw_ops.AssignVariableOp(resource=total.handle, value=tf.zeros_like(total))

    def _compute_and_add(self, *arguments: Any) -> tuple[Tensor, list[Tensor]]:
        """As `_compute`; the gradients are added to the sums of this device."""
        loss, gradients = self._compute(*arguments)
        for total, gradient in zip(self._sums, gradients, strict=True):
            tf.raw_ops.AssignAddVariableOp(resource=total.handle, value=gradient)
        return loss, []

    def _norm(self, gradients: list[Tensor]) -> Tensor:
        """The norm of all gradients together; what is in the sums of each device goes to all of them first."""
        if not gradients and self.world > 1:
            for total, gradient in zip(
                self._sums, self._over_devices([tf.identity(one) for one in self._sums]), strict=True
            ):
                tf.raw_ops.AssignVariableOp(resource=total.handle, value=gradient)
        return tf.linalg.global_norm(gradients or self._sums)

    def _step(self, gradients: list[Tensor], learning_rate: Tensor, scale: Tensor, share: Tensor) -> None:
        """Change weights and moments, and take a share of the new weights into their averages."""
        is_clipped = self.settings.recipe.clip_norm > 0 or self._scale.is_scaled
        for gradient, variable, part in zip(gradients or self._sums, self._variables, self._scales, strict=True):
            clipped = gradient * tf.cast(scale, gradient.dtype) if is_clipped else gradient
            self.optimizer.update_step(clipped, variable, learning_rate if part == 1 else learning_rate * part)
        if self._adapter is not None:
            self._adapter.put_in()
        if self._averages is not None:
            self._averages.add(share)


def train(model: keras.Model, run: Run, *, callbacks: Sequence[keras.callbacks.Callback] = ()) -> Trainer:
    """Make the updates of a run that are left; `model` of the trainer returned is the trained one.

    With several processes, the first alone is seen by `run.finished`.

    Args:
        callbacks: of Keras, called beside `run.finished`; a batch is an update, and the run an epoch.
    """
    processes = sharding.join(run.settings.sharding)
    with sharding.loss_of_processes_named(processes):
        check_same_training(run, processes)  # first, as processes make their variables together
        trainer = Trainer(model, run.settings, run.resumed)
        trainer.fit(run, callbacks)
    return trainer


def task_loss(
    model: keras.Model,
    inputs: Mapping[str, Tensor],
    task: Task,
    options: LossOptions = PLAIN_LOSS,
    training: bool = False,
) -> Tensor:
    """The mean loss of a batch over its targets, a scalar in float32 or wider.

    Args:
        inputs: as `roberta.common.training.data.batches.Collated` has them. For "mlm" the head runs at "positions" only.
        options: label smoothing and class weights.
        training: whether there is dropout.
    """
    given = {name: value for name, value in inputs.items() if name not in TARGETS}
    if task == "mlm":
        hidden = model.roberta(**given, return_dict=True, training=training).last_hidden_state
        chosen = tf.gather(tf.reshape(hidden, (-1, model.config.hidden_size)), inputs["positions"])
        logits = model.lm_head(chosen[tf.newaxis], model.word_embedding)[0]
        return token_loss(widened(logits), inputs["labels"], options=options)
    outputs = model(**given, return_dict=True, training=training, **({"use_cache": False} if task == "clm" else {}))
    if task == "question-answering":
        start, end = widened(outputs.start_logits), widened(outputs.end_logits)
        return span_loss(start, end, inputs["start_positions"], inputs["end_positions"])
    logits, labels = widened(outputs.logits), inputs["labels"]
    if task == "clm":
        return next_token_loss(logits, labels, options=options)
    if task == "text-classification":
        return classification_loss(logits, labels, model.config, options)
    return token_loss(logits, labels, options=options)


def adamw(model: keras.Model, recipe: Recipe, named: Named | None = None) -> AdamW:
    """The recipe's optimizer of a model, or of what is trained instead; the rate is given to every step."""
    optimizer = AdamW(
        learning_rate=recipe.learning_rate, beta_1=recipe.beta1, beta_2=recipe.beta2, epsilon=recipe.epsilon,
        weight_decay=recipe.weight_decay,
    )  # fmt: skip
    if not recipe.decays_all:
        table = named or native(model)
        optimizer.exclude_from_weight_decay([one for name, (one, _) in table.items() if not decays(name, recipe)])
    optimizer.build(trained_variables(model, named))
    return optimizer


def trained_variables(model: keras.Model, named: Named | None) -> list[keras.Variable]:
    """The variables that are trained: those of a model, or what is trained instead."""
    return model.trainable_variables if named is None else [variable for variable, _ in named.values()]


def without_padding(inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Inputs without the masked tokens that only fill an array up: one compiled function takes every length."""
    if "positions" not in inputs:
        return dict(inputs)
    is_real = inputs["labels"] != IGNORED
    return {**inputs, "positions": inputs["positions"][is_real], "labels": inputs["labels"][is_real]}


def reason(error: tf.errors.InvalidArgumentError) -> str:
    """What an assertion of the model says, of a message that says also where in the graph."""
    lines = [line for line in error.message.splitlines() if "assertion failed" in line]
    if not lines:
        return error.message
    pieces = lines[0].split("assertion failed:")[-1].strip().strip("[]")  # each value in brackets, quotes escaped
    return pieces.replace("] [", "").replace("\\'", "'")

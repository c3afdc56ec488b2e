"""Training in Flax: a `TrainState`, an optax chain, and a jitted step that may be split over a mesh of devices.

Between two updates the weights are the model's own `params`, so that it can be evaluated and saved. Everything random
follows from (seed, number of the update, number of the micro-batch): no random state is kept.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen as nn
from flax.training.train_state import TrainState
from jax import Array
from jax.tree_util import KeyPath

from roberta.common.config import RobertaConfig
from roberta.common.formats.flax_msgpack import canonical_name
from roberta.common.training.data.batches import TARGETS, MicroBatch
from roberta.common.training.data.tasks import Task, check_model_class
from roberta.common.training.loss_options import PLAIN_LOSS, LossOptions
from roberta.common.training.loss_scale import LossScale
from roberta.common.training.optimizer_state import Group, TrainingState, check_trained_weights
from roberta.common.training.parameter_groups import check_frozen, decays, groups_of, rate_scale
from roberta.common.training.processes import between, check_same_training
from roberta.common.training.recipes import Recipe, Settings
from roberta.common.training.run import Run
from roberta.flax import sharding
from roberta.flax.averaging import AveragedWeights, restored, trained_weights
from roberta.flax.devices import device_of_model, on_device_of
from roberta.flax.freezing import FrozenWeights
from roberta.flax.layers import check_range, check_values, position_ids, split_sums
from roberta.flax.lora import LoraWeights
from roberta.flax.losses import check_labels, classification_loss, next_token_loss, span_loss, token_loss
from roberta.flax.optimizers import fill_optimizer, read_optimizer
from roberta.flax.pretrained import FlaxRobertaPreTrainedModel
from roberta.flax.sharding import MeshLayout
from roberta.flax.weights import Params, checked_dtype, native


class Trainer:
    """A model and its optimizer.

    The arrays of `model.params` are given up by each update, whose results take their memory: copy what is to be kept
    for longer. Those that the model came with are left alone.

    Args:
        model: one of the public classes, the one that `settings.task` trains; it gets weights in the settings' dtype.
        resumed: what the optimizer knew; None for a new one.

    Raises:
        ValueError: the model is of another task, the dtype is switched off, or the devices cannot be used.
        CheckpointError: `resumed` does not fit the model.
    """

    def __init__(
        self, model: FlaxRobertaPreTrainedModel, settings: Settings, resumed: TrainingState | None = None
    ) -> None:
        check_model_class(model, settings.task)
        settings.loss_options.check_classes(model.config.num_labels)
        self._model, self.settings = model, settings
        self.processes = sharding.join(settings.sharding)
        self._gathered: FlaxRobertaPreTrainedModel | None = None
        self.rate = settings.recipe.learning_rate
        if resumed is not None:
            first, layers = resumed.groups[0], model.config.num_hidden_layers
            self.rate = first.learning_rate / rate_scale(first.parameters[0], settings.recipe, layers)
        # the weights: those that are trained, those that are frozen, and averages
        module = trained_module(model, settings)
        kind = checked_dtype("float64" if settings.dtype == "float64" else "float32")
        self._scale = LossScale(settings.dtype == "float16", None if resumed is None else resumed.loss_scale)
        with on_device_of(model):
            params = jax.tree.map(lambda leaf: jnp.array(leaf, kind, copy=True), model.params)
            check_frozen(settings.frozen, native(params))
            self._adapter: LoraWeights | FrozenWeights | None = None
            if settings.lora is not None:
                self._adapter = LoraWeights(params, settings.lora)
            elif settings.frozen:
                self._adapter = FrozenWeights(params, settings.frozen)
            trained = params if self._adapter is None else self._adapter.trained
            averages = trained
            if resumed is not None and settings.recipe.ema_decay is not None:
                trained = restored(resumed, averages)
            elif resumed is not None:
                check_trained_weights(resumed, None)
            steps = optimizer(settings.recipe, trained, model.config.num_hidden_layers)
            state = TrainState.create(apply_fn=module.apply, params=trained, tx=steps)
            if resumed is not None:
                state = state.replace(step=resumed.step, opt_state=fill_optimizer(resumed, state.opt_state))
        self.layout = sharding.make_layout(settings.sharding, device_of_model(model).platform)
        if self._adapter is not None:
            self._adapter.frozen = self.layout.put_state(self._adapter.frozen)
        decay, state = settings.recipe.ema_decay, self.layout.put_state(state)
        self._averages: AveragedWeights | None = None
        if decay is not None:
            averages = self.layout.put_state(averages)
            self._averages = AveragedWeights(averages, decay, self.layout.places(averages))
        self._set(state)
        # what is compiled
        self._gradients, self._add, self._apply = update_programs(
            module, settings, self.layout, self.train_state, self._adapter
        )

    def _set(self, state: TrainState) -> None:
        self.train_state = state
        shown = state.params if self._averages is None else self._averages.tree
        self._model.params = shown if self._adapter is None else self._adapter.whole_now(shown)
        self._gathered = None

    @property
    def model(self) -> FlaxRobertaPreTrainedModel:
        """The model, or with its weights' averages; with several processes a copy, which all processes ask for."""
        if self.processes.count == 1:
            return self._model
        if self._gathered is None:
            self._gathered = sharding.whole_model(self._model, self.layout)
        return self._gathered

    def update(self, micro_batches: Sequence[MicroBatch], learning_rate: float, number: int) -> float:
        """Change the weights once; returns the loss of the weights before.

        Args:
            number: of the update, from 1: with the seed it says which hidden states are dropped.

        Returns:
            Not finite where the loss or a gradient is not; weights and optimizer are as they were then.

        Raises:
            ValueError: an id, a length or a label is not of this model.
        """
        loss, size = self._made(micro_batches, learning_rate, number)
        while self._scale.overflows(loss, size):
            loss, size = self._made(micro_batches, learning_rate, number)
        if math.isfinite(loss) and math.isfinite(size):
            self.rate = learning_rate
            self._scale.made()
        return loss if math.isfinite(size) else loss + size

    def _made(self, micro_batches: Sequence[MicroBatch], learning_rate: float, number: int) -> tuple[float, float]:
        """Make an update; its loss, and the squared norm of its gradients. If one is not finite, nothing changes."""
        total, scale = None, self._scale.value
        for index, batch in enumerate(micro_batches):
            check_inputs(batch.inputs, self.settings.task, self._model.config)
            inputs = self.layout.put_inputs(batch.inputs, self._model.config.pad_token_id)
            draw = np.array([number, index], np.uint32)
            frozen = {} if self._adapter is None else self._adapter.frozen
            found = self._gradients(self.train_state.params, frozen, inputs, draw, np.float64(batch.weight * scale))
            total = found if total is None else self._add(total, found)
            jax.block_until_ready(total)  # or JAX starts the next one, and both need memory
        assert total is not None, "an update without micro-batches"
        arguments = (self.train_state, total[1], total[0], np.float64(learning_rate), np.float64(scale))
        state, loss, size = self._apply(*arguments)
        values = float(loss), float(size)
        if self._averages is not None and all(map(math.isfinite, values)):
            self._averages.add(state.params, number)
        self._set(state)
        return values

    @property
    def own_model(self) -> FlaxRobertaPreTrainedModel:
        """The model with its weights where they are, whole or not."""
        return self._model

    @property
    def averages(self) -> AveragedWeights | None:
        """The averages that are shown in place of the weights that are trained; None without any."""
        return self._averages

    def outline(self) -> TrainingState:
        """What the optimizer knows, without its arrays; asks nothing of other processes."""
        step = int(self.train_state.step)
        return TrainingState(step, {}, self._groups(), "this training", loss_scale=self._scale.state())

    def count(self, step: int) -> Array:
        """The number of updates as the optimizer has it, where it belongs."""
        with on_device_of(self._model):
            array: Array = self.layout.put_state(jnp.array(step, jnp.int32))
        return array

    def take(
        self,
        trained: Params,
        averages: Params,
        frozen: dict[str, Array],
        opt_state: optax.OptState,
        state: TrainingState,
    ) -> None:
        """Go on from arrays that are where they belong, and from the step and the scale of the loss of a state."""
        first, layers = state.groups[0], self._model.config.num_hidden_layers
        self.rate = first.learning_rate / rate_scale(first.parameters[0], self.settings.recipe, layers)
        self._scale = LossScale(self.settings.dtype == "float16", state.loss_scale)
        if self._adapter is not None:
            self._adapter.frozen = frozen
        if self._averages is not None:
            self._averages.tree = averages
        self._set(self.train_state.replace(step=self.layout.put_state(state.step), params=trained, opt_state=opt_state))

    def state(self) -> TrainingState:
        """What the optimizer knows, whole: with several processes all ask for it.

        Its arrays may share memory with the optimizer until the next update.
        """
        state = read_optimizer(self.layout.whole(self.train_state.opt_state), groups=self._groups())
        weights = {} if self._averages is None else trained_weights(self.layout.whole(self.train_state.params))
        return replace(state, weights=weights, loss_scale=self._scale.state())

    def pairs(self) -> dict[str, tuple[np.ndarray, np.ndarray]]:
        """A and B of the adapter that is trained, by weight; none without an adapter."""
        shown = self.train_state.params if self._averages is None else self._averages.tree
        return {} if self._adapter is None else self._adapter.pairs(self.layout.whole(shown))

    def _groups(self) -> tuple[Group, ...]:
        names, layers = native(self.train_state.params), self._model.config.num_hidden_layers
        return groups_of(names, self.settings.recipe, layers, self.rate)


def train(model: FlaxRobertaPreTrainedModel, run: Run) -> Trainer:
    """Make the updates that are left of a run; with several processes, the first alone is seen by `run.finished`."""
    trainer = Trainer(model, run.settings, run.resumed)
    check_same_training(run, trainer.processes)
    run.restore(trainer)
    for number, batch in enumerate(run.batches.updates(run.start, run.stop), run.start + 1):
        loss = trainer.update(batch, run.learning_rate(number), number)
        if between(trainer, run, partial(run.finished, number, loss)):
            break
    return trainer


def task_loss(
    module: nn.Module,
    params: Params,
    inputs: Mapping[str, Array],
    task: Task,
    options: LossOptions = PLAIN_LOSS,
    dropout_key: Array | None = None,
) -> Array:
    """The mean loss of a micro-batch, a scalar of at least float32.

    Args:
        module: the linen module of the task's class.
        inputs: as `Collated.inputs` has them; there may be more rows than labels, and those behind do not count.
        options: label smoothing and class weights.
        dropout_key: a `jax.random.key`; None for no dropout.
    """
    given: dict[str, Any] = {name: value for name, value in inputs.items() if name not in TARGETS}
    given |= {"deterministic": dropout_key is None, "rngs": {} if dropout_key is None else {"dropout": dropout_key}}
    if task == "mlm":
        scores = module.apply({"params": params}, positions=inputs["positions"], method=masked_scores, **given)
        return token_loss(_wide(scores), inputs["labels"], options=options)
    output = module.apply({"params": params}, return_dict=True, **given)
    if task == "question-answering":
        start, end = inputs["start_positions"], inputs["end_positions"]
        return span_loss(_wide(output.start_logits)[: len(start)], _wide(output.end_logits)[: len(end)], start, end)
    labels = inputs["labels"]
    logits = _wide(output.logits)[: len(labels)]
    if task == "clm":
        return next_token_loss(logits, labels, options=options)
    if task == "text-classification":
        return classification_loss(logits, labels, module.config, options)
    return token_loss(logits, labels, options=options)


def masked_scores(
    module: nn.Module, input_ids: Array, attention_mask: Array, positions: Array, deterministic: bool
) -> Array:
    """Scores of every vocabulary entry at some tokens only: (n, vocab).

    Args:
        module: a `RobertaForMaskedLMModule`.
        positions: int, (n,), in the flattened (rows * seq).
    """
    outputs = module.roberta(input_ids, attention_mask, return_dict=True, deterministic=deterministic)
    hidden = outputs.last_hidden_state
    hidden = hidden.reshape(-1, hidden.shape[-1])[positions]
    return module.lm_head(hidden, module.roberta.embeddings.word_embeddings.embedding)


def _wide(logits: Array) -> Array:
    return logits.astype(jnp.promote_types(logits.dtype, jnp.float32))


def trained_module(model: FlaxRobertaPreTrainedModel, settings: Settings) -> Any:
    """The model's module with the settings' dtype, after the model's config was given the recipe's dropout.

    A head keeps its own, where the config has one.
    """
    dropout = settings.recipe.dropout
    if dropout is not None:  # the module has the same config
        model.config.update_checked({"hidden_dropout_prob": dropout, "attention_probs_dropout_prob": dropout})
    checkpoints = settings.gradient_checkpointing or model.is_gradient_checkpointing
    return model.module.clone(dtype=checked_dtype(settings.dtype), gradient_checkpointing=checkpoints)


def optimizer(recipe: Recipe, params: Params, layers: int) -> optax.GradientTransformation:
    """AdamW with decoupled decay; each update's rate is the state's hyperparameter "learning_rate".

    Args:
        params: arrays, or shapes.
        layers: of the encoder.
    """

    def name_of(path: KeyPath) -> str:
        return canonical_name("/".join(key.key for key in path))[0]

    def is_decayed(path: KeyPath, leaf: object) -> bool:
        return decays(name_of(path), recipe)

    def scaled(steps: Params, params: Params) -> Params:
        scale = partial(rate_scale, recipe=recipe, layers=layers)
        result: Params = jax.tree_util.tree_map_with_path(lambda path, step: step * scale(name_of(path)), steps)
        return result

    mask = None if recipe.decays_all else jax.tree_util.tree_map_with_path(is_decayed, params)
    return optax.chain(
        optax.clip_by_global_norm(recipe.clip_norm) if recipe.clip_norm > 0 else optax.identity(),
        optax.scale_by_adam(recipe.beta1, recipe.beta2, recipe.epsilon),
        optax.add_decayed_weights(recipe.weight_decay, mask),
        optax.stateless(scaled) if recipe.layer_decay != 1 else optax.identity(),
        optax.inject_hyperparams(optax.scale_by_learning_rate)(learning_rate=0.0),
    )


def update_programs(
    module: nn.Module,
    settings: Settings,
    spread: MeshLayout,
    state: TrainState,
    adapter: LoraWeights | FrozenWeights | None = None,
) -> tuple[Any, Any, Any]:
    """The three compiled functions of an update: gradients of a micro-batch, their sum, and the new state.

    The first is compiled for each shape of a micro-batch, the others once. The sum takes the memory of what is summed,
    the new state that of the old one.
    """
    key, places = jax.random.key(settings.seed), spread.places(state)

    # with an adapter or frozen weights, `params` are what is trained, and `frozen` the rest of the model
    def gradients(
        params: Params, frozen: dict[str, Array], inputs: dict[str, Array], draw: Array, weight: Array
    ) -> tuple[Array, Params]:
        dropout_key = jax.random.fold_in(jax.random.fold_in(key, draw[0]), draw[1])

        def loss(params: Params) -> Array:
            whole = params if adapter is None else adapter.whole(frozen, params)
            mean = task_loss(module, whole, inputs, settings.task, settings.loss_options, dropout_key)
            return mean * weight.astype(mean.dtype)

        # `check_inputs` has checked, and callbacks keep a program from being cached on disk
        with check_values(False), split_sums(False):
            return jax.value_and_grad(loss)(params)

    # micro-batches after the first are added to the sum
    def add(total: tuple[Array, Params], more: tuple[Array, Params]) -> tuple[Array, Params]:
        return jax.tree.map(jnp.add, total, more)

    # one update, which leaves everything as it was where loss or gradients are not finite
    def apply(
        state: TrainState, gradients: Params, loss: Array, learning_rate: Array, scale: Array
    ) -> tuple[TrainState, Array, Array]:
        if settings.dtype == "float16":
            loss = loss / scale.astype(loss.dtype)
            gradients = jax.tree.map(lambda leaf: leaf / scale.astype(leaf.dtype), gradients)
        rate, size = (
            learning_rate.astype(loss.dtype),
            sum(jnp.square(leaf).sum() for leaf in jax.tree.leaves(gradients)),
        )
        is_finite = jnp.isfinite(loss) & jnp.isfinite(size)
        ready = state.replace(opt_state=optax.tree_utils.tree_set(state.opt_state, learning_rate=rate))
        new = ready.apply_gradients(grads=gradients)
        kept = jax.tree.map(lambda new, old: jnp.where(is_finite, new, old), new, state)
        return kept, loss, size

    # where results are put: weights split or everywhere
    pair = None if places is None else (spread.everywhere, places.params)
    return (
        jax.jit(gradients, out_shardings=pair),
        jax.jit(add, donate_argnums=0, out_shardings=pair),
        jax.jit(apply, donate_argnums=0, out_shardings=None if places is None else (places, *[spread.everywhere] * 2)),
    )


def check_inputs(inputs: Mapping[str, np.ndarray], task: Task, config: RobertaConfig) -> None:
    """Raise `ValueError` for an id, a length or a label that is not of the model: compiled code would give nan."""
    ids = inputs["input_ids"].reshape(-1, inputs["input_ids"].shape[-1])
    check_range("input_ids", ids, config.vocab_size, "is the tokenizer this model's?")
    limit = f"this model takes {config.max_length_tokens} tokens: truncate the examples, or cut them into windows"
    check_range("position_ids", position_ids(ids, config.pad_token_id), config.max_position_embeddings, limit)
    labels = inputs.get("labels")
    if labels is None or np.issubdtype(labels.dtype, np.floating):
        return
    classes = {"mlm": config.vocab_size, "clm": config.vocab_size, "multiple-choice": inputs["input_ids"].shape[1]}
    if task != "text-classification" or config.num_labels > 1:
        check_labels("labels", labels, classes.get(task, config.num_labels))

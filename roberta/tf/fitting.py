"""Keras' loops over our models: compile, fit, evaluate, predict, and what one step of each compares.

Without a loss given to `compile` the model's own is taken. Labels may be among the inputs or beside them as `y`, in
either case; sample weights count in both losses.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import tensorflow as tf
from tensorflow import Tensor

from roberta.common.outputs import ModelOutput
from roberta.common.parameters import Head
from roberta.tf.losses import widened
from roberta.tf.metrics import counted, next_tokens, on_logits
from roberta.tf.weighing import own_loss, weighed_loss
from roberta.tf.weights import keras

# what Keras' loops take, and hand over: arrays, tensors, nests of them, data sets
_Batch = npt.ArrayLike | Tensor | Mapping[str, Any] | tf.data.Dataset | keras.utils.PyDataset | None
_Callbacks = Sequence[keras.callbacks.Callback] | None
_Loss = str | keras.losses.Loss | Callable[..., Tensor] | Mapping[str, Any] | None
_Metrics = str | keras.metrics.Metric | Sequence[Any] | Mapping[str, Any] | None
OWN_LOSS = ("auto_with_warning", "passthrough")  # transformers' names for the model's own loss


class KerasLoops(keras.Model):
    """What the seven classes do in Keras' loops."""

    head: ClassVar[Head]
    _keeps_metrics = False

    def compile(
        self,
        optimizer: str | keras.optimizers.Optimizer = "rmsprop",
        loss: _Loss = "auto_with_warning",
        metrics: _Metrics = None,
        loss_weights: Sequence[float] | Mapping[str, float] | None = None,
        weighted_metrics: _Metrics = None,
        run_eagerly: bool | None = None,
        steps_per_execution: int | None = None,
        *,
        jit_compile: bool | str = "auto",
        auto_scale_loss: bool = True,
    ) -> None:
        """Keras' `compile`; nothing of an earlier one stays.

        Args:
            loss: compares labels and logits; by default, as for None, "auto_with_warning" and "passthrough", the model
                computes its own.
            metrics, weighted_metrics: of question answering, one list is for the start and for the end.
        """
        is_own = loss is None or (isinstance(loss, str) and loss in OWN_LOSS)
        self._compile_loss = self._compile_metrics = self.loss = None  # Keras' own would keep the old ones
        super().compile(
            optimizer=optimizer,
            loss=None if is_own else loss,
            loss_weights=loss_weights,
            metrics=self._for_each_output(metrics),
            weighted_metrics=self._for_each_output(weighted_metrics),
            run_eagerly=bool(run_eagerly),
            steps_per_execution=steps_per_execution or 1,
            jit_compile=jit_compile,
            auto_scale_loss=auto_scale_loss,
        )

    def compile_from_config(self, config: dict[str, Any]) -> None:
        """Keras' hook: `compile` as it was when the model was saved."""
        self.compile(**keras.saving.deserialize_keras_object(config))
        if self.optimizer is not None:
            self.optimizer.build(self.trainable_variables)

    def _resolve_auto_jit_compile(self) -> bool:
        """Keras' hook: XLA on request only, as it drops checks and compiles for each new length."""
        return False

    def _for_each_output(self, metrics: _Metrics) -> Any:
        """Metrics by output, where there are two outputs and one list for both."""
        if self.head != "ForQuestionAnswering" or metrics is None or isinstance(metrics, Mapping):
            return metrics
        flat = list(metrics) if isinstance(metrics, list | tuple) else [metrics]
        if any(isinstance(metric, list | tuple | Mapping) for metric in flat):
            return metrics
        return {"start_logits": flat, "end_logits": [_again(metric) for metric in flat]}

    # -- the loops -------------------------------------------------------------------------------------------

    def fit(
        self,
        x: _Batch = None,
        y: _Batch = None,
        batch_size: int | None = None,
        epochs: int = 1,
        verbose: int | str = "auto",
        callbacks: _Callbacks = None,
        validation_split: float = 0.0,
        validation_data: _Batch = None,
        shuffle: bool = True,
        class_weight: Mapping[int, float] | None = None,
        sample_weight: _Batch = None,
        initial_epoch: int = 0,
        steps_per_epoch: int | None = None,
        validation_steps: int | None = None,
        validation_batch_size: int | None = None,
        validation_freq: int | Sequence[int] = 1,
        max_queue_size: int = 10,
        workers: int = 1,
        use_multiprocessing: bool = False,
    ) -> Any:
        """Keras' `fit`: `x` may be any mapping, with the labels among the inputs or as `y`.

        Args:
            max_queue_size, workers, use_multiprocessing: of a `keras.utils.PyDataset`, instead of its own.
        """
        x, y, sample_weight = self._given(x, y, sample_weight, class_weight)
        if validation_data is not None:
            validation_data = self._validation(validation_data)
        _queue(x, max_queue_size, workers, use_multiprocessing)
        return super().fit(
            x, y, batch_size=batch_size, epochs=epochs, verbose=verbose, callbacks=callbacks,
            validation_split=validation_split, validation_data=validation_data,
            shuffle=shuffle and not isinstance(x, tf.data.Dataset),  # of which Keras warns that it does not shuffle it
            class_weight=class_weight, sample_weight=sample_weight, initial_epoch=initial_epoch,
            steps_per_epoch=steps_per_epoch, validation_steps=validation_steps,
            validation_batch_size=validation_batch_size, validation_freq=validation_freq,
        )  # fmt: skip

    def evaluate(
        self,
        x: _Batch = None,
        y: _Batch = None,
        batch_size: int | None = None,
        verbose: int | str = "auto",
        sample_weight: _Batch = None,
        steps: int | None = None,
        callbacks: _Callbacks = None,
        max_queue_size: int = 10,
        workers: int = 1,
        use_multiprocessing: bool = False,
        return_dict: bool = False,
        **of_keras: Any,
    ) -> Any:
        """Keras' `evaluate`, with the inputs that `fit` takes."""
        x, y, sample_weight = self._given(x, y, sample_weight)
        _queue(x, max_queue_size, workers, use_multiprocessing)
        return super().evaluate(
            x, y, batch_size=batch_size, verbose=verbose, sample_weight=sample_weight, steps=steps,
            callbacks=callbacks, return_dict=return_dict, **of_keras,
        )  # fmt: skip

    def predict(
        self,
        x: _Batch,
        batch_size: int | None = None,
        verbose: int | str = "auto",
        steps: int | None = None,
        callbacks: _Callbacks = None,
        max_queue_size: int = 10,
        workers: int = 1,
        use_multiprocessing: bool = False,
    ) -> Any:
        """Keras' `predict`: the model's output in numpy, `.logits` and all, of `x` as `fit` takes it."""
        x, _, _ = self._given(x)
        _queue(x, max_queue_size, workers, use_multiprocessing)
        return super().predict(x, batch_size=batch_size, verbose=verbose, steps=steps, callbacks=callbacks)

    def train_on_batch(
        self,
        x: _Batch,
        y: _Batch = None,
        sample_weight: _Batch = None,
        class_weight: Mapping[int, float] | None = None,
        reset_metrics: bool = True,
        return_dict: bool = False,
    ) -> Any:
        """Keras' `train_on_batch`, with the inputs that `fit` takes; without `reset_metrics` metrics go on."""
        x, y, sample_weight = self._given(x, y, sample_weight, class_weight)
        self._keeps_metrics = not reset_metrics
        try:
            return super().train_on_batch(x, y, sample_weight, class_weight, return_dict)
        finally:
            self._keeps_metrics = False

    def test_on_batch(
        self,
        x: _Batch,
        y: _Batch = None,
        sample_weight: _Batch = None,
        reset_metrics: bool = True,
        return_dict: bool = False,
    ) -> Any:
        """Keras' `test_on_batch`, with the inputs that `fit` takes; without `reset_metrics` metrics go on."""
        x, y, sample_weight = self._given(x, y, sample_weight)
        self._keeps_metrics = not reset_metrics
        try:
            return super().test_on_batch(x, y, sample_weight, return_dict)
        finally:
            self._keeps_metrics = False

    def predict_on_batch(self, x: _Batch) -> Any:
        """Keras' `predict_on_batch`, with the inputs that `fit` takes."""
        return super().predict_on_batch(self._given(x)[0])

    def reset_metrics(self) -> None:
        """Keras' hook: start counting again, unless the caller of `train_on_batch` does not want it."""
        if not self._keeps_metrics:
            super().reset_metrics()

    def _validation(self, data: _Batch) -> Any:
        """`validation_data` with its parts as Keras takes them."""
        if isinstance(data, tuple | list):
            return self._given(*keras.utils.unpack_x_y_sample_weight(data))
        return _plain(data)

    def _given(
        self, x: _Batch, y: _Batch = None, sample_weight: _Batch = None, class_weight: Mapping[int, float] | None = None
    ) -> tuple[Any, ...]:
        """(x, y, sample_weight) as Keras takes them: it knows dicts alone, and weighs nothing but `y`."""
        x, y = _plain(x), _plain(y)
        is_weighed = sample_weight is not None or class_weight is not None
        if is_weighed and y is None and isinstance(x, Mapping):
            found = self._labels_in(x)
            y = found or None if len(found) != 1 else next(iter(found.values()))
        if sample_weight is not None and y is not None:
            sample_weight = np.asarray(sample_weight) if isinstance(sample_weight, list) else sample_weight
        return x, y, sample_weight

    # -- one step --------------------------------------------------------------------------------------------

    def train_step(self, data: _Batch) -> dict[str, Any]:
        """One step of `fit`, by `compute_loss`."""
        return super().train_step(self._as_batch(data))

    def test_step(self, data: _Batch) -> dict[str, Any]:
        """One step of `evaluate`, by `compute_loss`."""
        return super().test_step(self._as_batch(data))

    def predict_step(self, data: _Batch) -> ModelOutput:
        """One step of `predict`: the model's output, as an object whatever the config says."""
        inputs, _, _ = keras.utils.unpack_x_y_sample_weight(data)
        return super().predict_step((self._inputs(inputs),))

    def compute_loss(
        self,
        x: _Batch = None,
        y: _Batch = None,
        y_pred: _Batch = None,
        sample_weight: _Batch = None,
        training: bool = True,
    ) -> Tensor:
        """The loss given to `compile`, on labels and logits (see `compared`); without one, the model's own.

        Both need labels, among the inputs or as `y`. Of the model's own, `sample_weight` weighs each row's part.
        """
        labels = " and ".join(self.label_names) or "labels"
        if self._compile_loss is not None:
            if y is None:
                raise ValueError(f"the loss given to compile needs labels; give {labels} as y or among the inputs")
            return super().compute_loss(x, *self.compared(x, y, y_pred, sample_weight), training)
        if not isinstance(y_pred, Mapping) or y_pred.get("loss") is None:
            raise ValueError(
                f"there is no loss: give {type(self).__name__} {labels} among the inputs or as y, or give compile a loss"
            )
        if self._compile_config.config.get("loss_weights") is not None:  # `get_compile_config` computes
            raise ValueError(
                "the model's own loss takes no loss_weights; omit them, or give compile a loss for each output they "
                "weigh"
            )
        loss = widened(y_pred["loss"])
        if sample_weight is not None:
            loss = weighed_loss(self, y_pred, [x[name] for name in self.label_names], sample_weight)
        for other in self.losses:  # regularisers
            loss = loss + tf.cast(other, loss.dtype)
        return loss / tf.distribute.get_strategy().num_replicas_in_sync

    def compute_metrics(self, x: _Batch, y: _Batch, y_pred: _Batch, sample_weight: _Batch = None) -> dict[str, Any]:
        """The metrics given to `compile`, on what `compared` gives of the logits and of the labels.

        Logits whose label is -100 are left out; what remains is (n,) labels and (n, classes) logits.
        """
        y, y_pred, sample_weight = self.compared(x, y, y_pred, sample_weight)
        if self._compile_metrics is not None:
            y, y_pred, sample_weight = on_logits(counted, y, y_pred, sample_weight)
            if self.head == "ForQuestionAnswering" and isinstance(y_pred, tuple) and isinstance(y, tuple):
                names = self.get_label_to_output_name_mapping().values()
                y, y_pred = (dict(zip(names, values, strict=True)) for values in (y, y_pred))
        return super().compute_metrics(x, y, y_pred, sample_weight)

    def compared(self, x: _Batch, y: _Batch, output: ModelOutput, sample_weight: _Batch) -> tuple[Any, Any, Any]:
        """(y, what it is compared with, sample_weight) of a loss or a metric; the causal head's are shifted here.

        There a token's logits are compared with the label of the next token, as in the model's own loss.
        """
        y_pred = self.predictions(output, y)
        if self.head != "ForCausalLM":
            return y, y_pred, sample_weight
        input_ids = x.get("input_ids") if isinstance(x, Mapping) else None
        return on_logits(partial(next_tokens, input_ids=input_ids), y, y_pred, sample_weight)

    def predictions(self, output: ModelOutput, targets: _Batch) -> Any:
        """What of an output the losses and metrics of `compile` see.

        The logits; (start_logits, end_logits) of question answering; last_hidden_state of a model without
        head; or, where the targets are a dict of names of outputs, those outputs.
        """
        if not isinstance(output, Mapping):  # a subclass with a `call` of its own
            return output
        if isinstance(targets, Mapping) and set(targets) <= set(output):
            return {name: output[name] for name in targets}
        if self.head == "ForQuestionAnswering":
            return output["start_logits"], output["end_logits"]
        return output["last_hidden_state" if self.head == "Model" else "logits"]

    def hf_compute_loss(self, labels: _Batch, logits: _Batch) -> Tensor:
        """The model's own loss of logits and labels that are aligned: a scalar.

        Args:
            labels: of question answering (start, end), or a dict of the two; of a decoder, each token's next one.
            logits: of question answering (start_logits, end_logits).
        """
        given = list(labels.values()) if isinstance(labels, Mapping) else labels
        given = given if isinstance(given, list | tuple) else [given]
        return own_loss(self.head, [tf.convert_to_tensor(one) for one in given], logits, self.config)

    @property
    def label_names(self) -> tuple[str, ...]:
        """The arguments that make a head compute its loss."""
        if self.head == "ForQuestionAnswering":
            return "start_positions", "end_positions"
        return () if self.head == "Model" else ("labels",)

    def get_label_to_output_name_mapping(self) -> dict[str, str]:
        """The output that each argument with labels is compared with."""
        outputs = ("start_logits", "end_logits") if self.head == "ForQuestionAnswering" else ("logits",)
        return dict(zip(self.label_names, outputs, strict=False))

    def _labels_in(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        """The labels among inputs, in the order of `label_names`."""
        return {name: inputs[name] for name in self.label_names if inputs.get(name) is not None}

    def _inputs(self, x: _Batch) -> Any:
        """The inputs of one call by name, for an output that is an object; a `call` of the user's own takes `x` as it is."""
        if not self._takes_names():
            return x
        return self.arguments((x,), {"return_dict": True} if self._takes_names("return_dict") else {})

    def _as_batch(self, data: _Batch) -> tuple[Any, Any, Any]:
        """(inputs, y, sample_weight): y, if it has the names of labels or there is none, in their order.

        Without a loss given to compile, the labels are among the inputs too.
        """
        x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
        inputs = self._inputs(x)
        if isinstance(inputs, Mapping):
            inputs = dict(inputs)
            y = self._labels_in(inputs) or None if y is None else y
        if isinstance(y, Mapping) and set(y) <= set(self.label_names):
            if isinstance(sample_weight, Mapping):
                sample_weight = tuple(sample_weight[name] for name in self.label_names if name in y)
            y = tuple(self._labels_in(y).values())
            y, sample_weight = (_alone(y), _alone(sample_weight)) if len(y) == 1 else (y, sample_weight)
        if isinstance(inputs, Mapping) and self._compile_loss is not None:  # which takes them, and not the model
            inputs = {name: value for name, value in inputs.items() if name not in self.label_names}
        elif isinstance(inputs, Mapping) and y is not None:
            targets = y if isinstance(y, list | tuple) else (y,)
            inputs.update(y if isinstance(y, Mapping) else zip(self.label_names, targets, strict=True))
        return inputs, y, sample_weight


def _alone(values: _Batch) -> Any:
    """The one value of a tuple; everything else as it is."""
    return values[0] if isinstance(values, tuple) and len(values) == 1 else values


def _again(metric: keras.metrics.Metric | str) -> Any:
    """A metric with counts of its own, for another output."""
    return type(metric).from_config(metric.get_config()) if isinstance(metric, keras.metrics.Metric) else metric


def _plain(value: _Batch) -> Any:
    """A mapping, such as a BatchEncoding, as the dict that Keras knows, with lists of numbers as arrays."""
    if not isinstance(value, Mapping):
        return value
    return {name: np.asarray(one) if isinstance(one, list | tuple) else one for name, one in value.items()}


def _queue(x: _Batch, max_queue_size: int, workers: int, use_multiprocessing: bool) -> None:
    """Give a PyDataset, which has these settings itself in Keras 3, those that are not the default."""
    if isinstance(x, keras.utils.PyDataset):
        x.max_queue_size = x.max_queue_size if max_queue_size == 10 else max_queue_size
        x.workers = x.workers if workers == 1 else workers
        x.use_multiprocessing = x.use_multiprocessing or use_multiprocessing

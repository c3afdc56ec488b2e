"""The base of the TensorFlow classes: loading, saving, initialisation, changes of size, and Keras' loops."""

import inspect
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import optree
import tensorflow as tf
from tensorflow import Tensor

from roberta.common.batch_encoding import BatchEncoding
from roberta.common.checkpoint import save_checkpoint
from roberta.common.config import CONFIG_FILE, RobertaConfig
from roberta.common.generation import GENERATION_CONFIG_FILE
from roberta.common.hub import upload_arguments, upload_folder
from roberta.common.loading import (
    HubOptions,
    loading_info,
    open_pretrained,
    preferred_formats,
    report_to_user,
    resized,
)
from roberta.common.outputs import OUTPUTS, BaseModelOutputWithPoolingAndCrossAttentions, ModelOutput
from roberta.common.parameters import HEADS_WITH_POOLER, Head, kind_of
from roberta.common.safetensors_file import Source
from roberta.common.saving import dtype_of
from roberta.tf import legacy
from roberta.tf.infer import infer, release
from roberta.tf.layers import draws_parameters
from roberta.tf.losses import widened
from roberta.tf.metrics import counted, next_tokens, on_logits
from roberta.tf.saving import to_write
from roberta.tf.symbols import WHOLE, symbol
from roberta.tf.weights import assign, keras, native, replace, to_numpy

for _output in OUTPUTS:  # for keras.tree; tf.nest knows every mapping
    optree.register_pytree_node(
        _output,
        lambda output: (list(output.values()), (type(output), tuple(output)), tuple(output)),
        lambda context, values: context[0](zip(context[1], values, strict=True)),
        namespace="keras",
    )
optree.register_pytree_node(  # what a tokenizer returns is taken by fit and predict as the dict that is in it
    BatchEncoding,
    lambda batch: (list(batch.data.values()), tuple(batch.data), tuple(batch.data)),
    lambda names, values: dict(zip(names, values, strict=True)),
    namespace="keras",
)


@contextmanager
def no_initialisation() -> Iterator[None]:
    """Models made inside have no first values: they come from a file."""
    token = draws_parameters.set(False)
    try:
        yield
    finally:
        draws_parameters.reset(token)


class TFRobertaPreTrainedModel(keras.Model):
    """What the seven classes share.

    Attributes:
        config: the `RobertaConfig` the model was built from.
        head: which class this is, in the table of parameters.
    """

    head: ClassVar[Head]
    config_class = RobertaConfig
    base_model_prefix = "roberta"
    main_input_name = "input_ids"
    framework = "tf"

    def __init__(
        self, config: RobertaConfig, *, dtype: Any = None, name: str | None = None, trainable: bool = True
    ) -> None:
        """Keras' options: `dtype` is one or a policy such as "mixed_bfloat16", by default the global one."""
        if not isinstance(config, RobertaConfig):
            raise TypeError(
                f"{type(self).__name__} is built from a RobertaConfig, not {type(config).__name__}; "
                f"to load a model use {type(self).__name__}.from_pretrained"
            )
        if self.head == "ForQuestionAnswering" and config.num_labels != 2:
            raise ValueError(f"num_labels={config.num_labels}; question answering has 2, the start and the end")
        dtype = dtype.name if isinstance(dtype, tf.DType) else dtype
        # labels keep their dtype: the layers cast what they compute with
        super().__init__(dtype=dtype, name=name, trainable=trainable, autocast=False)
        self.config = config
        self.name_or_path = config.name_or_path

    # -- calling ---------------------------------------------------------------------------------------------

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """`call`, of which the first argument may also be one dict, tuple or list with all arguments.

        Values may be tensors, numpy arrays or nested lists of numbers: `model([[0, 5, 2]])`.
        """
        given = self.arguments(args, kwargs)
        return super().__call__(given.pop("input_ids", None), **given)

    def arguments(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dict[str, Any]:
        """The arguments of `call` by name."""
        names = tuple(inspect.signature(self.call).parameters)
        given: dict[str, Any] = {}
        if args and isinstance(args[0], Mapping):
            given, args = dict(args[0]), args[1:]
        elif args and (isinstance(args[0], tuple) or _is_argument_list(args[0])):
            args = (*args[0], *args[1:])
        if len(args) > len(names):
            raise ValueError(f"{type(self).__name__} takes {len(names)} arguments, not {len(args)}: {', '.join(names)}")
        for name, value in [*zip(names, args, strict=False), *kwargs.items()]:
            if name in given:
                raise ValueError(f"{name} is given twice, in the dict and beside it")
            given[name] = value
        unknown = sorted(given.keys() - set(names))
        if unknown:
            raise ValueError(f"{type(self).__name__} does not know {unknown}; it takes {', '.join(names)}")
        given = {name: value if name == "past_key_values" else _as_tensor(value) for name, value in given.items()}
        return {name: symbol(name, value, self.config) if name in WHOLE else value for name, value in given.items()}

    @property
    def word_embedding(self) -> Tensor:
        """The word embedding's matrix, (vocab, hidden)."""
        return tf.convert_to_tensor(self.get_input_embeddings().embeddings)

    # -- loading and saving ----------------------------------------------------------------------------------

    @classmethod
    def from_pretrained(
        cls,
        pretrained_model_name_or_path: str | Path,
        *,
        config: RobertaConfig | str | Path | None = None,
        dtype: str | tf.DType | None = None,
        torch_dtype: str | tf.DType | None = None,
        add_pooling_layer: bool = True,
        output_loading_info: bool = False,
        ignore_mismatched_sizes: bool = False,
        use_safetensors: bool | None = None,
        from_pt: bool = False,
        from_flax: bool = False,
        variant: str | None = None,
        revision: str = "main",
        subfolder: str = "",
        cache_dir: str | Path | None = None,
        force_download: bool = False,
        local_files_only: bool = False,
        token: str | bool | None = None,
        **config_overrides: Any,
    ) -> Any:
        """A model from a folder, a weights file or a hub name, in any of the file formats.

        Args:
            dtype: of the parameters: "float32", "float64", "float16", "bfloat16", or "auto" for what the
                config or the file says; or a Keras policy such as "mixed_bfloat16". By default Keras' global
                policy, which is float32. `torch_dtype` is its older name.
            output_loading_info: return (model, {"missing_keys", "unexpected_keys", "mismatched_keys", ...}).
            ignore_mismatched_sizes: initialise what has another shape in the file, instead of an error.
            use_safetensors, from_pt, from_flax: which files to take; by default whatever is there.
            config: instead of the one beside the weights, or where it is.
            config_overrides: fields of the config to replace.

        Raises:
            CheckpointError: one error for everything that does not fit; no partly filled model is returned.
        """
        hub = HubOptions(
            revision=revision, subfolder=subfolder, cache_dir=cache_dir, force_download=force_download,
            local_files_only=local_files_only, token=token,
        )  # fmt: skip
        options = {} if cls.head != "Model" else {"add_pooling_layer": add_pooling_layer}
        found = open_pretrained(
            pretrained_model_name_or_path,
            cls.head,
            config=config,
            overrides=config_overrides,
            hub=hub,
            formats=preferred_formats("tf", from_pt=from_pt, from_flax=from_flax, use_safetensors=use_safetensors),
            variant=variant,
            has_pooler=cls.head in HEADS_WITH_POOLER and add_pooling_layer,
            ignore_mismatched_sizes=ignore_mismatched_sizes,
        )
        policy = dtype if dtype is not None else torch_dtype
        if policy is not None and not str(getattr(policy, "name", policy)).startswith("mixed_"):
            policy = found.dtype(getattr(policy, "name", str(policy)))
        with no_initialisation():
            model = cls(found.config, dtype=policy, **options)
        model._generation_fields = found.generation
        variables = native(model)
        for name, tensor in found.match.found.items():
            variable, transposed = variables[name]
            assign(variable, tensor.load(), transposed)
        model.initialise([name for name in variables if name not in found.match.found])
        report_to_user(found.report, cls.__name__)
        return (model, loading_info(found.report)) if output_loading_info else model

    def save_pretrained(
        self,
        save_directory: str | Path,
        *,
        max_shard_size: int | str = "5GB",
        safe_serialization: bool = True,
        variant: str | None = None,
        push_to_hub: bool = False,
        **hub: Any,
    ) -> None:
        """Write config and weights into a folder, all or nothing.

        Args:
            max_shard_size: bytes, or a text such as "500MB"; larger models are split into several files.
            safe_serialization: False writes tf_model.h5 instead of model.safetensors.
            hub: with `push_to_hub`, the arguments of `push_to_hub`.

        Raises:
            ValueError: what would be loaded from the folder would not be this model, such as one with adapters that
                are not merged; names the tensors and the way out, and the folder stays as it is.
        """
        upload = upload_arguments(save_directory, push_to_hub, hub)
        texts, tensors = self.to_save()
        save_checkpoint(
            save_directory,
            texts,
            tensors,
            max_shard_size=max_shard_size,
            variant=variant,
            legacy=None if safe_serialization else legacy,
        )
        if upload is not None:
            upload_folder(save_directory, **upload)

    def to_save(self) -> tuple[dict[str, str], dict[str, Source]]:
        """What `save_pretrained` writes: the text files, and the tensors by canonical name, in PyTorch's shapes.

        Raises:
            ValueError: as `save_pretrained`.
        """
        tensors = to_write(self)
        config = RobertaConfig.from_dict(self.config.to_dict())
        config.architectures = [type(self).__name__.removeprefix("TF")]
        config.dtype = dtype_of(tensors)
        texts = {CONFIG_FILE: config.to_json_string()}
        if self.head == "ForCausalLM":
            texts[GENERATION_CONFIG_FILE] = self.generation_config.to_json_string()
        return texts, tensors

    def push_to_hub(self, repo_id: str, **options: Any) -> str:
        """Save to a temporary folder and upload it; returns the commit's address. See `hub.upload_model`."""
        from roberta.common.hub import upload_model

        return upload_model(self.save_pretrained, repo_id, **options)

    def get_config(self) -> dict[str, Any]:
        """What Keras writes into a `.keras` file to build the model again."""
        options = {} if self.head != "Model" else {"add_pooling_layer": self.pooler is not None}
        policy = keras.dtype_policies.serialize(self.dtype_policy)
        config = self.config.to_dict()
        return {"config": config, "dtype": policy, "name": self.name, "trainable": self.trainable, **options}

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: dict[str, Any] | None = None) -> Any:
        """The model that `get_config` describes, with new parameters."""
        return cls(**{**config, "config": RobertaConfig.from_dict(config["config"])})

    def __dir__(self) -> list[str]:
        """Attributes without `base_model`: Keras would save the encoder under two names."""
        return [name for name in super().__dir__() if name != "base_model"]

    # -- initialisation --------------------------------------------------------------------------------------

    def post_init(self) -> None:
        """Draw the parameters of this class (those of `self.roberta` are drawn already)."""
        self.built = True  # the constructors made every variable
        if draws_parameters.get():
            self.initialise([name for name in native(self) if not name.startswith("roberta.")])

    def initialise(self, names: list[str]) -> None:
        """Weights N(0, initializer_range), norms 1, biases 0, the padding rows 0."""
        variables = native(self)
        for name in names:
            variable, kind = variables[name][0], kind_of(name)
            if kind in ("dense", "embedding"):
                drawn = keras.random.normal(variable.shape, 0.0, self.config.initializer_range, variable.dtype)
                if name.endswith(("word_embeddings.weight", "position_embeddings.weight")):
                    is_padding = tf.range(variable.shape[0]) == self.config.pad_token_id
                    drawn = tf.where(tf.reshape(is_padding, (-1, 1)), tf.zeros_like(drawn), drawn)
                variable.assign(drawn)
            else:
                variable.assign(tf.fill(variable.shape, tf.cast(1.0 if kind == "norm" else 0.0, variable.dtype)))

    # -- embeddings ------------------------------------------------------------------------------------------

    @property
    def base_model(self) -> "TFRobertaPreTrainedModel":
        """The encoder inside a head; a model without head is its own."""
        return getattr(self, "roberta", self)

    def get_input_embeddings(self) -> keras.layers.Embedding:
        """The word embedding."""
        return self.base_model.embeddings.word_embeddings

    def set_input_embeddings(self, value: Any) -> None:
        """Give the word embedding, and so a tied LM head, the rows of a layer or a matrix (vocab, hidden)."""
        rows = _rows(value)
        self.resize_token_embeddings(len(rows))
        assign(self.get_input_embeddings().embeddings, rows, False)

    def get_output_embeddings(self) -> keras.layers.Layer | None:
        """The layer with the LM head's matrix, the word embedding when tied; None in other classes."""
        lm_head = self.get_lm_head()
        if lm_head is None:
            return None
        return self.get_input_embeddings() if lm_head.decoder is None else lm_head.decoder

    def set_output_embeddings(self, value: Any) -> None:
        """Give the LM head, and so a tied word embedding, the rows of a layer or a matrix (vocab, hidden)."""
        if self.get_lm_head() is None:
            raise ValueError(f"{type(self).__name__} has no LM head")
        if self.get_lm_head().decoder is None:
            self.set_input_embeddings(value)
        else:
            rows = _rows(value)
            self.resize_token_embeddings(len(rows))
            assign(self.get_lm_head().decoder.kernel, rows, True)

    def get_lm_head(self) -> keras.layers.Layer | None:
        """The LM head; None in classes without."""
        return getattr(self, "lm_head", None)

    def get_bias(self) -> dict[str, keras.Variable] | None:
        """The bias of the LM head, by name; None in other classes."""
        lm_head = self.get_lm_head()
        return None if lm_head is None else {"bias": lm_head.bias}

    def set_bias(self, value: Mapping[str, Any]) -> None:
        """Give the LM head the bias in {"bias": (vocab,)}, of the model's vocabulary size."""
        if self.get_lm_head() is None:
            raise ValueError(f"{type(self).__name__} has no LM head")
        self.get_lm_head().bias.assign(value["bias"])

    def resize_token_embeddings(
        self,
        new_num_tokens: int | None = None,
        pad_to_multiple_of: int | None = None,
        mean_resizing: bool = True,
    ) -> keras.layers.Embedding:
        """Change the size of the vocabulary; returns the word embedding.

        Old rows stay. New rows are drawn around the mean of the old (`loading.resized`), or
        N(0, initializer_range) without `mean_resizing`; new biases are 0. The variables are new: compile,
        and trace functions, again.
        """
        embedding = self.get_input_embeddings()
        rows = embedding.input_dim if new_num_tokens is None else new_num_tokens
        if pad_to_multiple_of is not None:
            rows = -(-rows // pad_to_multiple_of) * pad_to_multiple_of
        if rows == embedding.input_dim:
            return embedding
        self.config.update({"vocab_size": rows})
        replace(
            embedding,
            "_embeddings",
            self._resized("word_embeddings.weight", to_numpy(embedding.embeddings), rows, mean_resizing),
        )
        embedding.input_dim = rows
        lm_head = self.get_lm_head()
        if lm_head is not None:
            replace(lm_head, "bias", self._resized("lm_head.bias", to_numpy(lm_head.bias), rows, mean_resizing))
            if lm_head.decoder is not None:
                kernel = self._resized(
                    "lm_head.decoder.weight", to_numpy(lm_head.decoder.kernel).T, rows, mean_resizing
                ).T
                replace(lm_head.decoder, "_kernel", kernel)
                lm_head.decoder.units = rows
        self._forget_compiled()
        return embedding

    def _resized(self, name: str, values: np.ndarray, rows: int, mean_resizing: bool) -> np.ndarray:
        old, values = len(values), resized(values, rows, name)
        if not mean_resizing and values.ndim == 2 and rows > old:
            drawn = keras.random.normal((rows - old, values.shape[1]), 0.0, self.config.initializer_range)
            values[old:] = to_numpy(drawn)
        return values

    def _forget_compiled(self) -> None:
        """Make Keras trace fit, evaluate and predict again."""
        self.train_function = self.test_function = self.predict_function = None

    # -- inference -------------------------------------------------------------------------------------------

    def infer(
        self,
        batch: Mapping[str, np.ndarray],
        *,
        where: np.ndarray | None = None,
        dtype: str | None = None,
        batch_tokens: int = 1024,
    ) -> dict[str, np.ndarray]:
        """The results of a batch of any size, by the fastest way this framework has: numpy in, numpy out, no dropout.

        The numbers are those of `call` on every real token; at padding they are 0. The first call traces two or three
        small programs. Another dtype than the variables' takes memory for the weights; `release_infer` frees it.

        Args:
            batch: input_ids (rows, seq), multiple choice (rows, choices, seq), and if wanted attention_mask,
                token_type_ids and position_ids.
            where: bool, (rows, seq): the tokens whose results are wanted, of a class with results for each token.
            dtype: to compute in: the model's own, "float32" or "bfloat16" (fast where the CPU has it).
            batch_tokens: real tokens that go through the layers at a time, which bounds memory.

        Returns:
            "logits", "start_logits" and "end_logits", or "last_hidden_state" and "pooler_output": float64 of a model
            of float64, else float32. With `where`, results for each token are (tokens, ...), in the order of rows.

        Raises:
            ValueError: an input, `where`, `dtype` or `batch_tokens` cannot be; says which, and what can.
        """
        return infer(self, batch, where, dtype, batch_tokens)

    def release_infer(self) -> None:
        """Free the weights that `infer` made in another dtype; its next call makes them again."""
        release(self)

    # -- training --------------------------------------------------------------------------------------------

    def gradient_checkpointing_enable(self) -> None:
        """Keep only the layers' inputs for the backward pass, and compute the rest again: less memory."""
        self.base_model.encoder.gradient_checkpointing = True
        self._forget_compiled()

    def gradient_checkpointing_disable(self) -> None:
        """Undo `gradient_checkpointing_enable`."""
        self.base_model.encoder.gradient_checkpointing = False
        self._forget_compiled()

    @property
    def is_gradient_checkpointing(self) -> bool:
        """Whether gradient checkpointing is on."""
        return self.base_model.encoder.gradient_checkpointing

    def _resolve_auto_jit_compile(self) -> bool:
        """Keras' hook: XLA on request only, as it drops checks and compiles for each new length."""
        return False

    def fit(self, *args: Any, **kwargs: Any) -> Any:
        """Keras' `fit`, of whose arguments it would ignore `sample_weight` where labels are among the inputs."""
        given = inspect.signature(super().fit).bind(*args, **kwargs).arguments
        weights = next((given[name] for name in ("sample_weight", "class_weight") if given.get(name) is not None), None)
        _refuse_lost_weights(self, given.get("x"), given.get("y"), weights)
        if isinstance(given.get("validation_data"), tuple | list):
            _refuse_lost_weights(self, *keras.utils.unpack_x_y_sample_weight(given["validation_data"]))
        return super().fit(*args, **kwargs)

    def evaluate(self, *args: Any, **kwargs: Any) -> Any:
        """Keras' `evaluate`, of whose arguments it would ignore `sample_weight` where labels are among the inputs."""
        given = inspect.signature(super().evaluate).bind(*args, **kwargs).arguments
        _refuse_lost_weights(self, given.get("x"), given.get("y"), given.get("sample_weight"))
        return super().evaluate(*args, **kwargs)

    def train_step(self, data: Any) -> dict[str, Any]:
        """One step of `fit`, by `compute_loss`."""
        return super().train_step(self._as_batch(data))

    def test_step(self, data: Any) -> dict[str, Any]:
        """One step of `evaluate`, by `compute_loss`."""
        return super().test_step(self._as_batch(data))

    def predict_step(self, data: Any) -> ModelOutput:
        """One step of `predict`: the model's output, as an object whatever the config says."""
        inputs, _, _ = keras.utils.unpack_x_y_sample_weight(data)
        return super().predict_step((self.arguments((inputs,), {"return_dict": True}),))

    def compute_loss(
        self,
        x: Any = None,
        y: Any = None,
        y_pred: Any = None,
        sample_weight: Any = None,
        training: bool = True,
    ) -> Tensor:
        """The loss given to `compile`, on labels and logits (see `compared`); without one, the model's own.

        The model's own loss needs labels among the inputs or as `y`, and takes no `sample_weight`.
        """
        if self._compile_loss is not None:
            if y is None:
                raise ValueError(
                    f"the loss given to compile takes labels as y; give {' and '.join(self.label_names) or 'labels'} "
                    "as y, not among the inputs, or compile without a loss for the model's own"
                )
            return super().compute_loss(x, *self.compared(x, y, y_pred, sample_weight), training)
        if y_pred.get("loss") is None:
            raise ValueError(
                f"there is no loss: give {type(self).__name__} {' and '.join(self.label_names)} among the "
                "inputs or as y, or give compile a loss"
            )
        _refuse_weights(self, sample_weight)
        loss = widened(y_pred.loss)
        for other in self.losses:  # regularisers
            loss = loss + tf.cast(other, loss.dtype)
        return loss / tf.distribute.get_strategy().num_replicas_in_sync

    def compute_metrics(self, x: Any, y: Any, y_pred: Any, sample_weight: Any = None) -> dict[str, Any]:
        """The metrics given to `compile`, on what `compared` gives of the logits and of `y` or the labels in `x`.

        Logits whose label is -100 are left out; what remains is (n,) labels and (n, classes) logits.
        """
        if y is None:
            labels = tuple(x[name] for name in self.label_names if x.get(name) is not None)
            y = labels[0] if len(labels) == 1 else labels or None
        y, y_pred, sample_weight = self.compared(x, y, y_pred, sample_weight)
        if self._compile_metrics is not None:
            y, y_pred, sample_weight = on_logits(counted, y, y_pred, sample_weight)
        return super().compute_metrics(x, y, y_pred, sample_weight)

    def compared(self, x: Any, y: Any, output: ModelOutput, sample_weight: Any) -> tuple[Any, Any, Any]:
        """(y, what it is compared with, sample_weight) of a loss or a metric; the causal head's are shifted here.

        There a token's logits are compared with the label of the next token, as in the model's own loss.
        """
        y_pred = self.predictions(output, y)
        if self.head != "ForCausalLM":
            return y, y_pred, sample_weight
        return on_logits(partial(next_tokens, input_ids=(x or {}).get("input_ids")), y, y_pred, sample_weight)

    def predictions(self, output: ModelOutput, targets: Any) -> Any:
        """What of an output the losses and metrics of `compile` see.

        The logits; (start_logits, end_logits) of question answering; last_hidden_state of a model without
        head; or, where the targets are a dict of names of outputs, those outputs.
        """
        if isinstance(targets, Mapping) and set(targets) <= set(output):
            return {name: output[name] for name in targets}
        if self.head == "ForQuestionAnswering":
            return output.start_logits, output.end_logits
        return output.last_hidden_state if self.head == "Model" else output.logits

    @property
    def label_names(self) -> tuple[str, ...]:
        """The arguments that make a head compute its loss."""
        names = ("labels", "start_positions", "end_positions")
        return tuple(name for name in names if name in inspect.signature(self.call).parameters)

    def _as_batch(self, data: Any) -> tuple[Any, Any, Any]:
        """(inputs, y, sample_weight); y is among the inputs too when there is no other loss to take it."""
        x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
        inputs = self.arguments((x,), {"return_dict": True})
        if y is not None and self._compile_loss is None:
            targets = y if isinstance(y, list | tuple) else (y,)
            inputs.update(y if isinstance(y, Mapping) else zip(self.label_names, targets, strict=True))
        return inputs, y, sample_weight

    # -- facts -----------------------------------------------------------------------------------------------

    @property
    def dummy_inputs(self) -> dict[str, Tensor]:
        """A small batch the model can run on."""
        ids = tf.constant([[0, 3, 2]]) % self.config.vocab_size
        return {"input_ids": ids[None] if self.head == "ForMultipleChoice" else ids}

    @property
    def input_signature(self) -> dict[str, tf.TensorSpec]:
        """What an exported model takes: ids and mask, of any batch size and length."""
        shape = (None, None, None) if self.head == "ForMultipleChoice" else (None, None)
        return {name: tf.TensorSpec(shape, tf.int32, name) for name in ("input_ids", "attention_mask")}

    def export(
        self,
        filepath: str | Path,
        format: str = "tf_saved_model",
        verbose: bool | None = None,
        input_signature: Any = None,
        **kwargs: Any,
    ) -> None:
        """Write a SavedModel (or another of Keras' formats), by default of `input_signature`."""
        signature = [self.input_signature] if input_signature is None else input_signature
        use_cache, self.config.use_cache = self.config.use_cache, False  # a SavedModel's outputs are tensors
        try:
            super().export(filepath, format=format, verbose=verbose, input_signature=signature, **kwargs)
        finally:
            self.config.use_cache = use_cache

    def can_generate(self) -> bool:
        """Whether the class has `generate`."""
        return hasattr(self, "generate")

    def num_parameters(self, only_trainable: bool = False, exclude_embeddings: bool = False) -> int:
        """Number of parameters, tied ones once."""
        return sum(
            int(np.prod(variable.shape))
            for name, (variable, _) in native(self).items()
            if not (exclude_embeddings and kind_of(name) == "embedding") and (variable.trainable or not only_trainable)
        )

    # -- what the heads use ----------------------------------------------------------------------------------

    def choose(self, value: bool | None, name: str) -> bool:
        """The caller's value, or the config's field of that name when it is None."""
        return bool(getattr(self.config, name) if value is None else value)

    def finish(
        self,
        kind: type[ModelOutput],
        outputs: BaseModelOutputWithPoolingAndCrossAttentions,
        return_dict: bool | None,
        **fields: Tensor | None,
    ) -> Any:
        """A head's output with the encoder's hidden states and attentions, as an object or a tuple."""
        output = kind(**fields, hidden_states=outputs.hidden_states, attentions=outputs.attentions)
        return output if self.choose(return_dict, "use_return_dict") else output.to_tuple()


def _refuse_lost_weights(model: Any, x: Any, y: Any, sample_weight: Any) -> None:
    """`ValueError` for weights that Keras drops before the model sees them: those beside no `y`."""
    if sample_weight is None or y is not None or not isinstance(x, Mapping | list | tuple | np.ndarray | tf.Tensor):
        return  # a dataset has its y with it
    names = " and ".join(model.label_names) or "labels"
    raise ValueError(
        f"sample_weight and class_weight weigh what is given as y, and there is no y; give {names} as y, not among the "
        "inputs, and give compile a loss, such as keras.losses.SparseCategoricalCrossentropy(from_logits=True)"
    )


def _refuse_weights(model: Any, sample_weight: Any) -> None:
    """`ValueError` for weights that the model's own loss does not take."""
    if sample_weight is not None:
        raise ValueError(
            "the model's own loss takes no sample_weight or class_weight; give compile a loss, such as "
            "keras.losses.SparseCategoricalCrossentropy(from_logits=True), and the labels as y"
        )
    if model._compile_config.config.get("loss_weights") is not None:  # `get_compile_config` computes
        raise ValueError(
            "the model's own loss takes no loss_weights; omit them, or give compile a loss for each output they weigh"
        )


def _as_tensor(value: Any) -> Any:
    """Nested lists as a tensor; everything else as it is."""
    return tf.convert_to_tensor(value) if isinstance(value, list | tuple) else value


def _is_argument_list(value: Any) -> bool:
    """Whether a list holds arguments, and not, as [[0, 5, 2]] does, the numbers of one."""
    if not isinstance(value, list):
        return False
    return any(not isinstance(item, list | int) for item in value) or any(
        _is_argument_list(item) for item in value if isinstance(item, list)
    )


def _rows(value: Any) -> np.ndarray:
    """The (vocab, hidden) matrix of an embedding, of a dense layer, or the array itself."""
    if isinstance(value, keras.layers.Dense):
        return to_numpy(value.kernel).T
    return np.asarray(to_numpy(getattr(value, "embeddings", value)))

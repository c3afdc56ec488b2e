"""The base of the TensorFlow classes: loading, saving, initialisation and changes of size."""

import functools
import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self, overload

import numpy as np
import numpy.typing as npt
import optree
import tensorflow as tf
from tensorflow import Tensor

from roberta.common.adapters.live_adapters import reduced_with_adapters
from roberta.common.checkpoint.loading import (
    loading_info,
    report_to_user,
    resized,
)
from roberta.common.checkpoint.pretrained import PretrainedBase, rows_wanted
from roberta.common.checkpoint.saved_tensors import dtype_of
from roberta.common.config import RobertaConfig
from roberta.common.formats import tf_h5
from roberta.common.formats.safetensors_file import Source
from roberta.common.outputs import OUTPUTS, ModelOutput
from roberta.common.parameters import HEADS_WITH_POOLER, Head, Parameter, kind_of, parameters
from roberta.common.storage.hub import upload_later
from roberta.common.tokenizer.encoding import BatchEncoding
from roberta.tf import datasets, model_card, quantised, serving
from roberta.tf.devices import loading_device, on_device_of
from roberta.tf.fitting import KerasLoops
from roberta.tf.infer import infer, release
from roberta.tf.layers import DType, draws_parameters
from roberta.tf.saving import to_write
from roberta.tf.symbols import WHOLE, symbol
from roberta.tf.weights import assign, canonical_array, keras, native, replace, to_numpy

if TYPE_CHECKING:
    from roberta.common.tokenizer.base import TokenizerBase

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


class TFRobertaPreTrainedModel(PretrainedBase, KerasLoops):
    """What the seven classes share.

    Attributes:
        config: the `RobertaConfig` the model was built from.
        head: which class this is, in the table of parameters.
        device_name: where `from_pretrained(device_map=...)` put it, such as "GPU:0"; None for TensorFlow's own choice.
    """

    head: ClassVar[Head]
    framework = "tf"
    device_name: str | None = None
    class_prefix = "TF"
    older_format = tf_h5
    infer = infer
    release_infer = release
    supports_xla_generation = False  # `generate` runs one step after another; `jit_compile` is for calls

    def __init__(
        self, config: RobertaConfig, *, dtype: DType = None, name: str | None = None, trainable: bool = True
    ) -> None:
        """Keras' options: `dtype` is one or a policy such as "mixed_bfloat16", by default the global one."""
        config = self.config_to_build(config)
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
        with on_device_of(self):
            if not self._takes_names():
                return super().__call__(*args, **kwargs)
            given = self.arguments(args, kwargs)
            return super().__call__(given.pop("input_ids", None), **given)

    def _takes_names(self, name: str = PretrainedBase.main_input_name) -> bool:
        """Whether `call` takes the arguments by name, or one of them; that of a subclass may take one dict."""
        return name in _takes(getattr(self.call, "__func__", self.call))[0]

    def arguments(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dict[str, Any]:
        """The arguments of `call` by name."""
        names, takes_others = _takes(getattr(self.call, "__func__", self.call))
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
        if unknown and not takes_others:
            raise ValueError(f"{type(self).__name__} does not know {unknown}; it takes {', '.join(names)}")
        given = {name: value if name == "past_key_values" else _as_tensor(value) for name, value in given.items()}
        return {name: symbol(name, value, self.config) if name in WHOLE else value for name, value in given.items()}

    @property
    def word_embedding(self) -> Tensor:
        """The word embedding's matrix, (vocab, hidden)."""
        return tf.convert_to_tensor(self.get_input_embeddings().embeddings)

    # -- loading and saving ----------------------------------------------------------------------------------

    @overload
    @classmethod
    def from_pretrained(
        cls, pretrained_model_name_or_path: str | Path, *, output_loading_info: Literal[True], **options: Any
    ) -> tuple[Self, dict[str, Any]]: ...

    @overload
    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: str | Path, **options: Any) -> Self: ...

    @classmethod
    def from_pretrained(
        cls,
        pretrained_model_name_or_path: str | Path,
        *model_args: Any,
        config: RobertaConfig | str | Path | None = None,
        dtype: str | tf.DType | None = None,
        torch_dtype: str | tf.DType | None = None,
        device_map: object = None,
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
        adapter: str | Path | None = None,
        **config_overrides: Any,
    ) -> Any:
        """A model from a folder, a weights file or a hub name, in any of the file formats.

        Args:
            model_args: of the constructor, behind the config.
            dtype: of the parameters: "float32", "float64", "float16", "bfloat16", or "auto" for what the
                config or the file says; or a Keras policy such as "mixed_bfloat16". By default Keras' global
                policy, which is float32. `torch_dtype` is its older name.
            device_map: where to load, and to compute: "auto", a device, its name or number, or {"": device}; by default
                where TensorFlow makes variables (`tf.device`).
            output_loading_info: return (model, {"missing_keys", "unexpected_keys", "mismatched_keys", ...}). What the
                file lacks, in the encoder too, is then reported and newly initialised.
            ignore_mismatched_sizes: initialise what has another shape in the file, instead of an error.
            use_safetensors, from_pt, from_flax: which files to take; by default whatever is there.
            config: instead of the one beside the weights, or where it is.
            adapter: folder or hub name of a LoRA adapter in PEFT's format, merged into the weights as they are read. An
                adapter in the model's own folder is merged too, and a folder with one alone names its base.
            config_overrides: fields of the config to replace.

        Raises:
            CheckpointError: one error for everything that does not fit; no partly filled model is returned.
        """
        # which arguments are the class's
        if cls.head == "Model" and model_args:
            add_pooling_layer, *model_args = model_args
        options = {} if cls.head != "Model" else {"add_pooling_layer": add_pooling_layer}
        place = loading_device(device_map)
        # config and tensors, checked against the table
        policy = dtype if dtype is not None else torch_dtype
        found = cls._open(
            locals(),
            has_pooler=cls.head in HEADS_WITH_POOLER and add_pooling_layer,
            wanted_dtype=str(getattr(policy, "name", policy) or keras.config.dtype_policy().name),
        )
        # a model without first values, then its values
        if policy is not None and not str(getattr(policy, "name", policy)).startswith("mixed_"):
            policy = found.dtype(getattr(policy, "name", str(policy)))
        with no_initialisation(), tf.device(place):
            model = cls(found.config, *model_args, dtype=policy, **options)
        model.device_name = place
        model._generation_fields = found.generation
        variables = native(model)
        for name, tensor in found.match.found.items():
            variable, transposed = variables[name]
            assign(variable, tensor.load(), transposed)
        with on_device_of(model):
            model.initialise([name for name in variables if name not in found.match.found])
        # what was missing or left over
        report_to_user(found.report, cls.__name__)
        return (model, loading_info(found.report)) if output_loading_info else model

    def save_pretrained(
        self,
        save_directory: str | Path,
        *,
        saved_model: bool = False,
        version: int = 1,
        signatures: serving.Signatures = None,
        max_shard_size: int | str = "5GB",
        safe_serialization: bool = True,
        variant: str | None = None,
        push_to_hub: bool = False,
        create_pr: bool = False,
        token: str | bool | None = None,
        **hub: Any,
    ) -> None:
        """Write config and weights into a folder, all or nothing; of a model with adapters, the active adapter alone.

        Args:
            saved_model: write a SavedModel into saved_model/VERSION too, with the functions of `signatures` by name:
                by default "serving_default" of int32 and "int64_serving", both of `input_signature`.
            max_shard_size: bytes, or a text such as "500MB"; larger models are split into several files.
            safe_serialization: False writes tf_model.h5 instead of model.safetensors.
            create_pr, token, hub: with `push_to_hub`, the arguments of `push_to_hub`.

        Raises:
            ValueError: what would be loaded from the folder would not be this model, such as one with adapters that
                are not merged; names the tensors and the way out, and the folder stays as it is.
        """
        hub |= {"create_pr": create_pr, "token": token} if push_to_hub else {}
        upload = upload_later(save_directory, push_to_hub, hub)
        if self.saves_adapter:
            self.save_adapter(save_directory)
        else:
            self._write(save_directory, self.to_save(), max_shard_size, variant, safe_serialization)
        if saved_model:
            serving.write_saved_model(self, Path(save_directory) / "saved_model" / str(version), signatures)
        upload()

    def to_save(self) -> tuple[dict[str, str], dict[str, Source]]:
        """What `save_pretrained` writes: the text files, and the tensors by canonical name, in PyTorch's shapes.

        Raises:
            ValueError: as `save_pretrained`.
        """
        tensors = to_write(self)
        return self.texts_to_save(dtype_of(tensors)), tensors

    def get_config(self) -> dict[str, Any]:
        """What Keras writes into a `.keras` file to build the model again."""
        options: dict[str, Any] = {} if self.head != "Model" else {"add_pooling_layer": self.pooler is not None}
        policy = keras.dtype_policies.serialize(self.dtype_policy)
        config = self.config.to_dict()
        found = quantised.policies(self)
        if found:
            options["quantised"] = found
        return {"config": config, "dtype": policy, "name": self.name, "trainable": self.trainable, **options}

    @classmethod
    def from_config(
        cls,
        config: RobertaConfig | Mapping[str, Any],
        custom_objects: dict[str, Any] | None = None,
        **keras_options: Any,
    ) -> Any:
        """The model that `get_config`, a `RobertaConfig` or a dict of its fields describes, with new parameters."""
        if isinstance(config, RobertaConfig):
            return cls._from_config(config, **keras_options)
        if not isinstance(config.get("config"), Mapping):
            return cls._from_config(cls.config_class.from_dict(dict(config)), **keras_options)
        options = {**config, "config": cls.config_class.from_dict(config["config"]), **keras_options}
        wanted = options.pop("quantised", {})
        return quantised.quantise(cls(**options), wanted)

    @classmethod
    def _from_config(cls, config: RobertaConfig, **keras_options: Any) -> Any:
        """A model with new parameters."""
        return cls(config, **keras_options)

    def __reduce__(self) -> tuple[Any, ...]:
        """How a copy or a pickle is made: by Keras, whose `.keras` file has no adapters, and then with them."""
        return reduced_with_adapters(self, super().__reduce__())

    def build(self, input_shape: object = None) -> None:
        """Nothing is left to build: the constructor made every variable."""

    def build_in_name_scope(self) -> None:
        """As `build`, by the name that scripts for transformers use."""

    def __dir__(self) -> list[str]:
        """Attributes without `base_model`: Keras would save the encoder under two names."""
        return [name for name in super().__dir__() if name != "base_model"]

    def adapter_table(self) -> Mapping[str, Parameter]:
        """The parameters of this model, by canonical name."""
        return parameters(self.config, self.head, has_pooler=self.base_model.pooler is not None)

    def read_weights(self, names: Iterable[str]) -> dict[str, np.ndarray]:
        """Copies of the values of parameters, by canonical name, in PyTorch's shapes."""
        table = native(self)
        return {name: np.array(canonical_array(*table[name])) for name in names}

    def write_weights(self, values: Mapping[str, np.ndarray]) -> None:
        """Give parameters these values; `infer` prepares its weights again."""
        table = native(self)
        for name, value in values.items():
            assign(table[name][0], value, table[name][1])
        self.release_infer()

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

    def set_input_embeddings(self, value: keras.layers.Layer | npt.ArrayLike) -> None:
        """Give the word embedding, and so a tied LM head, the rows of a layer or a matrix (vocab, hidden)."""
        rows = _rows(value)
        self.resize_token_embeddings(len(rows))
        assign(_without_adapter(self.get_input_embeddings()).embeddings, rows, False)

    def get_output_embeddings(self) -> keras.layers.Layer | None:
        """The layer with the LM head's matrix, the word embedding when tied; None in other classes."""
        lm_head = self.get_lm_head()
        if lm_head is None:
            return None
        return self.get_input_embeddings() if lm_head.decoder is None else lm_head.decoder

    def set_output_embeddings(self, value: keras.layers.Layer | npt.ArrayLike) -> None:
        """Give the LM head, and so a tied word embedding, the rows of a layer or a matrix (vocab, hidden)."""
        if self.get_lm_head() is None:
            raise ValueError(f"{type(self).__name__} has no LM head")
        if self.get_lm_head().decoder is None:
            self.set_input_embeddings(value)
        else:
            rows = _rows(value)
            self.resize_token_embeddings(len(rows))
            assign(_without_adapter(self.get_lm_head().decoder).kernel, rows, True)

    def get_lm_head(self) -> keras.layers.Layer | None:
        """The LM head; None in classes without."""
        return getattr(self, "lm_head", None)

    def get_bias(self) -> dict[str, tf.Variable] | None:
        """The bias of the LM head, by name, as TensorFlow's variable; None in other classes."""
        lm_head = self.get_lm_head()
        return None if lm_head is None else {"bias": lm_head.bias.value}

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
        rows = rows_wanted(embedding.input_dim, new_num_tokens, pad_to_multiple_of)
        if rows == embedding.input_dim:
            return embedding
        _without_adapter(embedding)
        self.config.update_checked({"vocab_size": rows})
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

    def _resize_token_embeddings(self, new_num_tokens: int | None) -> keras.layers.Embedding:
        """`resize_token_embeddings`, by the name that transformers calls."""
        return self.resize_token_embeddings(new_num_tokens)

    def _get_word_embedding_weight(self, embedding_layer: keras.layers.Layer) -> tf.Variable | None:
        """The matrix of what `get_input_embeddings` or `get_output_embeddings` gives, as TensorFlow's variable."""
        return getattr(getattr(embedding_layer, "embeddings", getattr(embedding_layer, "kernel", None)), "value", None)

    def get_output_layer_with_bias(self) -> keras.layers.Layer | None:
        """The layer whose bias is the LM head's: the LM head; None in classes without."""
        return self.get_lm_head()

    def get_prefix_bias_name(self) -> str | None:
        """The path of that layer; None in classes without."""
        lm_head = self.get_lm_head()
        return None if lm_head is None else f"{self.name}/{lm_head.name}"

    def prune_heads(self, heads_to_prune: Mapping[int, Sequence[int]]) -> None:
        """Not supported: Keras' layers keep their sizes."""
        raise NotImplementedError(
            f"{type(self).__name__} cannot prune the heads {dict(heads_to_prune)}; prune a model of PyTorch, save it, and "
            f"load it here, or give the constructor a config with pruned_heads"
        )

    def get_head_mask(self, head_mask: Tensor | None, num_hidden_layers: int) -> list[Tensor | None]:
        """One mask a layer, (1, head, 1, 1), or None a layer, from (head,) or (layer, head) (see `call`)."""
        return self.base_model.head_masks(head_mask)[:num_hidden_layers]

    def _forget_compiled(self) -> None:
        """Make Keras trace fit, evaluate and predict again."""
        self.train_function = self.test_function = self.predict_function = None
        serving.forget(self)

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

    # -- facts -----------------------------------------------------------------------------------------------

    @property
    def dummy_inputs(self) -> dict[str, Tensor]:
        """A small batch the model can run on, int32."""
        ids = tf.constant([[0, 3, 2]], tf.int32) % self.config.vocab_size
        ids = ids[None] if self.head == "ForMultipleChoice" else ids
        return dict(zip(serving.SERVED, (ids, tf.ones_like(ids), tf.zeros_like(ids)), strict=True))

    @property
    def input_signature(self) -> dict[str, tf.TensorSpec]:
        """What `serving` takes: ids, mask and types, int32, of any batch size and length."""
        return serving.signature(self)

    @property
    def serving(self) -> Callable[[dict[str, Tensor]], ModelOutput]:
        """`eager_serving` as a `tf.function` of `input_signature`."""
        return serving.function(self)

    def eager_serving(self, inputs: Mapping[str, Any]) -> ModelOutput:
        """What a served model gives for a dict of inputs: `serving_output` of the call."""
        return self.serving_output(self(dict(inputs), return_dict=True))

    def serving_output(self, output: ModelOutput) -> ModelOutput:
        """An output of tensors alone: of what the config asks for, the layers' tensors as one, (layer, ...)."""
        return serving.served(output, self.config)

    def export(
        self,
        filepath: str | Path,
        format: str = "tf_saved_model",
        verbose: bool | None = None,
        input_signature: Sequence[Any] | None = None,
        **kwargs: Any,
    ) -> None:
        """Write a SavedModel (or another of Keras' formats), by default of ids and mask of any batch size and length."""
        takes = {name: spec for name, spec in self.input_signature.items() if name != "token_type_ids"}
        signature = [takes] if input_signature is None else input_signature
        use_cache, self.config.use_cache = self.config.use_cache, False  # a SavedModel's outputs are tensors
        try:
            super().export(filepath, format=format, verbose=verbose, input_signature=signature, **kwargs)
        finally:
            self.config.use_cache = use_cache

    def prepare_tf_dataset(
        self,
        dataset: datasets.Dataset,
        batch_size: int = 8,
        shuffle: bool = True,
        tokenizer: "TokenizerBase | None" = None,
        collate_fn: Callable[..., Mapping[str, Any]] | None = None,
        collate_fn_args: Mapping[str, Any] | None = None,
        drop_remainder: bool | None = None,
        prefetch: bool = True,
    ) -> tf.data.Dataset:
        """Batches for `fit` of a `datasets.Dataset`, a mapping of columns or a sequence of dicts: inputs and labels.

        Args:
            tokenizer: pads the rows of a batch; without it, all rows are of one length.
            collate_fn: makes arrays of a list of rows instead; `collate_fn_args` are given to it by name.
            drop_remainder: leave out a last batch that is smaller; by default where rows are shuffled.
        """
        return datasets.tf_dataset(
            dataset, names=_takes(type(self).call)[0], label_names=self.label_names,
            batch_size=batch_size, shuffle=shuffle, tokenizer=tokenizer, collate=collate_fn,
            collate_options=collate_fn_args, drop_remainder=drop_remainder, prefetch=prefetch,
        )  # fmt: skip

    def create_model_card(
        self,
        output_dir: str | Path,
        model_name: str,
        language: str | None = None,
        license: str | None = None,
        tags: str | Sequence[str] | None = None,
        finetuned_from: str | None = None,
        tasks: str | Sequence[str] | None = None,
        dataset_tags: str | Sequence[str] | None = None,
        dataset: str | Sequence[str] | None = None,
        dataset_args: str | Sequence[str] | None = None,
    ) -> None:
        """Write a README.md for the hub into a folder: what is given here, and how the last `fit` went.

        Args:
            dataset_tags: names of data sets on the hub, beside `dataset`, their titles, and `dataset_args`, their parts.
        """
        facts = {
            "language": language, "license": license, "base_model": finetuned_from, "pipeline_tag": tasks,
            "tags": tags, "datasets": dataset_tags or dataset, "dataset_config": dataset_args,
        }  # fmt: skip
        model_card.write_card(output_dir, self, model_name, facts)

    def get_layer(self, name: str | None = None, index: int | None = None) -> keras.layers.Layer:
        """A layer by its attribute's name, such as "roberta" or "classifier", or as Keras finds it."""
        found = vars(self).get(name) if name is not None else None
        return found if isinstance(found, keras.layers.Layer) else super().get_layer(name, index)

    def num_parameters(self, only_trainable: bool = False, exclude_embeddings: bool = False) -> int:
        """Number of parameters, tied ones once; not those of adapters, which freeze what they adapt."""
        return sum(
            int(np.prod(variable.shape))
            for name, (variable, _) in native(self).items()
            if not (exclude_embeddings and kind_of(name) == "embedding")
            and (getattr(variable, "trainable", False) or not only_trainable)
        )


@functools.lru_cache(maxsize=64)
def _takes(call: Callable[..., Any]) -> tuple[tuple[str, ...], bool]:
    """The names of a call's parameters, and whether it takes others by name."""
    parameters = [one for one in inspect.signature(call).parameters.values() if one.name != "self"]
    names = tuple(one.name for one in parameters if one.kind not in (one.VAR_POSITIONAL, one.VAR_KEYWORD))
    return names, any(one.kind == one.VAR_KEYWORD for one in parameters)


def _as_tensor(value: object) -> Any:
    """Nested lists as a tensor; everything else as it is."""
    return tf.convert_to_tensor(value) if isinstance(value, list | tuple) else value


def _is_argument_list(value: object) -> bool:
    """Whether a list holds arguments, and not, as [[0, 5, 2]] does, the numbers of one."""
    if not isinstance(value, list):
        return False
    return any(not isinstance(item, list | int) for item in value) or any(
        _is_argument_list(item) for item in value if isinstance(item, list)
    )


def _without_adapter(layer: keras.layers.Layer) -> keras.layers.Layer:
    """`layer`; `ValueError` where Keras' LoRA adapts it, whose matrix is the sum of two."""
    if getattr(layer, "lora_enabled", False):
        raise ValueError(
            f"the {type(layer).__name__} has an adapter (enable_lora), which keeps its size and values; save_pretrained "
            "writes it merged: change what from_pretrained then loads"
        )
    return layer


def _rows(value: keras.layers.Layer | npt.ArrayLike) -> np.ndarray:
    """The (vocab, hidden) matrix of an embedding, of a dense layer, or the array itself."""
    if isinstance(value, keras.layers.Dense):
        return to_numpy(value.kernel).T
    return np.asarray(to_numpy(getattr(value, "embeddings", value)))

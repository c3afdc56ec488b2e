"""The base of the Flax classes: the call, loading, saving, initialisation, and changes of size."""

import inspect
import zlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, ClassVar, Literal, Self, overload

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt
from flax.core import unfreeze
from flax.traverse_util import flatten_dict, unflatten_dict
from jax import Array
from jax.dtypes import canonicalize_dtype
from jax.typing import DTypeLike

from roberta.common.checkpoint.checkpoint import open_checkpoint
from roberta.common.checkpoint.loading import (
    loading_info,
    report_to_user,
    resized,
)
from roberta.common.checkpoint.pretrained import PretrainedBase, rows_wanted
from roberta.common.checkpoint.saved_tensors import dtype_of
from roberta.common.config import RobertaConfig
from roberta.common.formats import flax_msgpack
from roberta.common.formats.safetensors_file import Source
from roberta.common.outputs import OUTPUTS, ModelOutput
from roberta.common.parameters import HEADS_WITH_POOLER, LANGUAGE_MODELS, Head, Parameter, parameters
from roberta.common.storage.hub import upload_later
from roberta.flax import cache as caches
from roberta.flax.devices import loading_device
from roberta.flax.infer import infer, release
from roberta.flax.layers import normal
from roberta.flax.programs import run_module
from roberta.flax.saving import to_write
from roberta.flax.weights import Params, checked_dtype, from_native, kept, native, to_array, to_native, to_numpy

_INPUTS = (
    "input_ids", "attention_mask", "token_type_ids", "position_ids", "head_mask", "inputs_embeds",
    "encoder_hidden_states", "encoder_attention_mask", "labels", "start_positions", "end_positions",
    "num_items_in_batch",
)  # fmt: skip
_WHOLE = ("input_ids", "token_type_ids", "position_ids")
_HEADS_WITH_CACHE: tuple[Head, ...] = ("Model", "ForCausalLM")


def _unflattened(kind: type[ModelOutput], names: tuple[str, ...], values: Iterable[Any]) -> ModelOutput:
    output = kind()
    for name, value in zip(names, values, strict=True):
        output[name] = value  # JAX puts None and markers in place of arrays
    return output


for _output in OUTPUTS:
    jax.tree_util.register_pytree_with_keys(
        _output,
        lambda output: (
            [(jax.tree_util.DictKey(name), value) for name, value in output.items()],
            tuple(output),
        ),
        lambda names, values, kind=_output: _unflattened(kind, names, values),
    )
    jax.export.register_pytree_node_serialization(  # what `jax.export` writes of a function that returns one
        _output,
        serialized_name=f"roberta.{_output.__name__}",
        serialize_auxdata=lambda names: " ".join(names).encode(),
        deserialize_auxdata=lambda text: tuple(text.decode().split()),
    )


class FlaxRobertaPreTrainedModel(PretrainedBase):
    """What the seven classes share: a linen module and its parameters, with the call of transformers' Flax classes.

    Args:
        input_shape: as in transformers; no parameter depends on it.
        seed: of the parameters.
        dtype: what is computed in; new parameters are float32. float64 needs JAX's `jax_enable_x64`.
        _do_init: False makes no parameters: `from_pretrained` and `init_weights` return them, and calls take them.
        gradient_checkpointing: keep only each layer's input for the backward pass and compute the rest again.
        add_pooling_layer: of the class without head only.

    Attributes:
        config: the `RobertaConfig` the model was built from.
        head: which class this is, in the table of parameters.
        module_class: the linen module of this class; `module` is the one at hand.
        params: nested dictionaries of arrays.
        key: the `jax.random.key` of the seed.
        input_shape: as it was given.
    """

    head: ClassVar[Head]
    module_class: ClassVar[Any] = None
    framework = "flax"
    class_prefix = "Flax"
    older_format = flax_msgpack
    infer = infer
    release_infer = release
    _auto_class = None
    _missing_keys: frozenset[tuple[str, ...]] = frozenset()

    def __init__(
        self,
        config: RobertaConfig,
        input_shape: tuple[int, ...] = (1, 1),
        seed: int = 0,
        dtype: DTypeLike = jnp.float32,
        _do_init: bool = True,
        gradient_checkpointing: bool = False,
        add_pooling_layer: bool = True,
    ) -> None:
        config = self.config_to_build(config)
        if self.head != "Model" and not add_pooling_layer:
            raise TypeError(f"add_pooling_layer is an argument of FlaxRobertaModel, not of {type(self).__name__}")
        options = {"add_pooling_layer": add_pooling_layer} if self.head == "Model" else {}
        self.config = config
        self.name_or_path = config.name_or_path
        self.input_shape = input_shape
        self.key = jax.random.key(seed)
        self.dtype = checked_dtype(dtype)
        self.module = self.module_class(config, self.dtype, gradient_checkpointing=gradient_checkpointing, **options)
        self._do_init = _do_init
        self._params = self.init_weights(self.key, input_shape) if _do_init else None

    @classmethod
    def _from_config(cls, config: RobertaConfig, **arguments: Any) -> Self:
        """A new model, as the auto classes of transformers make it; `arguments` of the constructor."""
        return cls(config, **arguments)

    def __call__(
        self,
        input_ids: npt.ArrayLike | None = None,
        attention_mask: npt.ArrayLike | None = None,
        token_type_ids: npt.ArrayLike | None = None,
        position_ids: npt.ArrayLike | None = None,
        head_mask: npt.ArrayLike | None = None,
        encoder_hidden_states: npt.ArrayLike | None = None,
        encoder_attention_mask: npt.ArrayLike | None = None,
        params: Mapping[str, Any] | None = None,
        dropout_rng: Array | None = None,
        train: bool = False,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
        past_key_values: Mapping[str, Any] | None = None,
        inputs_embeds: npt.ArrayLike | None = None,
        labels: npt.ArrayLike | None = None,
        start_positions: npt.ArrayLike | None = None,
        end_positions: npt.ArrayLike | None = None,
        use_cache: bool | None = None,
        num_items_in_batch: int | Array | None = None,
    ) -> Any:
        """Run the module, on arrays of any kind; which arguments a class takes, its module says.

        Args:
            params: taken instead of `self.params`.
            dropout_rng: a `jax.random.key`, for `train=True`, which turns dropout on.
            past_key_values: what `init_cache` or an earlier call returned; decoders return it with the new tokens in.
            use_cache: True makes a cache of the model's full length when none is given; False returns none.

        Returns:
            The class's output, with `past_key_values` for a decoder that was given one; a tuple without `return_dict`.
        """
        if train and dropout_rng is None:
            raise ValueError("train=True needs dropout_rng, such as jax.random.key(0), a new one for each step")
        values = {name: value for name, value in locals().items() if name in _INPUTS}
        # as arrays of JAX, which this class has to take
        inputs = {name: _as_array(value, name in _WHOLE) for name, value in values.items() if value is not None}
        self._check_accepted(inputs, has_cache=past_key_values is not None)
        variables = {"params": self.params if params is None else params}
        # the cache: the caller's, or an empty one of full length
        cache = caches.as_cache(past_key_values)
        if cache is None and use_cache and labels is None and self._may_cache:
            given = inputs.get("input_ids", inputs.get("inputs_embeds"))
            cache = self.init_cache(given.shape[0], max(self.config.max_length_tokens, given.shape[1]))
        flags = {
            "output_attentions": output_attentions,
            "output_hidden_states": output_hidden_states,
            "return_dict": True,
            "deterministic": not train,
        }
        variables = variables if cache is None else {**variables, "cache": cache}
        # the module, which returns the cache that it has written
        output, changed = run_module(
            self, variables, inputs, {} if dropout_rng is None else {"dropout": dropout_rng}, flags
        )
        if cache is not None and use_cache is not False and labels is None:
            output.past_key_values = unfreeze(changed["cache"])
        has_names = self.config.return_dict if return_dict is None else return_dict
        return output if has_names else output.to_tuple()

    @property
    def _may_cache(self) -> bool:
        return self.config.is_decoder and self.head in _HEADS_WITH_CACHE

    def _check_accepted(self, inputs: Mapping[str, Any], has_cache: bool) -> None:
        accepted = inspect.signature(self.module_class.__call__).parameters
        unknown = [name for name in inputs if name not in accepted]
        if has_cache and self.head not in _HEADS_WITH_CACHE:
            unknown.append("past_key_values")
        if unknown:
            raise TypeError(f"{type(self).__name__} does not take {', '.join(unknown)}; see its module's arguments")

    def init_cache(self, batch_size: int, max_length: int) -> caches.Cache:
        """An empty cache with room for `max_length` tokens a row, padding included."""
        if not self._may_cache:
            raise ValueError(
                f"{type(self).__name__} with is_decoder={self.config.is_decoder} has no cache; only FlaxRobertaModel "
                "and FlaxRobertaForCausalLM with RobertaConfig(is_decoder=True) have"
            )
        cache = caches.empty(self.config, batch_size, max_length, self.dtype)
        return cache if self.head == "Model" else {"roberta": cache}

    # -- loading and saving --------------------------------------------------------------------------------------

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
        dtype: DTypeLike | None = jnp.float32,
        *,
        config: RobertaConfig | str | Path | None = None,
        torch_dtype: DTypeLike | None = None,
        device_map: object = None,
        add_pooling_layer: bool = True,
        output_loading_info: bool = False,
        ignore_mismatched_sizes: bool = False,
        use_safetensors: bool | None = None,
        from_pt: bool = False,
        from_tf: bool = False,
        variant: str | None = None,
        revision: str = "main",
        subfolder: str = "",
        cache_dir: str | Path | None = None,
        force_download: bool = False,
        local_files_only: bool = False,
        token: str | bool | None = None,
        adapter: str | Path | None = None,
        input_shape: tuple[int, ...] = (1, 1),
        seed: int = 0,
        gradient_checkpointing: bool = False,
        _do_init: bool = True,
        **config_overrides: Any,
    ) -> Any:
        """A model from a folder, a weights file or a hub name, in any of the file formats.

        Args:
            dtype: what is computed in: float32, float64 (needs JAX's `jax_enable_x64`), float16, bfloat16, their
                names, or "auto" for what the config or the file says. Parameters stay as the file has them, float32,
                float16 or bfloat16, so that training in bfloat16 updates float32 ones; `to_bf16` and its like cast
                them. They are float64 when that is asked for, and only then. `torch_dtype` is its older name.
            device_map: where to load, and so to compute: "auto", a device, its name or number, or {"": device}; by
                default where JAX makes arrays (`jax.default_device`).
            output_loading_info: return (model, {"missing_keys", "unexpected_keys", "mismatched_keys", ...}). What the
                file lacks, in the encoder too, is then reported and newly initialised.
            ignore_mismatched_sizes: initialise what has another shape in the file, instead of an error.
            use_safetensors, from_pt, from_tf: which files to take; by default whatever is there.
            _do_init: False returns (model, params), and the loading info behind them; the model holds no parameters,
                and those that no file had, even of the encoder, are left out: `init_weights(..., params=params)`
                fills them in.
            config: instead of the one beside the weights, or where it is.
            adapter: folder or hub name of a LoRA adapter in PEFT's format, merged into the weights as they are read. An
                adapter in the model's own folder is merged too, and a folder with one alone names its base.
            config_overrides: fields of the config to replace.

        Raises:
            CheckpointError: one error for everything that does not fit; no partly filled model is returned.
        """
        place = loading_device(device_map)
        # config and tensors, checked against the table
        wanted = dtype if torch_dtype is None else torch_dtype
        found = cls._open(
            locals(),
            has_pooler=cls.head in HEADS_WITH_POOLER and add_pooling_layer,
            wanted_dtype=None if wanted is None else _dtype_name(wanted),
            may_be_partial=not _do_init,
        )
        # a model without parameters, then the tree of those found
        target = checked_dtype(found.dtype(None if wanted is None else _dtype_name(wanted)))
        model = cls(
            found.config, input_shape, seed, target, _do_init=False,
            gradient_checkpointing=gradient_checkpointing, add_pooling_layer=add_pooling_layer,
        )  # fmt: skip
        model._generation_fields = found.generation
        tensors = found.match.found.items()
        params = to_native(((name, tensor.load(), kept(tensor.dtype, target)) for name, tensor in tensors), place)
        model._missing_keys = frozenset(model.required_params - set(flatten_dict(params)))
        # what was missing or left over, and the parameters into the model or beside it
        report_to_user(found.report, cls.__name__)
        if _do_init:
            whole = model.fill_missing(params, target)
            model._do_init, model._params = True, whole if place is None else jax.device_put(whole, place)
        result = (model,) if _do_init else (model, params)
        result += (loading_info(found.report),) if output_loading_info else ()
        return result[0] if len(result) == 1 else result

    @classmethod
    def load_flax_weights(cls, resolved_archive_file: str | Path) -> Params:
        """The tree of parameters in a file, whatever class it was saved from; `params` of a call, once it is whole."""
        return cls.load_flax_sharded_weights([resolved_archive_file])

    @classmethod
    def load_flax_sharded_weights(cls, shard_files: Iterable[str | Path]) -> Params:
        """As `load_flax_weights`, of several files; each is read in turn."""
        leaves: dict[tuple[str, ...], Array] = {}
        for file in shard_files:
            tensors = open_checkpoint(file).tensors.items()
            leaves |= flatten_dict(
                to_native((name, tensor.load(), canonicalize_dtype(tensor.dtype)) for name, tensor in tensors)
            )
        return unflatten_dict(leaves)

    def save_pretrained(
        self,
        save_directory: str | Path,
        params: Mapping[str, Any] | None = None,
        *,
        max_shard_size: int | str = "5GB",
        safe_serialization: bool = True,
        variant: str | None = None,
        push_to_hub: bool = False,
        **hub: Any,
    ) -> None:
        """Write config and weights into a folder, all or nothing; of a model with adapters, the active adapter alone.

        Args:
            params: saved instead of `self.params`. Of a model made with `_do_init=False` they may lack some, as
                `from_pretrained` returns them; a warning names those.
            max_shard_size: bytes, or a text such as "500MB"; larger models are split into several files.
            safe_serialization: False writes flax_model.msgpack instead of model.safetensors.
            hub: with `push_to_hub`, the arguments of `push_to_hub`.

        Raises:
            ValueError: what would be loaded from the folder would not be this model, such as one with adapters that
                are not merged; names the tensors and the way out, and the folder stays as it is.
        """
        upload = upload_later(save_directory, push_to_hub, hub)
        if self.saves_adapter and params is None:
            self.save_adapter(save_directory)
        else:
            self._write(save_directory, self.to_save(params), max_shard_size, variant, safe_serialization)
        upload()

    def to_save(self, params: Mapping[str, Any] | None = None) -> tuple[dict[str, str], dict[str, Source]]:
        """What `save_pretrained` writes: the text files, and the tensors by canonical name, in PyTorch's shapes.

        Args:
            params: instead of `self.params`.

        Raises:
            ValueError: as `save_pretrained`.
        """
        tensors = to_write(self, params)
        return self.texts_to_save(dtype_of(tensors)), tensors

    def adapter_table(self) -> Mapping[str, Parameter]:
        """The parameters of this model, by canonical name."""
        return {parameter.name: parameter for parameter in self._table.values()}

    def read_weights(self, names: Iterable[str]) -> dict[str, np.ndarray]:
        """Copies of the values of parameters, by canonical name, in PyTorch's shapes."""
        table = native(self.params)
        return {name: from_native(*table[name]) for name in names}

    def write_weights(self, values: Mapping[str, np.ndarray]) -> None:
        """Give parameters these values, in a new tree; `infer` prepares its weights again."""
        new = flatten_dict(to_native((name, value, value.dtype) for name, value in values.items()))
        self._replace(new)
        self.release_infer()

    # -- parameters ----------------------------------------------------------------------------------------------

    @property
    def params(self) -> Params:
        """The parameters, nested dictionaries of arrays; assign a whole tree to replace them."""
        if self._params is None:
            raise ValueError(
                f"this {type(self).__name__} was made with _do_init=False and holds no params; give params= to the "
                "call, those that from_pretrained or init_weights returned"
            )
        return self._params

    @params.setter
    def params(self, params: Mapping[str, Any]) -> None:
        if not self._do_init:
            raise ValueError(
                f"this {type(self).__name__} was made with _do_init=False; give params= to the call instead"
            )
        missing = self.required_params - set(flatten_dict(params))
        if missing:
            raise ValueError(f"params lack {', '.join(sorted('/'.join(path) for path in missing))}")
        self._params = unfreeze(params)

    @property
    def _table(self) -> dict[str, Parameter]:
        """The parameters of this model by their path in the tree."""
        has_pooler = self.module.add_pooling_layer if self.head == "Model" else None
        table = parameters(self.config, self.head, has_pooler=has_pooler)
        return {flax_msgpack.native_name(name): parameter for name, parameter in table.items()}

    @property
    def params_shape_tree(self) -> Params:
        """The tree of parameters with a `jax.ShapeDtypeStruct` at each leaf; nothing is computed."""
        leaves = {path: jax.ShapeDtypeStruct(_shape(p), jnp.float32) for path, p in self._table.items()}
        return unflatten_dict(leaves, sep="/")

    @property
    def required_params(self) -> set[tuple[str, ...]]:
        """The path of every parameter."""
        return {tuple(path.split("/")) for path in self._table}

    def init_weights(
        self, rng: Array, input_shape: tuple[int, ...] = (1, 1), params: Mapping[str, Any] | None = None
    ) -> Params:
        """Weights N(0, initializer_range), norms 1, biases 0, the padding rows 0; what `params` has stays.

        Args:
            input_shape: as in transformers; no parameter depends on it.
        """
        given = {} if params is None else flatten_dict(params, sep="/")
        # by the table: the modules' own initialisers draw the same, but compiling them takes seconds
        drawn = {path: self._first_values(rng, p) for path, p in self._table.items() if path not in given}
        return unflatten_dict({**given, **drawn}, sep="/")

    def _first_values(self, rng: Array, parameter: Parameter) -> Array:
        shape = _shape(parameter)
        if parameter.kind not in ("dense", "embedding"):
            return jnp.full(shape, 1.0 if parameter.kind == "norm" else 0.0, jnp.float32)
        has_padding = parameter.name.endswith(("word_embeddings.weight", "position_embeddings.weight"))
        draw = normal(self.config, self.config.pad_token_id if has_padding else None)
        # a key for each name, so that a seed gives the same encoder below every head
        name = zlib.crc32(parameter.name.removeprefix("roberta.").encode())
        return draw(jax.random.fold_in(rng, name), shape, jnp.float32)

    def fill_missing(self, params: Params, dtype: DTypeLike) -> Params:
        """The tree with first values for the parameters no file had: of float32, or of float64 where that is `dtype`."""
        missing = self.required_params - set(flatten_dict(params))
        if not missing:
            return params
        filled = flatten_dict(self.init_weights(self.key, self.input_shape, params))
        return unflatten_dict(filled | {path: filled[path].astype(kept("float32", dtype)) for path in missing})

    def to_bf16(self, params: Mapping[str, Any], mask: Mapping[str, Any] | None = None) -> Params:
        """`params` in bfloat16; where the tree of booleans `mask` is False they stay."""
        return _cast(params, jnp.bfloat16, mask)

    def to_fp16(self, params: Mapping[str, Any], mask: Mapping[str, Any] | None = None) -> Params:
        """`params` in float16; where the tree of booleans `mask` is False they stay."""
        return _cast(params, jnp.float16, mask)

    def to_fp32(self, params: Mapping[str, Any], mask: Mapping[str, Any] | None = None) -> Params:
        """`params` in float32; where the tree of booleans `mask` is False they stay."""
        return _cast(params, jnp.float32, mask)

    # -- embeddings ----------------------------------------------------------------------------------------------

    @property
    def _embedding_path(self) -> tuple[str, ...]:
        prefix = () if self.head == "Model" else (self.base_model_prefix,)
        return (*prefix, "embeddings", "word_embeddings", "embedding")

    def _replace(self, leaves: dict[tuple[str, ...], Array]) -> None:
        self._params = unflatten_dict({**flatten_dict(self.params), **leaves})

    def get_input_embeddings(self) -> Array:
        """The word embedding, (vocab, hidden)."""
        return flatten_dict(self.params)[self._embedding_path]

    def set_input_embeddings(self, value: Array) -> None:
        """Replace the word embedding, and with it a tied LM head's matrix."""
        self._replace({self._embedding_path: _fitting(value, self.get_input_embeddings())})

    def get_output_embeddings(self) -> Array | None:
        """The LM head's matrix, (vocab, hidden), which is the word embedding when tied; None in other classes."""
        if self.head not in LANGUAGE_MODELS:
            return None
        return (
            self.get_input_embeddings()
            if self.config.tie_word_embeddings
            else self.params["lm_head"]["decoder"]["kernel"].T
        )

    def set_output_embeddings(self, value: Array) -> None:
        """Replace the LM head's matrix, (vocab, hidden), and with it the word embedding when tied."""
        if self.head not in LANGUAGE_MODELS:
            raise ValueError(f"{type(self).__name__} has no LM head")
        if self.config.tie_word_embeddings:
            self.set_input_embeddings(value)
        else:
            self._replace({("lm_head", "decoder", "kernel"): _fitting(value, self.get_output_embeddings()).T})

    def resize_token_embeddings(
        self,
        new_num_tokens: int | None = None,
        pad_to_multiple_of: int | None = None,
        mean_resizing: bool = True,
    ) -> Array:
        """Change the size of the vocabulary; returns the word embedding.

        Old rows stay. New rows are drawn around the mean of the old (`loading.resized`), or N(0, initializer_range)
        without `mean_resizing`; new biases are 0.
        """
        embedding = self.get_input_embeddings()
        rows = rows_wanted(embedding.shape[0], new_num_tokens, pad_to_multiple_of)
        if rows == embedding.shape[0]:
            return embedding
        output = self.get_output_embeddings()
        self.config.update_checked({"vocab_size": rows})  # the module has the same config
        leaves = {self._embedding_path: self._resized("word_embeddings.weight", embedding, rows, mean_resizing)}
        if output is not None:
            leaves["lm_head", "bias"] = self._resized(
                "lm_head.bias", self.params["lm_head"]["bias"], rows, mean_resizing
            )
            if not self.config.tie_word_embeddings:
                leaves["lm_head", "decoder", "kernel"] = self._resized(
                    "lm_head.decoder.weight", output, rows, mean_resizing
                ).T
        self._replace(leaves)
        return self.get_input_embeddings()

    def _resized(self, name: str, parameter: Array, rows: int, mean_resizing: bool) -> Array:
        old = parameter.shape[0]
        values = to_array(resized(to_numpy(parameter), rows, name), parameter.dtype)
        if not mean_resizing and parameter.ndim == 2 and rows > old:
            key = jax.random.fold_in(jax.random.fold_in(self.key, old), zlib.crc32(name.encode()))
            noise = jax.random.normal(key, (rows - old, parameter.shape[1]), parameter.dtype)
            values = values.at[old:].set(noise * self.config.initializer_range)
        return values

    # -- training ------------------------------------------------------------------------------------------------

    def gradient_checkpointing_enable(self) -> None:
        """Keep only each layer's input for the backward pass and compute the rest again: less memory, more time."""
        self.module = self.module.clone(gradient_checkpointing=True)

    enable_gradient_checkpointing = gradient_checkpointing_enable  # the name in transformers' Flax classes

    def gradient_checkpointing_disable(self) -> None:
        """Undo `gradient_checkpointing_enable`."""
        self.module = self.module.clone(gradient_checkpointing=False)

    @property
    def is_gradient_checkpointing(self) -> bool:
        """Whether gradient checkpointing is on."""
        return self.module.gradient_checkpointing

    # -- facts ---------------------------------------------------------------------------------------------------

    def __repr__(self) -> str:
        if self._params is None:
            return (
                f"{type(self).__name__}({self.num_parameters():,} parameters, held elsewhere; computes in {self.dtype})"
            )
        leaves = [leaf for leaf in jax.tree.leaves(self._params) if hasattr(leaf, "dtype")]
        kinds = sorted({str(leaf.dtype) for leaf in leaves})
        places = sorted({place for leaf in leaves for place in _places(leaf)})
        number = sum(leaf.size for leaf in leaves)
        return (
            f"{type(self).__name__}({number:,} parameters of {', '.join(kinds)} on {', '.join(places)}; "
            f"computes in {self.dtype})"
        )

    @property
    def dummy_inputs(self) -> dict[str, Array]:
        """A small batch the model can run on."""
        return {"input_ids": jnp.array([[0, 3, 2]]) % self.config.vocab_size}

    def num_parameters(self, exclude_embeddings: bool = False) -> int:
        """Number of parameters, tied ones once."""
        skipped = ("embedding",) if exclude_embeddings else ()
        return sum(parameter.size for parameter in self._table.values() if parameter.kind not in skipped)


def _shape(parameter: Parameter) -> tuple[int, ...]:
    """The shape in Flax's tree."""
    return parameter.shape[::-1] if parameter.kind == "dense" else parameter.shape


def _places(leaf: object) -> list[str]:
    """Where the values of a leaf are."""
    if not isinstance(leaf, jax.Array) or isinstance(leaf, jax.core.Tracer):
        return ["numpy" if isinstance(leaf, np.ndarray) else type(leaf).__name__]
    return [f"{device.platform}:{device.id}" for device in leaf.devices()]


def _as_array(value: npt.ArrayLike, is_whole: bool = False) -> Array:
    """What callers hand in (lists, numpy, tensors of other frameworks) as a JAX array.

    Args:
        is_whole: floats without a fraction, such as `np.ones((1, 1))`, are integers.
    """
    if isinstance(value, jax.Array):
        return value
    array = np.asarray(value)
    if is_whole and np.issubdtype(array.dtype, np.floating) and (array == np.trunc(array)).all():
        array = array.astype(np.int64)
    if array.dtype in (np.int64, np.uint64) and not jax.config.jax_enable_x64:
        array = array.clip(-(2**31), 2**31 - 1)  # JAX would wrap it around into an id of the vocabulary
    return jnp.asarray(array)


def _dtype_name(dtype: DTypeLike) -> str:
    return dtype if isinstance(dtype, str) else jnp.dtype(dtype).name


def _fitting(value: Array, old: Array) -> Array:
    """`value` in the type of `old`; `ValueError` when the shapes differ."""
    if value.shape != old.shape:
        raise ValueError(
            f"an array of shape {value.shape} cannot replace one of {old.shape}; see resize_token_embeddings"
        )
    return jnp.asarray(value, old.dtype)


def _cast(params: Mapping[str, Any], dtype: DTypeLike, mask: Mapping[str, Any] | None) -> Params:
    """Floating leaves in another type, where `mask` is True or None."""
    params = unfreeze(params)
    chosen = jax.tree.map(lambda _: True, params) if mask is None else unfreeze(mask)

    def one(leaf: Array, is_chosen: bool) -> Array:
        return leaf.astype(dtype) if is_chosen and jnp.issubdtype(leaf.dtype, jnp.floating) else leaf

    return jax.tree.map(one, params, chosen)

"""RobertaConfig: the hyperparameters of a RoBERTa model, its labels, and its `config.json`.

Fields, defaults and file format are those of transformers 4.57. A config may hold any values; `validate`, which
every model class calls when it is built, refuses those that cannot work and says what to do.
"""

from __future__ import annotations

import copy
import json
import warnings
from collections.abc import Iterator, Mapping
from contextvars import ContextVar
from inspect import signature
from pathlib import Path
from typing import Any, ClassVar, Literal, Self, overload

import numpy as np

from roberta.common.config_rules import PROBLEM_TYPES, check_config
from roberta.common.dtype_names import DtypeName, dtype_name, name_dtypes
from roberta.common.keywords import NO_EFFECT, OF_OTHERS, meaningful, suggestion, warn_of_unknown
from roberta.common.label_maps import file_labels, label_maps
from roberta.common.storage.folders import CheckpointError, write_folder
from roberta.common.storage.hub import (
    HubOptions,
    PushesToHub,
    commit_of,
    hub_options,
    local_folder,
    upload_later,
)
from roberta.common.values import another_name

CONFIG_FILE = "config.json"

# The fields that every config of transformers has, with their defaults: kept, and written where they differ.
INHERITED: dict[str, Any] = {
    "return_dict": True,
    "output_hidden_states": False,
    "output_attentions": False,
    "torchscript": False,
    "dtype": None,
    "pruned_heads": {},
    "tie_word_embeddings": True,
    "chunk_size_feed_forward": 0,
    "is_decoder": False,
    "add_cross_attention": False,
    "cross_attention_hidden_size": None,
    "is_encoder_decoder": False,
    "tie_encoder_decoder": False,
    "architectures": None,
    "finetuning_task": None,
    "task_specific_params": None,
    "problem_type": None,
    "tokenizer_class": None,
    "prefix": None,
    "sep_token_id": None,
    "decoder_start_token_id": None,
    "tf_legacy_loss": False,
    "use_bfloat16": False,
    # generation defaults of older files
    "max_length": 20,
    "min_length": 0,
    "do_sample": False,
    "early_stopping": False,
    "num_beams": 1,
    "num_beam_groups": 1,
    "diversity_penalty": 0.0,
    "temperature": 1.0,
    "top_k": 50,
    "top_p": 1.0,
    "typical_p": 1.0,
    "repetition_penalty": 1.0,
    "length_penalty": 1.0,
    "no_repeat_ngram_size": 0,
    "encoder_no_repeat_ngram_size": 0,
    "bad_words_ids": None,
    "num_return_sequences": 1,
    "output_scores": False,
    "return_dict_in_generate": False,
    "forced_bos_token_id": None,
    "forced_eos_token_id": None,
    "remove_invalid_values": False,
    "exponential_decay_length_penalty": None,
    "suppress_tokens": None,
    "begin_suppress_tokens": None,
}

# Fields that belong to one process or one call: never written to a file.
_PRIVATE = ("name_or_path", "attn_implementation", "_commit_hash", "transformers_version")

# The values of the published models that are not the defaults.
PUBLISHED: dict[str, Any] = {
    "layer_norm_eps": 1e-5,
    "max_position_embeddings": 514,
    "type_vocab_size": 1,
}

# Whether a config is being read from a file, whose other keys are another program's: they cause no warning.
_is_read: ContextVar[bool] = ContextVar("is_read", default=False)


class WritesJson(PushesToHub):
    """What configs of both kinds do with their text in JSON."""

    def to_json_string(self, use_diff: bool = True) -> str:
        """The text of the file."""
        raise NotImplementedError

    def to_json_file(self, json_file_path: str | Path, use_diff: bool = True) -> None:
        """Write `to_json_string` to a file."""
        Path(json_file_path).write_text(self.to_json_string(use_diff), encoding="utf-8")

    def dict_dtype_to_str(self, d: dict[str, Any]) -> None:
        """Replace each "dtype" in a dictionary, and in those inside it, by its name, which JSON can hold."""
        name_dtypes(d)


class RobertaConfig(WritesJson):
    """Hyperparameters of a RoBERTa model.

    Args:
        vocab_size: rows of the word embedding and width of the LM head.
        hidden_size: width of the hidden states; a multiple of `num_attention_heads`.
        intermediate_size: width inside the feed-forward block.
        hidden_act: activation of the feed-forward block, one of `ACTIVATIONS`. The LM head always uses the exact
            (erf) GELU, whatever this says.
        max_position_embeddings: rows of the position table. A sequence has at most `max_length_tokens` tokens,
            which is `max_position_embeddings - pad_token_id - 1`, and all of them with relative positions.
        layer_norm_eps: 1e-12 by default; every published RoBERTa uses 1e-5 (see `base` and `large`).
        position_embedding_type: "absolute" adds a row of the position table to each token's embedding. "relative_key"
            and "relative_key_query" add distances to the scores of self-attention instead: positions are not used, and
            the table only stays in the file.
        classifier_dropout: dropout of the sequence and token classification heads; None means
            `hidden_dropout_prob`.
        num_labels, id2label, label2id: the labels; any one of them defines the other two.
        attn_implementation: "sdpa" or "eager" (PyTorch); of this process only, never written.
        extra: any other key is kept as an attribute and written back, as files of other programs have such keys; a
            log message names a key that no program is known to write.

    Raises:
        ValueError: labels that contradict each other, or an unknown problem_type. Any other value is accepted here;
            `validate` refuses a bad one when a model is built.

    Configs with equal fields are equal and have the same hash: changing one recompiles where it is a static argument.

    Source: transformers 4.57 `RobertaConfig`; defaults are its defaults, not roberta-base.
    """

    model_type = "roberta"
    _published: ClassVar[dict[str, Any]] = PUBLISHED  # what `base` and `large` begin with
    # Attributes that programs read of any config. A subclass with other field names sets the map {own: ours}.
    attribute_map: ClassVar[dict[str, str]] = {}
    sub_configs: ClassVar[dict[str, Any]] = {}
    base_config_key = ""
    has_no_defaults_at_init = False
    is_composition = False
    keys_to_ignore_at_inference: ClassVar[list[str]] = ["past_key_values"]
    base_model_tp_plan = base_model_pp_plan = base_model_ep_plan = None
    _auto_class = None

    name_or_path: str = ""
    attn_implementation: str | None = None
    transformers_version: str | None = None  # that wrote the file
    _commit_hash: str | None = None  # of a config from the hub

    # The fields of `INHERITED` that are read here.
    dtype: str | None
    pruned_heads: dict[int, list[int]]
    problem_type: str | None
    is_decoder: bool
    add_cross_attention: bool
    tie_word_embeddings: bool
    return_dict: bool
    torchscript: bool
    output_attentions: bool = False
    output_hidden_states: bool = False
    chunk_size_feed_forward: int
    architectures: list[str] | None

    def __init__(
        self,
        vocab_size: int = 50265,
        hidden_size: int = 768,
        num_hidden_layers: int = 12,
        num_attention_heads: int = 12,
        intermediate_size: int = 3072,
        hidden_act: str = "gelu",
        hidden_dropout_prob: float = 0.1,
        attention_probs_dropout_prob: float = 0.1,
        max_position_embeddings: int = 512,
        type_vocab_size: int = 2,
        initializer_range: float = 0.02,
        layer_norm_eps: float = 1e-12,
        pad_token_id: int = 1,
        bos_token_id: int | None = 0,
        eos_token_id: int | list[int] | None = 2,
        position_embedding_type: str = "absolute",
        use_cache: bool = True,
        classifier_dropout: float | None = None,
        *,
        num_labels: int | None = None,
        id2label: Mapping[Any, str] | None = None,
        label2id: Mapping[str, int] | None = None,
        name_or_path: str = "",
        attn_implementation: str | None = None,
        **extra: Any,
    ) -> None:
        self.vocab_size = vocab_size
        self.hidden_size = hidden_size
        self.num_hidden_layers = num_hidden_layers
        self.num_attention_heads = num_attention_heads
        self.intermediate_size = intermediate_size
        self.hidden_act = hidden_act
        self.hidden_dropout_prob = hidden_dropout_prob
        self.attention_probs_dropout_prob = attention_probs_dropout_prob
        self.max_position_embeddings = max_position_embeddings
        self.type_vocab_size = type_vocab_size
        self.initializer_range = initializer_range
        self.layer_norm_eps = layer_norm_eps
        self.pad_token_id = pad_token_id
        self.bos_token_id = bos_token_id
        self.eos_token_id = eos_token_id
        self.position_embedding_type = position_embedding_type
        self.use_cache = use_cache
        self.classifier_dropout = classifier_dropout
        self.name_or_path = name_or_path
        self.attn_implementation = attn_implementation

        # what files and older scripts call otherwise, or say of themselves
        for old, new in _OLD_NAMES:
            if old in extra:
                value = extra.pop(old)
                extra[new] = value if extra.get(new) is None else extra[new]
        for unused in ("model_type", "_name_or_path"):
            extra.pop(unused, None)
        # the fields of any config of transformers
        for name, default in INHERITED.items():
            setattr(self, name, extra.pop(name, copy.copy(default)))
        if self.problem_type is not None and self.problem_type not in PROBLEM_TYPES:
            raise ValueError(f"problem_type={self.problem_type!r} must be None or one of {', '.join(PROBLEM_TYPES)}")
        self.pruned_heads = _plain_heads(self.pruned_heads)
        # all other keys are kept; a caller's typing error is named
        if not _is_read.get():
            unknown = [name for name in extra if name not in OF_OTHERS and not hasattr(type(self), name)]
            if unknown:
                warn_of_unknown(type(self).__name__, unknown, _names(type(self)))
        for name, value in extra.items():
            if _is_read.get() and _is_derived(type(self), name):
                vars(self)[name] = value  # another program's: written back, while the attribute is derived here
            else:
                setattr(self, name, value)
        self.id2label, self.label2id = label_maps(num_labels, id2label, label2id)

    def validate(self) -> None:
        """Raise `ValueError` for the first field that no model can be built from; every model class calls this."""
        check_config(self)

    # -- derived values ------------------------------------------------------------------------------------------

    @property
    def max_length_tokens(self) -> int:
        """The longest sequence in tokens: positions start at `pad_token_id + 1` (514 rows for 512 tokens).

        With relative positions it is `max_position_embeddings`, padding included.
        """
        return self.max_position_embeddings - (0 if self.has_distances else self.pad_token_id + 1)

    @property
    def has_distances(self) -> bool:
        """Whether attention scores depend on distances between tokens, and the embeddings on no positions."""
        return self.position_embedding_type != "absolute"

    @property
    def head_dropout(self) -> float:
        """Dropout of the sequence and token classification heads."""
        return self.hidden_dropout_prob if self.classifier_dropout is None else self.classifier_dropout

    def heads_kept(self, layer: int) -> int:
        """Number of attention heads of self-attention in `layer` after pruning; -1 in `pruned_heads` is the last one."""
        both = (self.pruned_heads.get(name, ()) for name in (layer, layer - self.num_hidden_layers))
        return self.num_attention_heads - len({head for heads in both for head in heads})

    @property
    def head_size(self) -> int:
        """Columns of one attention head."""
        return self.hidden_size // self.num_attention_heads

    @property
    def num_labels(self) -> int:
        """Number of labels; setting it to another number renames them LABEL_0, LABEL_1, ..."""
        return len(self.id2label)

    @num_labels.setter
    def num_labels(self, value: int) -> None:
        if value != self.num_labels:
            self.id2label, self.label2id = label_maps(value, None, None)

    _name_or_path = another_name("name_or_path")
    _attn_implementation = another_name("attn_implementation")
    torch_dtype = another_name("dtype")  # the older one

    @property
    def use_return_dict(self) -> bool:
        """Whether models return a `ModelOutput` by default (else a tuple)."""
        return bool(self.return_dict and not self.torchscript)

    def get_text_config(self, decoder: bool | None = None, encoder: bool | None = None) -> Self:
        """The config of the part that reads or writes text: this one, whatever the arguments."""
        return self

    def __setattr__(self, name: str, value: object) -> None:
        name = self.attribute_map.get(name, name)
        if name == "dtype" and value is not None and not isinstance(value, dict):
            value = DtypeName(dtype_name(value))
        elif name == "name_or_path":
            value = str(value)
        # numbers that numpy counted, such as labels.max() + 1
        super().__setattr__(name, value.item() if isinstance(value, np.generic) else value)

    def __getattr__(self, name: str) -> Any:  # called only for missing names
        other = type(self).attribute_map.get(name)
        if other is None:
            raise AttributeError(f"{type(self).__name__} has no attribute {name!r}", name=name, obj=self)
        return getattr(self, other)

    # -- the published models ------------------------------------------------------------------------------------

    @classmethod
    def base(cls, **overrides: Any) -> Self:
        """The values of the family's published base model, such as roberta-base, with `overrides`."""
        return cls(**{**cls._published, **overrides})

    @classmethod
    def large(cls, **overrides: Any) -> Self:
        """The values of the family's published large model, such as roberta-large, with `overrides`."""
        sizes = {
            "hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16, "intermediate_size": 4096
        }  # fmt: skip
        return cls(**{**cls._published, **sizes, **overrides})

    # -- dictionaries and files ----------------------------------------------------------------------------------

    def to_dict(self) -> dict[str, Any]:
        """Every field, unknown keys included, and `model_type`; label ids stay integers."""
        fields = {name: copy.deepcopy(value) for name, value in vars(self).items() if name not in _PRIVATE}
        self.dict_dtype_to_str(fields)
        return {**fields, "model_type": self.model_type}

    def to_diff_dict(self) -> dict[str, Any]:
        """The fields in `config.json`: RoBERTa's own, and of the others those that differ from the default."""
        two_labels = label_maps(None, None, None)
        return {
            name: value
            for name, value in self.to_dict().items()
            if not (name in INHERITED and value == INHERITED[name])
            and not (name in ("id2label", "label2id") and (self.id2label, self.label2id) == two_labels)
        }

    def to_json_string(self, use_diff: bool = True) -> str:
        """The text of `config.json`: sorted keys, indent 2, final newline."""
        return json.dumps(self.to_diff_dict() if use_diff else self.to_dict(), indent=2, sort_keys=True) + "\n"

    @overload
    @classmethod
    def from_dict(
        cls, config_dict: Mapping[str, Any], *, return_unused_kwargs: Literal[False] = ..., **overrides: Any
    ) -> Self: ...

    @overload
    @classmethod
    def from_dict(
        cls, config_dict: Mapping[str, Any], *, return_unused_kwargs: Literal[True], **overrides: Any
    ) -> tuple[Self, dict[str, Any]]: ...

    @classmethod
    def from_dict(cls, config_dict: Mapping[str, Any], *, return_unused_kwargs: bool = False, **overrides: Any) -> Any:
        """A config from a dictionary; `overrides` that name a field of it replace the field.

        Returns:
            The config; with `return_unused_kwargs`, (config, overrides that do not name a field, and dtype for the model).

        Raises:
            ValueError: labels that contradict each other.
        """
        if config_dict.get("model_type", cls.model_type) != cls.model_type:
            warnings.warn(
                f"this config is of model_type {config_dict['model_type']!r}, not {cls.model_type!r}; {cls.__name__} reads "
                "it as its own, which is right only for models of the same structure (RoBERTa, XLM-RoBERTa, CamemBERT)",
                stacklevel=2,
            )
        # the file's labels and fields, of which overrides replace some
        labels, contradiction = file_labels(config_dict)
        values = {**config_dict, **labels}
        old_name = overrides.pop("torch_dtype", None)
        if old_name is not None and overrides.get("dtype") is None:
            overrides["dtype"] = old_name
        if values["id2label"] and overrides.get("num_labels") == len(values["id2label"]):
            overrides.pop("num_labels")  # the file's own names stay
        if not {"num_labels", "id2label", "label2id"}.isdisjoint(overrides):
            values.update(num_labels=None, id2label=None, label2id=None)
            contradiction = None
        # which overrides are fields; the dtype is a field, and the model's to load in
        known = {*values, *(_names(cls) if overrides else ())}
        overrides = {name: value for name, value in overrides.items() if name in known or name not in NO_EFFECT}
        used = {name: value for name, value in overrides.items() if name in known}
        unused = {name: value for name, value in overrides.items() if name not in known or name == "dtype"}
        token = _is_read.set(True)
        try:
            config = cls(**{**values, **used})
        finally:
            _is_read.reset(token)
        # labels that contradict each other stay as the file has them
        if contradiction is not None:
            config.label2id = contradiction
        if contradiction is not None and any(isinstance(key, str) for key in config_dict["id2label"]):  # from a file
            warnings.warn(
                f"id2label {config.id2label} and label2id {contradiction} contradict each other; both are kept as they "
                "are, and predictions are named by id2label",
                stacklevel=2,
            )
        if return_unused_kwargs:
            return config, unused
        warn_of_unknown(cls.__name__, sorted(unused.keys() - {"dtype"}), known, "it is ignored")
        return config

    @classmethod
    def from_json_file(cls, json_file: str | Path) -> Self:
        """A config from one JSON file."""
        return cls.from_dict(read_json(Path(json_file)))

    @overload
    @classmethod
    def from_pretrained(
        cls,
        pretrained_model_name_or_path: str | Path,
        *,
        return_unused_kwargs: Literal[True],
        **options: Any,
    ) -> tuple[Self, dict[str, Any]]: ...

    @overload
    @classmethod
    def from_pretrained(
        cls, pretrained_model_name_or_path: str | Path, *, return_unused_kwargs: Literal[False] = ..., **options: Any
    ) -> Self: ...

    @classmethod
    def from_pretrained(
        cls,
        pretrained_model_name_or_path: str | Path,
        *,
        cache_dir: str | Path | None = None,
        force_download: bool = False,
        local_files_only: bool = False,
        token: str | bool | None = None,
        revision: str = "main",
        subfolder: str = "",
        return_unused_kwargs: bool = False,
        **overrides: Any,
    ) -> Any:
        """The config of a folder, a JSON file or a hub name; `overrides` replace its fields.

        Raises:
            CheckpointError: no such folder, file or name; a folder without config.json; a file that is not JSON.
        """
        where = hub_options(locals())
        fields, overrides = cls.get_config_dict(pretrained_model_name_or_path, **where, **overrides)
        try:
            if return_unused_kwargs:
                return cls.from_dict(fields, return_unused_kwargs=True, **overrides)
            return cls.from_dict(fields, **overrides)
        except (ValueError, TypeError) as error:
            raise CheckpointError(f"{pretrained_model_name_or_path}: {CONFIG_FILE}: {error}") from error

    @classmethod
    def get_config_dict(
        cls, pretrained_model_name_or_path: str | Path, **kwargs: Any
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """The fields in a config's file, and the arguments that do not say where it is.

        Args:
            kwargs: those of `from_pretrained`.

        Raises:
            CheckpointError: as `from_pretrained`.
        """
        arguments = meaningful(kwargs)
        where = {name: arguments.pop(name) for name in HubOptions.__annotations__ if name in arguments}
        path = Path(pretrained_model_name_or_path)
        commit: str | None = kwargs.get("_commit_hash")
        if not path.is_file():
            folder = local_folder(pretrained_model_name_or_path, files=(CONFIG_FILE,), **where)
            commit = commit_of(folder) or commit
            path = folder / CONFIG_FILE
            if not path.is_file():
                raise CheckpointError(
                    f"{folder} has no {CONFIG_FILE}; a model folder needs one (RobertaConfig.save_pretrained writes it)"
                )
        return {**read_json(path), "_commit_hash": commit}, arguments

    def save_pretrained(self, save_directory: str | Path, *, push_to_hub: bool = False, **hub: Any) -> None:
        """Write `config.json` into a folder, which is made when missing; optionally upload the folder.

        Args:
            hub: with `push_to_hub`, the arguments of `push_to_hub` (repo_id, token, private, ...).
        """
        upload = upload_later(save_directory, push_to_hub, hub, has_weights=False)
        write_folder(save_directory, {CONFIG_FILE: self.to_json_string().encode()})
        upload()

    # -- small protocols -----------------------------------------------------------------------------------------

    def update(self, config_dict: Mapping[str, Any]) -> None:
        """Set every given field."""
        for name, value in config_dict.items():
            setattr(self, name, value)

    def update_checked(self, config_dict: Mapping[str, Any]) -> None:
        """Set fields of the config of a model; `ValueError`, with nothing set, when no model could be built from them."""
        changed = copy.copy(self)
        changed.update(config_dict)
        changed.validate()
        self.update(config_dict)

    def update_from_string(self, update_str: str) -> None:
        """Set fields that exist from "a=1,b=false"; values are read by the type that the field has now.

        Raises:
            ValueError: a field that does not exist, or a value that is not of its type.
            TypeError: a field whose value is not a number, a string or a bool.
        """
        pairs = [pair.partition("=")[::2] for pair in update_str.split(",")]
        for name, _ in pairs:
            if not hasattr(self, name):
                raise ValueError(f"the config has no field {name!r}{suggestion(name, vars(self))}")
        self.update({name: _as_type_of(name, getattr(self, name), text) for name, text in pairs})

    def __eq__(self, other: object) -> bool:
        return isinstance(other, RobertaConfig) and self.to_dict() == other.to_dict()

    def __hash__(self) -> int:
        plain = (item for item in vars(self).items() if isinstance(item[1], str | int | float | None))
        return hash(frozenset(item for item in plain if item[0] not in _PRIVATE))

    def __iter__(self) -> Iterator[str]:
        yield from self.to_dict()

    def __contains__(self, name: object) -> bool:
        return name in self.to_dict()

    def __repr__(self) -> str:
        return f"{type(self).__name__} {self.to_json_string()}"


_TRUE, _FALSE = ("true", "1", "y", "yes"), ("false", "0", "n", "no")
_OLD_NAMES = (("torch_dtype", "dtype"), ("_output_attentions", "output_attentions"))


def read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file; `CheckpointError` names the file when it is not one."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise CheckpointError(f"{path} does not exist") from None
    except (ValueError, RecursionError) as error:  # not UTF-8, not JSON, or a number of thousands of digits
        raise CheckpointError(f"{path} is not a valid JSON file: {error}") from None
    if not isinstance(value, dict):
        raise CheckpointError(f"{path} holds a {type(value).__name__}, not a JSON object with the config's fields")
    return value


def _as_type_of(name: str, old: object, text: str) -> object:
    if isinstance(old, bool):
        if text.lower() not in _TRUE + _FALSE:
            raise ValueError(f"{name}={text} must be true or false")
        return text.lower() in _TRUE
    if not isinstance(old, int | float | str):
        raise TypeError(f"{name}={text} cannot be set from a string; the config has {name}={old!r}")
    return type(old)(text)


def _plain_heads(pruned_heads: Mapping[Any, Any] | None) -> Any:
    """{layer: [heads]} with ints, where JSON has made strings of the layers; any other value is left as it is."""
    try:
        return {int(layer): sorted(int(head) for head in heads) for layer, heads in (pruned_heads or {}).items()}
    except (ValueError, TypeError, AttributeError):
        return pruned_heads


def _is_derived(cls: type, name: str) -> bool:
    """Whether a class computes the attribute of this name, so that it cannot be set."""
    member = getattr(cls, name, None)
    return isinstance(member, property) and member.fset is None


def _names(cls: type) -> frozenset[str]:
    """The keywords that the constructors of a class and its bases take."""
    named = (name for base in cls.__mro__ if "__init__" in vars(base) for name in signature(base).parameters)
    return frozenset(
        {*named, *INHERITED, *(old for old, _ in _OLD_NAMES), "_commit_hash"} - {"self", "extra", "kwargs"}
    )

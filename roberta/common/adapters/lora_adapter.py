"""A LoRA adapter: its tensors by the base's canonical names, checked against a model, and merged into its weights.

The names in PEFT's files are those of PyTorch's modules behind `base_model.model.`, with the part of the adapter last:
`base_model.model.roberta.encoder.layer.0.attention.self.query.lora_A.weight`. What is not low-rank (a head that was
trained whole, biases) takes the place of the base's tensor.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from roberta.common.adapters.completeness import lacking
from roberta.common.adapters.lora_config import LoraConfig, UnsupportedAdapterError
from roberta.common.adapters.low_rank import LowRank
from roberta.common.adapters.name_patterns import SlowPatternError
from roberta.common.config import RobertaConfig
from roberta.common.formats.safetensors_file import Source, StoredTensor, numpy_dtype
from roberta.common.parameters import HEAD_PARTS, Parameter
from roberta.common.storage.folders import CheckpointError, NoFitError
from roberta.common.storage.names import ADAPTER_CONFIG_FILE

PEFT_PREFIX = "base_model.model."
WORDS = "embeddings.word_embeddings.weight"
_PARTS = ("lora_A", "lora_B", "lora_embedding_A", "lora_embedding_B", "lora_magnitude_vector")
_LOW_RANK = re.compile(rf"(.+)\.({'|'.join(_PARTS)})(?:\.(.+?))??(?:\.(weight|bias))?")
_ENCODER_PARTS = ("embeddings", "encoder", "pooler")


@dataclass(frozen=True)
class LoraAdapter:
    """An adapter that was read, or is being trained.

    Attributes:
        config: what `adapter_config.json` says.
        source: the file of the tensors.
        changes: low-rank changes by the canonical name of the weight.
        replaced: tensors that take the place of the base's.
        shifts: what is added to biases, and what it is multiplied by (`lora_bias`).
        as_read: the adapter with the names and all tensors of its file, of one that was fitted to a class.
    """

    config: LoraConfig
    source: Path
    changes: Mapping[str, LowRank]
    replaced: Mapping[str, StoredTensor]
    shifts: Mapping[str, tuple[StoredTensor, float]] = field(default_factory=dict)
    as_read: LoraAdapter | None = None

    @property
    def num_labels(self) -> int | None:
        """The number of labels of a head that was trained with it; None where none was, or the head does not say."""
        deep, flat = (self.replaced.get(f"classifier.{name}weight") for name in ("out_proj.", ""))
        if deep is not None:
            return deep.shape[0]
        # one row is also that of multiple choice
        says = flat is not None and (flat.shape[0] > 1 or self.config.task_type == "TOKEN_CLS")
        return flat.shape[0] if flat is not None and says else None

    def take_labels(self, config: RobertaConfig) -> None:
        """Give a config as many labels as the adapter's head has; a kind of labels that was the base's goes with them."""
        if self.num_labels not in (None, config.num_labels):
            config.num_labels, config.problem_type = self.num_labels, None

    def fitted(self, table: Mapping[str, Parameter]) -> LoraAdapter:
        """The adapter with the names of one class; what is of another class's head is left out.

        Raises:
            NoFitError: the adapter is of another base, or lacks what its config names; one error lists every tensor.
        """
        has_prefix = any(name.startswith("roberta.") for name in table)
        changes = {_canonical(name, has_prefix): change for name, change in self.changes.items()}
        replaced = {_canonical(name, has_prefix): tensor for name, tensor in self.replaced.items()}
        shifts = {_canonical(name, has_prefix): pair for name, pair in self.shifts.items()}
        wanted: dict[str, tuple[int, ...]] = {name: change.shape for name, change in changes.items()}
        wanted |= {name: tensor.shape for name, tensor in replaced.items()}
        wanted |= {name: tensor.shape for name, (tensor, _) in shifts.items()}
        # every tensor has a place of its shape, or is of a head that this class does not have
        wrong = [
            f"{name}: no such tensor in the base"
            if name not in table
            else f"{name} is {list(shape)} in the adapter and {list(table[name].shape)} in the base"
            for name, shape in wanted.items()
            if (name in table or not _is_of_head(name)) and (name not in table or table[name].shape != shape)
        ]
        # DoRA has a length for each row, or for each column of an embedding
        wrong += [
            f"{name}: {int(np.prod(change.magnitude.shape))} lengths (lora_magnitude_vector), and the base has {rows}"
            for name, change in changes.items()
            if change.magnitude is not None
            and int(np.prod(change.magnitude.shape)) != (rows := change.shape[1 if change.is_embedding else 0])
        ]
        if wrong:
            raise NoFitError(
                f"{self.source} does not fit this model:\n  " + "\n  ".join(wrong) + "\nLoad it with the model that it "
                f"was trained on (adapter_config.json says {self.config.base_model_name_or_path!r}), and give a head of "
                "other labels its num_labels"
            )
        _refuse_tied(self.source, table, changes, replaced)
        # all that the config names is there
        was_prefixed = next(
            (n.startswith("roberta.") for n in (*self.changes, *self.replaced) if _is_of_encoder(n)), has_prefix
        )
        with _naming(self.source):
            absent = lacking(self.config, changes, replaced, table, spelled=lambda name: _canonical(name, was_prefixed))
        if absent:
            raise NoFitError(
                f"{self.source} does not hold all that {ADAPTER_CONFIG_FILE} names of this model:\n  "
                + "\n  ".join(absent)
                + "\nSave the adapter again, or load it with the model that it was trained on (adapter_config.json says "
                f"{self.config.base_model_name_or_path!r}); where these were not trained, name in {ADAPTER_CONFIG_FILE} "
                "only those that were"
            )
        return dataclasses.replace(
            self,
            as_read=self.as_read or self,
            changes={name: change for name, change in changes.items() if name in table},
            replaced={name: dataclasses.replace(t, name=name) for name, t in replaced.items() if name in table},
            shifts={name: pair for name, pair in shifts.items() if name in table},
        )

    def merged(self, tensors: Mapping[str, StoredTensor], dtype: str | None = None) -> dict[str, StoredTensor]:
        """Tensors of the base with the adapter in them, each computed when it is loaded.

        Args:
            tensors: by the names that `fitted` has given.
            dtype: of the tensors that the adapter changes; None for the base's own, to which each is rounded once.

        Raises:
            NoFitError: the base lacks a tensor that the adapter changes.
        """
        result = {**tensors, **self.replaced}
        missing = [name for name in (*self.changes, *self.shifts) if name not in result]
        if missing:
            raise NoFitError(
                f"{self.source} changes {', '.join(missing)}, which the base does not have; load the adapter with the "
                f"model that it was trained on (adapter_config.json says {self.config.base_model_name_or_path!r})"
            )
        for name, change in self.changes.items():
            result[name] = _changed(result[name], change, dtype)
        for name, (tensor, scale) in self.shifts.items():
            result[name] = _shifted(result[name], tensor, scale, dtype)
        return result

    def tensors(self, is_peft: bool = True) -> dict[str, Source]:
        """The tensors by the names of PEFT's file, or with the names that the model has.

        Args:
            is_peft: whether `base_model.model.` stands before them.
        """
        prefix = PEFT_PREFIX if is_peft else ""
        named: dict[str, StoredTensor] = {}
        for name, change in self.changes.items():
            module = name.removesuffix(".weight")
            pair = (
                ("lora_embedding_A", "lora_embedding_B") if change.is_embedding else ("lora_A.weight", "lora_B.weight")
            )
            parts = (*pair, "lora_magnitude_vector")
            named |= {f"{prefix}{module}.{part}": t for part, t in zip(parts, change.tensors(), strict=False)}
        for name, (tensor, _) in self.shifts.items():
            named[f"{prefix}{name.removesuffix('.bias')}.lora_B.bias"] = tensor
        targets = {name.removesuffix(".weight") for name in self.changes}
        for name, tensor in self.replaced.items():
            module, _, leaf = name.rpartition(".")
            inside = ".base_layer" if module in targets else ""  # where PEFT looks for a bias beside a low-rank change
            named[f"{prefix}{module}{inside}.{leaf}"] = tensor
        return {name: (tensor.shape, tensor.dtype, tensor.load) for name, tensor in named.items()}


def lora_adapter(config: LoraConfig, source: Path, stored: Mapping[str, StoredTensor]) -> LoraAdapter:
    """The adapter that the tensors of a file make.

    Raises:
        UnsupportedAdapterError: the file has parts of a kind that is not computed here.
        CheckpointError: a part is missing, left over, or of a shape or rank that does not fit the config.
    """
    # the low-rank parts by module, and all other tensors
    parts: dict[str, dict[str, StoredTensor]] = {}
    others: dict[str, StoredTensor] = {}
    names: set[str] = set()
    for full, tensor in stored.items():
        name = full.removeprefix(PEFT_PREFIX)
        found = _LOW_RANK.fullmatch(name)
        if found is None:
            others[name] = tensor
            continue
        module, part, adapter, leaf = found.groups()
        names |= {adapter} if adapter else set()
        parts.setdefault(module, {})[f"{part}.bias" if leaf == "bias" else part] = tensor
    if len(names) > 1:
        raise CheckpointError(f"{source} has several adapters, {', '.join(sorted(names))}; save one of them alone")
    # a pair for each module, of the rank that the config says
    wrong: list[str] = []
    changes, shifts = {}, {}
    with _naming(source):
        for module, own in parts.items():
            problem = _problem(config, module, own)
            if problem:
                wrong.append(problem)
                continue
            is_embedding = "lora_embedding_A" in own
            a, b = (own[f"lora_embedding_{part}" if is_embedding else f"lora_{part}"] for part in "AB")
            magnitude = own.get("lora_magnitude_vector")
            changes[f"{module}.weight"] = LowRank(module, a, b, config.scale(module), is_embedding, magnitude)
            if "lora_B.bias" in own:
                shifts[f"{module}.bias"] = (own["lora_B.bias"], config.scale(module))
    # what is wrong, all at once; then the tensors that are not low-rank
    if wrong:
        raise CheckpointError(f"{source} is not the adapter that its config describes:\n  " + "\n  ".join(wrong))
    return LoraAdapter(config, source, changes, _whole(source, others, names or {"default"}), shifts)


@contextmanager
def _naming(source: Path) -> Iterator[None]:
    """Turn the error of a slow regular expression into one that names the file of the config."""
    try:
        yield
    except SlowPatternError as error:
        raise CheckpointError(f"{source.parent / ADAPTER_CONFIG_FILE}: {error}") from None


def _problem(config: LoraConfig, module: str, own: Mapping[str, StoredTensor]) -> str:
    """The fault of the low-rank parts of a module; "" if nothing is."""
    pair = (
        ("lora_embedding_A", "lora_embedding_B") if any("embedding" in part for part in own) else ("lora_A", "lora_B")
    )
    missing = [part for part in (*pair, *(("lora_B.bias",) if config.lora_bias else ())) if part not in own]
    if config.use_dora and "lora_magnitude_vector" not in own:
        missing.append("lora_magnitude_vector")
    if missing:
        return f"missing: {module}.{missing[0]}"
    extra = sorted(own.keys() - {*pair, *(("lora_magnitude_vector",) if config.use_dora else ()), "lora_B.bias"})
    if extra or ("lora_B.bias" in own and not config.lora_bias):
        return f"not of this config: {module}.{(extra or ['lora_B.bias'])[0]}"
    a, b, rank = own[pair[0]], own[pair[1]], config.rank(module)
    if len(a.shape) != 2 or len(b.shape) != 2 or a.shape[0] != rank or b.shape[1] != rank:
        return f"{module}: {pair[0]} is {list(a.shape)} and {pair[1]} {list(b.shape)}, and r is {rank}"
    if config.target_modules and not config.is_target(module):
        return f"{module} is not among target_modules={config.target_modules!r}"
    return ""


def _whole(source: Path, tensors: Mapping[str, StoredTensor], adapters: Iterable[str]) -> dict[str, StoredTensor]:
    """The tensors that are not low-rank by the base's names: without the levels that PEFT puts into them."""
    result = {}
    for name, tensor in tensors.items():
        if "token_adapter." in name or "trainable_tokens" in name:
            raise UnsupportedAdapterError(
                f"{source}: {name} holds rows of an embedding (trainable_token_indices), which is not supported; merge the "
                f'adapter with PEFT first: peft.PeftModel.from_pretrained(model, "{source.parent}").merge_and_unload()'
            )
        if ".original_module." in name:
            continue  # the base's own, which the trained one replaces
        plain = name.replace(".base_layer.", ".")
        for adapter in adapters:
            plain = plain.replace(f".modules_to_save.{adapter}.", ".")
        plain = plain.replace(".modules_to_save.", ".")
        if plain in result:
            raise CheckpointError(f"{source} has {plain} twice, once as {name}; remove one of them")
        result[plain] = dataclasses.replace(tensor, name=plain)
    return result


def _canonical(name: str, has_prefix: bool) -> str:
    """A name with or without `roberta.`, as the class has it."""
    if not _is_of_encoder(name):
        return name
    bare = name.removeprefix("roberta.")
    return f"roberta.{bare}" if has_prefix else bare


def _is_of_encoder(name: str) -> bool:
    return name.removeprefix("roberta.").partition(".")[0] in _ENCODER_PARTS


def _is_of_head(name: str) -> bool:
    return name.removeprefix("roberta.").partition(".")[0] in (*HEAD_PARTS, "score")


def _refuse_tied(
    source: Path, table: Mapping[str, Parameter], changes: Mapping[str, LowRank], replaced: Mapping[str, StoredTensor]
) -> None:
    """Raise where the word embedding and an LM head share a matrix, of which PEFT changes one and not the other."""
    is_tied = "lm_head.bias" in table and "lm_head.decoder.weight" not in table
    shared = [name for name in (*changes, *replaced) if name.endswith((WORDS, "lm_head.decoder.weight"))]
    if is_tied and shared:
        raise NoFitError(
            f"{source} changes {shared[0]}, and the word embedding and the LM head share one matrix: merged, it would "
            "change both or be lost, and in training it changed one; load the model with tie_word_embeddings=False"
        )


def _changed(base: StoredTensor, change: LowRank, dtype: str | None) -> StoredTensor:
    kind = dtype or base.dtype
    return dataclasses.replace(
        base, dtype=kind, stay=None, load=lambda: change.added_to(base.load(), numpy_dtype(kind))
    )


def _shifted(base: StoredTensor, shift: StoredTensor, scale: float, dtype: str | None) -> StoredTensor:
    kind = dtype or base.dtype

    def load() -> np.ndarray:
        wide = base.load().astype(np.float64) + scale * shift.load().astype(np.float64)
        return wide.astype(numpy_dtype(kind))

    return dataclasses.replace(base, dtype=kind, stay=None, load=load)

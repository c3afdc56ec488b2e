"""A model between two formats: config, head, tensors by the names of the table, and the files beside them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import get_args

import numpy as np

from roberta.common.adapters.lora_adapter import LoraAdapter
from roberta.common.checkpoint.checkpoint import Checkpoint, match
from roberta.common.checkpoint.wrappers import unwrapped
from roberta.common.config import RobertaConfig
from roberta.common.family_configs import CONFIGS
from roberta.common.formats.safetensors_file import Source, StoredTensor
from roberta.common.model_types import class_name, head_of_class
from roberta.common.parameters import HEAD_PARTS, Head, parameters
from roberta.common.storage.folders import CheckpointError

ALL_HEADS: tuple[Head, ...] = get_args(Head)
POSITIONS = "embeddings.position_embeddings.weight"
TYPES = "embeddings.token_type_embeddings.weight"
_HEADS_WITH_LABELS: tuple[Head, ...] = ("ForSequenceClassification", "ForTokenClassification")
EPSILON = 1e-5  # of LayerNorm: a constant of fairseq's and KerasHub's classes

# Field of the config -> the values with which fairseq's and KerasHub's programs compute what RoBERTa computes.
RULES: dict[str, tuple[object, ...]] = {
    "layer_norm_eps": (EPSILON,),
    "position_embedding_type": ("absolute",),
    "add_cross_attention": (False,),
    "pruned_heads": ({},),
}


@dataclass(frozen=True)
class SourceModel:
    """What a reader hands to a writer.

    Attributes:
        head: class name without framework, such as "ForMaskedLM".
        tensors: one for every row of the table of `config` and `head`, in the table's names and shapes.
        source: the file or folder that was read.
        format: of that file.
        files: tokenizer files by name.
        notes: what the reader did that a user should know.
    """

    config: RobertaConfig
    head: Head
    tensors: Mapping[str, StoredTensor]
    source: Path
    format: str
    files: Mapping[str, bytes]
    notes: tuple[str, ...] = ()

    @property
    def class_name(self) -> str:
        """The model's class, without framework."""
        return class_name(self.config.model_type, self.head)

    @property
    def prefix(self) -> str:
        """What stands before the names of the encoder."""
        return "" if self.head == "Model" else "roberta."


def checked_model(
    config: RobertaConfig,
    tensors: Mapping[str, StoredTensor],
    source: Path,
    format_: str,
    *,
    head: Head | None,
    files: Mapping[str, bytes],
    notes: Iterable[str] = (),
    adapter: LoraAdapter | None = None,
    adapted_dtype: str | None = None,
) -> SourceModel:
    """The model, its tensors paired one to one with the table.

    Args:
        head: the head to keep; None for the one that the file has.
        adapter: merged into the tensors; a head that it brings takes the place of the file's.
        adapted_dtype: of what the adapter changes; None for the dtype of the file.

    Raises:
        CheckpointError: a tensor is missing, unknown or of the wrong shape; or the file has several heads and none is
            chosen.
    """
    # one model's tensors; what may belong to a head that is not wanted can lie outside
    heads = HEAD_PARTS if head is None else {name.removeprefix("roberta.") for name in parameters(config, head)}
    inner = unwrapped(source, tensors, heads)
    tensors = inner.tensors
    # the class: the caller's choice, or the one whose tensors are there, if the config agrees
    brought = {name: tensor for name, tensor in adapter.replaced.items() if _is_of_head(name)} if adapter else {}
    shown = {**{n: t for n, t in tensors.items() if not (brought and _is_of_head(n))}, **brought}
    chosen = head_of(config, shown, source) if head is None else head
    head = chosen if brought else head  # the adapter chooses, as a caller would
    if adapter is not None and chosen in _HEADS_WITH_LABELS:
        adapter.take_labels(config)
    name = class_name(config.model_type, chosen)
    named = named_heads(config)
    if head is None and named and chosen not in named:
        said = class_name(config.model_type, named[0])
        raise CheckpointError(
            f"{source} has the tensors of {name}, but its config names {said}; choose with --head which of them it is"
        )
    # the table of that class, and the tensor of each row
    has_pooler = any(name.removeprefix("roberta.").startswith("pooler.") for name in tensors)
    table = parameters(config, chosen, has_pooler=has_pooler)
    found = match(table, Checkpoint(source, tensors), adapter=adapter, adapted_dtype=adapted_dtype)
    # a tensor that is missing, or would be lost, is an error
    if found.report.missing:
        raise CheckpointError(
            f"{source} does not have all tensors of {name}: missing {', '.join(found.report.missing)}; "
            f"choose another head (--head), one of {', '.join(ALL_HEADS)}"
        )
    if head is None and found.report.unexpected:
        raise CheckpointError(
            f"{source} has more than {name}: {', '.join(found.report.unexpected)}; choose with --head which "
            "head to keep"
        )
    differing = [note for note in found.report.notes if "differ" in note]
    if differing:
        raise CheckpointError(f"{source}: {'; '.join(differing)}: one would be lost; fix the file or its config")
    left = [f"left out: {name}" for name in found.report.unexpected]
    if not named and head is None:
        of_which = "an encoder alone" if chosen == "Model" else "that class's head"
        left.append(f"the config names no class: {name} was taken, as the file has the tensors of {of_which}")
    if adapter is not None:
        left.append(f"merged: {adapter.source}, {len(adapter.changes)} low-rank changes")
    config.architectures = [name]
    return SourceModel(
        config, chosen, found.found, source, format_, files, (*notes, *inner.remarks, *found.report.notes, *left)
    )


def _is_of_head(name: str) -> bool:
    """Whether a tensor is of the part above an encoder and its pooler."""
    return name.partition(".")[0] in set(HEAD_PARTS) - {"pooler"}


def head_of(config: RobertaConfig, tensors: Mapping[str, StoredTensor], source: Path) -> Head:
    """The head whose tensors a file has; the config decides where two heads have the same tensors."""
    names = set(tensors)
    parts = {name.partition(".")[0] for name in names} & (set(HEAD_PARTS) - {"pooler"})
    if len(parts) > 1:
        raise CheckpointError(
            f"{source} has the tensors of several heads, {', '.join(sorted(parts))}; choose one with --head: "
            f"{', '.join(ALL_HEADS)}"
        )
    if "lm_head" in parts:
        possible: tuple[Head, ...] = ("ForCausalLM", "ForMaskedLM") if config.is_decoder else ("ForMaskedLM",)
    elif "classifier" in parts:
        is_deep = any(name.startswith("classifier.dense.") for name in names)
        has_pooler = any("pooler." in name for name in names)
        flat: tuple[Head, ...] = ("ForMultipleChoice", "ForTokenClassification")
        is_one = [t.shape[:1] for name, t in tensors.items() if name == "classifier.weight"] == [(1,)]
        possible = ("ForSequenceClassification",) if is_deep else flat if has_pooler and is_one else flat[1:]
    else:
        possible = ("ForQuestionAnswering",) if "qa_outputs" in parts else ("Model",)
    return next((head for head in named_heads(config) if head in possible), possible[0])


def named_heads(config: RobertaConfig) -> list[Head]:
    """The heads of the classes that a config names, of whatever family and framework, in the order of `ALL_HEADS`."""
    named = {head_of_class(name) for name in config.architectures or ()}
    return [head for head in ALL_HEADS if head in named]


def of_family(model: SourceModel, model_type: str) -> SourceModel:
    """A model of fairseq, whose files say no model type, under the type of its tokenizer.

    The ids that begin and end a text are those of the family's published models, whose tokenizer it has.
    """
    kind = CONFIGS[model_type]
    published = kind.base()
    ids = {"bos_token_id": published.bos_token_id, "eos_token_id": published.eos_token_id}
    config = kind.from_dict({**model.config.to_dict(), "model_type": model_type, **ids})
    config.architectures = [class_name(model_type, model.head)]
    return replace(model, config=config)


# -- token types, which fairseq and KerasHub lack ------------------------------------------------------------------


def sources(tensors: Mapping[str, StoredTensor]) -> dict[str, Source]:
    """Stored tensors in the form that writers take."""
    return {name: (tensor.shape, tensor.dtype, tensor.load) for name, tensor in tensors.items()}


def fold_types(model: SourceModel) -> tuple[Source, dict[str, Source], list[str]]:
    """The position table of a format without token types, the tensors that the format has no place for, and notes.

    The first row of the token types is added to every position, as a model does without `token_type_ids`; types of
    zero, which published models have, need nothing.
    """
    types, positions = model.tensors[f"{model.prefix}{TYPES}"], model.tensors[f"{model.prefix}{POSITIONS}"]
    plain = sources({TYPES: types, POSITIONS: positions})
    if not np.asarray(types.load()).any():
        return plain[POSITIONS], {}, []
    note = "the first token type was added to the positions, as the format has no token types"
    return (positions.shape, positions.dtype, lambda: _folded(positions, types)), plain, [note]


def unfold_types(
    prefix: str, config: RobertaConfig, stored: StoredTensor, rest: Mapping[str, StoredTensor]
) -> tuple[dict[str, StoredTensor], list[str]]:
    """Positions and token types, exactly as before `fold_types` if the positions are still its result."""
    types, positions = rest.get(TYPES), rest.get(POSITIONS)
    if types is None:
        shape = (config.type_vocab_size, stored.shape[1])
        zeros = StoredTensor(TYPES, shape, stored.dtype, stored.file, lambda: np.zeros_like(stored.load(), shape=shape))
        return {f"{prefix}{POSITIONS}": stored, f"{prefix}{TYPES}": zeros}, []
    if positions is not None and np.array_equal(_folded(positions, types), stored.load()):
        return {f"{prefix}{POSITIONS}": positions, f"{prefix}{TYPES}": types}, []
    relative = replace(types, load=lambda: types.load() - types.load()[0], stay=None)
    note = "the positions have changed since the token types were added to them; the first type is now zero"
    return {f"{prefix}{POSITIONS}": stored, f"{prefix}{TYPES}": relative}, [note]


def _folded(positions: StoredTensor, types: StoredTensor) -> np.ndarray:
    return np.asarray(positions.load() + types.load()[0])


def causal_notes(format_: str, config: RobertaConfig) -> list[str]:
    """A note on a decoder in a format whose own program has no causal mask."""
    if not config.is_decoder:
        return []
    return [
        f"is_decoder=True: {format_}'s own program has no causal mask and lets every token see those after it, so it "
        "computes other numbers with these weights; read back here, the model has its mask again"
    ]


def refuse_config(format_: str, config: RobertaConfig, rules: Mapping[str, tuple[object, ...]]) -> None:
    """Raise for the first field whose value another program would ignore, and so compute something else.

    Args:
        rules: those of the format beside `RULES`: field -> the values that its own program works with.
    """
    for name, allowed in {**RULES, **rules}.items():
        value = getattr(config, name)
        if value not in allowed:
            raise CheckpointError(
                f"{format_} has no {name}={value!r}: its program would compute other numbers with these weights; "
                f"it knows {', '.join(map(repr, allowed))}. Convert to safetensors, pt, tf or flax instead"
            )


def as_json(value: Mapping[str, object], indent: int = 2) -> bytes:
    """A JSON file."""
    return (json.dumps(value, ensure_ascii=False, indent=indent) + "\n").encode()

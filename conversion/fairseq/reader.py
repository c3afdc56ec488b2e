"""fairseq's `model.pt`, read in every spelling it has had; `writer` writes it.

A pickle is read as data (`roberta.common.formats.torch_zip`), so nothing in it is called and fairseq is not needed. What
fairseq has no place for (config.json, token types, heads of other programs) has a key of its own, `roberta`, at the
top of the file, where fairseq does not look.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from roberta.common.checkpoint import older_names
from roberta.common.config import RobertaConfig
from roberta.common.family_configs import config_class_of
from roberta.common.formats import torch_zip
from roberta.common.formats.safetensors_file import MAX_TENSORS, StoredTensor
from roberta.common.parameters import ENCODER_NAME
from roberta.common.storage.folders import CheckpointError
from roberta.conversion.fairseq.names import (
    CLASSIFIERS,
    DROPPED,
    FUSED,
    VERSION,
    Spelling,
    modern,
    to_canonical,
    to_fairseq,
)
from roberta.conversion.fairseq.options import PAD, RECORDS, config_fields, is_ranking, options
from roberta.conversion.model import ALL_HEADS, EPSILON, POSITIONS, TYPES, SourceModel, checked_model, unfold_types

OWN = "roberta"  # the key for what fairseq has no place for


def is_fairseq(value: object) -> bool:
    """Whether what a file of `torch.save` holds is a checkpoint of fairseq.

    Other programs write model and args too, with the names of the table.
    """
    if not isinstance(value, Mapping) or not isinstance(value.get("model"), Mapping):
        return False
    has_names = any(ENCODER_NAME.fullmatch(name) for name in value["model"] if isinstance(name, str))
    return ("args" in value or "cfg" in value) and not has_names


def open_file(path: Path, *, keeps_unknown: bool = False) -> Any:
    """What a `.pt` file holds, fairseq's own classes as data.

    Args:
        keeps_unknown: also other classes, of a file that may be another program's.
    """
    return torch_zip.read_torch_zip(path, records=RECORDS, keeps_unknown=keeps_unknown)


def read_fairseq(
    path: Path, *, head: str | None, files: Mapping[str, bytes], num_attention_heads: int | None = None
) -> SourceModel:
    """The model in a checkpoint of fairseq.

    Args:
        head: the name of a classification head in the file, or a class such as "ForMaskedLM"; needed where the file
            has more than one.
        files: tokenizer files.
        num_attention_heads: for a file whose hyperparameters are lost.

    Raises:
        CheckpointError: it is not such a checkpoint, or has another architecture; names file, tensor and rule.
    """
    state = open_file(path)
    if not is_fairseq(state):
        raise CheckpointError(f"{path} is not a checkpoint of fairseq: it has no model with args or cfg")
    # the options and the names that the file uses, brought up to date
    own = state.get(OWN) if isinstance(state.get(OWN), Mapping) else {}
    found, form = options(path, state)
    if num_attention_heads is not None:
        found = {**found, "encoder_attention_heads": num_attention_heads}
    tensors, spelling = _modern(path, state["model"], form)
    # the one head to keep, and everything that belongs to it
    chosen, named = _choose(path, tensors, head, found, own)
    spelling = replace(spelling, head=named or spelling.head)
    canonicals, notes = _canonical(path, tensors, chosen, named)
    # what only a file that we wrote has, beside fairseq's own tensors
    rest = _tensors(path, own.get("rest", {}))
    fields = config_fields(path, found, form)
    config = _config(path, canonicals, fields, own, chosen, spelling)
    positions = canonicals.pop(f"roberta.{POSITIONS}")
    unfolded, more = unfold_types("roberta.", config, positions, rest)
    others = {name: tensor for name, tensor in rest.items() if name not in (TYPES, POSITIONS)}
    canonicals = {**canonicals, **unfolded, **others}
    return checked_model(config, canonicals, path, "fairseq", head=chosen, files=files, notes=(*notes, *more))


def _modern(path: Path, model: Mapping[str, Any], form: str) -> tuple[dict[str, StoredTensor], Spelling]:
    """The tensors by fairseq's newest names, fused ones split in three, and how the file spells them."""
    stored = _tensors(path, model)
    names = [re.sub(r"^(encoder|decoder)\.", "", name) for name in stored]
    outers = {name.partition(".")[0] for name in stored if ".sentence_encoder." in name}
    if len(outers) != 1 or not outers <= {"encoder", "decoder"}:
        raise CheckpointError(
            f"{path} has another architecture: its tensors are not under encoder.sentence_encoder or "
            f"decoder.sentence_encoder but {sorted({name.partition('.')[0] for name in stored})[:8]}"
        )
    spelling = Spelling(
        outer=outers.pop(),  # type: ignore[arg-type]
        has_old_norm=any(".emb_layer_norm." in name for name in names),
        has_numbered_norms=any(".layer_norms.0." in name for name in names),
        is_fused=any(".in_proj_weight" in name for name in names),
        has_version=VERSION in names,
        form="args" if form == "args" else "cfg",
    )
    result: dict[str, StoredTensor] = {}
    for name, tensor in stored.items():
        for new, part in _unfused(modern(name), tensor):
            if new in result:
                raise CheckpointError(f"{path} has {new} twice, once as {name}; remove one of them")
            result[new] = part
    return result, spelling


def _unfused(name: str, tensor: StoredTensor) -> Iterator[tuple[str, StoredTensor]]:
    """Query, key and value of a fused tensor by their own names; any other tensor as it is."""
    module, mark, leaf = name.rpartition(".in_proj_")
    if not mark:
        yield name, tensor
        return
    if not tensor.shape or tensor.shape[0] % 3:
        raise CheckpointError(
            f"{tensor.file}: {name} of {list(tensor.shape)} cannot be split into query, key and value"
        )
    rows = tensor.shape[0] // 3
    for index, part in enumerate(FUSED):
        cut = slice(index * rows, (index + 1) * rows)
        load = lambda cut=cut: tensor.load()[cut]  # noqa: E731
        yield f"{module}.{part}.{leaf}", replace(tensor, shape=(rows, *tensor.shape[1:]), load=load)


def _choose(
    path: Path, tensors: Mapping[str, StoredTensor], head: str | None, found: Mapping[str, Any], own: Mapping[str, Any]
) -> tuple[Any, str | None]:
    """The class, and the classification head it takes, if any."""
    names = sorted({name.split(".")[1] for name in tensors if name.startswith("classification_heads.")})
    if head is None and isinstance(own.get("head"), str) and own["head"] in ALL_HEADS:
        head = own["head"]
    possible = [*names, *(("ForMaskedLM", "ForCausalLM") if "lm_head.bias" in tensors else ("Model",))]
    if head is None:
        if len(names) > 1 or (names and "lm_head.bias" in tensors):
            raise CheckpointError(f"{path} has several heads; choose one with --head: {', '.join(possible)}")
        head = possible[0]
    kind = "ForMultipleChoice" if is_ranking(found) else "ForSequenceClassification"
    if head in names:
        return kind, head
    if head in CLASSIFIERS:
        if len(names) != 1:
            raise CheckpointError(f"{path} has the classification heads {names}; choose one by its name with --head")
        return head, names[0]
    if head not in ALL_HEADS:
        raise CheckpointError(f"{path} has no head {head!r}; it has {', '.join(possible)}")
    return head, None


def _canonical(
    path: Path, tensors: Mapping[str, StoredTensor], head: str, named: str | None
) -> tuple[dict[str, StoredTensor], list[str]]:
    """The tensors of the chosen head by the names of the table; all others go into the notes."""
    modules = {f"classification_heads.{named}.{theirs}": ours for theirs, ours in CLASSIFIERS.get(head, ())}
    is_language_model = head in ("ForMaskedLM", "ForCausalLM")
    result, notes = {}, []
    for name, tensor in tensors.items():
        module, _, leaf = name.rpartition(".")
        ours = f"{modules[module]}.{leaf}" if module in modules else to_canonical(name)
        is_other = name.startswith("classification_heads.") and module not in modules
        if ours is not None and (is_language_model or not name.startswith("lm_head.")):
            result[ours] = replace(tensor, name=ours)
        elif is_other or ours is not None or any(part in name for part in DROPPED):
            notes.append(f"left out: {name}")
        elif name.startswith("sentence_encoder.layer_norm."):
            raise CheckpointError(f"{path}: {name} belongs to a model that normalises first, which RoBERTa does not")
        else:
            raise CheckpointError(
                f"{path}: {name} {list(tensor.shape)} is not a tensor of RoBERTa; it is not silently left out"
            )
    return result, notes


def _config(
    path: Path, tensors: Mapping[str, StoredTensor], fields: Mapping[str, Any], own: Mapping[str, Any], head: str,
    spelling: Spelling,
) -> RobertaConfig:  # fmt: skip
    """The config: sizes from the tensors, the rest from the options; or the config that a file we wrote carries."""
    try:
        if isinstance(own.get("config"), str):
            own_fields = json.loads(own["config"])
            config = config_class_of(own_fields).from_dict(own_fields)
        else:
            config = RobertaConfig(
                **_sizes(path, tensors), **fields, type_vocab_size=1, layer_norm_eps=EPSILON, pad_token_id=PAD,
                num_labels=_labels(tensors, head),
            )  # fmt: skip
        config.validate()
    except CheckpointError:
        raise
    except (ValueError, TypeError, AttributeError, RecursionError) as error:
        raise CheckpointError(f"{path}: {error}") from None
    words, decoder = tensors["roberta.embeddings.word_embeddings.weight"], tensors.get("lm_head.decoder.weight")
    if decoder is not None and not older_names.same(words, decoder):
        config.tie_word_embeddings = False
    config.fairseq = spelling.as_dict()
    return config


def _sizes(path: Path, tensors: Mapping[str, StoredTensor]) -> dict[str, Any]:
    """The fields of the config that follow from shapes."""
    layers = {int(found[1]) for name in tensors if (found := re.match(r"roberta\.encoder\.layer\.(\d+)\.", name))}
    if layers != set(range(len(layers))):
        raise CheckpointError(f"{path} has the layers {sorted(layers)[:40]}; some between are missing")
    return {
        "vocab_size": _size(path, tensors, "roberta.embeddings.word_embeddings.weight", 0),
        "hidden_size": _size(path, tensors, "roberta.embeddings.word_embeddings.weight", 1),
        "max_position_embeddings": _size(path, tensors, f"roberta.{POSITIONS}", 0),
        "intermediate_size": _size(path, tensors, "roberta.encoder.layer.0.intermediate.dense.bias", 0),
        "num_hidden_layers": len(layers),
    }


def _labels(tensors: Mapping[str, StoredTensor], head: str) -> int:
    out = tensors.get("classifier.out_proj.bias")
    return out.shape[0] if head == "ForSequenceClassification" and out is not None and out.shape else 2


def _size(path: Path, tensors: Mapping[str, StoredTensor], name: str, axis: int) -> int:
    if name not in tensors or len(tensors[name].shape) <= axis:
        raise CheckpointError(
            f"{path} has no {name} (fairseq's {to_fairseq(name)}); it has another architecture, or is damaged"
        )
    return tensors[name].shape[axis]


def _tensors(path: Path, values: object) -> dict[str, StoredTensor]:
    if not isinstance(values, Mapping) or len(values) > MAX_TENSORS:
        raise CheckpointError(f"{path} is damaged: {type(values).__name__} instead of tensors by name")
    for name, tensor in values.items():
        if not isinstance(name, str) or not isinstance(tensor, StoredTensor):
            raise CheckpointError(f"{path}: {str(name)[:80]} is a {type(tensor).__name__}, not a tensor")
    return {name: replace(tensor, name=name) for name, tensor in values.items()}

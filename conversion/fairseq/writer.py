"""Write fairseq's `model.pt`; a file that was read and is written again has the same tensors, names and shapes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from roberta.common.formats import torch_writer
from roberta.common.formats.safetensors_file import Source
from roberta.conversion.fairseq.names import CLASSIFIERS, FUSED, VERSION, Spelling, spelled_name, to_fairseq
from roberta.conversion.fairseq.options import FAIRSEQ_RULES, written_options
from roberta.conversion.fairseq.reader import OWN
from roberta.conversion.model import POSITIONS, TYPES, SourceModel, causal_notes, fold_types, refuse_config, sources

_CRITERIA = {"ForSequenceClassification": "sentence_prediction", "ForMultipleChoice": "sentence_ranking"}


def fairseq_pieces(model: SourceModel) -> tuple[Iterator[bytes | memoryview], list[str]]:
    """The bytes of a `model.pt`, and notes.

    Raises:
        CheckpointError: fairseq would compute something else with this config.
    """
    config = model.config
    refuse_config("fairseq", config, FAIRSEQ_RULES)
    spelling = Spelling.from_config(getattr(config, "fairseq", {}))
    positions, rest, notes = fold_types(model)
    # each tensor under fairseq's name, or in the rest
    state: dict[str, Source] = {}
    for name, source in sources(model.tensors).items():
        full = name if name.startswith(("roberta.", "lm_head.", "classifier", "qa_outputs")) else f"roberta.{name}"
        theirs = _classifier_name(full, model.head, spelling.head) or to_fairseq(full)
        if theirs is None and not full.endswith(TYPES):
            rest[full] = source
        elif theirs is not None:
            state[theirs] = positions if full == f"roberta.{POSITIONS}" else source
    # what the file's spelling wants beside or instead of them
    if "lm_head.bias" in state and "lm_head.weight" not in state:
        state["lm_head.weight"] = state["sentence_encoder.embed_tokens.weight"]
    if spelling.has_version:
        state[VERSION] = ((1,), "float32", lambda: np.array([3], np.float32))
    if spelling.is_fused:
        state = _fused(state)
    own = {"config": config.to_json_string(), "head": model.head, "rest": torch_writer.state_dict(rest)}
    named = {_outer(name, spelling): tensor for name, tensor in torch_writer.state_dict(state).items()}
    notes += causal_notes("fairseq", config)
    return torch_writer.torch_zip_pieces(
        {
            **written_options(config, spelling.form, _CRITERIA.get(model.head, "masked_lm")),
            "model": named,
            **_HISTORY,
            OWN: own,
        }
    ), notes + [f"kept beside fairseq's tensors: {name}" for name in rest]


# What fairseq reads from any checkpoint before it reads the model.
_HISTORY: dict[str, Any] = {
    "optimizer_history": [
        {"criterion_name": "masked_lm", "optimizer_name": "FairseqAdam", "lr_scheduler_state": {}, "num_updates": 0}
    ],
    "extra_state": {"epoch": 1, "val_loss": None, "train_iterator": {"epoch": 1, "iterations_in_epoch": 0}},
    "last_optimizer_state": None,
}


def _classifier_name(name: str, head: str, named: str) -> str | None:
    """fairseq's name of a tensor of a classification head."""
    module, _, leaf = name.rpartition(".")
    theirs = {ours: theirs for theirs, ours in CLASSIFIERS.get(head, ())}.get(module)
    return None if theirs is None else f"classification_heads.{named}.{theirs}.{leaf}"


def _outer(name: str, spelling: Spelling) -> str:
    return name if name.startswith("classification_heads.") else spelled_name(name, spelling)


def _fused(state: Mapping[str, Source]) -> dict[str, Source]:
    """Query, key and value of each layer as one tensor."""
    result: dict[str, Source] = {}
    for name, source in state.items():
        module, _, leaf = name.rpartition(".")
        part = module.rpartition(".")[2]
        if part not in FUSED:
            result[name] = source
        elif part == FUSED[0]:
            base = module.removesuffix(FUSED[0])
            three = [state[f"{base}{each}.{leaf}"] for each in FUSED]
            shape = (sum(each[0][0] for each in three), *source[0][1:])
            result[f"{base}in_proj_{leaf}"] = (shape, source[1], partial(_joined, three))
    return result


def _joined(parts: Sequence[Source]) -> np.ndarray:
    return np.concatenate([load() for _, _, load in parts])

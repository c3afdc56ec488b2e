"""The data of a training, ready: features to train on, an evaluation of the validation data, and the model's config."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np

from roberta.common.collation import Collator
from roberta.common.config import RobertaConfig
from roberta.common.masking import Masker, Masking, Vocabulary
from roberta.common.packing import pack
from roberta.common.recipes import Recipe
from roberta.common.tokenizer_base import TokenizerBase
from roberta.common.training.batches import Collated, Draw, Feature
from roberta.common.training.evaluation import Evaluation, Questions
from roberta.common.training.examples import Document, Example, LabelledText, LabelledWords
from roberta.common.training.features import Lengths, make_documents, make_features, make_lengths
from roberta.common.training.labels import Labels, Problem, find_labels
from roberta.common.training.readers import class_names, read
from roberta.common.training.tasks import Task

# Task -> what of `DataSettings` means something for it, beside the length of rows.
OF_TASK: dict[Task, tuple[str, ...]] = {
    "mlm": ("packing", "masking", "masking_rate", "whole_words"),
    "clm": ("packing",),
    "text-classification": ("truncation", "problem", "labels"),
    "token-classification": ("truncation", "labels"),
    "question-answering": ("stride",),
    "multiple-choice": ("truncation",),
}


@dataclass(frozen=True, kw_only=True)
class DataSettings:
    """How data becomes features; None for the usual. `Training` says what each is."""

    max_length: int | None = None
    format: Literal["txt", "tsv", "csv", "jsonl", "json", "conll"] | None = None
    truncation: bool | None = None
    masking: Literal["exact", "bernoulli"] | None = None
    masking_rate: float | None = None
    whole_words: bool | None = None
    packing: str | None = None
    stride: int | None = None
    problem: Problem | None = None
    labels: Sequence[str] | None = None

    def check(self, task: Task) -> None:
        """Refuse what means nothing for a task, instead of training without it."""
        everyone = {name for names in OF_TASK.values() for name in names}
        for name in sorted(everyone - set(OF_TASK[task])):
            if getattr(self, name) is not None:
                tasks = ", ".join(one for one, names in OF_TASK.items() if name in names)
                raise ValueError(f"{name}={getattr(self, name)!r} is for {tasks}; leave it out for {task}")


@dataclass(frozen=True)
class Data:
    """What a training is about.

    Attributes:
        features, collate: as in `Batches`.
        config: of the model to be trained, with the labels of the data and the recipe's dropout.
        evaluation: None without validation data.
        agreement: what the features follow from, beside files and tokenizer.
    """

    features: list[Feature]
    collate: Callable[[Sequence[Feature], Sequence[Draw]], Collated]
    config: RobertaConfig
    evaluation: Evaluation | None
    agreement: Mapping[str, Any]


def prepare(
    task: Task,
    train: Any,
    validation: Any,
    settings: DataSettings,
    *,
    config: RobertaConfig,
    recipe: Recipe,
    tokenizer: TokenizerBase,
    seed: int,
) -> Data:
    """Read and tokenise the data of a training.

    Args:
        train, validation: files, or data that is no file; the second may be None.
        config: of the model to start from.

    Raises:
        ValueError: the data cannot be read or used; names file, line and way out.
    """
    settings.check(task)
    if len(tokenizer) > config.vocab_size:
        raise ValueError(
            f"the tokenizer has {len(tokenizer)} tokens, and the model {config.vocab_size} (vocab_size); "
            "give the tokenizer of the model, or a config with that vocab_size"
        )
    lengths = make_lengths(
        task, config, tokenizer, max_length=settings.max_length, stride=settings.stride,
        truncation=settings.truncation is not False,
    )  # fmt: skip
    examples: Iterable[Example] = _read(train, task, settings.format)
    labels = None
    if task in ("text-classification", "token-classification"):
        examples = list(examples)
        named = cast(list[LabelledText | LabelledWords], examples)
        labels = find_labels(named, config, problem=settings.problem, labels=settings.labels or _declared(train, task))
    config = trained_config(task, config, labels, recipe)
    masking = Masking(
        rate=0.15 if settings.masking_rate is None else settings.masking_rate,
        method=settings.masking or "exact",
        whole_words=bool(settings.whole_words),
    )
    masker = Masker(Vocabulary.of(tokenizer), masking) if task == "mlm" else None
    collate = Collator(task, lengths.max_length, config.pad_token_id, masker)
    features = _features(examples, task, tokenizer, lengths, labels, settings, seed)
    evaluation = None
    if validation is not None:
        held_out: Any = list(_read(validation, task, settings.format))
        rows = _features(held_out, task, tokenizer, lengths, labels, settings, seed, for_evaluation=True)
        questions = Questions(held_out, tokenizer) if task == "question-answering" else None
        evaluation = Evaluation(task, rows, collate, seed, questions)
    agreement = {name: getattr(settings, name) for name in OF_TASK[task] if name not in ("problem", "labels")}
    return Data(features, collate, config, evaluation, {"max_length": lengths.max_length, **agreement})


def trained_config(task: Task, config: RobertaConfig, labels: Labels | None, recipe: Recipe) -> RobertaConfig:
    """A copy of a config with the labels of the data, and the dropout of the recipe where it has one."""
    changes: dict[str, Any] = {}
    if labels is not None:
        changes = {"id2label": labels.id2label, "label2id": {name: i for i, name in labels.id2label.items()}}
        if task == "text-classification":
            changes["problem_type"] = labels.problem
    elif task == "question-answering" and config.num_labels != 2:
        changes = {"num_labels": 2}
    elif task in ("clm", "mlm"):
        changes = {"is_decoder": task == "clm"}  # one may start from what the other has learnt
    if recipe.dropout is not None:
        dropout = dict.fromkeys(("hidden_dropout_prob", "attention_probs_dropout_prob"), recipe.dropout)
        changes |= {**dropout, "classifier_dropout": None}
    changed: RobertaConfig = RobertaConfig.from_dict(config.to_dict(), **changes)
    return changed


def fingerprint(name: str, source: Any, features: Sequence[Feature]) -> dict[str, str]:
    """Size and SHA-256 of each file, or of the features of data that is no file; by a name such as "train 1"."""
    if not _is_files(source):
        found = hashlib.sha256()
        for feature in features:
            for key in sorted(feature):
                if key not in ("window", "offsets"):  # follow from the others
                    values = feature[key] if isinstance(feature[key], list) else [feature[key]]
                    found.update(b"".join(np.asarray(value).tobytes() for value in values))
        return {name: f"{len(features)} rows, sha256 {found.hexdigest()}"}
    result = {}
    for number, path in enumerate(_paths(source), 1):
        with path.open("rb") as file:
            result[f"{name} {number}"] = f"{path.stat().st_size} bytes, sha256 {_digest(file)}"
    return result


def tokenizer_hash(tokenizer: TokenizerBase) -> str:
    """SHA-256 of the files of a tokenizer."""
    found = hashlib.sha256()
    for name, content in sorted(tokenizer.files_to_save().items()):
        found.update(name.encode() + content)
    return found.hexdigest()


def _digest(file: Any) -> str:
    return hashlib.file_digest(file, "sha256").hexdigest()


def _is_files(source: Any) -> bool:
    if isinstance(source, str | PathLike):
        return True
    return isinstance(source, list | tuple) and all(isinstance(one, str | PathLike) for one in source)


def _paths(source: Any) -> list[Path]:
    return [Path(source)] if isinstance(source, str | PathLike) else [Path(one) for one in source]


def _read(source: Any, task: Task, format: Any) -> Iterator[Example]:
    """The examples of files, one after another, or of other data."""
    if not _is_files(source):
        return read(source, task)
    if not _paths(source):
        raise ValueError("there are no files to read; give at least one")
    return itertools.chain.from_iterable(read(path, task, format=format) for path in _paths(source))


def _declared(source: Any, task: Task) -> tuple[str, ...] | None:
    return None if _is_files(source) else class_names(source, task) or None


def _features(
    examples: Any,
    task: Task,
    tokenizer: TokenizerBase,
    lengths: Lengths,
    labels: Labels | None,
    settings: DataSettings,
    seed: int,
    *,
    for_evaluation: bool = False,
) -> list[Feature]:
    if task not in ("mlm", "clm"):
        is_question = task == "question-answering"
        return make_features(
            examples, task, tokenizer, lengths, labels=labels, for_evaluation=for_evaluation and is_question
        )
    documents: Any = make_documents(cast("Iterable[Document]", examples), tokenizer)  # of arrays, in place of lists
    bos, eos = _ends(tokenizer)
    packing: Any = settings.packing or "full-sentences"
    return list(pack(documents, packing, max_length=lengths.max_length, bos=bos, eos=eos, seed=seed))


def _ends(tokenizer: TokenizerBase) -> tuple[int, int]:
    """The tokens that rows begin and end with: those of a text, or where these are not one each, cls and sep."""
    cls, sep = tokenizer.cls_token_id, tokenizer.sep_token_id
    if cls is None or sep is None:
        raise ValueError("the tokenizer has no cls token or no sep token; rows begin and end with them")
    begin, _, end, _ = tokenizer.layout()
    return (begin.ids[0], end.ids[0]) if (len(begin.ids), len(end.ids)) == (1, 1) else (cls, sep)

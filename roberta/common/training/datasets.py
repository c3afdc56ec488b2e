"""The data of a training, ready: features to train on, an evaluation of the validation data, and the model's config."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any, cast

import numpy as np

from roberta.common.config import RobertaConfig
from roberta.common.tokenizer.base import TokenizerBase
from roberta.common.training.data.batches import Collated, Draw, Feature
from roberta.common.training.data.collation import Collator
from roberta.common.training.data.examples import Document, Example, LabelledText, LabelledWords, Question
from roberta.common.training.data.features import Lengths, Making, make_documents, make_features, make_lengths
from roberta.common.training.data.labels import Labels, find_labels
from roberta.common.training.data.masking import Masker, Masking, Vocabulary
from roberta.common.training.data.packing import pack
from roberta.common.training.data.readers import class_names, read
from roberta.common.training.data.reading import Reading, Unusable
from roberta.common.training.data.settings import DataSettings, agreement
from roberta.common.training.data.tasks import Task
from roberta.common.training.evaluation import Evaluation, Questions
from roberta.common.training.recipes import Recipe
from roberta.common.training.report import Part, Report, counts_of, examples_of
from roberta.common.training.trained_settings import with_settings


@dataclass(frozen=True)
class Data:
    """What a training is about.

    Attributes:
        features, collate: as in `Batches`.
        config: of the model to be trained, with the labels of the data and the recipe's dropout.
        evaluation: None without validation data.
        agreement: what the features follow from, beside files and tokenizer.
        report: what was read.
        is_new_head: whether the model's classifier is for other labels, and is made anew.
    """

    features: list[Feature]
    collate: Callable[[Sequence[Feature], Sequence[Draw]], Collated]
    config: RobertaConfig
    evaluation: Evaluation | None
    agreement: Mapping[str, Any]
    report: Report
    is_new_head: bool = False


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
    made = _Maker(task, settings, tokenizer, lengths, seed)
    part = made.part("train")
    examples: Iterable[Example] = made.examples(train, part)
    labels = None
    if task in ("text-classification", "token-classification"):
        examples = list(examples)
        labels = find_labels(
            cast("list[LabelledText | LabelledWords]", examples), config, problem=settings.problem,
            labels=settings.labels or (None if settings.keep_labels else _declared(train, task, settings.roles(task))),
            keep_labels=settings.keep_labels,
            are_columns_said="label" in settings.roles(task), skips=settings.skip_unusable,
        )  # fmt: skip
    config = trained_config(task, config, labels, recipe, lengths)
    masking = Masking(
        rate=0.15 if settings.masking_rate is None else settings.masking_rate,
        method=settings.masking or "exact",
        whole_words=bool(settings.whole_words),
    )
    masker = Masker(Vocabulary.of(tokenizer), masking) if task == "mlm" else None
    collate = Collator(task, lengths.max_length, config.pad_token_id, masker)
    features = made.features(examples, part, labels)
    parts, evaluation = [part], None
    if validation is not None:
        parts.append(made.part("validation"))
        held_out: Any = list(made.examples(validation, parts[1], known=() if labels is None else labels.names))
        rows = made.features(held_out, parts[1], labels, for_evaluation=True)
        questions = Questions(_kept(held_out, rows), tokenizer) if task == "question-answering" else None
        evaluation = Evaluation(task, rows, collate, seed, questions)
    report = Report(parts, lengths.max_length, labels)
    is_new_head = labels is not None and labels.is_new_head
    return Data(features, collate, config, evaluation, agreement(task, settings, lengths), report, is_new_head)


def _kept(questions: Sequence[Question], rows: Sequence[Feature]) -> list[Question]:
    """The questions that rows were made of; the rows get their numbers among these."""
    numbers = {number: place for place, number in enumerate(dict.fromkeys(row["example"] for row in rows))}
    for row in rows:
        cast("dict[str, Any]", row)["example"] = numbers[row["example"]]
    return [questions[number] for number in numbers]


def trained_config(
    task: Task, config: RobertaConfig, labels: Labels | None, recipe: Recipe, lengths: Lengths | None = None
) -> RobertaConfig:
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
    if lengths is not None and task not in ("clm", "mlm"):
        changes["task_specific_params"] = with_settings(config, task, **_kept_settings(task, lengths))
    if recipe.dropout is not None:
        dropout = dict.fromkeys(("hidden_dropout_prob", "attention_probs_dropout_prob"), recipe.dropout)
        changes |= {**dropout, "classifier_dropout": None}
    changed: RobertaConfig = RobertaConfig.from_dict(config.to_dict(), **changes)
    return changed


def _kept_settings(task: Task, lengths: Lengths) -> dict[str, Any]:
    """How a model of the task is to be used, as it was trained."""
    if task == "token-classification":  # `features.first_tokens`
        return {"aggregation_strategy": "first"}
    if task == "question-answering":
        return {"max_seq_len": lengths.max_length, "doc_stride": lengths.stride}
    return {"truncation": lengths.truncation, "max_tokens": lengths.max_length}


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


def _declared(source: Any, task: Task, columns: Mapping[str, str]) -> tuple[str, ...] | None:
    return None if _is_files(source) else class_names(source, task, columns) or None


@dataclass(frozen=True)
class _Maker:
    """Makes examples of data and features of examples, and notes in a part of the report what became of them."""

    task: Task
    settings: DataSettings
    tokenizer: TokenizerBase
    lengths: Lengths
    seed: int

    def part(self, name: str) -> Part:
        """A part of the report, empty as yet."""
        return Part(name, making=Making(Unusable(self.settings.skip_unusable)))

    def examples(self, source: Any, part: Part, known: Sequence[str] = ()) -> Iterator[Example]:
        """The examples of files, one after another, or of other data."""
        columns, unusable = self.settings.roles(self.task), part.making.unusable
        if not _is_files(source):
            part.readings.append(Reading("", ""))
            return read(source, self.task, columns=columns, unusable=unusable, reading=part.readings[0])
        if not _paths(source):
            raise ValueError("there are no files to read; give at least one")
        part.readings += [Reading(str(path), "") for path in _paths(source)]
        return itertools.chain.from_iterable(
            read(
                path, self.task, format=self.settings.format, header=self.settings.header, columns=columns, known=known,
                unusable=unusable, reading=reading,
            )
            for path, reading in zip(_paths(source), part.readings, strict=True)
        )  # fmt: skip

    def features(
        self, examples: Any, part: Part, labels: Labels | None, *, for_evaluation: bool = False
    ) -> list[Feature]:
        """The features of the examples."""
        if self.task in ("mlm", "clm"):
            features = self._packed(examples)
        else:
            is_question = self.task == "question-answering"
            features = make_features(
                examples, self.task, self.tokenizer, self.lengths, labels=labels,
                for_evaluation=for_evaluation and is_question, making=part.making,
            )  # fmt: skip
        if not features and part.making.unusable.count:
            raise ValueError(f"{part.name} has no row that can be used, such as: {part.making.unusable.first[0]}")
        part.rows = len(features)
        part.counts = counts_of(self.task, features, labels) if features else {}
        part.examples = examples_of(self.task, features, self.tokenizer, labels)
        return features

    def _packed(self, examples: Iterable[Document]) -> list[Feature]:
        documents: Any = make_documents(examples, self.tokenizer)  # of arrays, in place of lists
        bos, eos = _ends(self.tokenizer)
        packing: Any = self.settings.packing or "full-sentences"
        return list(pack(documents, packing, max_length=self.lengths.max_length, bos=bos, eos=eos, seed=self.seed))


def _ends(tokenizer: TokenizerBase) -> tuple[int, int]:
    """The tokens that rows begin and end with: those of a text, or where these are not one each, cls and sep."""
    cls, sep = tokenizer.cls_token_id, tokenizer.sep_token_id
    if cls is None or sep is None:
        raise ValueError("the tokenizer has no cls token or no sep token; rows begin and end with them")
    begin, _, end, _ = tokenizer.layout()
    return (begin.ids[0], end.ids[0]) if (len(begin.ids), len(end.ids)) == (1, 1) else (cls, sep)

"""The data of a training, ready: features to train on, an evaluation of the validation data, and the model's config."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

from roberta.common.config import RobertaConfig
from roberta.common.tokenizer.base import TokenizerBase
from roberta.common.training.data.batches import Collated, Draw, Feature
from roberta.common.training.data.collation import Collator
from roberta.common.training.data.features import Lengths, Making, make_documents, make_features, make_lengths
from roberta.common.training.data.fields import (
    FIELD_NAMES,
    Document,
    Example,
    LabelledText,
    LabelledWords,
    Question,
    check_columns,
)
from roberta.common.training.data.labels import Labels, Problem, find_labels
from roberta.common.training.data.masking import Masker, Masking, MaskingVocabulary, Method
from roberta.common.training.data.packing import Packing, pack
from roberta.common.training.data.readers import Format, class_names, read_examples
from roberta.common.training.data.records import Reading, Unusable
from roberta.common.training.data.source_chunks import ReadingOptions
from roberta.common.training.data.stored_rows import StoredRows
from roberta.common.training.data.tasks import Task, with_task_settings
from roberta.common.training.data.token_store import TokenStore
from roberta.common.training.evaluation import Evaluation, Questions
from roberta.common.training.fingerprints import paths_of
from roberta.common.training.loss_options import ClassWeights, class_weights_of
from roberta.common.training.recipes import Recipe
from roberta.common.training.report import Report, Split, counts_of, examples_of
from roberta.common.training.sampling import divided
from roberta.common.training.store_sources import check_options, opened_store, read_otherwise

# Task -> the fields of `DataSettings` that only some tasks have, and this one has.
_OF_TASK: dict[Task, tuple[str, ...]] = {
    "mlm": ("packing", "masking", "masking_rate", "whole_words", "text_column"),
    "clm": ("packing", "text_column"),
    "text-classification": (
        "truncation", "problem", "labels", "keep_labels", "text_column", "label_column", "class_weights",
    ),
    "token-classification": ("truncation", "labels", "keep_labels", "text_column", "label_column", "class_weights"),
    "question-answering": ("stride",),
    "multiple-choice": ("truncation", "label_column"),
}  # fmt: skip
# The config shows them, or "columns" does, or the training compares what follows from them.
_NOT_AGREED = ("problem", "labels", "keep_labels", "text_column", "label_column", "class_weights")


@dataclass(frozen=True, kw_only=True)
class DataSettings:
    """How data becomes features; None for the default. `Training` describes the fields."""

    max_length: int | None = None
    format: Format | None = None
    header: bool | None = None
    text_column: str | None = None
    label_column: str | None = None
    columns: Mapping[str, str] | None = None
    skip_unusable: bool = False
    truncation: bool | None = None
    masking: Method | None = None
    masking_rate: float | None = None
    whole_words: bool | None = None
    packing: str | None = None
    stride: int | None = None
    problem: Problem | None = None
    labels: Sequence[str] | None = None
    keep_labels: bool = False
    class_weights: ClassWeights | None = None
    max_train_samples: int | None = None
    validation_split: float | None = None


def _check_settings(settings: DataSettings, task: Task) -> None:
    """Raise `ValueError` for a setting that the task does not use, instead of training without it."""
    everyone = {name for names in _OF_TASK.values() for name in names}
    for name in sorted(everyone - set(_OF_TASK[task])):
        if getattr(settings, name) is not None and getattr(settings, name) is not False:
            tasks = ", ".join(one for one, names in _OF_TASK.items() if name in names)
            hint = ""
            if name == "text_column":
                hint = f", or give columns={{{next(iter(FIELD_NAMES[task]))!r}: {getattr(settings, name)!r}}}"
            raise ValueError(f"{name}={getattr(settings, name)!r} is for {tasks}; omit it for {task}{hint}")


def roles_of(settings: DataSettings, task: Task) -> dict[str, str]:
    """Role -> column, by `columns`, `text_column` and `label_column`.

    Raises:
        ValueError: a role has two columns, or the task does not have the role.
    """
    is_words = task == "token-classification"
    short = {
        "words" if is_words else "text": settings.text_column,
        "labels" if is_words else "label": settings.label_column,
    }
    found = dict(settings.columns or {})
    for role, column in short.items():
        if column is not None and found.setdefault(role, column) != column:
            raise ValueError(f"columns={dict(settings.columns or {})} names a column other than {column!r} for {role}")
    check_columns(task, found)
    return found


def reading_options(settings: DataSettings, task: Task) -> ReadingOptions:
    """How files are read."""
    return ReadingOptions(
        format=settings.format, header=settings.header, columns=roles_of(settings, task),
        skip_unusable=settings.skip_unusable,
    )  # fmt: skip


def _agreement(task: Task, settings: DataSettings, lengths: Lengths, train: Any, validation: Any) -> dict[str, Any]:
    """What features depend on. Settings at their default are left out if older checkpoints do not have them.

    Args:
        train, validation: token stores, opened, or any other data.
    """
    found = {name: getattr(settings, name) for name in _OF_TASK[task] if name not in _NOT_AGREED}
    options = reading_options(settings, task)
    read = train.info.settings if isinstance(train, TokenStore) else options.said()
    said = {name: value for name, value in read.items() if name != "format"}
    said |= {name: getattr(settings, name) for name in ("max_train_samples", "validation_split")}
    more = {name: value for name, value in said.items() if value not in (None, {})}
    # of a store and files, each may be read in its own way
    stores = [source for source in (train, validation) if isinstance(source, TokenStore)]
    if validation is not None and len(stores) == 1 and read_otherwise(stores[0], options):
        apart = options.said() if stores[0] is train else stores[0].info.settings
        more["reading_of_validation"] = {name: value for name, value in apart.items() if name != "format"}
    return {"max_length": lengths.max_length, **found, **more}


@dataclass(frozen=True)
class Data:
    """The data of a training, and what follows from it.

    Attributes:
        features, collate: as in `Batches`.
        config: of the model to be trained, with the labels of the data and the recipe's dropout.
        evaluation: None without validation data.
        agreement: what the features depend on, besides files and tokenizer.
        report: what was read.
        is_new_head: whether the model's classifier is for other labels, so that a new one is initialised.
        class_weights: of each label, by its number; None for 1.
    """

    features: Sequence[Feature]
    collate: Callable[[Sequence[Feature], Sequence[Draw]], Collated]
    config: RobertaConfig
    evaluation: Evaluation | None
    agreement: Mapping[str, Any]
    report: Report
    is_new_head: bool = False
    class_weights: tuple[float, ...] | None = None


def make_data(
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
        train, validation: files, a token store or its folder, or data that is not a file; the second may be None.
        config: of the model to start from.

    Raises:
        ValueError: the data cannot be read or used; names file, line and way out.
    """
    _check_settings(settings, task)
    if len(tokenizer) > config.vocab_size:
        raise ValueError(
            f"the tokenizer has {len(tokenizer)} tokens, and the model {config.vocab_size} (vocab_size); "
            "give the tokenizer of the model, or a config with that vocab_size"
        )
    lengths = make_lengths(
        task, config, tokenizer, max_length=settings.max_length, stride=settings.stride,
        truncation=settings.truncation is not False,
    )  # fmt: skip
    train, validation = (opened_store(source, task, tokenizer) for source in (train, validation))
    check_options(train, validation, reading_options(settings, task), settings.text_column)
    # examples to train on, as a stream unless their labels have to be known first
    maker = _Maker(task, settings, tokenizer, lengths, seed)
    splits = [maker.split("train")]
    examples: Iterable[Example] | TokenStore = maker.examples(train, splits[0])
    labels = None
    if task in ("text-classification", "token-classification"):
        roles = roles_of(settings, task)
        examples = list(cast("Iterable[Example]", examples))
        labels = find_labels(
            cast("list[LabelledText | LabelledWords]", examples), config, problem=settings.problem,
            labels=settings.labels or (None if settings.keep_labels else class_names(train, task, roles) or None),
            keep_labels=settings.keep_labels, are_columns_said="label" in roles, skips=settings.skip_unusable,
        )  # fmt: skip
    # which of them are used
    held_out: Any = None
    if settings.validation_split is not None:
        if isinstance(examples, TokenStore):
            raise ValueError(
                f"validation_split={settings.validation_split!r} divides documents, and {examples.folder} is a token store; "
                "give validation files, or another store"
            )
        examples, held_out = divided(list(examples), settings.validation_split, seed)
        splits[0].remarks.append(f"{len(held_out):,} examples are held out, to evaluate on")
    if settings.max_train_samples is not None:
        splits[0].remarks.append(f"at most {settings.max_train_samples:,} are trained on, the first ones")
        if not isinstance(examples, TokenStore):
            examples = itertools.islice(examples, maker.most_examples())
    # how they become arrays
    config = trained_config(task, config, labels, recipe, lengths)
    masking = Masking(
        rate=0.15 if settings.masking_rate is None else settings.masking_rate,
        method=settings.masking or "exact",
        whole_words=bool(settings.whole_words),
    )
    masker = Masker(MaskingVocabulary.of(tokenizer), masking) if task == "mlm" else None
    collate = Collator(task, lengths.max_length, config.pad_token_id, masker)
    features = maker.features(examples, splits[0], labels)
    class_weights = None
    if settings.class_weights is not None and labels is not None:
        class_weights = class_weights_of(settings.class_weights, labels, features)
        collate = replace(collate, class_weights=class_weights)
    # the validation data, with the same labels
    evaluation = None
    if validation is not None or held_out is not None:
        splits.append(maker.split("validation"))
    if validation is not None:
        held_out = maker.examples(validation, splits[1], known=() if labels is None else labels.names)
        held_out = held_out if isinstance(held_out, TokenStore) else list(held_out)
    if held_out is not None:
        rows = maker.features(held_out, splits[1], labels, for_evaluation=True)
        questions = Questions(_kept(held_out, rows), tokenizer) if task == "question-answering" else None
        evaluation = Evaluation(task, rows, collate, seed, questions)
    report = Report(splits, lengths.max_length, labels)
    is_new_head = labels is not None and labels.is_new_head
    agreement = _agreement(task, settings, lengths, train, validation)
    return Data(features, collate, config, evaluation, agreement, report, is_new_head, class_weights)


def _kept(questions: Sequence[Question], rows: Sequence[Feature]) -> list[Question]:
    """The questions that have rows; the "example" of each row becomes the index among these."""
    numbers = {number: place for place, number in enumerate(dict.fromkeys(row["example"] for row in rows))}
    for row in rows:
        cast("dict[str, Any]", row)["example"] = numbers[row["example"]]
    return [questions[number] for number in numbers]


def trained_config(
    task: Task, config: RobertaConfig, labels: Labels | None, recipe: Recipe, lengths: Lengths | None = None
) -> RobertaConfig:
    """A copy of a config with the labels of the data, and the dropout of the recipe if it has one."""
    changes: dict[str, Any] = {}
    if labels is not None:
        changes = {"id2label": labels.id2label, "label2id": {name: i for i, name in labels.id2label.items()}}
        if task == "text-classification":
            changes["problem_type"] = labels.problem
    elif task == "question-answering" and config.num_labels != 2:
        changes = {"num_labels": 2}
    elif task in ("clm", "mlm"):
        changes = {"is_decoder": task == "clm"}  # each may start from a model of the other
    if lengths is not None and task not in ("clm", "mlm"):
        changes["task_specific_params"] = with_task_settings(config, task, **_kept_settings(task, lengths))
    if recipe.dropout is not None:
        dropout = dict.fromkeys(("hidden_dropout_prob", "attention_probs_dropout_prob"), recipe.dropout)
        changes |= {**dropout, "classifier_dropout": None}
    changed: RobertaConfig = type(config).from_dict(config.to_dict(), **changes)
    return changed


def _kept_settings(task: Task, lengths: Lengths) -> dict[str, Any]:
    """How a model of the task should be used: as it was trained."""
    if task == "token-classification":  # labels are at the first token of each word
        return {"aggregation_strategy": "first"}
    if task == "question-answering":
        return {"max_seq_len": lengths.max_length, "doc_stride": lengths.stride}
    return {"truncation": lengths.truncation, "max_tokens": lengths.max_length}


@dataclass(frozen=True)
class _Maker:
    """Makes examples of data and features of examples, and notes in a split of the report what became of them."""

    task: Task
    settings: DataSettings
    tokenizer: TokenizerBase
    lengths: Lengths
    seed: int

    def split(self, name: str) -> Split:
        """A split of the report, still empty."""
        return Split(name, making=Making(Unusable(self.settings.skip_unusable)))

    def examples(self, source: Any, split: Split, known: Sequence[str] = ()) -> Iterator[Example] | TokenStore:
        """The examples of files, one after another, or of other data; a store is its own."""
        if isinstance(source, TokenStore):
            split.readings += [Reading(**reading) for reading in source.info.readings]
            split.making.unusable.count, split.making.unusable.first = source.info.skipped, [*source.info.reasons]
            return source
        columns, unusable, paths = roles_of(self.settings, self.task), split.making.unusable, paths_of(source)
        if paths is None:
            split.readings.append(Reading("", ""))
            return read_examples(source, self.task, columns=columns, unusable=unusable, reading=split.readings[0])
        if not paths:
            raise ValueError("there are no files to read; give at least one")
        split.readings += [Reading(str(path), "") for path in paths]
        return itertools.chain.from_iterable(
            read_examples(
                path, self.task, format=self.settings.format, header=self.settings.header, columns=columns, known=known,
                unusable=unusable, reading=reading,
            )
            for path, reading in zip(paths, split.readings, strict=True)
        )  # fmt: skip

    def features(
        self, examples: Any, split: Split, labels: Labels | None, *, for_evaluation: bool = False
    ) -> Sequence[Feature]:
        """The features of the examples."""
        features: Sequence[Feature]
        if self.task in ("mlm", "clm"):
            features = self._packed(examples, None if for_evaluation else self.settings.max_train_samples)
        else:
            is_question = self.task == "question-answering"
            features = make_features(
                examples, self.task, self.tokenizer, self.lengths, labels=labels,
                for_evaluation=for_evaluation and is_question, making=split.making,
            )  # fmt: skip
        if not features and split.making.unusable.count:
            raise ValueError(f"{split.name} has no row that can be used, such as: {split.making.unusable.first[0]}")
        split.rows = len(features)
        split.counts = counts_of(self.task, features, labels) if features else {}
        split.examples = examples_of(self.task, features, self.tokenizer, labels)
        return features

    def most_examples(self) -> int | None:
        """How many examples are trained on, at most; of "mlm" and "clm" rows are counted, as they are packed."""
        return None if self.task in ("mlm", "clm") else self.settings.max_train_samples

    def _packed(self, examples: Iterable[Document] | TokenStore, most: int | None) -> Sequence[Feature]:
        bos, eos = _ends(self.tokenizer)
        packing = cast(Packing, self.settings.packing or "full-sentences")
        length = self.lengths.max_length
        if isinstance(examples, TokenStore):
            return StoredRows(examples, packing, max_length=length, bos=bos, eos=eos, seed=self.seed, most=most)
        documents: Any = make_documents(examples, self.tokenizer)  # arrays instead of lists
        return list(
            itertools.islice(pack(documents, packing, max_length=length, bos=bos, eos=eos, seed=self.seed), most)
        )


def _ends(tokenizer: TokenizerBase) -> tuple[int, int]:
    """The tokens that rows begin and end with: those of a text if it has one at each end, else cls and sep."""
    cls, sep = tokenizer.cls_token_id, tokenizer.sep_token_id
    if cls is None or sep is None:
        raise ValueError("the tokenizer has no cls token or no sep token; rows begin and end with them")
    begin, _, end, _ = tokenizer.layout()
    return (begin.ids[0], end.ids[0]) if (len(begin.ids), len(end.ids)) == (1, 1) else (cls, sep)

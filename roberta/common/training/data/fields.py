"""What one example of each task is, and what the fields of a record mean, by the names that people give them."""

from __future__ import annotations

import ast
import contextlib
import functools
import json
import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from roberta.common.pipelines.inputs import shown, text_of
from roberta.common.training.data.records import DataRecord
from roberta.common.training.data.tasks import Task

# -- examples as they were read: text, not yet tokens; `where` each is from, for errors --------------------------------


@dataclass(frozen=True, slots=True)
class Document:
    """Sentences, or other pieces of text that belong together, in order, for "mlm" and "clm"."""

    sentences: tuple[str, ...]
    where: str


@dataclass(frozen=True, slots=True)
class LabelledText:
    """One text, or a pair of them, for "text-classification".

    Attributes:
        label: as the data spells it, also a number; several where any number of labels can hold.
    """

    text: str
    text2: str | None
    label: str | tuple[str, ...]
    where: str


@dataclass(frozen=True, slots=True)
class LabelledWords:
    """The words of a sentence and the label of each, for "token-classification"."""

    words: tuple[str, ...]
    labels: tuple[str, ...]
    where: str


@dataclass(frozen=True, slots=True)
class AnswerSpan:
    """A span of a context: its text, and its first character."""

    text: str
    start: int

    @property
    def end(self) -> int:
        """The index of the character after the last one."""
        return self.start + len(self.text)


@dataclass(frozen=True, slots=True)
class Question:
    """A question about a context, for "question-answering".

    Attributes:
        answers: what several people answered, of which the first is trained; empty where there is no answer.
    """

    id: str
    question: str
    context: str
    answers: tuple[AnswerSpan, ...]
    where: str


@dataclass(frozen=True, slots=True)
class MultipleChoice:
    """A prompt and its continuations, for "multiple-choice".

    Attributes:
        label: the index of the right one.
    """

    prompt: str
    choices: tuple[str, ...]
    label: int
    where: str


# -- fields -> examples -----------------------------------------------------------------------------------------------

Example = Document | LabelledText | LabelledWords | Question | MultipleChoice

Roles = Mapping[str, str]  # role -> the record's field

# Task -> role -> the names that its field may have, the likeliest first ("#1 String" is written "#1_string" here). A
# field has one role. Roles are looked for in this order, so QNLI's "sentence" is the second text next to a "question".
FIELD_NAMES: dict[Task, dict[str, tuple[str, ...]]] = {
    "mlm": {"text": ("text", "content", "sentence")},
    "clm": {"text": ("text", "content", "sentence")},
    "text-classification": {
        "text": (
            "text", "sentence1", "premise", "question1", "question", "sentence", "text1", "text_a", "sentence_a",
            "#1_string", "string1", "review", "content", "tweet", "comment_text",
        ),
        "text2": (
            "text2", "text_pair", "sentence2", "hypothesis", "question2", "text_b", "sentence_b", "#2_string",
            "string2", "passage", "sentence",
        ),
        "label": (
            "label", "labels", "gold_label", "class", "category", "sentiment", "quality", "is_duplicate", "score",
            "similarity", "similarity_score", "target", "stars", "rating",
        ),
    },
    "token-classification": {
        "words": ("words", "tokens", "word", "token"),
        "labels": ("labels", "ner_tags", "ner", "tags", "tag", "ner_tag", "label", "pos_tags", "pos"),
        "sentence": ("sentence_#", "sentence_id", "sent_id", "sentence_idx", "sentence"),  # of a table of words
    },
    "question-answering": {
        "question": ("question",),
        "context": ("context", "passage", "paragraph", "text"),
        "answers": ("answers", "answer", "answer_text", "text"),
        "answer_start": ("answer_start", "start"),
        "is_impossible": ("is_impossible",),
        "id": ("id", "qid", "question_id"),
    },
    "multiple-choice": {
        "prompt": ("sent1", "article", "passage", "context", "ctx", "premise", "prompt", "question", "sentence"),
        "lead": ("sent2", "question"),
        "choices": ("choices", "options", "endings"),
        "label": ("label", "answer", "answerkey", "answer_key", "correct"),
    },
}  # fmt: skip
NEEDED: dict[Task, tuple[str, ...]] = {
    "mlm": ("text",),
    "clm": ("text",),
    "text-classification": ("text", "label"),
    "token-classification": ("words", "labels"),
    "question-answering": ("question", "context"),
    "multiple-choice": ("prompt", "label"),
}
_NUMBERED = re.compile(r"(?:ending|choice|option|answer)_?([0-9]+)")  # fields that hold a choice each


def find_roles(task: Task, fields: Sequence[str], columns: Roles) -> Roles:
    """Role -> field, for each role that a field has.

    Args:
        columns: what the caller says, which goes before the usual names. "" says that no field has the role.
    """
    return _find_roles(task, tuple(fields), tuple(columns.items()))


@functools.lru_cache(maxsize=64)  # most files have the same fields in every line
def _find_roles(task: Task, fields: tuple[str, ...], said: tuple[tuple[str, str], ...]) -> Roles:
    columns = dict(said)
    by_name = {field.strip().lower().replace(" ", "_").replace("-", "_"): field for field in reversed(fields)}
    found = {role: field for role, field in columns.items() if _is_there(role, field, fields)}
    for role, names in FIELD_NAMES[task].items():
        free = (by_name[name] for name in names if name in by_name and by_name[name] not in found.values())
        field = next(free, None)
        if role not in columns and field is not None:
            found[role] = field
    return found


def _is_there(role: str, field: str, fields: Sequence[str]) -> bool:
    """Whether there is such a field; choices may be in several, with commas between their names."""
    return field in fields or (role == "choices" and all(one in fields for one in field.split(",")))


def check_columns(task: Task, columns: Roles) -> None:
    """Raise `ValueError` for a column with a role that the task does not have."""
    for role, field in columns.items():
        if role not in FIELD_NAMES[task]:
            raise ValueError(f"columns={{{role!r}: {field!r}}}: the roles of {task} are {', '.join(FIELD_NAMES[task])}")


def missing_roles(task: Task, fields: Sequence[str], columns: Roles) -> list[str]:
    """The roles that an example needs, or the caller names, but that no field has."""
    roles = find_roles(task, fields, columns)
    wanted = dict.fromkeys((*NEEDED[task], *(role for role, field in columns.items() if field)))
    return [role for role in wanted if role not in roles]


def make_example(task: Task, record: DataRecord, columns: Roles) -> Example:
    """The example of a record.

    Raises:
        ValueError: a field is missing or of the wrong kind; says where.
    """
    roles = find_roles(task, list(record.value), columns)
    missing = [role for role in (*NEEDED[task], *columns) if role not in roles]
    if missing and (missing := missing_roles(task, list(record.value), columns)):  # which knows that "" stands for none
        role, said = missing[0], {**columns, **dict.fromkeys(missing, "NAME")}
        raise ValueError(
            f"{record.where} has no {role}: its fields are {', '.join(map(str, record.value)) or 'none'}; name one of "
            f"them {' or '.join(FIELD_NAMES[task][role][:3])}, or say columns={said}"
        )
    return _MAKERS[task](record, roles)


def _text(record: DataRecord, roles: Roles, role: str) -> str:
    return text_of(record.value[roles[role]], f"{record.where}: {roles[role]}")


def _document(record: DataRecord, roles: Roles) -> Document:
    lines = _text(record, roles, "text").split("\n")
    return Document(tuple(line.rstrip() for line in lines if line.strip()), record.where)


def _labelled_text(record: DataRecord, roles: Roles) -> LabelledText:
    label = record.value[roles["label"]]
    where = f"{record.where}: {roles['label']}"
    if label == "-" and roles["label"].lower() == "gold_label":
        raise ValueError(f"{where} is '-', which marks rows whose annotators did not agree; remove the row")
    many = isinstance(label, Sequence) and not isinstance(label, str)
    labels = tuple(_label_text(one, where) for one in label) if many else _label_text(label, where)
    second = _text(record, roles, "text2") if "text2" in roles else None
    return LabelledText(_text(record, roles, "text"), second, labels, record.where)


def _label_text(label: Any, where: str) -> str:
    """A label as text: a str as it is, a number as Python writes it, true and false as in JSON.

    Raises:
        ValueError: it is something else, empty, or a number that is not finite, as missing labels are.
    """
    if isinstance(label, float) and not math.isfinite(label):
        raise ValueError(
            f"{where} is {label}, as missing labels are; a label must be a name or a finite number: add it, or remove the "
            "example"
        )
    if isinstance(label, bool):
        return str(label).lower()
    if isinstance(label, int | float):
        return repr(label)
    if isinstance(label, str) and label.strip():
        return text_of(label.strip(), where)
    raise ValueError(f"{where} is {shown(label)}; a label must be a name or a number: add it, or remove the example")


def _labelled_words(record: DataRecord, roles: Roles) -> LabelledWords:
    words, labels = (_list(record, roles[role]) for role in ("words", "labels"))
    if len(words) != len(labels):
        raise ValueError(f"{record.where} has {len(words)} words and {len(labels)} labels; each word needs one")
    for number, word in enumerate(words, 1):
        if not text_of(word, f"{record.where}: word {number}"):
            raise ValueError(f"{record.where}: word {number} is empty; remove it with its label")
    where = f"{record.where}: {roles['labels']}"
    return LabelledWords(tuple(words), tuple(_label_text(label, where) for label in labels), record.where)


def _list(record: DataRecord, field: str) -> Sequence[Any]:
    value = structured(record.value[field])
    if isinstance(value, str) or not isinstance(value, Sequence) or not value:
        raise ValueError(f"{record.where}: {field} is {shown(value)}; it must be a list that is not empty")
    return value


def structured(value: Any) -> Any:
    """The list or object that the cell of a table spells, as JSON or in Python's syntax; any other value as it is."""
    if not isinstance(value, str) or value[:1] not in ("[", "{"):
        return value
    for read in (json.loads, ast.literal_eval):
        with contextlib.suppress(ValueError, SyntaxError, RecursionError, MemoryError):
            return read(value)
    return value


def _question(record: DataRecord, roles: Roles) -> Question:
    question, context = (_text(record, roles, role) for role in ("question", "context"))
    question = question.lstrip()  # one question of SQuAD has thousands of spaces before it
    for role, text in (("question", question), ("context", context)):
        if not text.strip():
            raise ValueError(f"{record.where}: {roles[role]} is empty; give a text, or remove the question")
    name = record.value[roles["id"]] if "id" in roles else record.where
    return Question(str(name), question, context, tuple(_answers(record, roles, context)), record.where)


def _answers(record: DataRecord, roles: Roles, context: str) -> list[AnswerSpan]:
    """The answers of a record, each checked against the context; none for a question without one."""
    if "is_impossible" in roles and str(record.value[roles["is_impossible"]]).lower() in ("true", "1"):
        return []
    if "answers" not in roles:
        raise ValueError(f"{record.where} has no answers; give an empty list if the context has none")
    given = structured(record.value[roles["answers"]])
    if isinstance(given, str):
        given = {"text": [given] if given else [], "answer_start": [record.value[roles["answer_start"]]]
                 if given and "answer_start" in roles else []}  # fmt: skip
    if isinstance(given, Mapping):
        pairs = _columns(given, record.where)
    elif isinstance(given, Sequence) and all(isinstance(one, Mapping) for one in given):
        pairs = [(one.get("text"), one.get("answer_start")) for one in given]
    else:
        raise ValueError(
            f'{record.where}: {roles["answers"]} is {shown(given)}; it must be a list of objects with "text" and '
            '"answer_start"'
        )
    return [_answer(text, start, context, record.where) for text, start in pairs]


def _columns(given: Mapping[str, Any], where: str) -> list[tuple[Any, Any]]:
    """Texts and starts of answers that are an object with two lists, as in `datasets`."""
    texts, starts = given.get("text"), given.get("answer_start")
    if not isinstance(texts, Sequence) or not isinstance(starts, Sequence) or len(texts) != len(starts):
        raise ValueError(f"{where} has the answers {shown(given)}; each text needs its answer_start")
    return list(zip(texts, starts, strict=True))


def _answer(text: Any, start: Any, context: str, where: str) -> AnswerSpan:
    if isinstance(start, str) and start.isdecimal():
        start = int(start)  # from a table
    if not isinstance(text, str) or isinstance(start, bool) or not isinstance(start, int):
        raise ValueError(
            f"{where} has an answer with text {shown(text)} and answer_start {shown(start)}; they must be a text and a "
            "number"
        )
    if not text.strip():
        raise ValueError(f"{where} has an answer without text; for no answer, give an empty list of answers")
    if start < 0 or context[start : start + len(text)] != text:
        at = context.find(text)
        hint = f"the context has it at {at}" if at >= 0 else "the context does not have it"
        raise ValueError(
            f"{where} has the answer {shown(text)} at answer_start {start}, where the context has "
            f"{shown(context[max(start, 0) : max(start, 0) + len(text)])}; {hint}: correct answer_start, which counts "
            "characters from 0"
        )
    return AnswerSpan(text, start)


def _choice(record: DataRecord, roles: Roles) -> MultipleChoice:
    lead = _text(record, roles, "lead") + " " if "lead" in roles else ""
    names, texts = _choices(record, roles)
    hint = _other_count(roles["label"]) if counts_from_1(record.value, roles) else ""
    for number, text in enumerate(texts):
        text_of(text, f"{record.where}: choice {number}")
    label = _label_text(record.value[roles["label"]], f"{record.where}: {roles['label']}")
    if label not in names:
        raise ValueError(f"{record.where}: {roles['label']} is {label!r}; it must be one of {', '.join(names)}{hint}")
    return MultipleChoice(
        _text(record, roles, "prompt"), tuple(lead + text for text in texts), names.index(label), record.where
    )


def _choices(record: DataRecord, roles: Roles) -> tuple[list[str], Sequence[str]]:
    """The names and the texts of the choices.

    The names are numbers, or letters if the label is one. Where fields are numbered, an "answer" is the number of its
    field, as in WinoGrande; a "label" counts from 0 even where fields count from 1, as in COPA.
    """
    given = chosen_texts(record.value, roles)
    if isinstance(given, Mapping) and {"label", "text"} <= set(given):  # CommonsenseQA
        return list(map(str, given["label"])), given["text"]
    if not isinstance(given, Sequence) or isinstance(given, str) or len(given) < 2:
        raise ValueError(
            f"{record.where} has the choices {shown(given)}; it needs at least two: ending0, ending1, ..., or a list "
            "named choices, options or endings"
        )
    label = str(record.value[roles["label"]]).strip()
    if label.isalpha():
        return [chr(ord("A") + n) for n in range(len(given))], given
    first = counts_from_1(record.value, roles) and roles["label"].lower() != "label"
    return [str(first + n) for n in range(len(given))], given


def counts_from_1(fields: Iterable[str], roles: Roles) -> bool:
    """Whether the choices are in fields numbered from 1."""
    return "choices" not in roles and 1 in (numbers := _numbers(fields)) and 0 not in numbers


def _other_count(label: str) -> str:
    """The way out for a label that counts from the other number, beside fields that count from 1."""
    if label.lower() == "label":
        return '; it counts from 0: if yours counts from 1, as the choices do, rename it "answer"'
    return '; it counts from 1, as the choices do: if yours counts from 0, rename it "label"'


def chosen_texts(fields: Mapping[str, Any], roles: Roles) -> Any:
    """The choices: of one field, of several with commas between their names, or of numbered fields."""
    if "choices" not in roles:
        return [fields[name] for name in numbered_fields(fields)]
    if roles["choices"] in fields:
        return structured(fields[roles["choices"]])
    return [fields[one] for one in roles["choices"].split(",")]


def numbered_fields(fields: Iterable[str]) -> list[str]:
    """The fields ending0, ending1, ... in the order of their numbers."""
    found = _numbers(fields)
    return [found[number] for number in sorted(found)]


def _numbers(fields: Iterable[str]) -> dict[int, str]:
    return {int(match[1]): field for field in fields if (match := _NUMBERED.fullmatch(str(field).lower()))}


_MAKERS: dict[Task, Callable[[DataRecord, Roles], Example]] = {
    "mlm": _document,
    "clm": _document,
    "text-classification": _labelled_text,
    "token-classification": _labelled_words,
    "question-answering": _question,
    "multiple-choice": _choice,
}

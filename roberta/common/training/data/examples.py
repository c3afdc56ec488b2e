"""What one example of each task is, as it was read: text, not yet tokens. Each knows where it is from, for errors."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Document:
    """Sentences, or other pieces of text that belong together, in order; for "mlm" and "clm"."""

    sentences: tuple[str, ...]
    where: str


@dataclass(frozen=True, slots=True)
class LabelledText:
    """One text, or a pair of them, for "text-classification".

    Attributes:
        label: as the data spells it, a number too; several where any number of labels can hold.
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
class Answer:
    """A span of a context: its text, and its first character."""

    text: str
    start: int

    @property
    def end(self) -> int:
        """The character after its last."""
        return self.start + len(self.text)


@dataclass(frozen=True, slots=True)
class Question:
    """A question about a context, for "question-answering".

    Attributes:
        answers: what several people answered, the first of which is trained; none where there is no answer.
    """

    id: str
    question: str
    context: str
    answers: tuple[Answer, ...]
    where: str


@dataclass(frozen=True, slots=True)
class Choice:
    """A prompt and its continuations, for "multiple-choice".

    Attributes:
        label: the index of the right one.
    """

    prompt: str
    choices: tuple[str, ...]
    label: int
    where: str


Example = Document | LabelledText | LabelledWords | Question | Choice

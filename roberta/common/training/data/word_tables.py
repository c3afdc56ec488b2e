"""Files with a word a line, for token classification: CoNLL's, and tables with a column that names the sentence."""

from __future__ import annotations

import csv
import itertools
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from roberta.common.pipelines.inputs import shown
from roberta.common.training.data.fields import Roles, find_roles
from roberta.common.training.data.records import DataRecord, Reading, Unusable, file_lines

_SPACES = re.compile(" +")  # `str.split` would also divide words at the other spaces of Unicode
_TAG = re.compile(r"O|[BIESLUM][-_].*")  # what the label of a word looks like, and the name of a column does not
_LINES = 3  # that an error shows


class _Word(NamedTuple):
    """A line: `sentence` is what the column of sentences says, `problem` why it is not a word with a label."""

    word: str
    label: str
    sentence: str
    where: str
    problem: ValueError | None = None


class WordTable:
    """The sentences of a file with a word a line.

    The first column is the word and the last its label, unless a header or `columns` says otherwise. Columns are divided
    by commas if `is_csv`, else by tabs where the line has one, else by spaces. An empty line ends a sentence, and so does
    a new value in the column of sentences, if there is one. Lines of -DOCSTART- are left out.

    Args:
        columns: role (words, labels, sentence) -> name or number of the column.
        header: whether the first line names the columns; None to tell it by the names in it.
    """

    def __init__(
        self, path: Path, columns: Roles, header: bool | None, unusable: Unusable, reading: Reading, *, is_csv: bool
    ) -> None:
        self.path = path
        self.columns = {role: name for role, name in columns.items() if name}
        self.header = header
        self.unusable = unusable
        self.reading = reading
        self.is_csv = is_csv
        self._at: dict[str, int] = {}  # role -> column
        self._count = 0  # columns
        self._lines = 0
        self._first = ""  # the label of the first line, as long as no other line has it
        self._where = ""  # of the first line

    def records(self) -> Iterator[DataRecord]:
        """A record a sentence, with "words" and "labels".

        Raises:
            ValueError: a line has not as many columns as the first one; or it cannot be told what the first line is, or
                where sentences end.
        """
        sentence: list[_Word] = []
        sentences = 0
        for word in itertools.chain(self._words(), [None]):
            if sentence and (word is None or word.sentence != sentence[-1].sentence):
                sentences += 1
                yield from self._record(sentence)
                sentence = []
            if word is not None:
                sentence.append(word)
        self._check(sentences)

    def _record(self, sentence: list[_Word]) -> Iterator[DataRecord]:
        problem = next((word.problem for word in sentence if word.problem is not None), None)
        if problem is None:
            words, labels, _, places, _ = zip(*sentence, strict=True)
            yield DataRecord({"words": list(words), "labels": list(labels)}, places[0])
        else:
            self.unusable.note(problem)

    def _words(self) -> Iterator[_Word | None]:
        """Each line; None where a sentence ends."""
        before = ""
        for cells, text, where in self._cells():
            if not cells:
                yield None
                continue
            if not self._at and self._is_header(cells, where):
                continue
            word = self._word(cells, text, where, before)
            before = word.sentence
            yield word

    def _cells(self) -> Iterator[tuple[Sequence[str], str, str]]:
        """The cells of each line, none where a sentence ends; its text, and where it is."""
        if self.is_csv:
            reader = csv.reader(text + "\n" for text, _ in file_lines(self.path))
            for cells in self._parsed(reader):
                is_empty = not any(cell.strip() for cell in cells)
                yield [] if is_empty else cells, ",".join(cells), f"{self.path}:{reader.line_num}"
            return
        for text, where in file_lines(self.path):
            if not text.strip() or text.startswith("-DOCSTART-"):
                yield [], text, where
            else:
                yield text.split("\t") if "\t" in text else _SPACES.split(text.strip(" ")), text, where

    def _parsed(self, reader: Iterator[list[str]]) -> Iterator[list[str]]:
        """The rows of a table. A quote that opens in one line and closes in another would hide the words in between."""
        try:
            for cells in reader:
                if any("\n" in cell for cell in cells):
                    raise ValueError(
                        f"{self.path} has a quote that does not close in its line: {shown(','.join(cells))}; write a "
                        'quote that is a word as """"'
                    )
                yield cells
        except csv.Error as error:
            raise ValueError(f"{self.path} is not a valid table: {error}") from None

    def _is_header(self, cells: Sequence[str], where: str) -> bool:
        """Whether the first line names the columns. Notes where each is."""
        numbers = [str(number) for number in range(1, len(cells) + 1)]
        by_number = all(name in numbers for name in self.columns.values())
        roles = find_roles("token-classification", cells, self.columns)
        is_named = {"words", "labels"} <= set(roles) or (bool(self.columns) and not by_number)
        is_header = is_named if self.header is None else self.header
        names = list(cells) if is_header else numbers
        found = roles if is_header else self.columns
        for role, name in self.columns.items():
            if name not in names:
                raise ValueError(
                    f"{where} has no column {name!r} for the {role}; the columns are {', '.join(names)}: correct "
                    f"columns={dict(self.columns)}"
                )
        self._count, self._where = max(len(cells), 2), where
        self._at = {"words": 0, "labels": len(names) - 1} | {role: names.index(name) for role, name in found.items()}
        self.reading.is_header = is_header
        taken = [(role, self._at[role]) for role in ("words", "labels", "sentence") if role in self._at]
        self.reading.columns = {role: names[at] if is_header else f"column {at + 1}" for role, at in taken}
        return is_header

    def _word(self, cells: Sequence[str], text: str, where: str, before: str) -> _Word:
        """A line; `before` is the sentence of the line before, which continues if the cell is empty."""
        if len(cells) != self._count or not cells[self._at["words"]].strip() or not cells[self._at["labels"]].strip():
            problem = ValueError(
                f"{where} is {shown(text)}: it must have {self._count} columns, with a word in column "
                f"{self._at['words'] + 1} and its label in column {self._at['labels'] + 1}; an empty line ends a sentence"
            )
            return _Word("", "", before, where, problem)
        label = cells[self._at["labels"]].strip()
        self._lines += 1
        if self._lines == 1:
            self._first = label
        elif label == self._first:
            self._first = ""
        sentence = cells[self._at["sentence"]].strip() if "sentence" in self._at else ""
        return _Word(cells[self._at["words"]], label, sentence or before, where)

    def _check(self, sentences: int) -> None:
        """Raise `ValueError` if the first line may be a header, or if the file is one sentence because nothing ends it."""
        may_be_header = self.header is None and self.reading.is_header is False and self._lines > 1
        if may_be_header and self._first and not _TAG.fullmatch(self._first):
            raise ValueError(
                f"{self._where} may name the columns: its label {self._first!r} is in no other line. The file begins:\n"
                f"{self._beginning()}\nSay header=True if it does, or header=False if it is a word and its label"
            )
        if self.is_csv and sentences == 1 and "sentence" not in self._at:
            raise ValueError(
                f"{self.path} is one sentence of {self._lines} words: it has no empty lines, and no column known as the "
                f"sentence. It begins:\n{self._beginning()}\nSay columns={{'sentence': 'NAME'}}, or put an empty line "
                "after each sentence"
            )

    def _beginning(self) -> str:
        lines = itertools.islice(file_lines(self.path), _LINES)
        return "\n".join(f"    {text[:160]}" for text, _ in lines)

"""Entities of whole words, by hand: a stub labels every token correctly, and must find the marked spans.

«PER Anna» in a sentence below is an entity of the type PER; everything else is outside.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pytest
from checkpoints import small_config
from pipeline_cases import TEXTS

from roberta import RobertaTokenizer, RobertaTokenizerFast
from roberta.common.pipelines.tag import Tag, TagOptions

WORDS = ("first", "average", "max")
KINDS = ("PER", "LOC", "ORG", "NUM")
SENTENCES = [
    "«PER Anna» lives in «LOC New York City».",
    "«LOC Paris»\n«PER Bob» came",
    'see («PER Anna»), "«LOC Paris»"/«LOC London»:\n«PER Anna»',
    "«PER Anna»\n«PER Bob»\n«PER Carl Jones»\n",
    "«PER Anna»\r\n«PER Bob»\x0b«PER Eve»\u2028«PER Ute»",
    "from the «LOC U.S.» to the «LOC U.K.», by «ORG U.N.» plane",
    "«ORG e-mail» me, don't call «PER O'Brien»'s office",
    "it cost «NUM 1,000.50» or «NUM 3» dollars",
    "«PER Anna Schmidt», «PER Bob»; «PER Carl».",
    "«PER Anna»,«PER Bob»/«PER Carl»-«PER Dan»",
    "«LOC New  York» is  far,   «PER Anna»",
    "\t «PER Anna»\u00a0«LOC Paris»\u3000",
    "«LOC Zürich» – «LOC naïve café» 😀 «LOC 日本»。",
    "#«PER anna» @«ORG roberta» “«PER Bob»”…«PER Eve»!?",
    "«PER 😀 Bob»😀",
    "nobody at all.",
    "",
]


@pytest.fixture(scope="module", params=[RobertaTokenizer, RobertaTokenizerFast], ids=lambda cls: cls.__name__)
def make(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Any]:
    folder = tmp_path_factory.mktemp("tokenizer")
    trained = RobertaTokenizerFast.train(iter(TEXTS * 4), 380, show_progress=False, model_max_length=400)
    trained.save_pretrained(folder)
    return lambda **settings: request.param.from_pretrained(folder, **settings)


def marked(sentence: str) -> tuple[str, list[tuple[str, int, int]]]:
    """The text of a sentence, and the type and the characters of each entity."""
    spans, text = [], ""
    for before, kind, entity in re.findall(r"([^«]*)(?:«(\w+) ([^»]*)»)?", sentence):
        text += before
        if kind:
            spans.append((kind, len(text), len(text) + len(entity)))
        text += entity
    return text, spans


def label(scheme: str, token: tuple[int, int], span: tuple[str, int, int], *, is_first: bool) -> str:
    """The label of a token in an entity."""
    kind, _, end = span
    if scheme == "plain":
        return kind
    if scheme == "BIO" or token[1] != end:
        return ("B-" if is_first else "I-") + kind
    return ("S-" if is_first else "E-") + kind


class Stub:
    """Labels the tokens of one text by their characters, with certainty."""

    head, framework, name_or_path = "ForTokenClassification", "pt", ""

    def __init__(self, tokenizer: Any, offsets: Sequence[tuple[int, int]], spans: Any, scheme: str) -> None:
        marks = {"plain": [""], "BIO": ["B-", "I-"], "BIOES": ["B-", "I-", "E-", "S-"]}[scheme]
        names = ["O", *(mark + kind for mark in marks for kind in KINDS)]
        self.config = small_config(
            self.head, vocab_size=len(tokenizer), max_position_embeddings=402, id2label=dict(enumerate(names)),
            num_labels=len(names),
        )  # fmt: skip
        self.labels, seen = ["O"], set()
        for start, end in offsets:
            named = [span for span in spans if max(start, span[1]) < min(end, span[2])]
            self.labels += [label(scheme, (start, end), span, is_first=span not in seen) for span in named[:1]] or ["O"]
            seen.update(named)
        self.labels.append("O")
        self.names = names

    def infer(self, batch: Mapping[str, np.ndarray], *, where: np.ndarray, **_: Any) -> dict[str, np.ndarray]:
        rows, tokens = batch["input_ids"].shape
        assert tokens == len(self.labels)
        return {"logits": 50 * np.eye(len(self.names))[[self.names.index(name) for name in self.labels] * rows]}


@pytest.mark.parametrize("prefix", [False, True], ids=["plain", "add_prefix_space"])
@pytest.mark.parametrize("scheme", ["BIO", "plain", "BIOES"])
@pytest.mark.parametrize("strategy", WORDS)
def test_the_entities_of_tokens_that_are_labelled_rightly_are_those_of_the_text(
    make: Callable[..., Any], strategy: Any, scheme: str, prefix: bool
) -> None:
    tokenizer = make(add_prefix_space=prefix)
    for text, spans in map(marked, SENTENCES):
        offsets = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)["offset_mapping"]
        pipe = Tag(Stub(tokenizer, offsets, spans, scheme), tokenizer, TagOptions(strategy), progress=False)
        found = pipe(text)
        characters = [(entity["entity_group"], entity["start"], entity["end"]) for entity in found]
        assert characters == (spans if scheme != "plain" else blanks_apart(spans, text)), text
        assert [entity["word"].strip() for entity in found] == [text[start:end] for _, start, end in characters]
        assert all(entity["score"] == pytest.approx(1) for entity in found) or scheme != "plain" or strategy != "first"


def blanks_apart(spans: list[tuple[str, int, int]], text: str) -> list[tuple[str, int, int]]:
    """Plain labels cannot say that two words are one entity if the white space between them is outside."""
    return [
        (kind, start + part.start(), start + part.end())
        for kind, start, end in spans
        for part in re.finditer(r"\S+(?: \S+)*", text[start:end])
    ]


@pytest.mark.parametrize("strategy", WORDS)
def test_words_that_models_mark_like_the_first_one_are_one_entity_where_they_touch(
    make: Callable[..., Any], strategy: Any
) -> None:
    tokenizer, text = make(), "U.S. Bob Eve"
    offsets = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)["offset_mapping"]
    stub = Stub(tokenizer, offsets, [], "BIO")
    stub.labels = ["O", *("B-LOC" if end <= 4 else "B-PER" for _, end in offsets), "O"]
    found = Tag(stub, tokenizer, TagOptions(strategy), progress=False)(text)
    assert [text[entity["start"] : entity["end"]] for entity in found] == ["U.S.", "Bob", "Eve"]


@pytest.mark.parametrize("delimiter", [" ", "", "_"])
@pytest.mark.parametrize("strategy", WORDS)
def test_words_that_are_given_are_taken_as_they_are(make: Callable[..., Any], strategy: Any, delimiter: str) -> None:
    words = ["U.S.", "(Anna)", "Schmidt-Meyer,", "Bob", "naïve", "it", "Eve"]
    labels = ["B-LOC", "B-PER", "I-PER", "B-PER", "B-PER", "O", "B-PER"]
    tokenizer = make()
    rows = tokenizer([words], is_split_into_words=True).word_ids(0)
    stub = Stub(tokenizer, [], [], "BIO")
    stub.labels = ["O" if word is None else labels[word] for word in rows]
    if strategy == "first":  # as models learn it: later tokens of a word may have any label
        stub.labels = [
            "I-ORG" if at and word is not None and word == rows[at - 1] else name
            for at, (word, name) in enumerate(zip(rows, stub.labels, strict=True))
        ]
    pipe = Tag(stub, tokenizer, TagOptions(strategy, is_split_into_words=True, delimiter=delimiter), progress=False)
    (found,) = pipe(words)
    text = delimiter.join(words)
    wanted = ["U.S.", f"(Anna){delimiter}Schmidt-Meyer,", "Bob", "naïve", "Eve"]
    assert [text[entity["start"] : entity["end"]] for entity in found] == wanted
    assert pipe([words, words]) == [found, found]
    assert list(pipe(iter([words]))) == [found]


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        (
            "Anna lives",
            r"the input is 'Anna lives' \(str\), and with is_split_into_words=True it must be words; give a l",
        ),
        ([["Anna"], "lives"], r"inputs\[1\] is 'lives' \(str\), and with is_split_into_words=True it must be words"),
        ([["Anna", 5]], r"inputs\[0\]\[1\] is 5 \(int\), not a str"),
    ],
)
def test_what_is_no_list_of_words_is_refused(make: Callable[..., Any], inputs: Any, message: str) -> None:
    tokenizer = make()
    pipe = Tag(Stub(tokenizer, [], [], "BIO"), tokenizer, TagOptions(is_split_into_words=True), progress=False)
    with pytest.raises(ValueError, match=message):
        pipe(inputs)

"""Data for training: from files to examples by the readers, and from examples to features."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from conftest import SHARED

import roberta
from roberta import RobertaConfig, RobertaTokenizer, RobertaTokenizerFast
from roberta.common.training.data.features import make_documents, make_features, make_lengths
from roberta.common.training.data.labels import Labels, find_labels
from roberta.common.training.data.readers import class_names, read_examples
from roberta.common.training.datasets import trained_config
from roberta.common.training.recipes import RECIPES

CONTEXT = "The  Vltava (430 km) flows through Prague — Praha 🏰 in Czech — and meets the Elbe at Mělník."
TEXTS = [CONTEXT, "What flows through Prague?", "the cat sat on the mat .", "Empire State Building"]
CONFIG = RobertaConfig(max_position_embeddings=66)  # 64 tokens


@pytest.fixture(scope="module")
def tokenizer() -> RobertaTokenizerFast:
    return RobertaTokenizerFast.train(iter(TEXTS * 4), 330, show_progress=False)


@pytest.fixture
def data() -> Path:
    """Real data; not part of the project."""
    if not (SHARED / "data").is_dir():
        pytest.skip("the real data is not beside the project")
    return SHARED / "data"


Write = Callable[[str, str | bytes], Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Write a file, and return its path."""

    def written(name: str, content: str | bytes) -> Path:
        path = tmp_path / name
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    return written


# -- real files --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("split", "count"), [("train", 6920), ("dev", 872), ("test", 1821)])
def test_sst2_has_as_many_sentences_as_its_authors_say(data: Path, split: str, count: int) -> None:
    examples = list(read_examples(data / "sst2" / f"{split}.tsv", "text-classification"))
    assert len(examples) == count
    assert {example.label for example in examples} == {"0", "1"}


@pytest.mark.parametrize(("split", "count"), [("train", 3394), ("dev", 1009), ("test", 1287)])
def test_wnut17_has_as_many_sentences_as_its_authors_say(data: Path, split: str, count: int) -> None:
    examples = list(read_examples(data / "wnut17" / f"{split}.conll", "token-classification"))
    assert len(examples) == count
    assert len(find_labels(examples, CONFIG).names) == 13


def test_every_word_of_wnut17_is_read(data: Path) -> None:
    path = data / "wnut17" / "train.conll"
    wanted = [line for line in path.read_text(encoding="utf-8").split("\n") if line.strip()]
    examples = read_examples(path, "token-classification")
    found = [f"{word}\t{label}" for e in examples for word, label in zip(e.words, e.labels, strict=True)]
    assert found == wanted


@pytest.mark.parametrize("name", ["squad.json", "squad2.json", "sample_flat.json"])
def test_the_answers_of_squad_are_where_they_say(data: Path, name: str) -> None:
    text = (data / "squad" / name).read_text(encoding="utf-8")
    examples = list(read_examples(data / "squad" / name, "question-answering"))
    assert len(examples) == text.count('"question":')
    assert [a.text for e in examples for a in e.answers] == [
        e.context[a.start : a.end] for e in examples for a in e.answers
    ]


def test_the_unanswerable_question_of_squad2_has_no_answer(data: Path) -> None:
    (unanswerable,) = (e for e in read_examples(data / "squad" / "squad2.json", "question-answering") if not e.answers)
    assert unanswerable.question == "This is an unanswerable question?"


@pytest.mark.parametrize("name", ["swag.csv", "sample.json"])
def test_swag_puts_the_beginning_of_the_second_sentence_before_each_ending(data: Path, name: str) -> None:
    examples = list(read_examples(data / "swag" / name, "multiple-choice"))
    raw = (data / "swag" / name).read_text(encoding="utf-8").strip().split("\n")
    assert len(examples) == len(raw) - (name == "swag.csv")
    assert {len(example.choices) for example in examples} == {4}
    if name == "swag.csv":
        assert examples[0].choices[2] == "She walks slowly towards someone."
        assert [example.label for example in examples] == [int(line[-1]) for line in raw[1:]]


def test_quoted_cells_of_mrpc_lose_their_quotes(data: Path) -> None:
    first = next(read_examples(data / "mrpc" / "train.csv", "text-classification"))
    assert first.text2 == '" The foodservice pie business does not fit our long-term growth strategy .'
    assert first.label == "equivalent"


@pytest.mark.parametrize("name", ["shakespeare/input.txt", "wikitext2/valid.txt"])
def test_no_word_of_a_text_is_lost(data: Path, name: str) -> None:
    documents = list(read_examples(data / name, "mlm"))
    words = [word for document in documents for sentence in document.sentences for word in sentence.split()]
    assert words == (data / name).read_text(encoding="utf-8").split()


# -- formats -----------------------------------------------------------------------------------------------------------


def test_an_empty_line_ends_a_document(write: Write) -> None:
    documents = list(read_examples(write("a.txt", "one\n two \n\n \nthree\n"), "clm"))
    assert [document.sentences for document in documents] == [("one", " two"), ("three",)]
    assert documents[1].where.endswith("a.txt:5")


TABLES = {  # file -> content; all files hold the same data
    "plain.tsv": 'good film\t1\nbad "film\t0\n',
    "header.tsv": 'label\tsentence\n1\tgood film\n0\tbad "film\n',
    "windows.tsv": b'\xef\xbb\xbflabel\tsentence\r\n1\tgood film\r\n\r\n0\tbad "film\r\n',
    "comma.csv": 'text,label\n"good film",1\n"bad ""film",0\n',
    "lines.jsonl": '{"text": "good film", "label": 1}\n\n{"text": "bad \\"film", "label": 0}\n',
    "lines.json": '{"text": "good film", "label": 1}\n{"text": "bad \\"film", "label": 0}\n',
    "list.json": '[\n {"text": "good film", "label": "1"},\n {"text": "bad \\"film", "label": "0"}]',
    "data.json": '{"version": 1, "data": [{"text": "good film", "label": 1}, {"text": "bad \\"film", "label": 0}]}',
}


@pytest.mark.parametrize("name", TABLES)
def test_each_format_says_the_same(write: Write, name: str) -> None:
    examples = list(read_examples(write(name, TABLES[name]), "text-classification"))
    assert [(e.text, e.text2, e.label) for e in examples] == [("good film", None, "1"), ('bad "film', None, "0")]


def test_a_quoted_cell_may_have_lines_and_errors_still_name_the_right_one(write: Write) -> None:
    path = write("a.csv", 'text,label\n"two\nlines",1\nshort\n')
    examples = read_examples(path, "text-classification")
    assert next(examples).text == "two\nlines"
    with pytest.raises(ValueError, match=r"a\.csv:4 has 1 columns, and the first line has 2"):
        next(examples)


def test_columns_are_named_or_numbered(write: Write) -> None:
    cola = write("cola.tsv", "gj04\t1\t\tOur friends won.\n")
    (numbered,) = read_examples(cola, "text-classification", columns={"text": "4", "label": "2"})
    assert (numbered.text, numbered.label) == ("Our friends won.", "1")
    (named,) = read_examples(
        write("n.csv", "body,kind\nx,y\n"), "text-classification", columns={"text": "body", "label": "kind"}
    )
    assert (named.text, named.label) == ("x", "y")


def test_a_sentence_beside_a_question_is_its_pair() -> None:
    (example,) = read_examples(
        [{"question": "Who?", "sentence": "He did.", "label": "entailment", "idx": 0}], "text-classification"
    )
    assert (example.text, example.text2) == ("Who?", "He did.")


def test_conll_takes_the_first_and_last_of_many_columns(write: Write) -> None:
    content = "-DOCSTART- -X- -X- O\n\nU.N. NNP I-NP B-ORG\nofficial NN I-NP O\n\n\nGo VB I-VP O"
    first, second = read_examples(write("a.txt", content), "token-classification")
    assert (first.words, first.labels, second.words) == (("U.N.", "official"), ("B-ORG", "O"), ("Go",))
    assert first.where.endswith("a.txt:3")


def test_a_space_of_unicode_does_not_divide_a_word(write: Write) -> None:
    (example,) = read_examples(write("a.conll", "10\u00a0km B-LEN\n"), "token-classification")
    assert example.words == ("10\u00a0km",)


class DataSet(list[dict[str, Any]]):
    """The part of the interface of the `datasets` library that is used."""

    def __init__(self, rows: list[dict[str, Any]], features: dict[str, Any]) -> None:
        super().__init__(rows)
        self.features = features
        self.column_names = list(features)


def test_a_data_set_names_its_labels() -> None:
    names = SimpleNamespace(names=["negative", "positive"])
    rows = DataSet([{"text": "good", "label": 1}, {"text": "bad", "label": 0}], {"text": object(), "label": names})
    assert [example.label for example in read_examples(rows, "text-classification")] == ["positive", "negative"]
    assert class_names(rows, "text-classification") == ("negative", "positive")


def test_a_data_set_names_the_labels_of_words() -> None:
    tags = SimpleNamespace(feature=SimpleNamespace(names=["O", "B-PER"]))
    rows = DataSet([{"tokens": ["Ann", "ran"], "ner_tags": [1, 0]}], {"tokens": object(), "ner_tags": tags})
    (example,) = read_examples(rows, "token-classification")
    assert example.labels == ("B-PER", "O")


def test_a_data_set_may_give_arrays() -> None:
    (example,) = read_examples(
        [{"tokens": np.array(["Ann", "ran"]), "ner_tags": np.array([1, 0])}], "token-classification"
    )
    assert (example.words, example.labels) == (("Ann", "ran"), ("1", "0"))


def test_an_unlabelled_split_of_a_data_set_is_refused() -> None:
    names = SimpleNamespace(names=["negative", "positive"])
    rows = DataSet([{"text": "good", "label": -1}], {"text": object(), "label": names})
    with pytest.raises(ValueError, match=r"item 1 has the label -1, which is not one of its 2 classes"):
        list(read_examples(rows, "text-classification"))


CHOICES = [
    {"article": "It rained.", "question": "Why?", "options": ["Sun", "Rain"], "answer": "B"},
    {"question": "Why?", "choices": {"label": ["A", "B"], "text": ["Sun", "Rain"]}, "answerKey": "B"},
    {"ctx": "It", "endings": ["Sun", "Rain"], "label": "1"},
    {"premise": "It", "choice1": "Sun", "choice2": "Rain", "label": 1},
]


@pytest.mark.parametrize("record", CHOICES, ids=lambda record: next(iter(record)))
def test_the_usual_forms_of_multiple_choice_are_read(record: dict[str, Any]) -> None:
    (example,) = read_examples([record], "multiple-choice")
    assert example.choices[example.label].endswith("Rain")
    assert len(example.choices) == 2


def numbered(label: str, first: int, count: int, *labels: Any) -> list[Any]:
    """Examples whose choice n has the text "n", in fields numbered from `first` on."""
    texts = {f"option{number}": str(number) for number in reversed(range(first, first + count))}
    return [{"premise": "It", **texts, label: one} for one in labels]


def right(rows: list[Any]) -> list[str]:
    return [one.choices[one.label] for one in read_examples(rows, "multiple-choice")]


def test_choices_beyond_the_tenth_are_read_in_the_order_of_their_numbers() -> None:
    (made,) = read_examples(numbered("label", 0, 12, 11), "multiple-choice")
    assert (made.choices, made.choices[made.label]) == (tuple(map(str, range(12))), "11")


def test_an_answer_is_the_number_of_its_field_and_a_label_counts_from_0() -> None:
    assert right(numbered("answer", 1, 2, "1", "2")) == ["1", "2"]  # as WinoGrande has them
    assert right(numbered("label", 1, 2, 0, 1)) == ["1", "2"]  # as COPA has them
    assert right(numbered("answer", 0, 4, 0, 3)) == ["0", "3"]  # as COSMOS QA has them, under another name
    assert right(numbered("answer", 1, 3, "A", "C")) == ["1", "3"]
    with pytest.raises(ValueError, match=r"label is '3'; .*0, 1, 2; it counts from 0: .*rename it \"answer\""):
        right(numbered("label", 1, 3, 1, 3))
    assert right(numbered("answer", 1, 3, 1, 3)) == ["1", "3"]
    with pytest.raises(ValueError, match=r"answer is '0'; .*1, 2, 3; it counts from 1.*rename it \"label\""):
        right(numbered("answer", 1, 3, 1, 0))


def test_labels_that_never_show_where_they_count_from_are_asked_about() -> None:
    with pytest.raises(ValueError, match=r"label is taken to count .* from 0, and the first choice is never right"):
        right(numbered("label", 1, 3, *[1, 2] * 5))
    assert right(numbered("answer", 1, 3, *[1, 2] * 2)) == ["1", "2"] * 2
    with pytest.raises(ValueError, match="from 1, and the last choice is never right"):
        right(numbered("answer", 1, 3, *[1, 2] * 5))
    rows = [{"premise": "It", "choices": ["1", "2", "3"], "answer": one} for one in [0, 1] * 5]  # the way out
    assert right(rows) == ["1", "2"] * 5


def test_a_large_file_is_read_as_it_is_asked_for(write: Write) -> None:
    broken_later = write("a.tsv", b"good\t1\nbad\t0\n" + b"\xff\t1\n")
    examples = read_examples(broken_later, "text-classification")
    assert next(examples).text == "good"


# -- invalid input ---------------------------------------------------------------------------------------------------------

QA = '{"question": "Q?", "context": "a cat", "answers": {"text": ["cat"], "answer_start": [%s]}}'
BAD = [  # task, file, content, what the error says
    ("text-classification", "a.tsv", "good\t1\nbad\n", r"a\.tsv:2 has 1 columns, and the first line has 2"),
    ("text-classification", "a.tsv", "good\t1\tx\ty\n", r"a\.tsv:1 has 4 columns, and it is not known which is which"),
    ("text-classification", "a.tsv", "body\tlabel\nx\t1\n", r"a\.tsv:1 has no column known as the text"),
    ("text-classification", "a.tsv", "text\tlabel\nx\t \n", r"a\.tsv:2: label is ' '; a label must be a name or a number"),
    ("text-classification", "a.tsv", b"good\t1\n\xff\t0\n", r"a\.tsv:2 is not UTF-8.*convert the file"),
    ("text-classification", "a.csv", 'text,label\n"good,1\n', r"a\.csv:2 is not a row of a table.*close its quotes"),
    ("text-classification", "a.csv", "text,text,label\na,b,1\n", r"a\.csv:1 names two columns 'text'; rename one"),
    ("text-classification", "a.tsv", "", r"a\.tsv is empty: it has no example"),
    ("text-classification", "a.tsv", "text\tlabel\n", r"a\.tsv is empty: it has no example"),
    ("text-classification", "a.json", "[]", r"a\.json is empty: it has no example"),
    ("text-classification", "a.jsonl", '{"text": "x", "label": 1}\n{"text": \n', r"a\.jsonl:2 is not valid JSON.*fix"),
    ("text-classification", "a.jsonl", '{"text": "x"}\n', r"a\.jsonl:1 has no label: its fields are text; name one"),
    ("text-classification", "a.jsonl", '{"text": 5, "label": 1}\n', r"a\.jsonl:1: text is 5 \(int\), not a str"),
    ("text-classification", "a.jsonl", '["x"]\n', r"a\.jsonl:1 is \['x'\]; it must be an object"),
    ("text-classification", "a.json", '{"text": "x",\n', r"a\.json is not valid JSON"),
    ("text-classification", "a.txt", "good\t1\n", r"a\.txt is read as txt, and text-classification reads tsv, csv"),
    ("text-classification", "a.xyz", "good\t1\n", r"a\.xyz: its format cannot be told by its name; say format="),
    ("token-classification", "a.conll", "a O\nb\n", r"a\.conll:2 is 'b': it must have 2 columns"),
    ("token-classification", "a.conll", "a X O\nb O\n", r"a\.conll:2 is 'b O': it must have 3 columns"),
    ("token-classification", "a.jsonl", '{"words": ["a", "b"], "labels": ["O"]}', r"jsonl:1 has 2 words and 1 labels"),
    ("token-classification", "a.jsonl", '{"words": "a", "labels": ["O"]}', r"jsonl:1: words is 'a'; it must be a list"),
    ("question-answering", "a.jsonl", QA % 3, r"a\.jsonl:1 has the answer 'cat' at answer_start 3, .* has it at 2"),
    ("question-answering", "a.json", f"[{QA % 2},\n{QA % -3}]", r"a\.json, item 2 has the answer 'cat' at answer_st"),
    ("question-answering", "a.jsonl", '{"question": "Q?", "context": "a"}', r"jsonl:1 has no answers; give an empty"),
    ("question-answering", "a.jsonl", '{"question": "", "context": "a", "answers": []}', r"jsonl:1: question is empty"),
    ("question-answering", "a.json", '{"data": [{"paragraphs": 1}]}', r"item 1|article 1 has 1 as 'paragraphs'"),
    ("multiple-choice", "a.jsonl", '{"prompt": "a", "choices": ["b"], "label": 0}', r"jsonl:1 .* at least two"),
    ("multiple-choice", "a.jsonl", '{"prompt": "a", "choices": ["b", "c"], "label": 2}', r"label is '2'.* 0, 1"),
    ("mlm", "a.txt", " \n\n", r"a\.txt is empty: it has no example"),
    ("mlm", "a.txt", b"good\n\xe9\n", r"a\.txt:2 is not UTF-8"),
]  # fmt: skip


@pytest.mark.parametrize(("task", "name", "content", "message"), BAD)
def test_a_broken_file_is_one_error_with_file_and_line(
    write: Write, task: Any, name: str, content: str | bytes, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        list(read_examples(write(name, content), task))


def test_settings_that_do_not_fit_the_data_are_refused(write: Write) -> None:
    path = write("a.txt", "x\n")
    with pytest.raises(ValueError, match=r"header=True: .*a\.txt is read as txt"):
        read_examples(path, "mlm", header=True)
    with pytest.raises(ValueError, match=r"columns=.*'label'.*the roles of mlm are text"):
        read_examples(path, "mlm", columns={"label": "1"})
    with pytest.raises(ValueError, match=r"format 'xml' is unknown"):
        read_examples(path, "mlm", format="xml")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"is not a file"):
        read_examples(path.parent, "mlm")


# -- labels ------------------------------------------------------------------------------------------------------------


def texts(*labels: Any) -> list[Any]:
    return list(read_examples([{"text": "x", "label": label} for label in labels], "text-classification"))


def test_labels_are_sorted_as_numbers_where_they_are_some() -> None:
    assert find_labels(texts("10", "9", "9"), CONFIG).names == ("9", "10")
    assert find_labels(texts("b", "a"), CONFIG).id2label == {0: "a", 1: "b"}


def test_a_model_keeps_its_own_labels_and_their_order() -> None:
    config = RobertaConfig(id2label={0: "positive", 1: "negative", 2: "neutral"})
    named = find_labels(texts("negative", "positive"), config)
    numbered = find_labels(texts(1, 0), config, keep_labels=True)
    assert named.names == numbered.names == ("positive", "negative", "neutral")
    assert [named.target("negative", ""), numbered.target("1", "")] == [1, 1]


def test_labels_that_are_given_have_the_order_they_are_given_in() -> None:
    assert find_labels(texts("a", "b"), CONFIG, labels=["b", "a", "c"]).names == ("b", "a", "c")


def test_a_label_that_the_model_does_not_know_is_named_with_its_line(write: Write) -> None:
    labels = find_labels(texts("good", "bad"), CONFIG)
    examples = read_examples(write("dev.tsv", "x\tgood\ny\tfine\n"), "text-classification")
    with pytest.raises(ValueError, match=r"dev\.tsv:2 has the label 'fine', .* 'bad', 'good'"):
        [labels.target(example.label, example.where) for example in examples]


def test_numbers_with_a_fraction_are_regression_and_whole_ones_where_the_model_has_one_label() -> None:
    assert find_labels(texts(2.5, 3), CONFIG).problem == "regression"
    assert find_labels(texts(2, 3), CONFIG).problem == "single_label_classification"
    assert find_labels(texts(2, 3), RobertaConfig(num_labels=1)).problem == "regression"
    assert find_labels(texts(2, 3), CONFIG, problem="regression").target("3", "") == 3.0


def test_lists_of_labels_are_one_number_for_each_label() -> None:
    labels = find_labels(texts(["joy", "love"], [], ["anger"]), CONFIG)
    assert labels.problem == "multi_label_classification"
    assert [labels.target(label, "") for label in (("love", "joy"), ())] == [[0.0, 1.0, 1.0], [0.0, 0.0, 0.0]]
    with pytest.raises(ValueError, match="a label twice"):
        labels.target(("joy", "joy"), "a.jsonl:1")


def test_masked_language_models_start_from_causal_ones_and_the_other_way_round() -> None:
    decoder = RobertaConfig(is_decoder=True)
    assert not trained_config("mlm", decoder, None, RECIPES["roberta-base"]).is_decoder
    assert trained_config("clm", CONFIG, None, RECIPES["roberta-base"]).is_decoder


def test_one_label_alone_cannot_be_learnt() -> None:
    with pytest.raises(ValueError, match="every example has the label 'a'"):
        find_labels(texts("a", "a"), CONFIG)


def test_a_label_that_is_no_number_is_no_regression() -> None:
    examples = texts(1.5, "nan")
    labels = find_labels(examples, CONFIG, problem="regression")
    with pytest.raises(ValueError, match=r"the data set, item 2 has the label 'nan'"):
        labels.target(examples[1].label, examples[1].where)


def test_labels_that_do_not_fit_the_problem_are_refused() -> None:
    with pytest.raises(ValueError, match="has a name twice"):
        find_labels(texts("a", "b"), CONFIG, labels=["a", "b", "a"])
    with pytest.raises(ValueError, match="regression learns one number"):
        find_labels(texts(1.5, 2.5), CONFIG, labels=["a", "b"])
    words = read_examples([{"words": ["a"], "labels": [1]}], "token-classification")
    with pytest.raises(ValueError, match="problem='regression' is for texts"):
        find_labels(words, CONFIG, problem="regression")


# -- features ----------------------------------------------------------------------------------------------------------


def test_a_pair_is_the_tokenizers_pair(tokenizer: Any) -> None:
    examples = read_examples([{"text": "the cat", "text2": "sat", "label": n} for n in (0, 1)], "text-classification")
    labels = Labels("single_label_classification", ("0", "1"))
    lengths = make_lengths("text-classification", CONFIG, tokenizer)
    features = make_features(examples, "text-classification", tokenizer, lengths, labels=labels)
    assert features[1]["input_ids"].tolist() == tokenizer("the cat", "sat")["input_ids"]
    assert [feature["labels"] for feature in features] == [0, 1]


@pytest.mark.parametrize("kind", [RobertaTokenizer, RobertaTokenizerFast])
def test_the_label_of_a_word_is_at_its_first_token(tokenizer: Any, tmp_path: Path, kind: Any) -> None:
    tokenizer.save_pretrained(tmp_path)
    words = CONTEXT.split()
    rows = [{"words": words, "labels": [f"L{number:02}" for number in range(len(words))]}]
    examples = list(read_examples(rows, "token-classification"))
    own = kind.from_pretrained(tmp_path)
    lengths = make_lengths("token-classification", RobertaConfig(), own)
    (feature,) = make_features(examples, "token-classification", own, lengths, labels=find_labels(examples, CONFIG))
    ids, labels = feature["input_ids"], feature["labels"]
    starts = np.flatnonzero(labels != -100)
    assert labels[starts].tolist() == list(range(len(words)))
    parts = np.split(ids, starts)  # <s>, then the tokens of each word, the last one with </s>
    assert [own.decode(part, skip_special_tokens=True).strip() for part in parts[1:]] == words


def spans_of(tokenizer: Any, context: str, answer: str, max_length: int, stride: int) -> list[str]:
    """The text of the answer's tokens in each window that has the answer, by the tokenizer's own offsets."""
    row = {"question": "What?", "context": context,
           "answers": {"text": [answer], "answer_start": [context.index(answer)]}}  # fmt: skip
    config = RobertaConfig(max_position_embeddings=max_length + 2)
    lengths = make_lengths("question-answering", config, tokenizer, max_length=max_length, stride=stride)
    features = make_features(read_examples([row], "question-answering"), "question-answering", tokenizer, lengths)
    batch = tokenizer(
        ["What?"], [context], max_length=max_length, stride=stride, truncation="only_second",
        return_overflowing_tokens=True, return_offsets_mapping=True,
    )  # fmt: skip
    assert [feature["input_ids"].tolist() for feature in features] == batch["input_ids"]
    found = []
    for feature, offsets in zip(features, batch["offset_mapping"], strict=True):
        first, last = feature["start_positions"], feature["end_positions"]
        assert (first == 0) == (last == 0)
        found.append(context[offsets[first][0] : offsets[last][1]] if first else "")
    return found


ANSWERS = ["Vltava", "Prague", "🏰", "430 km", "Mělník.", "The  Vltava"]


@pytest.mark.parametrize("answer", ANSWERS)
@pytest.mark.parametrize(("max_length", "stride"), [(200, 0), (40, 12)])
def test_the_tokens_of_an_answer_are_its_text(tokenizer: Any, answer: str, max_length: int, stride: int) -> None:
    assert set(spans_of(tokenizer, CONTEXT, answer, max_length, stride)) - {""} == {answer}


def test_a_token_that_an_answer_has_in_part_is_in(tokenizer: Any) -> None:
    (found,) = spans_of(tokenizer, CONTEXT, "ragu", 200, 0)
    assert "ragu" in found
    assert found in "Prague"


@pytest.mark.parametrize("answer", [" Prague ", "  Vltava "])
def test_spaces_around_an_answer_are_no_part_of_it(tokenizer: Any, answer: str) -> None:
    assert spans_of(tokenizer, CONTEXT, answer, 200, 0) == [answer.strip()]


@pytest.mark.parametrize("name", ["squad2.json", "sample_flat.json"])
def test_the_tokens_of_the_answers_of_squad_are_their_words(tokenizer: Any, data: Path, name: str) -> None:
    examples = [e for e in read_examples(data / "squad" / name, "question-answering") if e.answers]
    lengths = make_lengths(
        "question-answering", RobertaConfig(max_position_embeddings=4002), tokenizer, max_length=4000
    )
    features = make_features(examples, "question-answering", tokenizer, lengths)
    assert len(features) == len(examples)
    for example, feature in zip(examples, features, strict=True):
        offsets = tokenizer(example.question, example.context, return_offsets_mapping=True)["offset_mapping"]
        first, last = (offsets[feature[side]] for side in ("start_positions", "end_positions"))
        found, answer = example.context[first[0] : last[1]], example.answers[0].text
        assert answer in found  # longer than the answer if that ends within a token
        assert len(found.split()) == len(answer.split())


def test_a_window_without_the_whole_answer_has_none(tokenizer: Any) -> None:
    found = spans_of(tokenizer, CONTEXT, "Prague", 40, 12)
    assert len(found) > 1
    assert "" in found


def test_evaluation_knows_the_characters_of_each_window(tokenizer: Any) -> None:
    rows = [{"question": "What?", "context": CONTEXT, "answers": []}] * 2
    lengths = make_lengths("question-answering", CONFIG, tokenizer, max_length=40, stride=12)
    examples = read_examples(rows, "question-answering")
    features = make_features(examples, "question-answering", tokenizer, lengths, for_evaluation=True)
    covered: dict[int, set[int]] = {0: set(), 1: set()}
    for feature in features:
        assert (feature["start_positions"], feature["end_positions"]) == (0, 0)
        window = feature["window"]
        ids = feature["input_ids"][window.place : window.place + len(feature["offsets"])]
        assert ids.tolist() == window.text.ids[window.start : window.stop].tolist()
        covered[feature["example"]] |= {n for start, end in feature["offsets"].tolist() for n in range(start, end)}
    wanted = {number for number, character in enumerate(CONTEXT) if character != " "}
    assert all(wanted <= found for found in covered.values())


def test_a_question_that_leaves_no_room_is_named(tokenizer: Any) -> None:
    rows = [{"question": "What " * 40, "context": CONTEXT, "answers": []}]
    lengths = make_lengths("question-answering", CONFIG, tokenizer)
    with pytest.raises(ValueError, match=r"item 1 has a question of \d+ tokens, which leaves 0 of 64"):
        make_features(read_examples(rows, "question-answering"), "question-answering", tokenizer, lengths)


def test_choices_are_pairs_with_the_prompt(tokenizer: Any) -> None:
    rows = [{"prompt": "the cat", "choices": ["sat", "flows"], "label": 1}]
    lengths = make_lengths("multiple-choice", CONFIG, tokenizer)
    (feature,) = make_features(read_examples(rows, "multiple-choice"), "multiple-choice", tokenizer, lengths)
    wanted = tokenizer(["the cat"] * 2, ["sat", "flows"])["input_ids"]
    assert [ids.tolist() for ids in feature["input_ids"]] == wanted
    assert feature["labels"] == 1


def test_examples_with_another_number_of_choices_are_refused(tokenizer: Any) -> None:
    rows = [{"prompt": "a", "choices": ["b"] * count, "label": 1} for count in (2, 3)]
    lengths = make_lengths("multiple-choice", CONFIG, tokenizer)
    with pytest.raises(ValueError, match=r"item 2 has 3 choices, and .* item 1 has 2"):
        make_features(read_examples(rows, "multiple-choice"), "multiple-choice", tokenizer, lengths)


LONG: dict[str, dict[str, Any]] = {
    "text-classification": {"text": "cat " * 99, "label": "a"},
    "token-classification": {"words": ["cat"] * 99, "labels": ["a"] * 99},
}


@pytest.mark.parametrize("task", LONG)
def test_what_is_too_long_is_cut_or_refused_as_the_option_says(tokenizer: Any, task: Any) -> None:
    examples = list(read_examples([LONG[task]], task))
    labels = Labels("single_label_classification", ("a", "b"))
    cut, whole = (make_lengths(task, CONFIG, tokenizer, truncation=truncation) for truncation in (True, False))
    (feature,) = make_features(examples, task, tokenizer, cut, labels=labels)
    assert len(feature["input_ids"]) == 64
    with pytest.raises(ValueError, match=r"item 1 has \d+ tokens, and a row takes 64; .*truncation=True"):
        make_features(examples, task, tokenizer, whole, labels=labels)


def test_more_tokens_than_positions_are_refused(tokenizer: Any) -> None:
    with pytest.raises(ValueError, match="max_length=65 exceeds the 64 tokens"):
        make_lengths("mlm", CONFIG, tokenizer, max_length=65)


def test_documents_are_the_tokens_of_their_sentences(tokenizer: Any, write: Write) -> None:
    documents = list(make_documents(read_examples(write("a.txt", "the cat\nsat\n\non the mat\n"), "mlm"), tokenizer))
    found = [[tokenizer.decode(sentence) for sentence in document] for document in documents]
    assert found == [["the cat", "sat"], ["on the mat"]]
    assert documents[0][0].dtype == np.int32


def test_documents_are_tokenised_as_they_are_read(tokenizer: Any, write: Write) -> None:
    path = write("a.txt", b"one\n\n" * 1500 + b"\xff\n")
    assert len(next(make_documents(read_examples(path, "mlm"), tokenizer))) == 1


def test_json_and_text_say_the_same_documents(write: Write) -> None:
    text = read_examples(write("a.txt", "one\ntwo\n\nthree\n"), "mlm")
    lines = "\n".join(json.dumps({"text": text}) for text in ("one\ntwo\n", "three"))
    assert [d.sentences for d in read_examples(write("a.jsonl", lines), "mlm")] == [d.sentences for d in text]


def test_rows_begin_and_end_as_those_of_a_call_where_cls_is_not_bos() -> None:
    small = Path(roberta.__file__).parent / "small"
    own = RobertaTokenizerFast(
        str(small / "vocab.json"), str(small / "merges.txt"), cls_token="<mask>", sep_token="<pad>"
    )
    lengths = make_lengths("text-classification", RobertaConfig(), own)
    rows = [{"text": "my lord", "text2": "my lady", "label": "a"}, {"text": "my lord", "label": "b"}]
    examples: Any = list(read_examples(rows, "text-classification"))
    found = make_features(examples, "text-classification", own, lengths, labels=find_labels(examples, RobertaConfig()))
    wanted = [own("my lord", "my lady")["input_ids"], own("my lord")["input_ids"]]
    assert [feature["input_ids"].tolist() for feature in found] == wanted
    words: Any = list(read_examples([{"words": ["my", "lord"], "labels": ["a", "b"]}], "token-classification"))
    (found_words,) = make_features(
        words, "token-classification", own, lengths, labels=find_labels(words, RobertaConfig())
    )
    assert found_words["input_ids"].tolist() == own(["my", "lord"], is_split_into_words=True)["input_ids"]

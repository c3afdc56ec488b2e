"""Both tokenizers agree on everything with each other and with the `tokenizers` library, which shares no code with us.

Texts are arbitrary Unicode, mixed with strings that are special to this tokenizer; vocabularies are one trained here and,
if it is beside the project, the real one. With a space inserted before texts, the library's offsets lack letters; ours are
judged in test_tokenizer_offsets.
"""

from __future__ import annotations

import json
import re
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from conftest import IS_COMPILED_AS_FOR_USERS, SHARED
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, Tokenizer

import roberta

SETTINGS = settings(
    max_examples=150 if IS_COMPILED_AS_FOR_USERS else 60,  # all of them in `make test-all`
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.filter_too_much],
)
REAL = SHARED / "golden" / "roberta-base-tokenizer"
CORPUS = [
    "The quick brown fox jumps over the lazy dog; it's what they'll do, isn't it?",
    "naïve café, Éé — “quoted” … 日本語のテキスト 😀👍🏽 3.14 1,000,000",
    "for (int i = 0; i < 10; ++i) {\n\treturn x_1;\n}\n\n",
] * 4
FRAGMENTS = [
    " ", "  ", "\n", "\t", "\r\n", "\u00a0", "\u3000", "\u2028", "\x85", "\x1c", "\0", "\x7f", "\ufeff", "\u200b", "\u200d",
    "<mask>", " <mask>", "<s>", "</s>", "<pad>", "<unk>", "<mask", "mask>", "<|endoftext|>", "<<s>>",
    "'s", "'t", "'re", "'ve", "'m", "'ll", "'d", "'S", "’s", "''", "I'm", "a", "the", " the", "Hello", " world", "xyz",
    "0", "12", "½", "٣", "Ⅷ", "²", "é", "e\u0301", "ﬁ", "ß", "İ", "ǆ", "日本", "한국", "ไทย", "א\u05b0", "👩‍👩‍👧", "🇰🇷",
    "👍🏽",
    "\U0010ffff", "\ue000", "\u0378", "!", "...", "—", "_", "aaaaaaaaaaaaaaaaaaaaaaaaa", "newtok", "--",
]  # fmt: skip

texts = st.lists(st.sampled_from(FRAGMENTS) | st.text(max_size=5), max_size=8).map("".join)
SURROGATES = st.characters(categories=["Cs"])


class Pair(NamedTuple):
    """The two classes and the library on one vocabulary."""

    slow: Any
    fast: Any
    raw: Tokenizer

    def __repr__(self) -> str:  # not 50,000 tokens in each report of a failure
        return f"Pair(vocabulary of {len(self.slow)})"


def load(folder: Path, **init: Any) -> Pair:
    slow = roberta.RobertaTokenizer.from_pretrained(folder, **init)
    fast = roberta.RobertaTokenizerFast.from_pretrained(folder, **init)
    value = json.loads((folder / "tokenizer.json").read_text())
    for name in ("add_prefix_space", "trim_offsets"):
        if name in init:
            value["post_processor"][name] = init[name]
    value["pre_tokenizer"]["add_prefix_space"] = init.get("add_prefix_space", False)
    return Pair(slow, fast, Tokenizer.from_str(json.dumps(value)))


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a small vocabulary: all bytes, and the merges of a few sentences."""
    folder = tmp_path_factory.mktemp("trained")
    roberta.RobertaTokenizerFast.train(iter(CORPUS), vocab_size=360).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module", params=["trained", "real"])
def folder(request: pytest.FixtureRequest) -> Path:
    if request.param == "trained":
        return request.getfixturevalue("trained")
    if not REAL.is_dir():
        pytest.skip("the real vocabulary (golden) is not beside the project")
    return REAL


INITS = [
    {},
    {"add_prefix_space": True},
    {"trim_offsets": False},
    {"add_prefix_space": True, "trim_offsets": False},
    {"truncation_side": "left", "padding_side": "left"},
]


@pytest.fixture(scope="module", params=INITS, ids=lambda init: "-".join(init) or "plain")
def pair(request: pytest.FixtureRequest, folder: Path) -> Pair:
    return load(folder, **request.param)


@pytest.fixture(scope="module")
def plain(folder: Path) -> Pair:
    return load(folder)


# -- what is compared ----------------------------------------------------------------------------------------


def outcome(tokenizer: Any, *args: Any, **options: Any) -> Any:
    """Everything that a call returns, including rows and alignment, or the text of its ValueError. Other errors fail."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            encoding = tokenizer(*args, **options)
        except ValueError as error:
            return f"{type(error).__name__}: {error}"
    ids = encoding["input_ids"]
    rows = range(len(ids) if len(ids) == 0 or isinstance(ids, np.ndarray) or isinstance(ids[0], list) else 1)
    return {
        **encoding,
        "word_ids": [encoding.word_ids(row) for row in rows],
        "sequence_ids": [encoding.sequence_ids(row) for row in rows],
    }


FLAGS = {
    "return_offsets_mapping": True,
    "return_special_tokens_mask": True,
    "return_token_type_ids": True,
    "return_length": True,
}


def library_rows(raw: Tokenizer, inputs: list[Any], options: dict[str, Any], sides: tuple[str, str]) -> Any:
    """The library's own truncation, windows and padding of a batch; None if it raises or panics."""
    raw.no_truncation()
    raw.no_padding()
    strategy = "longest_first" if options["truncation"] is True else options["truncation"]
    is_cut = strategy not in (False, "do_not_truncate")
    if options["padding"]:
        raw.enable_padding(
            direction=sides[1],
            pad_id=raw.token_to_id("<pad>"),
            pad_token="<pad>",
            length=options["max_length"] if options["padding"] == "max_length" else None,
            pad_to_multiple_of=options["pad_to_multiple_of"],
        )
    try:
        if is_cut:
            raw.enable_truncation(
                options["max_length"], stride=options["stride"], strategy=strategy, direction=sides[0]
            )
        encodings = raw.encode_batch(
            inputs, add_special_tokens=options["add_special_tokens"], is_pretokenized=options["is_split_into_words"]
        )
    except BaseException as error:  # the library's panics are not an Exception
        if isinstance(error, (KeyboardInterrupt, SystemExit)):
            raise
        return None
    is_whole = options["return_overflowing_tokens"]
    rows = [(number, row) for number, first in enumerate(encodings) for row in (first, *first.overflowing * is_whole)]
    found = {
        "input_ids": [row.ids for _, row in rows],
        "attention_mask": [row.attention_mask for _, row in rows],
        "token_type_ids": [row.type_ids for _, row in rows],
        "special_tokens_mask": [row.special_tokens_mask for _, row in rows],
        "offset_mapping": [row.offsets for _, row in rows],
        "word_ids": [row.word_ids for _, row in rows],
        "sequence_ids": [row.sequence_ids for _, row in rows],
        "length": [len(row.ids) for _, row in rows],
    }
    if options["return_overflowing_tokens"]:
        found["overflow_to_sample_mapping"] = [number for number, _ in rows]
    return found


@st.composite
def option_sets(draw: st.DrawFn) -> dict[str, Any]:
    """Every strategy, side and length; many combinations cannot be satisfied."""
    return {
        "add_special_tokens": draw(st.booleans()),
        "padding": draw(st.sampled_from([False, True, "longest", "max_length"])),
        "truncation": draw(
            st.sampled_from([True, "longest_first", "only_first", "only_second", False, "do_not_truncate"])
        ),
        "max_length": draw(st.integers(1, 18)),
        "stride": draw(st.sampled_from([0, 0, 1, 2, 5])),
        "pad_to_multiple_of": draw(st.sampled_from([None, None, 4])),
        "return_overflowing_tokens": draw(st.booleans()),
        "is_split_into_words": False,
    }


def batches(options: dict[str, Any]) -> st.SearchStrategy[list[Any]]:
    item = st.lists(texts.filter(bool), min_size=1, max_size=4) if options["is_split_into_words"] else texts
    return st.lists(item, min_size=1, max_size=3) | st.lists(st.tuples(item, item), min_size=1, max_size=3)


def may_refuse(options: dict[str, Any], inputs: list[Any], wanted: dict[str, Any]) -> bool:
    """Whether a request cannot be met although the library answers, without truncation or with windows that are too long."""
    if options["truncation"] in (False, "do_not_truncate"):
        return False
    special = (4 if isinstance(inputs[0], tuple) else 2) if options["add_special_tokens"] else 0
    room = options["max_length"] - special
    unfit = options["padding"] and options["max_length"] % (options["pad_to_multiple_of"] or 1)
    tokens = [sum(mask) for mask in wanted["attention_mask"]]
    return bool(room < 0 or options["stride"] >= room or unfit or max(tokens) > options["max_length"])


# -- the properties ------------------------------------------------------------------------------------------


@SETTINGS
@given(text=texts)
def test_one_text_is_the_librarys_encoding_in_both_classes(pair: Pair, text: str) -> None:
    found = [outcome(tokenizer, text, **FLAGS) for tokenizer in (pair.slow, pair.fast)]
    pair.raw.no_truncation()
    pair.raw.no_padding()
    wanted = pair.raw.encode(text)
    for result in found:
        assert result["input_ids"] == wanted.ids
        assert result["offset_mapping"] == wanted.offsets or pair.fast.add_prefix_space
        assert result["special_tokens_mask"] == wanted.special_tokens_mask
        assert result["attention_mask"] == wanted.attention_mask
        assert result["word_ids"] == [wanted.word_ids]
        assert result["sequence_ids"] == [wanted.sequence_ids]
    assert found[0] == found[1]


@SETTINGS
@given(text=texts)
def test_tokenize_encode_and_decode_agree(pair: Pair, text: str) -> None:
    assert pair.slow.tokenize(text) == pair.fast.tokenize(text)
    ids = pair.slow.encode(text)
    assert ids == pair.fast.encode(text)
    assert pair.slow.convert_ids_to_tokens(ids) == pair.fast.convert_ids_to_tokens(ids)
    for skip in (False, True):
        decoded = pair.slow.decode(ids, skip_special_tokens=skip)
        assert decoded == pair.fast.decode(ids, skip_special_tokens=skip)
        assert decoded == pair.raw.decode(ids, skip_special_tokens=skip)


@SETTINGS
@given(data=st.data(), options=option_sets(), words=st.booleans())
def test_batches_are_truncated_windowed_and_padded_as_by_the_library(
    pair: Pair, data: st.DataObject, options: dict[str, Any], words: bool
) -> None:
    options["is_split_into_words"] = words and pair.fast.add_prefix_space  # other words: the next test
    inputs = data.draw(batches(options))
    args = [inputs]
    if options["is_split_into_words"] and isinstance(inputs[0], tuple):  # a tuple of lists is one pair of batches
        args = [list(side) for side in zip(*inputs, strict=True)]
    found = outcome(pair.fast, *args, **options, **FLAGS)
    assert outcome(pair.slow, *args, **options, **FLAGS) == found
    wanted = library_rows(pair.raw, inputs, options, (pair.fast.truncation_side, pair.fast.padding_side))
    if isinstance(found, str):
        assert wanted is None or may_refuse(options, inputs, wanted), found
    elif wanted is None:  # where the library raises or panics, any answer must be correct
        assert max(map(len, found["input_ids"])) <= options["max_length"]
    elif not may_refuse(options, inputs, wanted):
        # further windows of a pair without special tokens have type 1 there, which RoBERTa does not have
        wanted["token_type_ids"] = [[0] * len(row) for row in wanted["token_type_ids"]]
        if pair.fast.add_prefix_space:
            wanted["offset_mapping"] = found["offset_mapping"]
        assert found == wanted


@SETTINGS
@given(words=st.lists(texts.filter(bool), min_size=1, max_size=5), second=st.lists(texts.filter(bool), max_size=3))
def test_words_are_the_same_words_in_both_classes(pair: Pair, words: list[str], second: list[str]) -> None:
    for args in ((words,), (words, second)) if second else ((words,),):
        found = outcome(pair.fast, *args, is_split_into_words=True, **FLAGS)
        assert found == outcome(pair.slow, *args, is_split_into_words=True, **FLAGS)
        numbers = [number for number in found["word_ids"][0] if number is not None]
        assert set(numbers) <= set(range(max(len(words), len(second))))


@SETTINGS
@given(first=texts, second=texts, options=option_sets())
def test_a_pair_alone_is_the_row_of_its_batch(plain: Pair, first: str, second: str, options: dict[str, Any]) -> None:
    assume(not options["return_overflowing_tokens"])
    assume(second)  # an empty second text makes a pair only in a batch
    for tokenizer in (plain.slow, plain.fast):
        alone = outcome(tokenizer, first, second, **options, **FLAGS)
        batch = outcome(tokenizer, [first], [second], **options, **FLAGS)
        if isinstance(batch, str):
            assert alone == batch
            continue
        names = set(batch) - {"word_ids", "sequence_ids", "length"}
        assert {name: alone[name] for name in names} == {name: batch[name][0] for name in names}


@SETTINGS
@given(data=st.data(), options=option_sets())
def test_asking_for_offsets_changes_nothing_else(plain: Pair, data: st.DataObject, options: dict[str, Any]) -> None:
    inputs = data.draw(batches(options))
    for tokenizer in (plain.slow, plain.fast):
        short = outcome(tokenizer, inputs, **options)
        full = outcome(tokenizer, inputs, **options, **FLAGS)
        assert short == (full if isinstance(full, str) else {name: full[name] for name in short})


@SETTINGS
@given(data=st.data(), options=option_sets())
def test_arrays_hold_what_lists_hold(plain: Pair, data: st.DataObject, options: dict[str, Any]) -> None:
    options["padding"] = options["padding"] or True
    inputs = data.draw(batches(options))
    for tokenizer in (plain.slow, plain.fast):
        lists = outcome(tokenizer, inputs, **options)
        arrays = outcome(tokenizer, inputs, **options, return_tensors="np")
        if isinstance(lists, str):
            assert arrays == lists
            continue
        if len({len(row) for row in lists["input_ids"]}) > 1:  # padded to a length below the longest
            assert isinstance(arrays, str)
            continue
        for name in set(lists) - {"word_ids", "sequence_ids"}:
            assert arrays[name].dtype == "int64"
            assert arrays[name].tolist() == lists[name], name


@SETTINGS
@given(text=texts, position=st.integers(0, 30), surrogate=SURROGATES)
def test_a_lone_surrogate_is_refused_with_its_position(plain: Pair, text: str, position: int, surrogate: str) -> None:
    text = text[:position] + surrogate + text[position:]
    found = outcome(plain.slow, text)
    assert found == outcome(plain.fast, text)
    assert isinstance(found, str)
    assert "surrogate" in found
    assert str(min(position, len(text) - 1)) in found
    assert outcome(plain.slow, ["fine", text]) == outcome(plain.fast, ["fine", text])


def swallowing(text: str) -> Iterator[str]:
    """White space to the left of `<mask>`, which the token absorbs: the only thing that decoding cannot restore."""
    yield from re.findall(r"\s+(?=<mask>)", text)


@SETTINGS
@given(text=texts)
def test_decoding_gives_the_text_back(plain: Pair, text: str) -> None:
    assume(not any(swallowing(text)))
    for tokenizer in (plain.slow, plain.fast):
        ids = tokenizer.encode(text, add_special_tokens=False)
        assert tokenizer.decode(ids, clean_up_tokenization_spaces=False) == text
        whole = tokenizer.decode(tokenizer.encode(text), clean_up_tokenization_spaces=False)
        assert whole == f"<s>{text}</s>"


@SETTINGS
@given(text=texts, data=st.data())
def test_queries_by_character_agree(pair: Pair, text: str, data: st.DataObject) -> None:
    slow, fast = pair.slow(text), pair.fast(text)
    pair.raw.no_truncation()
    pair.raw.no_padding()
    wanted = slow[0] if pair.fast.add_prefix_space else pair.raw.encode(text)
    for position in range(len(text) + 1):
        token = wanted.char_to_token(position)
        assert slow.char_to_token(position) == fast.char_to_token(position) == token
        assert slow.char_to_word(position) == fast.char_to_word(position) == wanted.char_to_word(position)
    for number in range(len(wanted.ids)):
        chars = wanted.token_to_chars(number)
        if chars is None:
            assert slow.token_to_chars(number) is None
            assert fast.token_to_chars(number) is None
        else:
            assert tuple(slow.token_to_chars(number)) == tuple(fast.token_to_chars(number)) == tuple(chars)
        assert slow.token_to_word(number) == fast.token_to_word(number) == wanted.token_to_word(number)
        assert slow.token_to_sequence(number) == fast.token_to_sequence(number) == wanted.token_to_sequence(number)
    assert slow.tokens() == fast.tokens() == wanted.tokens


@SETTINGS
@given(data=st.data(), single=st.booleans(), lstrip=st.booleans(), rstrip=st.booleans(), normalized=st.booleans())
def test_added_tokens_are_found_in_the_same_places(
    trained: Path, data: st.DataObject, single: bool, lstrip: bool, rstrip: bool, normalized: bool
) -> None:
    slow, fast, raw = load(trained)
    token = {"single_word": single, "lstrip": lstrip, "rstrip": rstrip, "normalized": normalized}
    contents = data.draw(
        st.lists(st.sampled_from(["newtok", "new", "tok", "Ünï", "日本", "<e1>", "the", "  x"]), max_size=4)
    )

    for tokenizer in (slow, fast):
        tokenizer.add_tokens([roberta.AddedToken(content, **token) for content in contents])
    raw.add_tokens([AddedToken(content, **token) for content in contents])
    pieces = st.sampled_from([*contents, " ", "a", "new", "tok", "é", "<mask>", "\n", "_", "1"])
    text = "".join(data.draw(st.lists(pieces, max_size=8)))
    found = [outcome(tokenizer, text, **FLAGS) for tokenizer in (slow, fast)]
    assert found[0] == found[1]
    wanted = raw.encode(text)
    assert found[0]["input_ids"] == wanted.ids
    assert found[0]["offset_mapping"] == wanted.offsets
    assert slow.decode(wanted.ids) == fast.decode(wanted.ids) == raw.decode(wanted.ids, skip_special_tokens=False)

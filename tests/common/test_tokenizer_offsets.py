"""Offsets select the characters that a token came from, as judged by the bytes of the token itself.

The judge walks through the bytes of a text and of its tokens side by side; it knows nothing of how either tokenizer
counts. A space that is in a token but not in the text was inserted.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import roberta

SETTINGS = settings(
    max_examples=60,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.filter_too_much],
)
CORPUS = ["the Paris BMS dev é 日本 naïve it is 1,000", "  two  spaces\n\nlines\tand tabs"] * 4
ADDED = [
    roberta.AddedToken("<dev>", special=True),
    roberta.AddedToken("<left>", lstrip=True),
    roberta.AddedToken("<right>", rstrip=True, normalized=False),
    roberta.AddedToken("<both>", lstrip=True, rstrip=True, special=True),
    roberta.AddedToken("word", single_word=True),
    roberta.AddedToken("日本"),
    roberta.AddedToken("Ġorġ"),
]
# If a token takes the white space after it, the library's next token starts with the same space; never both at once.
SPACED = [roberta.AddedToken(" two words "), roberta.AddedToken("\n\n", normalized=False)]
PIECES = [
    *map(str, ADDED), " two words ", "\n\n",
    "<mask>", "</s>", "BMS", "aris", "Paris", "the", "é", "e\u0301", "日本語", "😀", "👩‍👩‍👧",
    "ġ", "Ġ", " ", "  ", "\n", "\t", "\r\n", "\u00a0", "\u3000", "\u2028", "\x85", "\x1c", "'s", "!", ".,", "1",
]  # fmt: skip
texts = st.lists(st.sampled_from(PIECES) | st.text(max_size=3), max_size=7).map("".join)
words = st.lists(texts.filter(bool), min_size=1, max_size=4)
WHITE = " \t\n\r\x0b\x0c\x85\u00a0\u1680\u2028\u2029\u202f\u205f\u3000" + "".join(map(chr, range(0x2000, 0x200B)))


@pytest.fixture(
    scope="module", params=[roberta.RobertaTokenizer, roberta.RobertaTokenizerFast], ids=lambda c: c.__name__
)
def make(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("offsets")
    roberta.RobertaTokenizerFast.train(iter(CORPUS), vocab_size=330, show_progress=False).save_pretrained(folder)
    made: dict[Any, Any] = {}

    def get(added: Any = ADDED, **init: Any) -> Any:
        key = (len(added), *sorted(init.items()))
        if key not in made:
            made[key] = request.param.from_pretrained(folder, **init)
            made[key].add_tokens(added)
        return made[key]

    return get


def symbol_bytes(token: str) -> bytes:
    """The bytes of a byte-level token, by an independent copy of GPT-2's table."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    table = {chr(byte): byte for byte in printable} | {chr(256 + at): byte for at, byte in enumerate(others)}
    return bytes(table[symbol] for symbol in token)


def came_from(tokenizer: Any, text: str, ids: list[int]) -> Iterator[tuple[int, int]]:
    """The characters of each token, including white space; an inserted space has none."""
    raw, at = text.encode(), 0
    owner = [place for place, character in enumerate(text) for _ in character.encode()]
    for index in ids:
        token = tokenizer.convert_ids_to_tokens(index)
        if index in tokenizer.added_tokens_decoder:
            flags = tokenizer.added_tokens_decoder[index]
            before = rf"[{WHITE}]*" if flags.lstrip else ""
            after = rf"[{WHITE}]*" if flags.rstrip else ""
            found = re.compile(before + re.escape(token) + after).match(text, owner[at])
            assert found, (text, token)
            yield found.span()
            at = len(text[: found.end()].encode())
            continue
        wanted = symbol_bytes(token)
        if not raw.startswith(wanted, at):
            assert wanted[:1] == b" ", (text, token)
            wanted = wanted[1:]
        assert raw.startswith(wanted, at), (text, token)
        start = owner[at] if at < len(raw) else len(text)
        yield (start, owner[at + len(wanted) - 1] + 1) if wanted else (start, start)
        at += len(wanted)
    assert at == len(raw)


def trimmed(text: str, span: tuple[int, int], blanks: str) -> set[tuple[int, int]]:
    """The span without white space at its ends, or any empty span if nothing is left. The first of a text may keep it."""
    part = text[slice(*span)]
    start = span[1] - len(part.lstrip(blanks))
    end = max(span[0] + len(part.rstrip(blanks)), start)
    found = {(start, end)} if start < end else {(at, at) for at in range(span[0], span[1] + 1)}
    return found | ({(0, end)} if span[0] == 0 else set())


def check(tokenizer: Any, text: str, ids: list[int], offsets: list[tuple[int, int]]) -> None:
    for index, span, (start, end) in zip(ids, came_from(tokenizer, text, ids), offsets, strict=True):
        if tokenizer.trim_offsets:
            blanks = WHITE if index in tokenizer.added_tokens_decoder else " "
            assert (start, end) in trimmed(text, span, blanks), (text, tokenizer.convert_ids_to_tokens(index))
        else:
            assert (start, end) == span, (text, tokenizer.convert_ids_to_tokens(index))


INITS = [{"add_prefix_space": prefix, "trim_offsets": trim} for prefix in (True, False) for trim in (True, False)]


@pytest.mark.parametrize("init", INITS, ids=lambda init: "-".join(name for name, on in init.items() if on) or "plain")
@pytest.mark.parametrize("added", [ADDED, SPACED], ids=["added", "spaced"])
@SETTINGS
@given(text=texts)
def test_offsets_slice_what_a_token_came_from(make: Any, added: Any, init: dict[str, bool], text: str) -> None:
    tokenizer = make(added, **init)
    found = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
    check(tokenizer, text, found["input_ids"], found["offset_mapping"])
    row = found[0]
    for at, (start, end) in enumerate(found["offset_mapping"]):
        assert tuple(found.token_to_chars(at)) == (start, end) == tuple(row.offsets[at])
        if start < end:
            first = found.char_to_token(start)
            assert row.offsets[first][0] <= start < row.offsets[first][1]
            assert first <= at
            assert found.char_to_word(start) == found.token_to_word(first)


@pytest.mark.parametrize("trim", [True, False])
@SETTINGS
@given(given_words=words)
def test_offsets_of_words_slice_their_words(make: Any, trim: bool, given_words: list[str]) -> None:
    tokenizer = make(trim_offsets=trim)
    found = tokenizer(given_words, is_split_into_words=True, add_special_tokens=False, return_offsets_mapping=True)
    numbers = found.word_ids()
    for number, word in enumerate(given_words):
        places = [at for at, other in enumerate(numbers) if other == number]
        ids, offsets = ([found[name][at] for at in places] for name in ("input_ids", "offset_mapping"))
        check(tokenizer, word, ids, offsets)


@pytest.mark.parametrize("init", INITS[:2], ids=["trim", "whole"])
@pytest.mark.parametrize("side", ["right", "left"])
@SETTINGS
@given(first=texts.filter(bool), second=texts.filter(bool), size=st.integers(6, 12))
def test_windows_of_pairs_have_the_offsets_of_the_whole(
    make: Any, init: dict[str, bool], side: str, first: str, second: str, size: int
) -> None:
    tokenizer = make(**init, padding_side=side, truncation_side=side)
    whole = [tokenizer(text, add_special_tokens=False, return_offsets_mapping=True) for text in (first, second)]
    rows = tokenizer(
        [first], [second], truncation=True, max_length=size, stride=0, padding="max_length",
        return_overflowing_tokens=True, return_offsets_mapping=True,
    )  # fmt: skip
    for at, (ids, offsets) in enumerate(zip(rows["input_ids"], rows["offset_mapping"], strict=True)):
        for number, text in enumerate(whole):
            places = [place for place, of in enumerate(rows.sequence_ids(at)) if of == number]
            part = [(ids[place], tuple(offsets[place])) for place in places]
            pairs = list(zip(text["input_ids"], map(tuple, text["offset_mapping"]), strict=True))
            assert any(pairs[start : start + len(part)] == part for start in range(len(pairs) + 1))


@pytest.mark.parametrize(
    ("text", "word"), [("<dev>BMS", "BMS"), ("it <mask>Paris", "Paris"), ("<both> \n Paris", "Paris"), ("<dev>é", "é")]
)
@pytest.mark.parametrize("trim", [True, False])
def test_the_word_behind_an_added_token_has_its_first_letter(make: Any, text: str, word: str, trim: bool) -> None:
    tokenizer = make(add_prefix_space=True, trim_offsets=trim)
    found = tokenizer(text)
    start = text.index(word)
    assert found.char_to_token(start) is not None
    span = tuple(found.word_to_chars(found.char_to_word(start)))
    assert text[slice(*span)] == word


def test_an_answer_behind_an_added_token_is_a_target_of_training(make: Any) -> None:
    from roberta.common.training.data.features import Lengths, make_features
    from roberta.common.training.data.fields import AnswerSpan, Question

    tokenizer = make(add_prefix_space=True)
    context = "it <mask>Paris is"
    question = Question("1", "Where?", context, (AnswerSpan("Paris", context.index("Paris")),), "here")
    (feature,) = make_features([question], "question-answering", tokenizer, Lengths(64), for_evaluation=True)
    window, shift = feature["window"], feature["window"].place
    offsets = window.text.offsets
    assert feature["start_positions"] > 0
    assert (
        context[offsets[feature["start_positions"] - shift][0] : offsets[feature["end_positions"] - shift][1]]
        == "Paris"
    )

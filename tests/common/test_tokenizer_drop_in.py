"""What scripts for transformers do with a tokenizer, in cases where the correct result is known without transformers."""

from __future__ import annotations

import builtins
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import roberta
from roberta import CheckpointError

CLASSES = ("RobertaTokenizer", "RobertaTokenizerFast")
CORPUS = ["The quick brown fox jumps over the lazy dog.", "Hello world, hello again."] * 4
TEMPLATE = "{% for m in messages %}{{ m.role + ': ' + m.content }}\n{% endfor %}"
CHAT = [{"role": "user", "content": "Hello"}, {"role": "assistant", "content": "world"}]


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("saved")
    roberta.RobertaTokenizerFast.train_from_iterator(CORPUS, vocab_size=320).save_pretrained(folder)
    return folder


@pytest.fixture(params=CLASSES)
def tokenizer(request: pytest.FixtureRequest, saved: Path) -> Any:
    return getattr(roberta, request.param).from_pretrained(saved)


# -- training ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("files", [["no-such-file.txt"], "no-such-file.txt", ["a text, and no file"]])
def test_a_file_that_is_not_there_is_an_error_and_no_text(files: Any) -> None:
    with pytest.raises(CheckpointError, match=r"cannot be read.*texts go to train_from_iterator"):
        roberta.RobertaTokenizerFast.train(files, vocab_size=300, show_progress=False)


def test_names_of_files_are_texts_where_texts_are_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "corpus.txt"
    path.write_text("\n".join(CORPUS))
    options: dict[str, Any] = {"vocab_size": 400, "show_progress": False, "min_frequency": 1}
    of_files = roberta.RobertaTokenizerFast.train(iter([str(path)]), **options)
    of_texts = roberta.RobertaTokenizerFast.train_from_iterator([str(path)] * 4, **options)
    assert "Ġquick" in of_files.get_vocab()
    assert "Ġquick" not in of_texts.get_vocab()
    with pytest.raises(ValueError, match="files go to train"):
        roberta.RobertaTokenizerFast.train_from_iterator(str(path), **options)


def test_the_smallest_vocabulary_is_the_bytes_and_the_special_tokens(saved: Path) -> None:
    old = roberta.RobertaTokenizerFast.from_pretrained(saved)
    assert len(old.train_new_from_iterator([CORPUS], 100)) == 256 + 5


# -- the library's tokenizer ---------------------------------------------------------------------------------


def test_a_part_that_roberta_does_not_have_takes_effect_and_is_saved(saved: Path, tmp_path: Path) -> None:
    import tokenizers

    tokenizer = roberta.RobertaTokenizerFast.from_pretrained(saved)
    lower = tokenizer("hello world")["input_ids"]
    tokenizer.backend_tokenizer.normalizer = tokenizers.normalizers.Lowercase()
    assert tokenizer("Hello World")["input_ids"] == lower
    tokenizer.save_pretrained(tmp_path / "lower")
    assert roberta.AutoTokenizer.from_pretrained(tmp_path / "lower")("Hello World")["input_ids"] == lower
    assert tokenizers.Tokenizer.from_file(str(tmp_path / "lower" / "tokenizer.json")).encode("Hello World").ids == lower


def test_set_truncation_and_padding_is_for_the_library_alone(saved: Path) -> None:
    tokenizer = roberta.RobertaTokenizerFast.from_pretrained(saved)
    whole = tokenizer("Hello world")["input_ids"]
    tokenizer.set_truncation_and_padding("max_length", "longest_first", 3, 0, None, "right")
    assert tokenizer.backend_tokenizer.encode("Hello world").ids == [*whole[:2], 2]
    assert tokenizer.backend_tokenizer.encode("").ids == [0, 2, 1]
    assert tokenizer("Hello world")["input_ids"] == whole


# -- texts, tokens and settings ------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [ValueError, TypeError, AssertionError])
def test_a_wrong_argument_is_caught_under_each_name_transformers_has(tokenizer: Any, kind: type[Exception]) -> None:
    for call in (
        lambda: tokenizer(None),
        lambda: tokenizer.tokenize(5),
        lambda: tokenizer.add_tokens([5]),
        lambda: tokenizer.add_special_tokens({"foo_token": "<x>"}),
    ):
        with pytest.raises(kind):
            call()


def test_a_near_name_is_an_error_in_both_classes_and_another_is_logged_by_one(
    tokenizer: Any, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(TypeError, match=r'truncate=True \(did you mean "truncation"\?\)'):
        tokenizer("a", truncate=True)
    if tokenizer.is_fast:
        with pytest.raises(TypeError, match="xyz=3"):
            tokenizer("a", xyz=3)
    else:
        assert tokenizer("a", xyz=3) == tokenizer("a")
        assert "xyz=3: not recognized" in caplog.text


def test_a_long_text_is_logged_once_and_again_when_that_is_reset(
    tokenizer: Any, caplog: pytest.LogCaptureFixture
) -> None:
    tokenizer.model_max_length = 3
    tokenizer("Hello world")
    tokenizer("Hello world")
    tokenizer.deprecation_warnings = {}
    tokenizer("Hello world")
    wanted = "Token indices sequence length is longer than the specified maximum sequence length for this model (5 > 3)"
    assert [message.startswith(wanted[:-7]) for message in caplog.messages] == [True, True]
    caplog.clear()
    tokenizer.deprecation_warnings, tokenizer.verbose = {}, False
    tokenizer("Hello world")
    assert not caplog.messages


def test_a_subclass_has_defaults_of_its_own(saved: Path) -> None:
    class Left(roberta.RobertaTokenizerFast):
        padding_side = "left"
        model_input_names = ["input_ids"]  # noqa: RUF012

    batch = Left.from_pretrained(saved)(["a", "a b c"], padding=True)
    assert list(batch) == ["input_ids"]
    assert batch["input_ids"][0][0] == 1


# -- conversations -------------------------------------------------------------------------------------------


def test_a_generation_block_marks_its_tokens_and_leaves_no_trace(tokenizer: Any) -> None:
    template = "{% for m in messages %}{{ m.role }}{% generation %} {{ m.content }}{% endgeneration %}!{% endfor %}"
    assert tokenizer.apply_chat_template(CHAT, chat_template=template, tokenize=False) == "user Hello!assistant world!"
    found = tokenizer.apply_chat_template(
        CHAT, chat_template=template, return_dict=True, return_assistant_tokens_mask=True
    )
    marked = [index for index, mark in zip(found["input_ids"], found["assistant_masks"], strict=True) if mark]
    assert tokenizer.decode(marked) == "Hello world"  # the space before the first word is a token without characters


def test_a_template_cannot_leave_its_sandbox(tokenizer: Any) -> None:
    jinja2 = pytest.importorskip("jinja2")
    with pytest.raises(jinja2.exceptions.SecurityError):
        tokenizer.apply_chat_template(CHAT, chat_template="{{ ''.__class__.__mro__[1].__subclasses__() }}")


def test_without_jinja2_the_error_says_what_to_install(tokenizer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without(name: str, *arguments: Any) -> Any:
        if name.startswith("jinja2"):
            raise ModuleNotFoundError("No module named 'jinja2'", name="jinja2")
        return real(name, *arguments)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ModuleNotFoundError, match="pip install jinja2"):
        tokenizer.apply_chat_template(CHAT, chat_template="{{ 'a template of this test alone' }}")


def test_several_templates_come_back_and_old_ones_go(tokenizer: Any, tmp_path: Path) -> None:
    tokenizer.chat_template = {"default": TEMPLATE, "other": "o"}
    tokenizer.save_pretrained(tmp_path)
    assert type(tokenizer).from_pretrained(tmp_path).chat_template == tokenizer.chat_template
    assert "chat_template" not in json.loads((tmp_path / "tokenizer_config.json").read_text())
    tokenizer.chat_template = None
    tokenizer.save_pretrained(tmp_path)
    assert type(tokenizer).from_pretrained(tmp_path).chat_template is None


def test_a_call_imports_no_jinja2(saved: Path) -> None:
    code = (
        "import sys, roberta\n"
        f"roberta.RobertaTokenizerFast.from_pretrained({str(saved)!r})('a')\n"
        "print('jinja2' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


# -- arguments as programs pass them ---------------------------------------------------------------------------


def test_counts_may_be_numpys(tokenizer: Any) -> None:
    text = "Hello world, hello again."
    wanted = tokenizer(text, truncation=True, max_length=5, padding="max_length", stride=1, pad_to_multiple_of=5)
    found = tokenizer(
        text, truncation=True, max_length=np.int64(5), padding="max_length", stride=np.int32(1),
        pad_to_multiple_of=np.int64(5),
    )  # fmt: skip
    assert dict(found) == dict(wanted)
    with pytest.raises(ValueError, match=r"max_length=4\.0 must be an int of at least 0"):
        tokenizer(text, truncation=True, max_length=4.0)


def test_none_for_where_a_tokenizer_is_means_the_usual_place(tokenizer: Any, saved: Path) -> None:
    again = type(tokenizer).from_pretrained(saved, subfolder=None, revision=None, cache_dir=None, token=None)
    assert again.get_vocab() == tokenizer.get_vocab()


def test_a_save_takes_arguments_that_mean_something_for_weights_alone(tokenizer: Any, tmp_path: Path) -> None:
    options: dict[str, Any] = {"safe_serialization": False, "max_shard_size": "1GB", "use_auth_token": None}
    for saves in (tokenizer, roberta.RobertaConfig(), roberta.GenerationConfig()):
        saves.save_pretrained(tmp_path, **options)
        with pytest.raises(TypeError, match="save_pretrained does not know"):
            saves.save_pretrained(tmp_path, repo_idd="x")


def test_a_list_of_two_is_a_pair_for_one_text_and_more_are_refused() -> None:
    fast = roberta.RobertaTokenizerFast.train_from_iterator(CORPUS, vocab_size=320, show_progress=False)
    assert fast.encode(["Hello", "world"]) == fast.encode("Hello", "world")
    for texts in (["one", "two", "three"], ["one"], []):
        for call in (fast.encode, fast.tokenize):
            with pytest.raises(ValueError, match="must be one text, or a list of two for a pair"):
                call(texts)
    assert fast.tokenize(["Hello", "world"]) == fast.tokenize("Hello", "world")
    assert fast.tokenize(["Hello", "world"], is_split_into_words=True) == fast.tokenize(" Hello world")
    with pytest.raises(TypeError, match=r'pad_to_max_length=True \(now padding="max_length"\)'):
        fast("Hello", pad_to_max_length=True)


def test_a_batch_that_is_told_a_dtype_stays_as_it_is(tokenizer: Any, caplog: pytest.LogCaptureFixture) -> None:
    torch = pytest.importorskip("torch")
    batch = tokenizer("Hello", return_tensors="pt").to(torch.float16)
    assert batch["input_ids"].dtype == torch.int64
    assert "is not cast" in caplog.text
    assert batch.to(torch.device("cpu"))["input_ids"].device.type == batch.to("cpu")["input_ids"].device.type == "cpu"

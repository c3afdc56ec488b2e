"""`roberta verify`: exit codes, report files, and the messages for requests that cannot be verified."""

from __future__ import annotations

import importlib.util
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import checkpoints
import numpy as np
import pytest

from roberta.cli import main
from roberta.conversion.convert import convert
from roberta.conversion.verify import verify
from roberta.conversion.verify.inputs import encode_texts


@pytest.fixture(autouse=True)
def _needs_pytorch() -> None:
    pytest.importorskip("torch")


@pytest.fixture
def one(tmp_path: Path) -> Path:
    return checkpoints.make(tmp_path / "one", "ForMaskedLM")


@pytest.fixture
def faulty(tmp_path: Path) -> Path:
    """Like `one`, except for a transposed kernel."""
    config = checkpoints.small_config("ForMaskedLM")
    tensors = checkpoints.draw(config, "ForMaskedLM")
    name = "roberta.encoder.layer.1.attention.output.dense.weight"
    return checkpoints.save(tmp_path / "faulty", config, {**tensors, name: tensors[name].T.copy()})


# -- the command ----------------------------------------------------------------------------------------------------


def test_the_same_ends_with_0(one: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["verify", str(one), "--against", str(one), "--frameworks", "pt", "--gradients"]) == 0
    text = capsys.readouterr().out
    assert "THE SAME" in text.splitlines()[-1]
    assert "gradients of 42 parameters, 0 beyond rounding" in text


def test_not_the_same_ends_with_1_and_names_the_place(
    one: Path, faulty: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["verify", str(one), "--against", str(faulty), "--frameworks", "pt", "--ids", "0 5 6 2"]) == 1
    text = capsys.readouterr().out
    assert "NOT THE SAME: against pt first differs from pt at layer 1 attention" in text
    assert "Look at roberta.encoder.layer.1.attention.*" in text
    assert "ids 1x4, given ids" in text
    lines = [line for line in text.splitlines() if str(one) not in line and str(faulty) not in line]
    assert max(map(len, lines)) <= 80, "but for the paths, which are the caller's"


def test_what_cannot_be_done_ends_with_1_and_a_text(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["verify", str(tmp_path), "--frameworks", "pt"]) == 1
    captured = capsys.readouterr()
    assert not captured.out
    assert captured.err.startswith("roberta verify: ")


def test_an_unknown_argument_ends_with_2(one: Path) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["verify", str(one), "--dtype", "float16"])
    assert ended.value.code == 2


# -- report files ---------------------------------------------------------------------------------------------------


class _Resources(HTMLParser):
    """Collects the addresses that a page would fetch."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found += [f"{tag} {name}={value}" for name, value in attrs if name in ("src", "href", "data", "srcset")]
        self.found += [tag] if tag in ("script", "link", "img", "iframe", "object") else []


def test_reports_are_written_as_json_and_html(one: Path, faulty: Path, tmp_path: Path) -> None:
    files = tmp_path / "out.json", tmp_path / "out.html"
    arguments = ["verify", str(one), "--against", str(faulty), "--frameworks", "pt", "--gradients"]
    assert main([*arguments, "--report", str(files[0]), "--report", str(files[1])]) == 1
    found: dict[str, Any] = json.loads(files[0].read_text())
    assert found["agree"] is False
    assert found["first"] == {"against pt": "layer 1 attention"}
    assert [row["place"] for row in found["places"]][-1] == "head"
    assert len(found["gradients"]) == 42
    beyond = [row["place"] for row in found["places"] if not row["differences"]["against pt"]["is_explained"]]
    assert beyond == ["layer 1 attention", "layer 1 feed-forward", "head"]

    page = files[1].read_text()
    resources = _Resources()
    resources.feed(page)
    assert resources.found == []
    assert not re.search(r"url\(|@import|https?://", page)
    drawing = ElementTree.fromstring(page[page.index("<svg") : page.index("</svg>") + 6])
    assert drawing.attrib["role"] == "img"
    assert "beyond the bound from layer 1 attention on" in "".join(drawing.itertext())
    marks = [path for path in drawing.iter("path") if path.find("title") is not None]
    assert len(marks) == len(found["places"])
    heights = [float(path.attrib["transform"].split(",")[1][:-1]) for path in marks]
    assert max(heights[3:]) < min(heights[:3]) - 100  # the plotted line rises from layer 1's attention on


def test_texts_in_a_page_are_escaped(one: Path, tmp_path: Path) -> None:
    odd = checkpoints.make(tmp_path / "<b>&", "ForMaskedLM")
    verify(odd, against=one, frameworks=["pt"]).save(tmp_path / "out.html")
    page = (tmp_path / "out.html").read_text()
    assert "&lt;b&gt;&amp;" in page
    assert "<b>" not in page


def test_numbers_that_are_not_finite_are_null_in_json(tmp_path: Path) -> None:
    config = checkpoints.small_config("ForMaskedLM")
    tensors = checkpoints.draw(config, "ForMaskedLM")
    tensors["lm_head.bias"][0] = np.inf
    folder = checkpoints.save(tmp_path / "odd", config, tensors)
    for suffix in ("json", "html"):
        verify(folder, against=folder, frameworks=["pt"]).save(tmp_path / f"out.{suffix}")
    found = json.loads((tmp_path / "out.json").read_text())
    assert found["places"][-1]["differences"]["against pt"] == {
        "absolute": None, "relative": None, "is_explained": False,
    }  # fmt: skip


@pytest.mark.parametrize(("name", "text"), [("out.txt", r"\.json or \.html"), ("no/out.html", "make it first")])
def test_a_report_that_cannot_be_written_is_refused_before_anything_runs(
    name: str, text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["verify", str(tmp_path / "missing"), "--report", str(tmp_path / name)]) == 1
    assert re.search(text, capsys.readouterr().err)


# -- what cannot be verified ----------------------------------------------------------------------------------------


def test_a_second_checkpoint_of_another_class_is_one_error(one: Path, tmp_path: Path) -> None:
    other = checkpoints.make(tmp_path / "other", "ForSequenceClassification")
    with pytest.raises(ValueError, match=r"is a RobertaForMaskedLM and .* a RobertaForSequenceClassification"):
        verify(one, against=other)


def test_a_second_checkpoint_of_another_shape_is_one_error(one: Path, tmp_path: Path) -> None:
    other = checkpoints.make(tmp_path / "other", "ForMaskedLM", num_hidden_layers=3, vocab_size=62)
    with pytest.raises(ValueError, match="not the same model") as caught:
        verify(one, against=other)
    assert "lm_head.bias: (61,) and (62,)" in str(caught.value)
    assert "roberta.encoder.layer.2.attention.output.LayerNorm.bias: none and (24,)" in str(caught.value)
    assert re.search(r"and \d+ more", str(caught.value))


def test_a_head_that_the_file_does_not_hold_is_one_error(one: Path) -> None:
    with pytest.raises(ValueError, match=r"no classifier\.weight, classifier\.bias: .* would be newly initialised"):
        verify(one, head="ForTokenClassification")


def test_a_fairseq_file_is_compared_with_its_conversion(golden: Path, tmp_path: Path) -> None:
    source = golden / "sapiens-vh" / "checkpoint_vh.pt"
    convert(source, tmp_path / "converted", to="pt", progress=False)
    report = verify(source, against=tmp_path / "converted", frameworks=["pt"])
    assert report.agree
    assert report.source == str(source)
    assert report.layers == 4


def test_the_encoder_alone_can_be_run(one: Path) -> None:
    report = verify(one, against=one, frameworks=["pt"], head="Model")
    assert report.agree
    assert report.places[-1].place == "layer 1 feed-forward"  # the file has no pooler


def test_a_config_without_a_class_asks_for_it(tmp_path: Path) -> None:
    folder = checkpoints.make(tmp_path, "ForMaskedLM", architectures=None)
    with pytest.raises(ValueError, match="names no class"):
        verify(folder, against=folder, frameworks=["pt"])
    assert verify(folder, against=folder, frameworks=["pt"], head="ForMaskedLM").agree


def test_a_missing_framework_is_named_with_its_extra(one: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    right = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name in ("jax", "keras") else right(name))
    with pytest.raises(ModuleNotFoundError, match=r"flax is not installed; pip install 'roberta\[flax\]'"):
        verify(one, frameworks=["pt", "flax"])
    with pytest.raises(ValueError, match="nothing to compare with: only pt is to run"):
        verify(one)  # by default all installed frameworks
    assert verify(one, against=one).runs == ("pt", "against pt")


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"frameworks": ["torch"]}, "give one or more of pt, tf, flax"),
        ({"frameworks": ["pt", "pt"]}, "each once"),
        ({"dtype": "float16"}, "not one of float32, float64"),
        ({"head": "MaskedLM"}, "head='MaskedLM' is not one of Model, "),
        ({"ids": [[0, 61]]}, "must be from 0 to 60"),
        ({"ids": []}, "at least one row"),
        ({"ids": [[0] * 29]}, "exceeds the 28 tokens"),
        ({"ids": [[0]], "texts": ["a"]}, "not both"),
        ({"tokens": 0}, "at least 1"),
        ({"texts": ["a"]}, r"has no tokenizer.*; give ids"),
    ],
)
def test_wrong_options_are_named(options: dict[str, Any], text: str, one: Path) -> None:
    with pytest.raises(ValueError, match=text):
        verify(one, against=one, **{"frameworks": ["pt"], **options})


@pytest.mark.parametrize("names", [["tokenizer.json"], ["vocab.json", "merges.txt"]], ids=" ".join)
@pytest.mark.parametrize("tokenizer", ["tiny-bpe-a", "roberta-base-tokenizer"])
def test_texts_are_encoded_as_transformers_does(tokenizer: str, names: list[str], golden: Path, tmp_path: Path) -> None:
    cases = [json.loads(line) for line in (golden / "tokenizer_cases.jsonl").read_text().splitlines()]
    wanted = {
        case["args"][0]: case["fast"]["ok"]["input_ids"]
        for case in cases
        if (case["tokenizer"], case["op"]) == (tokenizer, "text")
        and "ok" in case["fast"] and not any(case.get(key) for key in ("init", "setup", "load"))
    }  # fmt: skip
    assert len(wanted) > 1
    for name in names:
        (tmp_path / name).write_bytes((golden / tokenizer / name).read_bytes())
    config = checkpoints.small_config("ForMaskedLM", max_position_embeddings=5000)
    assert encode_texts(list(wanted), tmp_path, config) == list(wanted.values())


def test_texts_are_run(one: Path, golden: Path, tmp_path: Path) -> None:
    folder = checkpoints.make(tmp_path / "words", "ForMaskedLM", vocab_size=500)
    (folder / "tokenizer.json").write_bytes((golden / "tiny-bpe-a" / "tokenizer.json").read_bytes())
    report = verify(folder, against=folder, frameworks=["pt"], texts=["the cat", "a <mask> " * 99])
    assert report.inputs["input_ids"] == (2, 28)  # cut to the length that the model accepts
    assert report.origin == "given texts"

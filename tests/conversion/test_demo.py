"""The demo, with the trained model as published, and without a network."""

from __future__ import annotations

import json
import subprocess
import zipfile
from pathlib import Path

import pytest

from roberta.conversion import demo, sapiens
from roberta.conversion.verify import frameworks


def wheel(golden: Path, folder: Path, *, extra: bytes = b"") -> Path:
    """A wheel with the two files that the demo uses, from the reference data."""
    path = folder / "sapiens-1.0.2-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for member in sapiens.MEMBERS:
            archive.writestr(member, (golden / "sapiens-vh" / Path(member).name).read_bytes() + extra)
    return path


@pytest.fixture
def two_frameworks(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("torch")
    pytest.importorskip("tensorflow")
    monkeypatch.setattr(frameworks, "installed", lambda: ["pt", "tf"])
    monkeypatch.setattr(demo, "installed", lambda: ["pt", "tf"])


@pytest.mark.usefixtures("two_frameworks")
def test_the_trained_model_recovers_the_residues_of_the_reference(
    golden: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sapiens, "download", lambda folder: wheel(golden, folder))
    assert demo.run_demo(tmp_path / "made", tmp_path / "trained") == 0
    text = capsys.readouterr().out
    assert "THE SAME" in text
    cases = json.loads((golden / "sapiens-vh" / "golden.json").read_text())["recovery"]["cases"]
    cases = [case for case in cases if case["name"] == "abagovomab"]
    assert [case["masked"] for case in cases] == sapiens.masked(sapiens.SEQUENCE)
    right = sum(a == b for case in cases for a, b in zip(case["truth"], case["predicted"], strict=True))
    for name in ("pt", "tf"):
        line = next(line for line in text.splitlines() if line.startswith(f"{name}  "))
        assert line.split() == [name, str(right), "of", "119", cases[0]["predicted"]]
    assert (tmp_path / "made" / "config.json").is_file()  # the README's example uses it


@pytest.mark.usefixtures("two_frameworks")
def test_without_a_network_the_demo_says_so_and_uses_its_own_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    failed = subprocess.CompletedProcess([], 1, "", "WARNING: retrying\nERROR: No matching distribution found\n")
    monkeypatch.setattr(subprocess, "run", lambda *args, **options: failed)
    assert demo.run_demo(tmp_path / "made", tmp_path / "trained") == 0
    text = capsys.readouterr().out
    assert "could not be fetched; is there a network? pip says: ERROR: No matching distribution found" in text
    assert f"uses a random checkpoint that it made, {tmp_path / 'made'}" in text
    assert "THE SAME" in text
    assert not (tmp_path / "trained").exists()


def test_a_download_that_hangs_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def hang(command: list[str], *, timeout: float, **_: object) -> None:
        raise subprocess.TimeoutExpired(command, timeout)

    monkeypatch.setattr(subprocess, "run", hang)
    with pytest.raises(sapiens.NotFetchedError, match="did not arrive within 120 s"):
        sapiens.fetch(tmp_path / "fairseq")


def test_a_wheel_with_another_checkpoint_is_refused(
    golden: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sapiens, "download", lambda folder: wheel(golden, folder, extra=b"!"))
    with pytest.raises(ValueError, match=r"checkpoint_vh\.pt is not the published file"):
        sapiens.fetch(tmp_path / "fairseq")
    assert not (tmp_path / "fairseq").exists()


def test_what_is_there_is_not_fetched_again(golden: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sapiens, "download", lambda folder: wheel(golden, folder))
    first = sapiens.fetch(tmp_path / "fairseq")
    monkeypatch.setattr(sapiens, "download", lambda folder: pytest.fail("fetched again"))
    assert sapiens.fetch(tmp_path / "fairseq") == first

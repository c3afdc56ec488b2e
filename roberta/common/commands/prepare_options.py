"""The arguments of `roberta prepare`; `prepare` runs it. No library is imported here, as in `text_options`."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

from roberta.common.commands.text_options import YES_OR_NO, add_threads, flag

CORPUS_FORMATS = ("txt", "tsv", "csv", "jsonl", "json", "parquet")
# The name of each option, with underscores, is an argument of `roberta.prepare`; a test compares the two.
PREPARE_OPTIONS: dict[str, dict[str, Any]] = {
    "--workers": flag("processes that tokenise (0: this one, with the threads of the tokenizers library)", int,
                      metavar="N"),
    "--text-column": flag("name, or number from 1, of the column of texts (by the usual names)", str, metavar="NAME"),
    "--format": flag("of the files (by their names)", str, choices=CORPUS_FORMATS),
    "--header": flag("the first line of a table names its columns, or does not (by the names in it)", action=YES_OR_NO),
    "--skip-unusable": flag("leave out rows that cannot be used, and count them", action=YES_OR_NO),
    "--progress": flag("show a bar, or none (on a terminal)", action=YES_OR_NO),
}  # fmt: skip


def add_prepare(
    commands: argparse._SubParsersAction[argparse.ArgumentParser], run: Callable[[argparse.Namespace], int]
) -> None:
    """Add `roberta prepare`."""
    own = commands.add_parser(
        "prepare", help="tokenise a corpus once, for trainings with mlm and clm; resumes where it stopped"
    )
    own.add_argument("data", type=Path, nargs="+", metavar="FILE", help="txt, jsonl, parquet, csv, tsv or json")
    own.add_argument("--tokenizer", required=True, help="folder or name: that of the model to train")
    own.add_argument("--output", type=Path, required=True, metavar="STORE", help="folder, made when missing")
    add_threads(own)
    for name, settings in PREPARE_OPTIONS.items():
        own.add_argument(name, **settings)
    own.set_defaults(run=run)

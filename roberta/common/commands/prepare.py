"""`roberta prepare`: from its arguments to a token store."""

from __future__ import annotations

import argparse

from roberta.common.commands.messages import in_options
from roberta.common.commands.prepare_options import PREPARE_OPTIONS
from roberta.common.commands.text_options import arguments_of
from roberta.common.storage.folders import CheckpointError
from roberta.common.training.preparation import prepare

_ARGUMENTS = [flag.removeprefix("--").replace("-", "_") for flag in PREPARE_OPTIONS] + [
    "output",
    "tokenizer",
    "columns",
]


def run_prepare(options: argparse.Namespace) -> int:
    """Prepare a store, or resume one, and say what it has. Returns the exit status."""
    try:
        store = prepare(**arguments_of(options))
    except CheckpointError:
        raise
    except ValueError as error:
        raise ValueError(in_options(str(error), _ARGUMENTS)) from error
    info = store.info
    skipped = f"; {info.skipped:,} rows could not be used and were skipped" if info.skipped else ""
    print(
        f"{store.folder} has {info.tokens:,} tokens in {info.sentences:,} sentences of {info.documents:,} documents{skipped}"
    )
    return 0

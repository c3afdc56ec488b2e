"""`roberta train`: from its arguments to a training."""

from __future__ import annotations

import argparse
import os
import sys

from roberta.common.commands.messages import in_options
from roberta.common.commands.text_options import arguments_of
from roberta.common.commands.training_options import OPTIONS, RECIPE_OPTIONS
from roberta.common.storage.folders import CheckpointError
from roberta.common.training.loss_options import parsed_class_weights
from roberta.common.training.run import Interrupted
from roberta.common.training.session import Training


def run_training(options: argparse.Namespace) -> int:
    """Train. Returns the exit status: 0, or 130 or 143 for a signal, after which --resume continues."""
    try:
        result = training(options).run()
    except CheckpointError:
        raise
    except ValueError as error:
        raise ValueError(in_options(str(error), _ARGUMENTS)) from error
    except Interrupted as signal:
        print(f"roberta train: {signal}", file=sys.stderr)
        return signal.status
    best = "" if result.best is None else f"; the best evaluation was after update {result.best[0]}"
    if os.environ.get("RANK", "0") == "0":  # the other processes of torchrun know neither number
        print(f"{result.output} has the model after update {result.update}{best}")
    return 0


# The arguments of `Training` and of a `Recipe` that messages name.
_ARGUMENTS = [flag.removeprefix("--").replace("-", "_") for flag in (*OPTIONS, *RECIPE_OPTIONS)] + ["output", "model"]


def training(options: argparse.Namespace) -> Training:
    """The training that the arguments describe.

    Raises:
        ValueError: two of them contradict each other, or one is invalid.
    """
    given = arguments_of(options)
    if "columns" in given:
        given["columns"] = dict(given["columns"])
    if len(given.get("labels", ())) == 1:
        given["labels"] = given["labels"][0].split(",")
    if "class_weights" in given:
        given["class_weights"] = parsed_class_weights(given["class_weights"])
    if given.get("framework") == "flax" and given.get("dtype") == "float64":
        os.environ.setdefault("JAX_ENABLE_X64", "1")  # JAX reads it when it is imported
    return Training(**given)

"""The arguments of `roberta train`; what it does is elsewhere.

Nothing is imported here that takes time, so that `roberta --help` is quick.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

TASKS = (
    "mlm", "clm", "text-classification", "token-classification", "question-answering", "multiple-choice"
)  # fmt: skip
FRAMEWORKS = ("pt", "tf", "flax")
DTYPES = ("float32", "float64", "bfloat16")
SHARDINGS = ("none", "data", "full")
FORMATS = ("txt", "tsv", "csv", "jsonl", "json", "conll")
PACKINGS = ("full-sentences", "doc-sentences", "sentence", "blocks", "segment-pair", "sentence-pair")
PROBLEMS = ("single_label_classification", "multi_label_classification", "regression")

Settings = dict[str, Any]


def _option(help: str, type: Callable[[str], Any] | None = None, **settings: Any) -> Settings:
    """Settings of an argument that is left out of the options where it is not given."""
    return {"help": help, "default": argparse.SUPPRESS, **({} if type is None else {"type": type}), **settings}


def _flag(help: str) -> Settings:
    return _option(help, action=argparse.BooleanOptionalAction)


# The name of each, with underscores, is the argument of `session.train`; those of the second table are of a `Recipe`.
OPTIONS: dict[str, Settings] = {
    "--validation": _option("files to evaluate on", Path, nargs="+", metavar="FILE"),
    "--framework": _option("(the first that is installed)", choices=FRAMEWORKS),
    "--tokenizer": _option("folder or name (the model's)"),
    "--seed": _option("of new weights, order, masks and dropout (0)", int, metavar="N"),
    "--dtype": _option("to compute in; with bfloat16 weights stay in float32 (float32)", choices=DTYPES),
    "--max-length": _option("tokens of a row (what the model takes; 384 for question answering)", int, metavar="N"),
    "--micro-batch-size": _option("rows that go through the model at once (all of a batch)", int, metavar="N"),
    "--format": _option("of the files (by their names)", choices=FORMATS),
    "--truncation": _flag("cut texts that are longer than a row, the default, or refuse them"),
    "--masking": _option("how tokens are chosen: as fairseq or as transformers (exact)", choices=("exact", "bernoulli")),
    "--masking-rate": _option("the share of tokens that are chosen (0.15)", float, metavar="P"),
    "--whole-words": _flag("mask whole words"),
    "--packing": _option("how sentences become rows (full-sentences)", choices=PACKINGS),
    "--stride": _option("tokens that two windows of a context share (128)", int, metavar="N"),
    "--problem": _option("what the labels of texts are (by the labels)", choices=PROBLEMS),
    "--labels": _option("their names by number, where the data does not have all", nargs="+", metavar="NAME"),
    "--save-every": _option("updates from checkpoint to checkpoint (an epoch, 1000 at most)", int, metavar="N"),
    "--keep": _option("checkpoints that are kept, beside the best (2)", int, metavar="N"),
    "--evaluate-every": _option("updates from evaluation to evaluation (as --save-every)", int, metavar="N"),
    "--log-every": _option("updates for a line of metrics.jsonl (1)", int, metavar="N"),
    "--best": _flag("give the model of the best evaluation at the end, instead of the last"),
    "--metric": _option("that the best has most of, or least of a loss (the task's first)"),
    "--resume": _flag("go on from the newest checkpoint in OUTPUT"),
    "--compile": _flag("torch.compile, in PyTorch"),
    "--sharding": _option("over processes or devices: data, or weights and optimizer too (none)", choices=SHARDINGS),
    "--workers": _option("processes that prepare batches, in PyTorch (0)", int, metavar="N"),
    "--tensorboard": _flag("write TensorBoard events (where tensorboardX is installed)"),
}  # fmt: skip
RECIPE_OPTIONS: dict[str, Settings] = {
    "--learning-rate": _option("the largest", float, metavar="RATE"),
    "--batch-size": _option("rows of an update", int, metavar="N"),
    "--updates": _option("in all", int, metavar="N"),
    "--epochs": _option("instead of updates", float, metavar="N"),
    "--warmup": _option("updates until the rate is largest; below 1 a share of all", float, metavar="N"),
    "--power": _option("of the decay; 1 is a line", float, metavar="P"),
    "--end-learning-rate": _option("of the last update", float, metavar="RATE"),
    "--beta1": _option("of Adam", float, metavar="B"),
    "--beta2": _option("of Adam", float, metavar="B"),
    "--epsilon": _option("of Adam", float, metavar="E"),
    "--weight-decay": _option("times the rate, off the weights", float, metavar="D"),
    "--decays-all": _flag("norms and biases decay too"),
    "--clip-norm": _option("largest norm of the gradients; 0 for any", float, metavar="NORM"),
    "--dropout": _option("of hidden states and attention", float, metavar="P"),
}


def add_train(
    commands: argparse._SubParsersAction[argparse.ArgumentParser], run: Callable[[argparse.Namespace], int]
) -> None:
    """The arguments of `roberta train`."""
    own = commands.add_parser("train", help="train a model, on a task or from nothing; goes on where it stopped")
    own.add_argument("task", choices=TASKS, metavar="TASK", help=", ".join(TASKS))
    own.add_argument("--model", required=True, help="folder, weights file or hub name; a config.json for new weights")
    own.add_argument("--train", type=Path, nargs="+", required=True, metavar="FILE", help="files to train on")
    own.add_argument("--output", type=Path, required=True, metavar="DIR", help="folder of the training")
    for name, settings in OPTIONS.items():
        own.add_argument(name, **settings)
    recipe = own.add_argument_group("recipe", "the optimization; an option overrides one number of it")
    recipe.add_argument(
        "--recipe", metavar="NAME", default=argparse.SUPPRESS, help="(the task's; see docs/training.md)"
    )
    for name, settings in RECIPE_OPTIONS.items():
        recipe.add_argument(name, **settings)
    own.set_defaults(run=run)

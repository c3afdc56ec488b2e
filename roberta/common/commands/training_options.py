"""The arguments of `roberta train`; `train` runs it.

No library is imported here, as in `text_options`, so the fields of `Training` and `Recipe` are named once more; a test
compares the two.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

from roberta.common.commands.text_options import DATA_FORMATS, YES_OR_NO, add_threads, columns_flag, flag
from roberta.common.frameworks import FRAMEWORKS

TRAINING_TASKS = (
    "mlm", "clm", "text-classification", "token-classification", "question-answering", "multiple-choice"
)  # fmt: skip
_SCHEDULES = ("polynomial", "linear", "cosine", "constant", "inverse_sqrt")
_PACKINGS = ("full-sentences", "doc-sentences", "sentence", "blocks", "segment-pair", "sentence-pair")
_PROBLEMS = ("single_label_classification", "multi_label_classification", "regression")

# The name of each option, with underscores, is a field of `Training`; those of the second table are also of `Recipe`.
OPTIONS: dict[str, dict[str, Any]] = {
    "--validation": flag("files to evaluate on", Path, nargs="+", metavar="FILE"),
    "--validation-split": flag("hold out this share of the training data to evaluate on", float, metavar="P"),
    "--max-train-samples": flag("train on the first examples only", int, metavar="N"),
    "--framework": flag("(the first that is installed)", str, choices=FRAMEWORKS),
    "--device": flag('such as "cpu", "cuda" or "mps" (an accelerator if there is one)', str),
    "--tokenizer": flag("folder or name (the model's)", str),
    "--seed": flag("of new weights, order, masks and dropout (0)", int, metavar="N"),
    "--dtype": flag("to compute in; with bfloat16 and float16 weights stay in float32; auto: bfloat16 where the device has "
                    "it (float32)", str, choices=("float32", "float64", "bfloat16", "float16", "auto")),
    "--max-length": flag("tokens of a row (what the model takes; 384 for question answering)", int, metavar="N"),
    "--micro-batch-size": flag("rows that go through the model at once (all of a batch)", int, metavar="N"),
    "--format": flag("of the files (by their names)", str, choices=(*DATA_FORMATS, "parquet")),
    "--header": flag("the first line of a table names its columns, or does not (by the names in it)", action=YES_OR_NO),
    "--text-column": flag("name, or number from 1, of the column of texts, or of words (by the usual names)", str,
                          metavar="NAME"),
    "--label-column": flag("the same of the labels", str, metavar="NAME"),
    "--columns": columns_flag(" that an example has: text2, question, context, answers"),
    "--skip-unusable": flag("leave out rows that cannot be used, and count them", action=YES_OR_NO),
    "--truncation": flag("cut texts that are longer than a row, the default, or refuse them", action=YES_OR_NO),
    "--masking": flag("how tokens are chosen: as fairseq or as transformers (exact)", str, choices=("exact", "bernoulli")),
    "--masking-rate": flag("the share of tokens that are chosen (0.15)", float, metavar="P"),
    "--whole-words": flag("mask whole words", action=YES_OR_NO),
    "--packing": flag("how sentences become rows (full-sentences)", str, choices=_PACKINGS),
    "--stride": flag("tokens that two windows of a context share (128)", int, metavar="N"),
    "--problem": flag("what the labels of texts are (by the labels)", str, choices=_PROBLEMS),
    "--labels": flag("their names in the order of their numbers, where the data has numbers, or not all of them; "
                     "with commas or spaces between", str, nargs="+", metavar="NAME"),
    "--keep-labels": flag("the labels are those of the model; numbers in the data are its ids", action=YES_OR_NO),
    "--class-weights": flag("how much each label counts: NAME=WEIGHT ..., numbers, or balanced (1 each)", str, nargs="+",
                            metavar="WEIGHT"),
    "--save-every": flag("updates from checkpoint to checkpoint (an epoch, 1000 at most)", int, metavar="N"),
    "--keep": flag("checkpoints that are kept, beside the best (2)", int, metavar="N"),
    "--evaluate-every": flag("updates from evaluation to evaluation (as --save-every)", int, metavar="N"),
    "--log-every": flag("updates for a line of metrics.jsonl (1)", int, metavar="N"),
    "--best": flag("give the model of the best evaluation at the end, instead of the last", action=YES_OR_NO),
    "--metric": flag("that the best has most of, or least of a loss (the task's first)", str),
    "--early-stopping": flag("end the training after so many evaluations without a better one", int, metavar="N"),
    "--resume": flag("resume from the newest checkpoint in OUTPUT", action=YES_OR_NO),
    "--compile": flag("torch.compile, in PyTorch", action=YES_OR_NO),
    "--sharding": flag("over processes or devices: data, or weights and optimizer too (none)", str,
                       choices=("none", "data", "full")),
    "--sharded-checkpoints": flag("each process writes its parts of a checkpoint, in the background, in PyTorch and Flax",
                                  action=YES_OR_NO),
    "--lora": flag("train an adapter: r=8,alpha=16,targets=query+value (all weights)", str, metavar="OPTIONS"),
    "--freeze": flag("do not train: embeddings, so many of the lowest layers, encoder (both), or names", str, nargs="+",
                     metavar="PART"),
    "--gradient-checkpointing": flag("compute hidden states again in the backward pass: less memory, more time",
                                     action=YES_OR_NO),
    "--workers": flag("processes that prepare batches, in PyTorch (0)", int, metavar="N"),
    "--tensorboard": flag("write TensorBoard events (where tensorboardX is installed)", action=YES_OR_NO),
}  # fmt: skip
RECIPE_OPTIONS: dict[str, dict[str, Any]] = {
    "--learning-rate": flag("the largest", float, metavar="RATE"),
    "--batch-size": flag("rows of an update", int, metavar="N"),
    "--updates": flag("in all", int, metavar="N"),
    "--epochs": flag("instead of updates", float, metavar="N"),
    "--warmup": flag("updates until the rate is largest; below 1 a share of all", float, metavar="N"),
    "--schedule": flag(
        "of the rate after the warm-up: polynomial, linear, cosine, constant, inverse_sqrt", str, choices=_SCHEDULES
    ),
    "--power": flag("of a polynomial schedule; 1 is a line", float, metavar="P"),
    "--end-learning-rate": flag("of the last update", float, metavar="RATE"),
    "--beta1": flag("of Adam", float, metavar="B"),
    "--beta2": flag("of Adam", float, metavar="B"),
    "--epsilon": flag("of Adam", float, metavar="E"),
    "--weight-decay": flag("times the rate, off the weights", float, metavar="D"),
    "--decays-all": flag("norms and biases decay too", action=YES_OR_NO),
    "--clip-norm": flag("largest norm of the gradients; 0 for any", float, metavar="NORM"),
    "--dropout": flag("of hidden states and attention", float, metavar="P"),
    "--layer-decay": flag("the rate of a layer is that of the one above times this", float, metavar="D"),
    "--ema-decay": flag("evaluate and save averages of the weights, of this decay, such as 0.999", float, metavar="D"),
    "--label-smoothing": flag("share of each target that is spread over all classes", float, metavar="P"),
}


def add_train(
    commands: argparse._SubParsersAction[argparse.ArgumentParser], run: Callable[[argparse.Namespace], int]
) -> None:
    """Add `roberta train`."""
    own = commands.add_parser("train", help="train a model, on a task or from nothing; resumes where it stopped")
    own.add_argument("task", choices=TRAINING_TASKS, metavar="TASK", help=", ".join(TRAINING_TASKS))
    own.add_argument("--model", required=True, help="folder, weights file or hub name; a config.json for new weights")
    own.add_argument("--train", type=Path, nargs="+", required=True, metavar="FILE",
                     help="files to train on, or a store that roberta prepare wrote")  # fmt: skip
    own.add_argument("--output", type=Path, required=True, metavar="DIR", help="folder of the training")
    add_threads(own)
    for name, settings in OPTIONS.items():
        own.add_argument(name, **settings)
    recipe = own.add_argument_group("recipe", "the optimization; an option overrides one number of it")
    recipe.add_argument(
        "--recipe", metavar="NAME", default=argparse.SUPPRESS, help="(the task's; see docs/training.md)"
    )
    for name, settings in RECIPE_OPTIONS.items():
        recipe.add_argument(name, **settings)
    own.set_defaults(run=run)

"""The arguments of the commands that take texts: `roberta fill-mask`, `classify`, `tag`, ...; `text_commands` runs them.

No library is imported here: `roberta --help` stays quick, and `--threads` is known before libraries read it.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from roberta.common.frameworks import FRAMEWORKS

DATA_FORMATS = ("txt", "tsv", "csv", "jsonl", "json", "conll")
# Tasks that the bundled model was trained for; it has no weights for others.
SMALL_MODEL_TASKS = ("fill-mask", "embeddings")
YES_OR_NO = argparse.BooleanOptionalAction  # --name and --no-name


class Command(NamedTuple):
    """A command that takes texts.

    Attributes:
        task: of `roberta.pipeline`.
        fields: of an input, in the order of the columns of a .tsv file; the first `needed` of them are required.
        flags: of this command only; the `dest` of each, or else its name with underscores, is the pipeline's option.
        many: whether the last field takes all further columns.
        named_fields: of an input, in the column or field that the caller names.
    """

    task: str
    help: str
    fields: tuple[str, ...]
    needed: int
    flags: dict[str, dict[str, Any]]
    many: bool = False
    named_fields: tuple[str, ...] = ()


def _count_or_all(text: str) -> int | None:
    """A number, or None for "all"."""
    return None if text == "all" else int(text)


def flag(help: str, type: Callable[[str], Any] | None = None, **settings: Any) -> dict[str, Any]:
    """Settings of an argument that is absent from the options unless it is given."""
    kind = {"type": type} if type is not None else {} if "action" in settings else {"action": "store_true"}
    return {"help": help, "default": argparse.SUPPRESS, **kind, **settings}


def column(text: str) -> tuple[str, str]:
    """A role and the name of its column, of "role=name"."""
    role, sign, name = text.partition("=")
    if not sign:
        raise argparse.ArgumentTypeError(f"{text!r} must be ROLE=NAME, such as text2=answer")
    return role, name


def columns_flag(roles: str) -> dict[str, Any]:
    """The argument `--columns`, for these roles."""
    help = f"the same of anything else{roles}, ...; ROLE= for none"
    return flag(help, column, action="extend", nargs="+", metavar="ROLE=NAME")


def _separated(text: str) -> list[str]:
    """The labels of a text with commas between them."""
    return [part.strip() for part in text.split(",") if part.strip()]


_TRUNCATION = {
    "--truncation": flag("cut texts that are too long, as in training (the default), or refuse them", action=YES_OR_NO),
    "--max-length": flag("tokens to cut to (what the model was trained with, or takes)", int, metavar="N"),
}
COMMANDS: dict[str, Command] = {
    "fill-mask": Command(
        "fill-mask", "the likeliest tokens for each <mask>", ("text",), 1,
        {
            "--top-k": flag("tokens a mask (5)", int, metavar="N"),
            "--targets": flag("score this word only; may be repeated", str, action="append", metavar="WORD"),
            **_TRUNCATION,
        },
    ),
    "classify": Command(
        "text-classification", "labels of texts, or of pairs of texts", ("text", "text_pair"), 1,
        {
            "--top-k": flag('labels a text, or "all" (the best)', _count_or_all, metavar="N"),
            "--function-to-apply": flag(
                "what makes scores (by the config)", str, choices=("softmax", "sigmoid", "none")
            ),
            **_TRUNCATION,
        },
    ),
    "tag": Command(
        "token-classification", "entities of texts", ("text",), 1,
        {
            "--aggregation-strategy": flag(
                "how tokens are put together (as the model was trained; else first: a word by its first token)", str,
                choices=("none", "simple", "first", "average", "max")
            ),
            "--ignore-labels": flag("leave results of this name out; may be repeated (O)", str, action="append",
                                    metavar="LABEL"),
            "--stride": flag("tag long texts whole, in windows that share N tokens", int, metavar="N"),
        },
    ),
    "answer": Command(
        "question-answering", "answers to questions, found in contexts", ("question", "context"), 2,
        {
            "--top-k": flag("answers a question (1)", int, metavar="N"),
            "--max-seq-len": flag("tokens of a window (384)", int, metavar="N"),
            "--doc-stride": flag("tokens that two windows share (128)", int, metavar="N"),
            "--max-question-len": flag("tokens of a question that are kept (all)", int, metavar="N"),
            "--max-answer-len": flag("tokens of an answer (15)", int, metavar="N"),
            "--handle-impossible-answer": flag('give "" where that is likelier than an answer'),
        },
    ),
    "choose": Command(
        "multiple-choice", "the best of several texts that go with a prompt", ("prompt", "choices"), 2,
        {"--top-k": flag('choices, best first, or "all" (1)', _count_or_all, metavar="N"), **_TRUNCATION}, many=True,
    ),
    "embed": Command(
        "embeddings", "a vector a text", ("text",), 1,
        {
            "--pooling": flag(
                "what the vector is (as sentence-transformers' modules.json says; else mean)", str,
                choices=("mean", "cls", "pooler", "max", "mean_sqrt_len_tokens", "weightedmean", "lasttoken"),
            ),
            "--normalize": flag("make vectors of length 1, or not (as modules.json says; else not)", action=YES_OR_NO),
            **_TRUNCATION,
        },
    ),
    "generate": Command(
        "text-generation", "texts that continue prompts", ("text",), 1,
        {
            "--max-new-tokens": flag("tokens to add (256)", int, metavar="N"),
            "--do-sample": flag("draw tokens, the default, or with --no-do-sample take the best",
                                action=YES_OR_NO),
            "--temperature": flag("of drawing (0.7)", float, metavar="T"),
            "--top-p": flag("draw from the likeliest tokens of this share (1.0)", float, metavar="P"),
            "--num-beams": flag("width of a beam search (1: none)", int, metavar="N"),
            "--num-return-sequences": flag("texts a prompt (1)", int, metavar="N"),
            "--add-special-tokens": flag("put <s> before the prompt, the default, or not",
                                         action=YES_OR_NO),
            "--end-prompt": flag("put </s> after the prompt too: the model begins something new"),
            "--seed": flag("of drawing", int, metavar="N"),
        },
    ),
}  # fmt: skip

# `roberta classify` with labels that the caller chooses.
ZERO_SHOT = Command(
    "zero-shot-classification", "which labels fit a text", ("text",), 1,
    {
        "--labels": flag("with commas between them; may be repeated", _separated, action="extend",
                         dest="candidate_labels", metavar="LABELS"),
        "--hypothesis": flag('the sentence that a text may entail, with {} for the label ("This example is {}.")', str,
                             dest="hypothesis_template", metavar="TEXT"),
        "--multi-label": flag("score each label alone, as several or none may fit"),
        **_TRUNCATION,
    },
    named_fields=("candidate_labels",),
)  # fmt: skip


# How a file is read, for every command.
_COLUMNS: dict[str, dict[str, Any]] = {
    "--header": flag("the first line of a table names its columns, or does not (by the names in it)", action=YES_OR_NO),
    "--text-column": flag("name, or number from 1, of the column of texts (by the usual names)", str, metavar="NAME"),
    "--columns": columns_flag(": text2, question, context, prompt, choices, candidate_labels, id"),
}  # fmt: skip


def add_threads(parser: argparse.ArgumentParser) -> None:
    """Add the argument `--threads`."""
    parser.add_argument("--threads", type=int, metavar="N", help="of the processor (those that this process may use)")


def add_device(parser: argparse.ArgumentParser) -> None:
    """Add the argument `--device`."""
    parser.add_argument("--device", help='such as "cpu", "cuda", "cuda:1" or "mps" (an accelerator if there is one)')


def add_text_commands(
    commands: argparse._SubParsersAction[argparse.ArgumentParser], run: Callable[[argparse.Namespace], int]
) -> None:
    """Add every command that takes texts."""
    for name, command in COMMANDS.items():
        own = commands.add_parser(name, help=command.help)
        own.add_argument("inputs", nargs="*", metavar="TEXT", help=_positional(command))
        small = " (the small bundled one)" if command.task in SMALL_MODEL_TASKS else "; needed"
        own.add_argument("--model", help=f"folder, weights file, or name on the hub{small}")
        own.add_argument("--tokenizer", help="folder or name (the model's)")
        own.add_argument("--framework", choices=FRAMEWORKS, help="(the first that is installed)")
        add_device(own)
        own.add_argument(
            "--dtype", choices=("float32", "float64", "bfloat16", "int8", "auto"),
            help="(float32); auto: bfloat16 where the device computes in it",
        )  # fmt: skip
        own.add_argument("--batch-tokens", type=int, default=1024, metavar="N", help="at once (%(default)s)")
        add_threads(own)
        own.add_argument("--file", type=Path, help="a file of inputs instead, in any of the formats")
        own.add_argument("--format", choices=DATA_FORMATS, help="of the file (by its name) or of standard input")
        for flag_, settings in _COLUMNS.items():
            if flag_ != "--text-column" or "text" in command.fields:
                own.add_argument(flag_, **settings)
        own.add_argument(
            "--on-error", choices=("stop", "skip"), default="stop",
            help="what an unusable input does; skip writes its error instead of its result (%(default)s)",
        )  # fmt: skip
        own.add_argument("--json", action="store_true", help="JSON lines on a terminal too")
        own.add_argument(
            "--inputs", dest="keep_inputs", action=YES_OR_NO,
            help="write id and texts of an input beside its result, or not (where a file names its fields)",
        )  # fmt: skip
        for flag_, settings in command.flags.items():
            own.add_argument(flag_, **settings)
        if name == "classify":
            labels = own.add_argument_group("labels of your own", "with a model that was trained for entailment (NLI)")
            for flag_, settings in ZERO_SHOT.flags.items():
                if flag_ not in command.flags:
                    labels.add_argument(flag_, **settings)
        if name == "answer":
            own.add_argument("--context-file", type=Path, metavar="FILE", help="one context; each TEXT is a question")
        _add_job(own, is_embed=name == "embed")
        own.set_defaults(run=run)


def _add_job(parser: argparse.ArgumentParser, *, is_embed: bool) -> None:
    """Add the arguments of a batch job."""
    array = "a .npy file for the vectors, (texts, size); or, " if is_embed else ""
    parser.add_argument("--output", type=Path, metavar="PLACE", help=f"{array}with --input, a folder for the results")
    job = parser.add_argument_group("batch job", "the same command again resumes a job that was stopped")
    files = "parquet or JSON lines files or patterns; results go beside their columns, into files of --output"
    job.add_argument("--input", **flag(files, str, nargs="+", metavar="FILE", dest="job_inputs"))
    job.add_argument("--shard-rows", **flag("rows that are computed and written at once (10000)", count, metavar="N"))
    job.add_argument("--engine", **flag("this process, or a Ray cluster (local)", str, choices=("local", "ray")))
    job.add_argument("--workers", **flag("processes of Ray (one for each processor)", count, metavar="N"))


def count(text: str) -> int:
    """A number of at least 1."""
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text} must be at least 1")
    return number


def _positional(command: Command) -> str:
    """Help for the arguments without a flag."""
    if command.needed == 1:
        return "texts; without any, lines of standard input"
    fields = " ".join(field.upper() for field in command.fields)
    return f"{fields}{' ...' if command.many else ''}; without any, lines of standard input, columns split by tabs"


def command_of(given: argparse.Namespace) -> Command:
    """What a subcommand does: `classify` with labels is zero-shot classification.

    Raises:
        ValueError: options that do not go together.
    """
    command = COMMANDS[given.command]
    if command.task != "text-classification":
        return command
    has_labels = hasattr(given, "candidate_labels") or bool(dict(getattr(given, "columns", ())).get("candidate_labels"))
    chosen, other = (ZERO_SHOT, command) if has_labels else (command, ZERO_SHOT)
    for name, flag_ in option_names(other).items():
        if hasattr(given, name) and flag_ not in chosen.flags:
            why = (
                "labels of your own: the result has each of them, best first; omit it"
                if has_labels
                else 'a model\'s own labels; give others with --labels "a,b,c", or --columns candidate_labels=NAME'
            )
            raise ValueError(f"{flag_} does not go with {why}")
    return chosen


def option_names(command: Command) -> dict[str, str]:
    """The pipeline's options that a command has, and the flag of each."""
    return {
        settings.get("dest", flag_.removeprefix("--").replace("-", "_")): flag_
        for flag_, settings in command.flags.items()
    }


def options_of(command: Command, given: argparse.Namespace) -> dict[str, Any]:
    """The pipeline's options that were given."""
    return {name: getattr(given, name) for name in option_names(command) if hasattr(given, name)}


def arguments_of(given: argparse.Namespace) -> dict[str, Any]:
    """The arguments of a subcommand, as those of the function that it calls."""
    return {name: value for name, value in vars(given).items() if name not in ("command", "run", "threads")}

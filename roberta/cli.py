"""The `roberta` command: thin, one function a subcommand; each imports what it needs when it runs."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

import roberta
from roberta.common.commands.texts import add_text_commands, add_threads
from roberta.common.commands.threads import set_threads
from roberta.common.commands.training_options import add_train

# Literal, so that `roberta --help` imports neither numpy nor the converter; a test compares them with the converter's.
FORMATS = ("safetensors", "pt", "tf", "flax", "fairseq", "keras-hub")
DTYPES = ("float32", "float64", "float16", "bfloat16")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one subcommand; the exit status: 0, 1 for what could not be done, 2 for wrong arguments, 130 for Ctrl-C."""
    options = parser().parse_args(arguments)
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # TensorFlow greets on stderr
    try:
        set_threads(getattr(options, "threads", None))
        status: int = options.run(options)
        sys.stdout.flush()  # here, where a reader that is gone can be told from other errors
    except BrokenPipeError:  # `roberta info model | head`: nobody reads on, as a shell says it
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or the interpreter's exit fails at it
        return 141
    except (OSError, ValueError, ModuleNotFoundError) as error:
        print(f"roberta {options.command}: {without_arguments(str(error))}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"roberta {options.command}: interrupted", file=sys.stderr)
        return 130  # as a shell says it
    return status


# Ways out of errors that a caller from Python has, and no command.
PYTHON_ONLY = (
    " (ignore_mismatched_sizes=True makes it new)", "; check variant, use_safetensors and from_*", ", or give config=",
)  # fmt: skip


def without_arguments(message: str) -> str:
    """A message without ways out that a command does not have."""
    for way in PYTHON_ONLY:
        message = message.replace(way, "")
    return message


def parser() -> argparse.ArgumentParser:
    """The arguments of every subcommand."""
    top = argparse.ArgumentParser(prog="roberta", description=(roberta.__doc__ or "").partition("\n")[0])
    top.add_argument("--version", action="version", version=f"roberta {roberta.__version__}")
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")

    demo_ = commands.add_parser("demo", help="convert a trained model, verify it, and run it in every framework")
    demo_.add_argument("--folder", type=Path, default=Path("demo-checkpoint"), help="made when missing (%(default)s)")
    demo_.add_argument("--trained", type=Path, default=Path("demo-sapiens"), help="fetched when missing (%(default)s)")
    demo_.set_defaults(run=demo)

    info_ = commands.add_parser("info", help="what a model folder or hub name holds; needs no framework")
    info_.add_argument("path", help="folder, or name on the hub")
    info_.add_argument("--variant", help="the mark in model.VARIANT.safetensors")
    info_.set_defaults(run=info)
    add_convert(commands)
    add_verify(commands)
    add_train(commands, train)
    add_text_commands(commands, texts)
    return top


def add_convert(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """The arguments of `roberta convert`."""
    convert_ = commands.add_parser("convert", help="write a checkpoint of any format in another; needs no framework")
    convert_.add_argument("source", help="folder, weights file, or name on the hub")
    convert_.add_argument("target", type=Path, help="folder, made when missing")
    convert_.add_argument("--to", choices=FORMATS, required=True, help="the format to write")
    convert_.add_argument("--from", dest="from_", choices=FORMATS, help="the source's format (recognised)")
    convert_.add_argument("--dtype", choices=DTYPES, help="of the tensors written (as they are)")
    convert_.add_argument("--max-shard-size", default="5GB", metavar="SIZE", help='such as "500MB" (%(default)s)')
    convert_.add_argument("--head", help="class such as ForMaskedLM, or a fairseq classification head's name")
    convert_.add_argument("--dictionary", type=Path, metavar="FILE", help="fairseq's dict.txt (beside the source)")
    convert_.add_argument("--encoder-json", type=Path, metavar="FILE", help="GPT-2's (beside the source)")
    convert_.add_argument("--vocab-bpe", type=Path, metavar="FILE", help="GPT-2's (beside the source)")
    convert_.add_argument(
        "--sentencepiece", type=Path, metavar="FILE", help="XLM-R's or CamemBERT's (beside the source)"
    )
    convert_.add_argument("--attention-heads", type=int, metavar="N", help="of a fairseq file that does not say it")
    convert_.add_argument("--overwrite", action="store_true", help="replace a model in the target")
    convert_.set_defaults(run=convert)


def convert(options: argparse.Namespace) -> int:
    """`roberta convert`: prints what was read and written."""
    from roberta.conversion import convert as run_convert

    report = run_convert(
        options.source,
        options.target,
        to=options.to,
        from_=options.from_,
        dtype=options.dtype,
        max_shard_size=options.max_shard_size,
        head=options.head,
        dictionary=options.dictionary,
        encoder_json=options.encoder_json,
        vocab_bpe=options.vocab_bpe,
        sentencepiece=options.sentencepiece,
        num_attention_heads=options.attention_heads,
        overwrite=options.overwrite,
    )
    print(report.message())
    return 0


def add_verify(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """The arguments of `roberta verify`."""
    verify_ = commands.add_parser("verify", help="whether all frameworks compute the same from a checkpoint")
    verify_.add_argument("source", help="folder, weights file, or name on the hub")
    verify_.add_argument("--against", metavar="OTHER", help="a second checkpoint, such as a conversion of the first")
    verify_.add_argument("--frameworks", metavar="pt,tf,flax", help="the first is the reference (those installed)")
    verify_.add_argument("--dtype", choices=("float32", "float64"), default="float64", help="(%(default)s)")
    verify_.add_argument("--gradients", action="store_true", help="compare the gradient of every parameter too")
    verify_.add_argument("--head", metavar="CLASS", help="such as ForMaskedLM (what the config says)")
    verify_.add_argument("--text", action="append", dest="texts", help="a text to run; may be repeated")
    verify_.add_argument("--ids", action="append", metavar='"0 31414 2"', help="a row to run; may be repeated")
    verify_.add_argument("--seed", type=int, default=0, help="of the ids when none are given (%(default)s)")
    verify_.add_argument("--tokens", type=int, default=32, help="of the longest of these rows (%(default)s)")
    verify_.add_argument("--report", action="append", type=Path, default=[], metavar="FILE", help=".html or .json")
    add_threads(verify_)
    verify_.set_defaults(run=verify)


def verify(options: argparse.Namespace) -> int:
    """`roberta verify`: prints the table and writes the reports; 0 when all agree, 1 when not."""
    from roberta.conversion.report_files import check_path
    from roberta.conversion.verify import verify as run_verify

    for path in options.report:
        check_path(path)
    report = run_verify(
        options.source,
        against=options.against,
        frameworks=None if options.frameworks is None else options.frameworks.split(","),
        dtype=options.dtype,
        gradients=options.gradients,
        head=options.head,
        texts=options.texts,
        ids=None if options.ids is None else [[int(number) for number in row.split()] for row in options.ids],
        seed=options.seed,
        tokens=options.tokens,
    )
    print(report)
    for path in options.report:
        report.save(path)
    return report.exit_code


def train(options: argparse.Namespace) -> int:
    """`roberta train`."""
    from roberta.common.commands.memory import keep_freed_memory
    from roberta.common.commands.train import run as run_training

    keep_freed_memory()
    return run_training(options)


def texts(options: argparse.Namespace) -> int:
    """`roberta fill-mask`, `classify`, `tag`, `answer`, `choose`, `embed` and `generate`."""
    from roberta.common.commands.memory import keep_freed_memory
    from roberta.common.commands.run_texts import run as run_command

    keep_freed_memory()
    return run_command(options)


def demo(options: argparse.Namespace) -> int:
    """`roberta demo`."""
    from roberta.conversion.demo import main as run_demo

    return run_demo(options.folder, options.trained)


def info(options: argparse.Namespace) -> int:
    """`roberta info`: the config's sizes, the file, and the number of parameters."""
    from typing import get_args

    from roberta.common.checkpoint.checkpoint import open_checkpoint
    from roberta.common.config_protocol import checked_config
    from roberta.common.parameters import Head, parameters
    from roberta.common.storage.hub import local_checkpoint

    folder = local_checkpoint(options.path, variant=options.variant)
    config, _ = checked_config(folder)
    checkpoint = open_checkpoint(folder, variant=options.variant)
    tensors = checkpoint.tensors.values()
    heads = [name.rpartition("Roberta")[2] for name in config.architectures or ()]
    rows = {
        "class": ", ".join(config.architectures or ["not said"]),
        "layers": config.num_hidden_layers,
        "hidden size": config.hidden_size,
        "attention heads": config.num_attention_heads,
        "feed-forward size": config.intermediate_size,
        "vocabulary": config.vocab_size,
        "longest input": f"{config.max_length_tokens} tokens",
        "weights": checkpoint.source.name,
        "tensors": f"{len(tensors)}, {', '.join(sorted({tensor.dtype for tensor in tensors}))}",
    }
    for head in get_args(Head):
        if head in heads:  # by the table: a file may hold a tied matrix twice
            rows["parameters"] = f"{sum(p.size for p in parameters(config, head).values()):,}"
    for name, value in rows.items():
        print(f"{name:<18} {value}")
    return 0

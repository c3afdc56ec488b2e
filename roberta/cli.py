"""The `roberta` command: one thin function for each subcommand, which imports what it needs when it runs."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

import roberta
from roberta.common.commands.prepare_options import add_prepare
from roberta.common.commands.text_options import add_device, add_text_commands, add_threads, arguments_of
from roberta.common.commands.threads import set_threads
from roberta.common.commands.training_options import add_train

# Literal, as no library may be loaded before `set_threads`; a test compares them with the converter's.
CHECKPOINT_FORMATS = ("safetensors", "pt", "tf", "flax", "fairseq", "keras-hub")
CHECKPOINT_DTYPES = ("float32", "float64", "float16", "bfloat16")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one subcommand. Returns the exit status: 0, 1 for a failure, 2 for wrong arguments, 130 for Ctrl-C."""
    options = parser().parse_args(arguments)
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # or TensorFlow prints a banner
    try:
        set_threads(getattr(options, "threads", None))
        status: int = options.run(options)
        sys.stdout.flush()  # here, where a reader that has gone can be told from other errors
    except BrokenPipeError:  # such as `roberta info model | head`: the status that a shell gives
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or flushing at exit fails again
        return 141
    except (OSError, ValueError, ModuleNotFoundError) as error:
        print(f"roberta {options.command}: {_without_arguments(str(error))}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"roberta {options.command}: interrupted", file=sys.stderr)
        return 130  # the status that a shell gives
    return status


# Ways out of errors that only a caller from Python has.
_PYTHON_ONLY = (
    " (ignore_mismatched_sizes=True makes it new)", "; check variant, use_safetensors and from_*", ", or give config=",
)  # fmt: skip


def _without_arguments(message: str) -> str:
    """A message without ways out that no command has."""
    for way in _PYTHON_ONLY:
        message = message.replace(way, "")
    return message


def parser() -> argparse.ArgumentParser:
    """The parser of all subcommands."""
    top = argparse.ArgumentParser(prog="roberta", description=(roberta.__doc__ or "").partition("\n")[0])
    top.add_argument("--version", action="version", version=f"roberta {roberta.__version__}")
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")

    demo = commands.add_parser("demo", help="convert a trained model, verify it, and run it in every framework")
    demo.add_argument("--folder", type=Path, default=Path("demo-checkpoint"), help="made when missing (%(default)s)")
    demo.add_argument("--trained", type=Path, default=Path("demo-sapiens"), help="fetched when missing (%(default)s)")
    demo.set_defaults(run=_demo)

    info = commands.add_parser("info", help="what a model folder or hub name holds; needs no framework")
    info.add_argument("path", help="folder, weights file, or name on the hub")
    info.add_argument("--variant", help="the mark in model.VARIANT.safetensors")
    info.set_defaults(run=_info)
    _add_convert(commands)
    _add_verify(commands)
    add_train(commands, _train)
    add_prepare(commands, _prepare)
    add_text_commands(commands, _texts)
    return top


def _add_convert(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """The arguments of `roberta convert`."""
    convert_ = commands.add_parser("convert", help="write a checkpoint of any format in another; needs no framework")
    convert_.add_argument("source", help="folder, weights file, or name on the hub")
    convert_.add_argument("target", type=Path, help="folder, made when missing")
    convert_.add_argument("--to", choices=CHECKPOINT_FORMATS, required=True, help="the format to write")
    convert_.add_argument("--from", dest="from_", choices=CHECKPOINT_FORMATS, help="the source's format (recognised)")
    convert_.add_argument("--dtype", choices=CHECKPOINT_DTYPES, help="of the tensors written (as they are)")
    convert_.add_argument("--max-shard-size", default="5GB", metavar="SIZE", help='such as "500MB" (%(default)s)')
    convert_.add_argument("--head", help="class such as ForMaskedLM, or a fairseq classification head's name")
    convert_.add_argument("--dictionary", type=Path, metavar="FILE", help="fairseq's dict.txt (beside the source)")
    convert_.add_argument("--encoder-json", type=Path, metavar="FILE", help="GPT-2's (beside the source)")
    convert_.add_argument("--vocab-bpe", type=Path, metavar="FILE", help="GPT-2's (beside the source)")
    convert_.add_argument(
        "--sentencepiece", type=Path, metavar="FILE", help="XLM-R's or CamemBERT's (beside the source)"
    )
    convert_.add_argument("--attention-heads", dest="num_attention_heads", type=int, metavar="N",
                         help="of a fairseq file that does not say it")  # fmt: skip
    convert_.add_argument("--adapter", metavar="ADAPTER", help="folder or hub name of a LoRA adapter to merge")
    convert_.add_argument("--overwrite", action="store_true", help="replace a model in the target")
    convert_.set_defaults(run=_convert)


def _convert(options: argparse.Namespace) -> int:
    """`roberta convert`: print what was read and written."""
    from roberta.conversion import convert

    print(convert(**arguments_of(options)).message())
    return 0


def _add_verify(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
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
    add_device(verify_)
    add_threads(verify_)
    verify_.set_defaults(run=_verify)


def _verify(options: argparse.Namespace) -> int:
    """`roberta verify`: print the table and write the reports; 0 when all agree, 1 when not."""
    from roberta.common.commands.messages import in_options
    from roberta.conversion.verify import verify
    from roberta.conversion.verify.report import check_path

    given = arguments_of(options)
    files = given.pop("report")
    for path in files:
        check_path(path)
    if given["frameworks"] is not None:
        given["frameworks"] = given["frameworks"].split(",")
    if given["ids"] is not None:
        given["ids"] = [[int(number) for number in row.split()] for row in given["ids"]]
    try:
        report = verify(**given)
    except ValueError as error:
        raise ValueError(in_options(str(error), ["device"])) from error
    print(report)
    for path in files:
        report.save(path)
    return report.exit_code


def _train(options: argparse.Namespace) -> int:
    """`roberta train`."""
    from roberta.common.commands.memory import keep_freed_memory
    from roberta.common.commands.train import run_training

    keep_freed_memory()
    return run_training(options)


def _prepare(options: argparse.Namespace) -> int:
    """`roberta prepare`."""
    from roberta.common.commands.prepare import run_prepare

    return run_prepare(options)


def _texts(options: argparse.Namespace) -> int:
    """`roberta fill-mask`, `classify`, `tag`, `answer`, `choose`, `embed` and `generate`."""
    from roberta.common.commands.memory import keep_freed_memory
    from roberta.common.commands.text_commands import run_texts

    keep_freed_memory()
    return run_texts(options)


def _demo(options: argparse.Namespace) -> int:
    """`roberta demo`."""
    from roberta.conversion.demo import run_demo

    return run_demo(options.folder, options.trained)


def _info(options: argparse.Namespace) -> int:
    """`roberta info`: print the config's sizes, the weights file, and the number of parameters."""
    from typing import get_args

    from roberta.common.checkpoint.checkpoint import open_checkpoint
    from roberta.common.checkpoint.wrappers import unwrapped
    from roberta.common.config_protocol import checked_config
    from roberta.common.model_types import class_name, head_of_class
    from roberta.common.parameters import Head, parameters
    from roberta.common.storage.hub import local_checkpoint
    from roberta.conversion.model import head_of

    # only headers are read: a file's size does not matter
    file = Path(options.path)
    folder = file.parent if file.is_file() else local_checkpoint(options.path, variant=options.variant)
    config, _ = checked_config(folder)
    checkpoint = open_checkpoint(file if file.is_file() else folder, variant=options.variant)
    tensors = checkpoint.tensors.values()
    inner = unwrapped(checkpoint.source, checkpoint.tensors, ())
    heads = [head_of_class(name) for name in config.architectures or ()]
    named = ", ".join(config.architectures or ())
    if not heads:  # then the tensors say it, as they do for convert
        heads = [head_of(config, inner.tensors, checkpoint.source)]
        named = f"{class_name(config.model_type, heads[0])} by its tensors; the config names none"
    rows = {
        "class": named,
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
        if head in heads:  # counted by the table: a file may hold a tied matrix twice
            rows["parameters"] = f"{sum(p.size for p in parameters(config, head).values()):,}"
    for name, value in rows.items():
        print(f"{name:<18} {value}")
    for remark in (*checkpoint.remarks, *inner.remarks):
        print(f"{'note':<18} {remark}")
    return 0

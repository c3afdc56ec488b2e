"""What `roberta fill-mask`, `classify`, `tag`, ... do: inputs through a pipeline, results to a terminal or a file."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from roberta.common.pipelines import pipeline
from roberta.common.pipelines.base import PROGRESS_SECONDS
from roberta.common.pipelines.records import from_arguments, from_file
from roberta.common.text_commands import COMMANDS, options_of

INTERRUPTED = 130  # the exit status of a shell's command that Ctrl-C ended


def run(options: argparse.Namespace) -> int:
    """Run one command; the exit status.

    What Ctrl-C or a broken input ends has its results so far written.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # TensorFlow greets on stderr
    inputs = inputs_of(options)
    command = COMMANDS[options.command]
    own = options_of(command, options)
    if options.command == "tag":
        own.setdefault("aggregation_strategy", "simple")
    pipe = pipeline(
        command.task,
        options.model,
        options.tokenizer,
        framework=options.framework,
        dtype=options.dtype,
        batch_tokens=options.batch_tokens,
        **own,
    )
    given: list[Any] = []  # the inputs whose results are not out yet
    results = pipe(noted(inputs, given))
    output = getattr(options, "output", None)
    return written(results, given, output, as_json=options.json or not sys.stdout.isatty())


def inputs_of(options: argparse.Namespace) -> Iterable[Any]:
    """The inputs: arguments, or lines of a file or of standard input."""
    command = COMMANDS[options.command]
    context = getattr(options, "context_file", None)
    if options.inputs:
        if options.file is not None:
            raise ValueError(f"give texts as arguments, or --file {options.file}, not both")
        return from_arguments(command, options.inputs, context)
    if context is not None:
        raise ValueError(f"--context-file {context} needs a question as an argument")
    if options.file is None and sys.stdin.isatty():
        raise ValueError("there is no text; give one as an argument, --file, or standard input")
    return from_file(command, options.file, options.format)


def noted(inputs: Iterable[Any], given: list[Any]) -> Iterator[Any]:
    """The inputs, each noted as it is taken, so that a table can show it beside its result."""
    for value in inputs:
        given.append(value)
        yield value


def written(results: Iterable[Any], given: list[Any], output: Path | None, *, as_json: bool) -> int:
    """Write every result; the exit status."""
    # results on the same terminal are progress enough
    is_quiet = output is None and sys.stdout.isatty()
    bar = tqdm(results, unit=" inputs", delay=PROGRESS_SECONDS, disable=True if is_quiet else None)
    writer = Vectors(output) if output is not None else Lines(as_json=as_json)
    try:
        with writer:
            for result in bar:
                writer.write(given.pop(0), result)
    except KeyboardInterrupt:
        print("interrupted; the results so far are written", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:  # the reader, such as `head`, has what it wants
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0


class Lines:
    """Results on standard output: a line of JSON each, or a small table each."""

    def __init__(self, *, as_json: bool) -> None:
        self.as_json = as_json

    def __enter__(self) -> Lines:
        return self

    def __exit__(self, *error: object) -> None:
        """Every result is out already."""

    def write(self, value: Any, result: Any) -> None:
        """One result."""
        text = json.dumps(result, ensure_ascii=False, default=as_list) if self.as_json else table(value, result)
        print(text, flush=True)  # who reads a pipe may wait for each


class Vectors:
    """Vectors in a .npy file, (vectors, size), which is there, whole, when the block ends, however it ends.

    Raises:
        ValueError: a name that does not end in .npy.
    """

    def __init__(self, path: Path) -> None:
        if path.suffix != ".npy":
            raise ValueError(f"--output {path} must end in .npy")
        self.path = path
        self.part = path.with_name(path.name + ".part")
        self.count = 0
        self.vector = np.zeros(0, np.float32)

    def __enter__(self) -> Vectors:
        self.file = self.part.open("wb")
        return self

    def write(self, value: Any, result: np.ndarray) -> None:
        """One vector."""
        if self.count == 0:
            self.vector = result
            self.header()
        self.file.write(np.ascontiguousarray(result).tobytes())
        self.count += 1

    def header(self) -> None:
        """The head of the file; numpy leaves room in it for the first axis to grow."""
        descr = np.lib.format.dtype_to_descr(self.vector.dtype)
        shape = (self.count, len(self.vector))
        np.lib.format.write_array_header_1_0(self.file, {"descr": descr, "fortran_order": False, "shape": shape})

    def __exit__(self, *error: object) -> None:
        self.file.seek(0)
        self.header()
        self.file.close()
        os.replace(self.part, self.path)


def as_list(value: Any) -> Any:
    """What JSON makes of a numpy value."""
    return value.tolist()


def table(value: Any, result: Any) -> str:
    """A result for people: the input, and a row for each part of the result."""
    title = value if isinstance(value, str) else " | ".join(map(str, value.values()))
    rows = [cells(part) for part in parts(result)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows)
    return "\n".join([title if len(title) <= 100 else f"{title[:97]}...", *(f"  {line}" for line in lines)])


def parts(result: Any) -> Iterator[dict[str, Any]]:
    """The dictionaries of a result, whatever lists they are in."""
    if isinstance(result, dict):
        yield result
    elif isinstance(result, np.ndarray):
        start = " ".join(f"{number:.4f}" for number in result[:4])
        yield {"size": f"{len(result)} numbers", "start": f"{start} ..."}
    else:
        for part in result:
            yield from parts(part)


def cells(part: dict[str, Any]) -> list[str]:
    """The values of a row as text."""
    return [f"{value:.4f}" if isinstance(value, float) else str(value) for value in part.values()]

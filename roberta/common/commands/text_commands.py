"""Run `roberta fill-mask`, `classify`, `tag`, ...: inputs through a pipeline, results to a terminal or a file."""

from __future__ import annotations

import argparse
import dataclasses
import itertools
import json
import os
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from roberta.common.commands.columns import Given, Said
from roberta.common.commands.input_files import from_arguments, from_file, text_of_file
from roberta.common.commands.jobs import run_job, said_columns
from roberta.common.commands.messages import in_options, option_of
from roberta.common.commands.quiet import greetings_left_out, warnings_once
from roberta.common.commands.text_options import SMALL_MODEL_TASKS, Command, command_of, option_names, options_of
from roberta.common.pipelines import pipeline
from roberta.common.pipelines.base import PROGRESS_SECONDS, Pipeline
from roberta.common.training.data.tasks import task_settings

_INTERRUPTED = 130  # the exit status that a shell gives after Ctrl-C

# Settings that a model may have been trained with -> the option of its pipeline.
_KEPT = {"truncation": "truncation", "max_tokens": "max_length", "aggregation_strategy": "aggregation_strategy",
        "max_seq_len": "max_seq_len", "doc_stride": "doc_stride"}  # fmt: skip


def run_texts(options: argparse.Namespace) -> int:
    """Run one command. Returns the exit status.

    Inputs are checked before the model is loaded. When Ctrl-C or a broken input ends it, the results so far are written.
    """
    command = command_of(options)
    names = _names_of(command)
    try:
        with warnings_once(lambda text: _say(options.command, in_options(text, names))):
            return _run(options, command)
    except ValueError as error:
        raise ValueError(in_options(str(error), names)) from error


def _run(options: argparse.Namespace, command: Command) -> int:
    # inputs, model and output first, as loading takes time
    if hasattr(options, "job_inputs"):
        _check_model(options.model, command)
        return run_job(options, command, lambda: _Answers(options, command))
    _check_no_job(options)
    inputs, is_words = _inputs_of(options, command)
    _check_model(options.model, command)
    output = getattr(options, "output", None)
    writer = VectorFile(output) if output is not None else ResultLines(options)
    pipe, trained = _pipeline_of(options, command, is_words=is_words)
    given: list[Given] = []  # the inputs whose results are not written yet
    results = pipe(_noted(inputs, given), **trained)
    status = _written(results, given, writer, _names_of(command), is_file=output is not None)
    _say_full(options, command, pipe, trained)
    return status


def _check_no_job(options: argparse.Namespace) -> None:
    """Refuse options that only a batch job has."""
    for name in ("shard_rows", "engine", "workers"):
        if hasattr(options, name):
            raise ValueError(f"{option_of(name)} is for a batch job: give its files with --input, or omit it")
    if getattr(options, "output", None) is not None and options.command != "embed":
        raise ValueError(f"--output {options.output} is for a batch job: give its files with --input, or omit it, and "
                         "the results go to standard output")  # fmt: skip


class _Answers:
    """What answers the rows of a batch job: one model, for one shard after another."""

    def __init__(self, options: argparse.Namespace, command: Command) -> None:
        self.pipe, self.trained = _pipeline_of(options, command, is_words=None)
        self.names, self.tags = _names_of(command), options.command == "tag"

    @property
    def full(self) -> int:
        """Rows so far that truncation has cut, or that have exactly the length it allows."""
        return self.pipe.full

    def __call__(self, values: Iterator[Any]) -> Iterator[Any]:
        """The result of each value, or the error of one that is skipped."""
        # are they texts, or lists of words? The first one that could be read says it
        before = []
        for value in values:
            before.append(value)
            if not isinstance(value, ValueError):
                break
        words = {"is_split_into_words": bool(before) and isinstance(before[-1], list)} if self.tags else {}
        for result in self.pipe(itertools.chain(before, values), **self.trained, **words):
            yield ValueError(in_options(str(result), self.names)) if isinstance(result, ValueError) else result


def _pipeline_of(
    options: argparse.Namespace, command: Command, *, is_words: bool | None
) -> tuple[Pipeline[Any], dict[str, Any]]:
    """The pipeline of a command, and the options of its model's training, which apply where none are given.

    Args:
        is_words: whether inputs are lists of words; None if each call says so.
    """
    said = options_of(command, options)
    own = said
    if options.command == "tag":
        own = {"aggregation_strategy": "first", **said} | (
            {} if is_words is None else {"is_split_into_words": is_words}
        )
    with greetings_left_out():
        pipe = pipeline(
            command.task,
            options.model,
            options.tokenizer,
            framework=options.framework,
            device=options.device,
            dtype=options.dtype,
            batch_tokens=options.batch_tokens,
            on_error=options.on_error,
            **own,
        )
    return pipe, _as_trained(command, pipe, said)


def _say_full(options: argparse.Namespace, command: Command, pipe: Pipeline[Any], trained: Mapping[str, Any]) -> None:
    """Say how many texts were cut."""
    if pipe.full:
        lengths = {"max_length": getattr(pipe.options, "max_length", None), **options_of(command, options), **trained}
        longest = min(pipe.limit, lengths["max_length"] or pipe.limit)
        rows = "1 row has" if pipe.full == 1 else f"{pipe.full:,} rows have"
        _say(options.command, f"{rows} {longest} tokens, the most there may be: longer texts were cut, "
                             "which --no-truncation makes an error")  # fmt: skip


def _names_of(command: Command) -> dict[str, str]:
    """The arguments of a pipeline for which the command has an option, and that option."""
    general = ("model", "tokenizer", "framework", "device", "dtype", "batch_tokens", "on_error", "header")
    return {**option_names(command), **{name: option_of(name) for name in general}}


def _say(command: str, text: str) -> None:
    """Print a line on standard error, apart from the results."""
    print(f"roberta {command}: {text}", file=sys.stderr)


def _check_model(model: str | None, command: Command) -> None:
    """Refuse to answer with the bundled model where it was trained for another task."""
    if model is None and command.task not in SMALL_MODEL_TASKS:
        raise ValueError(
            "which model? Give --model, a folder or a name on the hub; the small bundled model is not trained for "
            f"{command.task}. `roberta train` makes one that is: see docs/training.md"
        )


def _as_trained(command: Command, pipe: Pipeline[Any], said: Mapping[str, Any]) -> dict[str, Any]:
    """The options of a model's training, where none are given: long texts are cut, unless the training refused them."""
    found = {_KEPT[name]: value for name, value in task_settings(pipe.model.config, _trained_as(command)).items()}
    usual = {"truncation": True, **found} if "--truncation" in command.flags else found
    fields = {field.name for field in dataclasses.fields(pipe.options)}
    chosen = {name: value for name, value in usual.items() if name in fields and name not in said}
    if not {**chosen, **said}.get("truncation", True):
        chosen.pop("max_length", None)
    for name in ("max_length", "max_seq_len"):
        if name in chosen:
            chosen[name] = min(chosen[name], pipe.limit)
    if {"max_seq_len", "doc_stride"} & set(said):  # they depend on each other
        chosen.pop("doc_stride", None)
    return chosen


def _trained_as(command: Command) -> str:
    """The task of the training that made a command's model."""
    return "text-classification" if command.task == "zero-shot-classification" else command.task


def _inputs_of(options: argparse.Namespace, command: Command) -> tuple[Iterator[Given], bool]:
    """The inputs, from arguments, a file or standard input; and whether they are lists of words.

    Raises:
        ValueError: there are none, or options contradict each other. OSError: a file cannot be read.
    """
    # what is known of the inputs
    place = getattr(options, "context_file", None)
    context = None if place is None else text_of_file(place)
    said = Said(getattr(options, "header", None), said_columns(options))
    # where they are
    if options.inputs:
        if options.file is not None:
            raise ValueError(f"give texts as arguments, or --file {options.file}, not both")
        return iter(from_arguments(command, options.inputs, context)), False
    if options.file is None and sys.stdin.isatty():
        raise ValueError("there is no text; give one as an argument, --file, or standard input")
    found = from_file(
        command, options.file, options.format, said=said, context=context, skip=options.on_error == "skip"
    )
    if options.file is None:  # do not wait for the first input here
        return found, False
    first = next(found, None)
    if first is None:
        return iter(()), False
    return itertools.chain([first], found), isinstance(first.value, list)


def _noted(inputs: Iterable[Given], given: list[Given]) -> Iterator[Any]:
    """The values of the inputs; each input is noted as it is taken, to be shown beside its result."""
    for one in inputs:
        given.append(one)
        yield one.value


def _written(
    results: Iterable[Any],
    given: list[Given],
    writer: ResultLines | VectorFile,
    names: Mapping[str, str],
    *,
    is_file: bool,
) -> int:
    """Write every result; errors name options instead of the arguments `names`. Returns the exit status."""
    # results on the same terminal show the progress themselves
    is_quiet = not is_file and sys.stdout.isatty()
    bar = tqdm(results, unit=" inputs", delay=PROGRESS_SECONDS, disable=True if is_quiet else None)
    try:
        with writer:
            for index, result in enumerate(bar):
                one = given.pop(0)
                if isinstance(result, ValueError):
                    writer.error(index, one, in_options(str(result), names))
                else:
                    writer.write(one, result)
    except KeyboardInterrupt:
        print("interrupted; the results so far are written", file=sys.stderr)
        return _INTERRUPTED
    except BrokenPipeError:  # the reader, such as `head`, has enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0


class ResultLines:
    """Results on standard output, each as a line of JSON or a small table.

    A line of JSON begins with the id and the texts of its input, if a file named them: {"id": ..., "text": ..., "label":
    ..., "score": ...}; a result that is a list is under "result".
    """

    def __init__(self, options: argparse.Namespace) -> None:
        self.as_json = options.json or not sys.stdout.isatty()
        self.keeps = options.keep_inputs

    def __enter__(self) -> ResultLines:
        return self

    def __exit__(self, *error: object) -> None:
        """Do nothing: every result has been printed."""

    def write(self, given: Given, result: object) -> None:
        """Print one result."""
        print(self.line(given, result) if self.as_json else _table(given.value, result), flush=True)

    def error(self, index: int, given: Given, error: str) -> None:
        """Print the place of a skipped input, counted from 0, and the reason."""
        record = {"index": index, "error": error}
        print(self.line(given, record) if self.as_json else f"input {index}\n  {error}", flush=True)

    def line(self, given: Given, result: object) -> str:
        """A result as JSON."""
        beside = given.beside
        if self.keeps and beside is None:
            beside = given.value if isinstance(given.value, dict) else {"text": given.value}
        if beside is not None and self.keeps is not False and not isinstance(given.value, ValueError):
            result = {**beside, **(result if isinstance(result, dict) else {"result": result})}
        return json.dumps(result, ensure_ascii=False, default=lambda value: value.tolist())


class VectorFile:
    """Vectors in a .npy file, (vectors, size), which is complete when the block ends, for whatever reason.

    Raises:
        ValueError: the name does not end in .npy.
    """

    def __init__(self, path: Path) -> None:
        if path.suffix != ".npy":
            raise ValueError(f"--output {path} must end in .npy")
        self.path = path
        self.part = path.with_name(path.name + ".part")
        self.count = 0
        self.vector: np.ndarray | None = None

    def __enter__(self) -> VectorFile:
        self.file = self.part.open("wb")
        return self

    def write(self, given: Given, result: np.ndarray) -> None:
        """Write one vector."""
        if self.vector is None:  # the first says how large those of earlier errors are
            self.vector = result
            self.header()
            self.file.write(np.full((self.count, len(result)), np.nan, result.dtype).tobytes())
        self.file.write(np.ascontiguousarray(result).tobytes())
        self.count += 1

    def error(self, index: int, given: Given, error: str) -> None:
        """Write a vector of nan instead of a skipped input, and print a line with the reason."""
        print(json.dumps({"index": index, "error": error}, ensure_ascii=False), flush=True)
        if self.vector is not None:
            self.file.write(np.full_like(self.vector, np.nan).tobytes())
        self.count += 1

    def header(self) -> None:
        """Write the header; numpy leaves room in it for the first axis to grow."""
        vector = np.zeros(0, np.float32) if self.vector is None else self.vector
        descr = np.lib.format.dtype_to_descr(vector.dtype)
        shape = (self.count, len(vector))
        np.lib.format.write_array_header_1_0(self.file, {"descr": descr, "fortran_order": False, "shape": shape})

    def __exit__(self, *error: object) -> None:
        self.file.seek(0)
        self.header()
        self.file.close()
        os.replace(self.part, self.path)


def _table(value: object, result: object) -> str:
    """A result for people: the input, and a row for each part of the result."""
    if isinstance(value, dict):
        value = list(value.values())
    title = " | ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
    rows = [_cells(part) for part in _parts(result)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows)
    return "\n".join([title if len(title) <= 100 else f"{title[:97]}...", *(f"  {line}" for line in lines)])


def _parts(result: object) -> Iterator[dict[str, Any]]:
    """The dictionaries of a result, however its lists are nested."""
    if isinstance(result, dict) and "scores" in result:
        pairs = zip(result["labels"], result["scores"], strict=True)
        yield from ({"label": label, "score": score} for label, score in pairs)
    elif isinstance(result, dict):
        yield result
    elif isinstance(result, np.ndarray):
        start = " ".join(f"{number:.4f}" for number in result[:4])
        yield {"size": f"{len(result)} numbers", "start": f"{start} ..."}
    elif isinstance(result, list | tuple):
        for part in result:
            yield from _parts(part)


def _cells(part: dict[str, Any]) -> list[str]:
    """The values of a row as text."""
    return [f"{value:.4f}" if isinstance(value, float) else str(value) for value in part.values()]

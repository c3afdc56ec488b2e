"""Batch jobs: `roberta classify --input 'data/*.parquet' --output out/`, a shard at a time, here or on a Ray cluster.

A job can be stopped and run again at any time: shards that are there are not computed again. `job.json` in the output
folder says what the job is, so that two different jobs do not mix their results.
"""

from __future__ import annotations

import argparse
import json
import logging
import re
import sys
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
from tqdm import tqdm

from roberta.common.commands.columns import Said
from roberta.common.commands.input_files import of_value
from roberta.common.commands.job_files import JobRow, Shard, find_inputs, rows_of_shard, shards_of, write_rows
from roberta.common.commands.messages import option_of
from roberta.common.commands.quiet import greetings_left_out
from roberta.common.commands.text_options import Command
from roberta.common.libraries import library
from roberta.common.pipelines.base import PROGRESS_SECONDS
from roberta.common.storage.folders import CheckpointError, write_folder

JOB_FILE = "job.json"
SHARD_ROWS = 10_000
# Options of other ways to give inputs and to show results.
_NOT_FOR_JOBS = {"file": "--file", "format": "--format", "header": "--header", "context_file": "--context-file",
                 "keep_inputs": "--inputs", "json": "--json"}  # fmt: skip
# Options that do not affect results, or that the job's file holds by itself.
_NO_RESULT = (
    "command",
    "run",
    "threads",
    "device",
    "job_inputs",
    "output",
    "engine",
    "workers",
    "inputs",
    *_NOT_FOR_JOBS,
)

_RAY, _RAY_WAY_OUT = "workers of --engine ray", "pip install 'roberta[ray]', or omit --engine"

_NUMBERED = re.compile(r"inputs\[(\d+)\]")


class Answers(Protocol):
    """Values of inputs -> their results in order, or an error instead of the result of one that is skipped."""

    def __call__(self, values: Iterator[Any]) -> Iterator[Any]:
        """The result of each value."""

    @property
    def full(self) -> int:
        """Rows so far that truncation has cut, or that have exactly the length it allows."""


class Done(NamedTuple):
    """A shard that has been computed. rows: of the shard. errors: of these, without a result. full: of these, cut."""

    rows: int
    errors: int
    full: int = 0


def run_job(options: argparse.Namespace, command: Command, answers_of: Callable[[], Answers]) -> int:
    """Compute every shard that has no file yet. Returns the exit status.

    Args:
        answers_of: loads the model; called once in each process that computes.

    Raises:
        ValueError: options or inputs that do not fit; or a row, which is named, with `--on-error stop`.
        CheckpointError: the output folder holds another job.
    """
    # what the job is
    for name, flag in _NOT_FOR_JOBS.items():
        if getattr(options, name, None) not in (None, False):
            raise ValueError(f"{flag} does not go with --input, whose files are read and kept whole; omit it")
    if options.inputs:
        raise ValueError(f"give texts as arguments, or --input {options.job_inputs[0]}, not both")
    if getattr(options, "output", None) is None:
        raise ValueError("--input needs --output FOLDER, where the results go")
    if hasattr(options, "workers") and getattr(options, "engine", "local") != "ray":
        raise ValueError(f"--workers {options.workers} is for --engine ray; omit it, or give both")
    files = find_inputs(options.job_inputs)
    folder = Path(options.output)
    if any(path.resolve().is_relative_to(folder.resolve()) for path in files):
        raise ValueError(f"--output {folder} holds an input; give another folder")
    shards = shards_of(files, getattr(options, "shard_rows", SHARD_ROWS))
    _keep_job(folder, _job_of(options, files))
    # the shards that are missing, one after the other or by Ray
    missing = [shard for shard in shards if not (folder / shard.name).exists()]
    engine = _by_ray if getattr(options, "engine", "local") == "ray" else _here
    rows = errors = full = 0
    bar = tqdm(engine(options, command, answers_of, missing), "shards", len(shards), initial=len(shards) - len(missing),
               delay=PROGRESS_SECONDS, disable=None)  # fmt: skip
    try:
        for done in bar:
            rows, errors, full = rows + done.rows, errors + done.errors, full + done.full
    except KeyboardInterrupt:
        print("interrupted; finished shards stay; run the same command again to resume", file=sys.stderr)
        return 130
    there = len(shards) - len(missing)
    if full:
        print(f"{full:,} rows have the most tokens there may be: longer texts were cut, which --no-truncation makes an "
              "error", file=sys.stderr)  # fmt: skip
    print(f"{folder}: {len(shards):,} shards, {there:,} of them there before; {rows:,} rows, {errors:,} errors")
    return 0


def _here(
    options: argparse.Namespace, command: Command, answers_of: Callable[[], Answers], shards: Sequence[Shard]
) -> Iterator[Done]:
    """Compute shards in this process."""
    answers = answers_of() if shards else None
    for shard in shards:
        assert answers is not None
        yield compute(options, command, answers, shard)


def _by_ray(
    options: argparse.Namespace, command: Command, answers_of: Callable[[], Answers], shards: Sequence[Shard]
) -> Iterator[Done]:
    """Compute shards on a Ray cluster: that of RAY_ADDRESS, or one of this machine. A worker that dies is replaced."""
    if not shards:
        return
    ray = library("ray", _RAY, _RAY_WAY_OUT)
    data = library("ray.data", _RAY, _RAY_WAY_OUT)
    for name in ("ray", "ray.data"):
        logging.getLogger(name).setLevel(logging.ERROR)
    with greetings_left_out():
        if not ray.is_initialized():
            ray.init(log_to_driver=False, logging_level="error")
    data.DataContext.get_current().enable_progress_bars = False
    each = options.threads or 1
    workers = getattr(options, "workers", None) or max(int(ray.cluster_resources().get("CPU", 1)) // each, 1)

    class Worker:
        """A process with the model, which computes shards."""

        def __init__(self) -> None:
            self.answers = answers_of()

        def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
            shard = Shard(**json.loads(row["item"]))
            if (Path(options.output) / shard.name).exists():  # a worker may die between its write and its answer
                return {**Done(sum(1 for _ in rows_of_shard(shard)), 0)._asdict(), "error": ""}
            try:
                return {**compute(options, command, self.answers, shard)._asdict(), "error": ""}
            except (ValueError, OSError) as error:  # as a row, which Ray does not wrap
                return {**Done(0, 0)._asdict(), "error": str(error)}

    items = [json.dumps(shard._asdict()) for shard in shards]
    plan = data.from_items(items, override_num_blocks=len(items))
    plan = plan.map(Worker, compute=data.ActorPoolStrategy(size=min(workers, len(items))), num_cpus=each)
    for row in plan.iter_rows():
        if row["error"]:
            raise ValueError(row["error"])
        yield Done(row["rows"], row["errors"], row["full"])


def compute(options: argparse.Namespace, command: Command, answers: Answers, shard: Shard) -> Done:
    """Compute a shard and write its file, whole or not at all.

    Raises:
        ValueError: a row cannot be used, and errors are to stop the job.
    """
    said = Said(None, said_columns(options))
    skip = options.on_error == "skip"
    columns: list[Mapping[str, Any]] = []
    places: list[str] = []

    def values() -> Iterator[Any]:
        for row in rows_of_shard(shard):
            columns.append(row.columns)
            places.append(row.where)
            yield _value_of(command, row, said, skip=skip)

    is_parquet, before = shard.name.lower().endswith(".parquet"), answers.full
    try:
        answered = [_at(places, result) if isinstance(result, ValueError) else result for result in answers(values())]
    except ValueError as error:
        raise _at(places, error) from error
    found = [_record(command, result, nested=is_parquet) for result in answered]
    # under names that no column has
    taken = {name for row in columns for name in row}
    results = [{_free(name, taken): value for name, value in record.items()} for record in found]
    errors = sum("error" in record for record in found)
    if skip and is_parquet and not errors:  # a shard without an error has the column too
        results = [{**result, _free("error", taken): None} for result in results]
    folder = Path(options.output) / Path(shard.name).parent
    aggregation = getattr(options, "aggregation_strategy", "first")
    write_folder(folder, {Path(shard.name).name: write_rows(shard, results, columns, aggregation=aggregation)})
    return Done(len(columns), errors, answers.full - before)


def _free(name: str, taken: Collection[str]) -> str:
    """The name of a result, or the first that no column has with "result_" before it."""
    return _free(f"result_{name}", taken) if name in taken else name


def _at(places: Sequence[str], error: ValueError) -> ValueError:
    """An error of a pipeline, which counts inputs, with the file and the row."""
    text = str(error)
    number = _NUMBERED.match(text)
    return ValueError(f"{places[int(number[1])]} {text[number.end() :].lstrip()}") if number else error


def _value_of(command: Command, row: JobRow, said: Said, *, skip: bool) -> Any:
    """The input of a row, or its error where errors are skipped."""
    try:
        if row.error is not None:
            raise row.error
        return of_value(command, row.columns, row.where, said).value
    except ValueError as error:
        if not skip:
            raise
        return error


def _record(command: Command, result: Any, *, nested: bool) -> dict[str, Any]:
    """A result as named columns."""
    if isinstance(result, ValueError):
        return {"error": str(result)}
    if isinstance(result, dict):
        return result
    if isinstance(result, np.ndarray):
        return {"embedding": result}
    if nested and command.task == "fill-mask" and isinstance(result[0], dict):  # as texts with several masks
        result = [result]
    return {"result": result}


def said_columns(options: argparse.Namespace) -> dict[str, str]:
    """The columns that the caller names, by their roles."""
    columns = dict(getattr(options, "columns", ()))
    if hasattr(options, "text_column"):
        columns["text"] = options.text_column
    return columns


def _job_of(options: argparse.Namespace, files: Sequence[Path]) -> dict[str, Any]:
    """What decides the results of a job."""
    said = {name: value for name, value in sorted(vars(options).items()) if name not in _NO_RESULT}
    said["shard_rows"] = said.get("shard_rows", SHARD_ROWS)
    if options.dtype == "auto":  # it depends on the device
        said["device"] = options.device
    for name in ("model", "tokenizer"):  # by whichever path it was given
        if said.get(name) and Path(said[name]).exists():
            said[name] = str(Path(said[name]).resolve())
    places = [Path(place).resolve() for place in (options.model, options.tokenizer) if place]
    there = [file for place in places for file in (sorted(place.rglob("*")) if place.is_dir() else [place])]
    return {
        "command": options.command,
        "options": json.loads(json.dumps(said, default=str)),
        "inputs": {str(path.resolve()): _state(path) for path in files},
        "model": {str(path): _state(path) for path in there if path.is_file()},
    }


def _state(path: Path) -> list[int]:
    """Size and time of a file: others when it was written again."""
    found = path.stat()
    return [found.st_size, found.st_mtime_ns]


def _keep_job(folder: Path, job: Mapping[str, Any]) -> None:
    """Write what the job is, or compare it with what is there.

    Raises:
        CheckpointError: another job is there, or the folder has other files.
    """
    place = folder / JOB_FILE
    if not place.exists():
        if folder.exists() and (folder.is_file() or any(folder.iterdir())):
            raise CheckpointError(f"--output {folder} is there, and is not the folder of a job; give another one")
        write_folder(folder, {JOB_FILE: json.dumps(job, indent=2).encode()})
        return
    try:
        there = json.loads(place.read_text())
    except ValueError as error:
        raise CheckpointError(f"{place} is not valid JSON; remove {folder}, or give another --output") from error
    if there != job:
        other = [option_of(name) if part == "options" else name for part in ("options", "inputs", "model")
                 for name in sorted({*job[part], *there.get(part, {})})
                 if job[part].get(name) != there.get(part, {}).get(name)]  # fmt: skip
        other += ["command"] if there.get("command") != job["command"] else []
        raise CheckpointError(
            f"--output {folder} holds the results of another job, which differs in {', '.join(other)}; give another "
            f"folder, or remove {folder} to begin again"
        )

"""The report of a verification for a terminal: at most 80 columns wide, the verdict last."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from roberta.common.parameters import Head
from roberta.conversion.verify.judgement import MARGIN, Comparison

if TYPE_CHECKING:
    from roberta.conversion.verify.report import VerificationReport

_PLACE, _CELL = 30, 10  # widths of columns
_SHOWN = 10  # gradients, tensors and settings listed at most

# Kind of place -> the parameters to look at, {} being the layer.
_PARAMETERS = {
    "embedding": "embeddings.*",
    "attention": "encoder.layer.{}.attention.*",
    "cross-attention": "encoder.layer.{}.crossattention.*",
    "feed-forward": "encoder.layer.{0}.intermediate.* and encoder.layer.{0}.output.*",
    "pooler": "pooler.*",
}
# Class -> the parameters of its head.
_HEAD_PARAMETERS: dict[Head, str] = {
    "ForCausalLM": "lm_head.*",
    "ForMaskedLM": "lm_head.*",
    "ForSequenceClassification": "classifier.*",
    "ForMultipleChoice": "classifier.*",
    "ForTokenClassification": "classifier.*",
    "ForQuestionAnswering": "qa_outputs.*",
}


def report_as_text(report: VerificationReport) -> str:
    """The whole report: heading, tables and verdict."""
    return "\n".join([*heading(report), "", *_tables(report), *_listed(report), "", *verdict(report)])


def heading(report: VerificationReport) -> list[str]:
    """The class, the checkpoints and the inputs."""
    shape = "x".join(map(str, report.inputs["input_ids"]))
    lines = [f"{report.class_name}, {report.layers} layers, computed in {report.dtype}", f"source   {report.source}"]
    if report.against is not None:
        lines.append(f"against  {report.against}")
    return [*lines, f"stored   {' and '.join(report.stored)}", f"inputs   ids {shape}, {report.origin}"]


def _tables(report: VerificationReport) -> Iterator[str]:
    """A table of the places for every two runs, and a summary of the gradients."""
    yield f"largest difference from {report.reference}: absolute, and relative to the largest value"
    for start in range(1, len(report.runs), 2):
        runs = report.runs[start : start + 2]
        width = 2 * _CELL
        yield ""
        yield f"{'':<{_PLACE}}{'rounding':>{_CELL}}" + "".join(f"{run:>{width}}" for run in runs)
        for row in report.places:
            is_first = any(report.first[run] == row.place for run in runs)
            yield _line(f"{'>' if is_first else ' '} {row.place}", row, runs)
    if report.gradients:
        yield ""
        yield from _gradients(report)


def _line(name: str, row: Comparison, runs: tuple[str, ...]) -> str:
    found = [row.differences[run] for run in runs]
    cells = "".join(f"{one.absolute:>{_CELL}.1e}{one.relative:>{_CELL}.1e}" for one in found)
    return f"{name:<{_PLACE}}{row.rounding:>{_CELL}.1e}{cells}"


def _gradients(report: VerificationReport) -> Iterator[str]:
    """The largest difference of each run; where only gradients are wrong, the parameters and their differences."""
    table = report.gradients
    wrong = [row for row in table if not all(one.is_explained for one in row.differences.values())]
    yield f"gradients of {len(table)} parameters, {len(wrong)} beyond rounding"
    for run in report.runs[1:]:
        yield f"  {run}: at most {max(_times(row, run) for row in table):.2g} times what rounding explains"
    if any(report.first.values()):
        return  # everything below a wrong value has a wrong gradient
    for row in wrong[:_SHOWN]:
        yield f"  {row.place}"
        yield "    " + "  ".join(f"{run} {one.relative:.1e}" for run, one in row.differences.items())
    if len(wrong) > _SHOWN:
        yield f"  and {len(wrong) - _SHOWN} more"


def _times(row: Comparison, run: str) -> float:
    """The difference in units of `MARGIN`-th parts of the bound."""
    absolute = row.differences[run].absolute
    return absolute / (row.bound / MARGIN) if row.bound else (0.0 if absolute == 0.0 else float("inf"))


def _listed(report: VerificationReport) -> Iterator[str]:
    """Stored tensors and settings that differ between the two checkpoints."""
    if report.settings:
        yield ""
        yield "config fields that differ:"
        yield from (f"  {setting}" for setting in report.settings[:_SHOWN])
    if report.tensors:
        yield ""
        yield f"stored tensors that differ: {len(report.tensors)}"
        yield from (f"  {stored.name}: {stored.absolute:.1e}" for stored in report.tensors[:_SHOWN])
        if len(report.tensors) > _SHOWN:
            yield f"  and {len(report.tensors) - _SHOWN} more"


def verdict(report: VerificationReport) -> list[str]:
    """The last lines: the same; or where the first difference is, and which parameters to look at."""
    if report.agree:
        return [f"THE SAME: rounding in {report.dtype} explains every difference from {report.reference}."]
    if report.not_finite:  # nan differs even from nan, so a difference says nothing about a framework
        return ["NOT COMPARABLE: not all stored values are finite.", *(f"  {line}" for line in report.not_finite)]
    lines = []
    for run, place in report.first.items():
        if place is not None:
            row = next(row for row in report.places if row.place == place)
            absolute = row.differences[run].absolute
            lines += [
                f"NOT THE SAME: {run} first differs from {report.reference} at {place},",
                f"  by {absolute:.1e}, where rounding explains {row.rounding:.1e}.",
                f"  Look at {parameters_of(place, report.head)}",
            ]
    if report.suspect is not None:
        lines.append(f"The others agree with each other there: {report.suspect} is the odd one out.")
    if any(not difference.is_explained for row in report.gradients for difference in row.differences.values()):
        lines = lines or ["NOT THE SAME: the values agree, the gradients do not."]
    return [*lines, *_stored_differences(report)]


def _stored_differences(report: VerificationReport) -> Iterator[str]:
    """What two checkpoints store differently, whether the inputs revealed it or not."""
    beyond = [stored.name for stored in report.tensors if not stored.is_explained]
    if beyond:
        yield f"NOT THE SAME: stored tensors differ by more than a type rounds off: {len(beyond)}"
        yield from (f"  {name}" for name in beyond[:_SHOWN])
    if report.is_renamed:
        yield "NOT THE SAME: the labels have other names (id2label)."


def parameters_of(place: str, head: Head) -> str:
    """The names of the parameters that compute a place, such as "roberta.encoder.layer.3.attention.*"."""
    if place.startswith("head"):
        return _HEAD_PARAMETERS[head]
    kind, layer = place, ""
    if place.startswith("layer "):
        _, layer, kind = place.split(" ")
    prefix = "" if head == "Model" else "roberta."
    return " and ".join(prefix + name for name in _PARAMETERS[kind].format(layer).split(" and "))

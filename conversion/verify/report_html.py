"""The report of a verification as one HTML page: the drift drawn per layer (SVG), the tables, no other file needed."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from html import escape
from typing import TYPE_CHECKING

from roberta.conversion.verify.judgement import Comparison
from roberta.conversion.verify.report_text import heading, verdict

if TYPE_CHECKING:
    from roberta.conversion.verify.report import VerificationReport

_WIDTH, _HEIGHT = 880, 520
_LEFT, _RIGHT, _TOP, _BOTTOM = 90, 20, 120, 150  # margins: numbers on the left, the key above, places below
_EMPTY = -18  # exponent where a difference of 0 is drawn
_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00")  # told apart by the colour-blind (Okabe and Ito)
_SHAPES = ("M-4,0a4,4 0 1,0 8,0a4,4 0 1,0 -8,0", "M-4,-4h8v8h-8z", "M0,-5l5,9h-10z", "M0,-5l5,5l-5,5l-5,-5z",
          "M-4,-4l8,8m0,-8l-8,8")  # fmt: skip

_STYLE = """
:root { color-scheme: light dark; --ink: #1b1b1b; --paper: #fff; --line: #ccc; --bad: #b00020; }
@media (prefers-color-scheme: dark) { :root { --ink: #eee; --paper: #16181c; --line: #555; --bad: #ff8a80; } }
body { font: 15px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper); margin: 2rem auto;
  max-width: 62rem; padding: 0 1rem; }
svg { width: 100%; height: auto; } svg text { fill: var(--ink); font-size: 12px; }
.scroll { overflow-x: auto; } table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: .2rem .7rem; text-align: right; border-bottom: 1px solid var(--line); white-space: nowrap; }
th:first-child { text-align: left; } .bad { color: var(--bad); font-weight: bold; } pre { white-space: pre-wrap; }
"""


def report_as_html(report: VerificationReport) -> str:
    """The whole page."""
    title = f"{report.class_name}: {'the same' if report.agree else 'not the same'}"
    mark = "" if report.agree else ' class="bad"'
    parts = [
        "<!DOCTYPE html>",
        f'<html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<style>{_STYLE}</style></head><body><main>",
        f"<h1{mark}>{escape(title)}</h1>",
        *(f"<p>{escape(line)}</p>" for line in verdict(report)),
        f"<pre>{escape(chr(10).join(heading(report)))}</pre>",
        f"<h2>Drift from {escape(report.reference)}</h2>",
        *_chart(report.places, report.runs[1:]),
        "<h2>Places, in the order of computation</h2>",
        *_table(report.places, report.runs[1:], "place"),
        *_listed("Config fields that differ", report.settings),
        *_listed("Stored tensors that differ", [f"{one.name}: {one.absolute:.1e}" for one in report.tensors]),
    ]
    if report.gradients:
        parts += ["<h2>Gradients</h2>", *_table(report.gradients, report.runs[1:], "parameter")]
    return "\n".join([*parts, "</main></body></html>", ""])


def _listed(title: str, lines: Sequence[str]) -> list[str]:
    if not lines:
        return []
    return [f"<h2>{title}</h2><ul>", *(f"<li>{escape(line)}</li>" for line in lines), "</ul>"]


def _table(rows: Sequence[Comparison], runs: Sequence[str], what: str) -> Iterator[str]:
    """A row for each place: largest value, rounding, bound, and each run's absolute and relative difference."""
    yield f'<div class="scroll" tabindex="0" role="region" aria-label="{what}s"><table><thead><tr>'
    yield f'<th scope="col">{what}</th>'
    names = [
        "largest value",
        "rounding",
        "bound",
        *(f"{run} {kind}" for run in runs for kind in ("absolute", "relative")),
    ]
    yield "".join(f'<th scope="col">{escape(name)}</th>' for name in names) + "</tr></thead><tbody>"
    for row in rows:
        cells = [f"<td>{value:.1e}</td>" for value in (row.largest, row.rounding, row.bound)]
        for run in runs:
            found = row.differences[run]
            mark = "" if found.is_explained else ' class="bad"'
            cells += [f"<td{mark}>{value:.1e}</td>" for value in (found.absolute, found.relative)]
        yield f'<tr><th scope="row">{escape(row.place)}</th>{"".join(cells)}</tr>'
    yield "</tbody></table></div>"


# -- the drawing ----------------------------------------------------------------------------------------------------


def _chart(rows: Sequence[Comparison], runs: Sequence[str]) -> Iterator[str]:
    """Relative differences by place on a logarithmic axis, with the bound dashed; the table below says the same."""
    bounds = [row.bound / row.largest if row.largest else 0.0 for row in rows]
    curves = {run: [row.differences[run].relative for row in rows] for run in runs}
    exponents = [_exponent(value) for values in (bounds, *curves.values()) for value in values]
    low, high = min(_EMPTY, math.floor(min(exponents))), max(0, math.ceil(max(exponents)))
    yield f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-labelledby="drift-title drift-text">'
    yield '<title id="drift-title">Relative difference by place, logarithmic</title>'
    yield f'<desc id="drift-text">{escape(_described(rows, runs))}</desc>'
    yield from _axes(rows, low, high)
    yield _line(bounds, low, high, 'stroke="currentColor" stroke-dasharray="6 4"')
    for index, (run, values) in enumerate(curves.items()):
        colour, shape = _COLOURS[index % len(_COLOURS)], _SHAPES[index % len(_SHAPES)]
        yield _line(values, low, high, f'stroke="{colour}" stroke-width="2"')
        for place, value in enumerate(values):
            x, y = _x(place, len(rows)), _y(value, low, high)
            label = f"{run}, {rows[place].place}: {value:.1e}"
            yield f'<path d="{shape}" transform="translate({x:.1f},{y:.1f})" fill="{colour}" stroke="{colour}">'
            yield f"<title>{escape(label)}</title></path>"
        yield _key(index + 1, run, f'stroke="{colour}" stroke-width="2"', shape, colour)
    yield _key(0, "bound: what rounding explains, with margin", 'stroke="currentColor" stroke-dasharray="6 4"', "", "")
    yield "</svg>"


def _described(rows: Sequence[Comparison], runs: Sequence[str]) -> str:
    """The drawing in words, for people who cannot see it."""
    texts = []
    for run in runs:
        beyond = [row.place for row in rows if not row.differences[run].is_explained]
        ends = f"from {rows[0].differences[run].relative:.1e} to {rows[-1].differences[run].relative:.1e}"
        texts.append(f"{run}: {ends}; " + (f"beyond the bound from {beyond[0]} on" if beyond else "within the bound"))
    return ". ".join(texts) + "."


def _axes(rows: Sequence[Comparison], low: int, high: int) -> Iterator[str]:
    for exponent in range(low, high + 1, 2):
        y = _y(10.0**exponent, low, high)
        text = f"0 or 1e{low}" if exponent == low else f"1e{exponent}"
        yield f'<line x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}" stroke="var(--line)"/>'
        yield f'<text x="{_LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{text}</text>'
    for index, row in enumerate(rows):
        x, y = _x(index, len(rows)), _HEIGHT - _BOTTOM + 12
        turn = f'transform="rotate(-60 {x:.1f} {y})"'
        yield f'<text x="{x:.1f}" y="{y}" text-anchor="end" {turn}>{escape(row.place)}</text>'


def _line(values: Sequence[float], low: int, high: int, stroke: str) -> str:
    points = " ".join(f"{_x(i, len(values)):.1f},{_y(value, low, high):.1f}" for i, value in enumerate(values))
    return f'<polyline points="{points}" fill="none" {stroke}/>'


def _key(index: int, text: str, stroke: str, shape: str, colour: str) -> str:
    y = 10 + 18 * index
    mark = (
        f'<path d="{shape}" transform="translate({_LEFT + 24},{y})" fill="{colour}" stroke="{colour}"/>'
        if shape
        else ""
    )
    line = f'<line x1="{_LEFT + 8}" x2="{_LEFT + 40}" y1="{y}" y2="{y}" {stroke}/>'
    return f'{line}{mark}<text x="{_LEFT + 48}" y="{y + 4}">{escape(text)}</text>'


def _exponent(value: float) -> float:
    """The decimal exponent; 0 is drawn at the bottom, what is not finite at the top."""
    if not math.isfinite(value):
        return 2.0
    return math.log10(value) if value > 0 else float(_EMPTY)


def _x(index: int, count: int) -> float:
    return _LEFT + 20 + index * (_WIDTH - _LEFT - _RIGHT - 40) / max(count - 1, 1)


def _y(value: float, low: int, high: int) -> float:
    share = (min(max(_exponent(value), low), high) - low) / (high - low)
    return _HEIGHT - _BOTTOM - share * (_HEIGHT - _TOP - _BOTTOM)

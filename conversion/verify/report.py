"""What a verification found, and the file that it is saved in."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from roberta.common.model_types import class_name
from roberta.common.parameters import Head
from roberta.conversion.verify.frameworks import Dtype
from roberta.conversion.verify.judgement import Comparison
from roberta.conversion.verify.opening import Stored

_SUFFIXES = (".json", ".html")
# What report.json holds, in this order.
_KEYS = (
    "source", "against", "class", "layers", "dtype", "stored", "inputs", "origin", "reference", "runs", "agree",
    "first", "suspect", "places", "gradients", "tensors", "settings", "not_finite",
)  # fmt: skip


@dataclass(frozen=True)
class VerificationReport:
    """What `verify` found.

    Attributes:
        head: the class that was run, such as "ForMaskedLM".
        dtype: of the computation.
        reference: the run that the others are compared with, such as "pt"; runs of `against` are "against pt".
        inputs: name -> shape; `origin` says where they come from.
        places: a comparison for each place, in the order of computation; `gradients` has one for each parameter.
        first: run -> the first place beyond rounding, or None.
        suspect: the one run that all others disagree with at that place.
        tensors, settings: stored tensors and config fields that differ between the two checkpoints.
        not_finite: checkpoints that hold nan or infinity, and the tensors; such checkpoints never agree.
    """

    source: str
    against: str | None
    head: Head
    dtype: Dtype
    layers: int
    reference: str
    runs: tuple[str, ...]
    inputs: Mapping[str, tuple[int, ...]]
    origin: str
    places: list[Comparison]
    gradients: list[Comparison]
    first: Mapping[str, str | None]
    suspect: str | None
    tensors: tuple[Stored, ...]
    settings: tuple[str, ...]
    stored: tuple[str, ...]
    not_finite: tuple[str, ...] = ()
    model_type: str = "roberta"

    @property
    def class_name(self) -> str:
        """The class of the source, without framework."""
        return class_name(self.model_type, self.head)

    @property
    def agree(self) -> bool:
        """Whether rounding explains all differences, also of stored tensors, and all values are finite, all labels equal."""
        table = [*self.places, *self.gradients]
        is_computed = all(difference.is_explained for row in table for difference in row.differences.values())
        is_stored = all(stored.is_explained for stored in self.tensors) and not self.not_finite
        return is_computed and is_stored and not self.is_renamed

    @property
    def is_renamed(self) -> bool:
        """Whether the two checkpoints answer with different names of labels."""
        has_labels = self.head in ("ForSequenceClassification", "ForTokenClassification")
        return has_labels and any(setting.startswith("id2label:") for setting in self.settings)

    @property
    def exit_code(self) -> int:
        """0 when all agree, 1 when not."""
        return 0 if self.agree else 1

    def __str__(self) -> str:
        """The table for a terminal."""
        from roberta.conversion.verify.report_text import report_as_text

        return report_as_text(self)

    def save(self, path: str | Path) -> None:
        """Write report.json, for programs, or report.html: one page that needs no other file."""
        from roberta.conversion.verify.report_html import report_as_html

        path = Path(path)
        check_path(path)
        as_json = json.dumps(as_dict(self), indent=2, allow_nan=False) + "\n"
        path.write_text(report_as_html(self) if path.suffix == ".html" else as_json, encoding="utf-8")


def check_path(path: Path) -> None:
    """Raise `ValueError` unless a report can be written there."""
    if path.suffix not in _SUFFIXES:
        raise ValueError(f"a report is written to a file that ends in {' or '.join(_SUFFIXES)}, not {path}")
    if not path.parent.is_dir():
        raise ValueError(f"{path.parent}, where the report is to go, is not a folder; make it first")


def as_dict(report: VerificationReport) -> dict[str, object]:
    """The report in the form of JSON; a number that is not finite is null."""
    found = dataclasses.asdict(report) | {
        "class": report.class_name,
        "agree": report.agree,
        "tensors": [{"name": one.name, "absolute": one.absolute} for one in report.tensors],
    }
    return {name: _finite(found[name]) for name in _KEYS}


def _finite(value: object) -> object:
    """A value, or what it is made of, with null instead of nan and infinity."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {name: _finite(one) for name, one in value.items()}
    return [_finite(one) for one in value] if isinstance(value, list | tuple) else value

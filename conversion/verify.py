"""Does every framework compute the same from a checkpoint, and is a converted checkpoint the same model?

`verify` runs the same inputs through all, layer by layer, and says where they first differ by more than rounding.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import get_args

from roberta.common.checkpoint.loading import Pretrained
from roberta.common.parameters import Head
from roberta.conversion.frameworks import Dtype, Subject, chosen, run
from roberta.conversion.inputs import make_inputs
from roberta.conversion.judgement import STEPS, Row, first_beyond, odd_one_out, rounding, rows
from roberta.conversion.opening import (
    Stored,
    check_class,
    check_comparable,
    different_settings,
    different_tensors,
    not_finite,
    opened,
    readable,
    stored_dtypes,
    stored_step,
)
from roberta.conversion.runners import Arrays, Trace

AGAINST = "against "  # before the framework's name, in the name of a run of the second checkpoint


@dataclass(frozen=True)
class Report:
    """What `verify` found.

    Attributes:
        head: the class that was run, such as "ForMaskedLM".
        dtype: what was computed in.
        reference: the run that the others are compared with: "pt"; runs of `against` are "against pt".
        inputs: name -> shape, and `origin` says where they are from.
        places: a row for each place, in the order of computation; `gradients` one for each parameter.
        first: run -> the first place beyond rounding, or None.
        suspect: the one run that the others agree without at that place.
        tensors, settings: stored tensors and config fields that differ between the two checkpoints.
        not_finite: checkpoints that hold nan or infinity, and in which tensors; they never agree.
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
    places: list[Row]
    gradients: list[Row]
    first: Mapping[str, str | None]
    suspect: str | None
    tensors: tuple[Stored, ...]
    settings: tuple[str, ...]
    stored: tuple[str, ...]
    not_finite: tuple[str, ...] = ()

    @property
    def agree(self) -> bool:
        """Whether rounding explains every difference, stored tensors too, all values are finite, and labels the same."""
        table = [*self.places, *self.gradients]
        is_computed = all(difference.is_explained for row in table for difference in row.differences.values())
        is_stored = all(stored.is_explained for stored in self.tensors) and not self.not_finite
        return is_computed and is_stored and not self.is_renamed

    @property
    def is_renamed(self) -> bool:
        """Whether the two checkpoints answer with other names of labels."""
        has_labels = self.head in ("ForSequenceClassification", "ForTokenClassification")
        return has_labels and any(setting.startswith("id2label:") for setting in self.settings)

    @property
    def exit_code(self) -> int:
        """0 when all agree, 1 when not."""
        return 0 if self.agree else 1

    def __str__(self) -> str:
        """The table for a terminal."""
        from roberta.conversion.report_text import as_text

        return as_text(self)

    def save(self, path: str | Path) -> None:
        """Write report.json, or report.html: one page that needs nothing else."""
        from roberta.conversion.report_files import write

        write(self, Path(path))


def verify(
    source: str | Path,
    *,
    against: str | Path | None = None,
    frameworks: Sequence[str] | None = None,
    dtype: Dtype = "float64",
    gradients: bool = False,
    head: Head | None = None,
    texts: Sequence[str] | None = None,
    ids: Sequence[Sequence[int]] | None = None,
    seed: int = 0,
    tokens: int = 32,
) -> Report:
    """Run the same inputs through every framework, and through a second checkpoint, and compare layer by layer.

    Args:
        source: folder, weights file or hub name: what `from_pretrained` reads, or `convert` from fairseq and KerasHub.
        against: another checkpoint of the same class and shapes, such as a conversion of `source`.
        frameworks: "pt", "tf" and "flax", the first being the reference; by default those installed.
        dtype: what is computed in. float64 sees mistakes that float32's rounding hides.
        gradients: compare the gradient of every parameter as well.
        head: the class to run, such as "ForMaskedLM"; by default what the config says.
        texts, ids: what to run; by default four rows drawn from `seed`, the longest of `tokens` tokens, with padding.

    Raises:
        CheckpointError: a checkpoint cannot be read. ModuleNotFoundError: a framework is not installed.
        ValueError: there is nothing to compare, or the second checkpoint is of another class or shape.
    """
    if dtype not in get_args(Dtype):
        raise ValueError(f"dtype={dtype!r} is not one of {', '.join(get_args(Dtype))}")
    names = chosen(frameworks)
    if len(names) + (against is not None) < 2:
        raise ValueError(
            f"nothing to compare with: only {', '.join(names) or 'no framework'} is to run; give a second framework "
            "(pip install 'roberta[all]') or a second checkpoint (against)"
        )
    with ExitStack() as stack:
        paths = [stack.enter_context(readable(path, head)) for path in (source, against) if path is not None]
        found, subject = opened(paths[0], head)
        pairs = [(found, subject)]
        if against is not None:
            if head is None:
                check_class(source, subject.head, against, paths[1])
            pairs.append(opened(paths[1], subject.head))
            check_comparable(source, found, against, pairs[1][0], subject)
        inputs = make_inputs(found.config, subject.head, found.folder, texts=texts, ids=ids, seed=seed, tokens=tokens)
        origin = "given texts" if texts is not None else "given ids" if ids is not None else f"drawn from seed {seed}"
        report = _report(pairs, names, inputs, dtype, seed if gradients else None, origin)
        paths_given = (source,) if against is None else (source, against)
        wrong = [not_finite(path, one) for path, (one, _) in zip(paths_given, pairs, strict=True)]
    second = None if against is None else str(against)
    return replace(
        report, source=str(source), against=second, not_finite=tuple(line for lines in wrong for line in lines)
    )


def _report(
    checkpoints: list[tuple[Pretrained, Subject]],
    frameworks: list[str],
    inputs: Arrays,
    dtype: Dtype,
    seed: int | None,
    origin: str,
) -> Report:
    """What is found of one checkpoint or two; `seed` as in `compare`."""
    (found, subject), *others = checkpoints
    runs = {name: (name, subject) for name in frameworks}
    runs |= {AGAINST + name: (name, other) for _, other in others for name in frameworks}
    step = max(STEPS[dtype], stored_step([one for one, _ in checkpoints]))
    places, slopes, first, suspect = compare(runs, inputs, dtype, step, seed)
    return Report(
        source=str(found.folder), against=str(others[0][0].folder) if others else None, head=subject.head, dtype=dtype,
        layers=found.config.num_hidden_layers, reference=frameworks[0], runs=tuple(runs),
        inputs={name: value.shape for name, value in inputs.items()}, origin=origin,
        places=places, gradients=slopes, first=first, suspect=suspect,
        tensors=tuple(stored for second, _ in others for stored in different_tensors(found, second)),
        settings=tuple(field for second, _ in others for field in different_settings(found.config, second.config)),
        stored=tuple(", ".join(stored_dtypes(one)) for one, _ in checkpoints),
    )  # fmt: skip


def compare(
    runs: Mapping[str, tuple[str, Subject]], inputs: Arrays, dtype: Dtype, step: float, seed: int | None
) -> tuple[list[Row], list[Row], dict[str, str | None], str | None]:
    """Rows of places, rows of gradients, the first place beyond rounding of each run, and the suspect.

    Args:
        runs: name -> framework and checkpoint; the first one is the reference.
        seed: of the cotangents, or None for no gradients. Of the gradients of all runs but the reference only the
            differences are kept.
    """
    reference, *others = runs
    wanted, explained, explained_slopes = measured(*runs[reference], inputs, dtype, step, seed)
    traces, slopes = {reference: wanted.places}, []
    for name in others:
        trace = run(*runs[name], inputs, dtype, seed)
        traces[name] = trace.places
        slopes.append(rows(wanted.gradients, explained_slopes, {name: trace.gradients}, step))
    table = rows(wanted.places, explained, {name: traces[name] for name in others}, step)
    first = {name: first_beyond(table, name) for name in others}
    order = [row for row in table if row in first.values()]
    suspect = odd_one_out(order[0].place, traces, order[0].bound) if order else None
    return table, _joined(slopes), {name: row.place if row else None for name, row in first.items()}, suspect


def measured(
    framework: str, subject: Subject, inputs: Arrays, dtype: Dtype, step: float, seed: int | None
) -> tuple[Trace, dict[str, float], dict[str, float]]:
    """The reference's trace, and what rounding explains of its places and of its gradients."""
    single, double = (run(framework, subject, inputs, name, seed) for name in ("float32", "float64"))
    wanted = double if dtype == "float64" else single
    places = rounding(single.places, double.places, step)
    return wanted, places, rounding(single.gradients, double.gradients, step)


def _joined(tables: list[list[Row]]) -> list[Row]:
    """Rows of the same places, one run each, as rows with all runs."""
    return [
        Row(same[0].place, same[0].largest, same[0].rounding, same[0].bound,
            {name: value for row in same for name, value in row.differences.items()})
        for same in zip(*tables, strict=True)
    ]  # fmt: skip

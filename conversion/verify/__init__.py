"""Does every framework compute the same from a checkpoint, and is a converted checkpoint the same model?

`verify` runs the same inputs through all of them, and reports the first layer where they differ by more than rounding.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import get_args

from roberta.common.checkpoint.loading import Pretrained
from roberta.common.parameters import Head
from roberta.common.values import Arrays
from roberta.conversion.verify.frameworks import Dtype, Subject, frameworks_to_run, trace
from roberta.conversion.verify.inputs import make_inputs
from roberta.conversion.verify.judgement import STEPS, Comparison, comparisons, first_beyond, odd_one_out, rounding
from roberta.conversion.verify.opening import (
    check_class,
    check_comparable,
    different_settings,
    different_tensors,
    open_for_run,
    readable,
    stored_dtypes,
    stored_step,
    values_not_finite,
)
from roberta.conversion.verify.report import VerificationReport as Report
from roberta.conversion.verify.runners import Trace

_AGAINST = "against "  # before the framework's name, in the name of a run of the second checkpoint


def verify(
    source: str | Path,
    *,
    against: str | Path | None = None,
    frameworks: Sequence[str] | None = None,
    device: str | int | None = None,
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
        source: a folder, weights file or hub name that `from_pretrained` reads, or a checkpoint of fairseq or KerasHub.
        against: another checkpoint of the same class and shapes, such as a conversion of `source`.
        frameworks: "pt", "tf" and "flax", the first being the reference; by default those installed.
        device: where each framework runs, such as "cpu" or "cuda"; None for an accelerator that it has, or the CPU.
        dtype: of the computation. float64 reveals mistakes that float32's rounding hides.
        gradients: compare the gradient of every parameter as well.
        head: the class to run, such as "ForMaskedLM"; by default what the config says.
        texts, ids: the inputs; by default four rows drawn from `seed`, the longest of `tokens` tokens, with padding.

    Raises:
        CheckpointError: a checkpoint cannot be read. ModuleNotFoundError: a framework is not installed.
        ValueError: there is nothing to compare, or the second checkpoint has another class or shape.
    """
    if dtype not in get_args(Dtype):
        raise ValueError(f"dtype={dtype!r} is not one of {', '.join(get_args(Dtype))}")
    names = frameworks_to_run(frameworks)
    if len(names) + (against is not None) < 2:
        raise ValueError(
            f"nothing to compare with: only {', '.join(names) or 'no framework'} is to run; give a second framework "
            "(pip install 'roberta[all]') or a second checkpoint (against)"
        )
    with ExitStack() as stack:
        # open and check both checkpoints before a framework is imported
        paths = [stack.enter_context(readable(path, head)) for path in (source, against) if path is not None]
        found, subject = open_for_run(paths[0], head)
        subject = replace(subject, device=device)
        pairs = [(found, subject)]
        if against is not None:
            if head is None:
                check_class(source, subject, against, paths[1])
            second_found, second_subject = open_for_run(paths[1], subject.head)
            pairs.append((second_found, replace(second_subject, device=device)))
            check_comparable(source, found, against, second_found, subject)
        # run the same inputs through all
        inputs = make_inputs(found.config, subject.head, found.folder, texts=texts, ids=ids, seed=seed, tokens=tokens)
        origin = "given texts" if texts is not None else "given ids" if ids is not None else f"drawn from seed {seed}"
        report = _report(pairs, names, inputs, dtype, seed if gradients else None, origin)
        # the report names the checkpoints as the caller does, not their temporary conversions
        names_given = [str(source)] if against is None else [str(source), str(against)]
        wrong = [values_not_finite(name, one) for name, (one, _) in zip(names_given, pairs, strict=True)]
    second = None if against is None else str(against)
    return replace(report, source=str(source), against=second, not_finite=tuple(itertools.chain(*wrong)))


def _report(
    checkpoints: list[tuple[Pretrained, Subject]],
    frameworks: list[str],
    inputs: Arrays,
    dtype: Dtype,
    seed: int | None,
    origin: str,
) -> Report:
    """The report on one checkpoint or two; `seed` as in `compare`."""
    (found, subject), *others = checkpoints
    runs = {name: (name, subject) for name in frameworks}
    runs |= {_AGAINST + name: (name, other) for _, other in others for name in frameworks}
    step = max(STEPS[dtype], stored_step([one for one, _ in checkpoints]))
    places, slopes, first, suspect = compare(runs, inputs, dtype, step, seed)
    return Report(
        source=str(found.folder), against=str(others[0][0].folder) if others else None, head=subject.head, dtype=dtype,
        layers=found.config.num_hidden_layers, reference=frameworks[0], runs=tuple(runs),
        inputs={name: value.shape for name, value in inputs.items()}, origin=origin,
        places=places, gradients=slopes, first=first, suspect=suspect,
        tensors=tuple(stored for second, _ in others for stored in different_tensors(found, second)),
        settings=tuple(field for second, _ in others for field in different_settings(found.config, second.config)),
        stored=tuple(", ".join(stored_dtypes(one)) for one, _ in checkpoints), model_type=subject.model_type,
    )  # fmt: skip


def compare(
    runs: Mapping[str, tuple[str, Subject]], inputs: Arrays, dtype: Dtype, step: float, seed: int | None
) -> tuple[list[Comparison], list[Comparison], dict[str, str | None], str | None]:
    """Rows of places, rows of gradients, the first place beyond rounding of each run, and the suspect.

    Args:
        runs: name -> framework and checkpoint; the first one is the reference.
        seed: of the cotangents, or None for no gradients. Only the differences of the gradients are kept, except for
            the reference's own.
    """
    reference, *others = runs
    wanted, explained, explained_slopes = _measured(*runs[reference], inputs, dtype, step, seed)
    traces, slopes = {reference: wanted.places}, []
    for name in others:
        found = trace(*runs[name], inputs, dtype, seed)
        traces[name] = found.places
        slopes.append(comparisons(wanted.gradients, explained_slopes, {name: found.gradients}, step))
    table = comparisons(wanted.places, explained, {name: traces[name] for name in others}, step)
    first = {name: first_beyond(table, name) for name in others}
    order = [row for row in table if row in first.values()]
    suspect = odd_one_out(order[0].place, traces, order[0].bound) if order else None
    return table, _joined(slopes), {name: row.place if row else None for name, row in first.items()}, suspect


def _measured(
    framework: str, subject: Subject, inputs: Arrays, dtype: Dtype, step: float, seed: int | None
) -> tuple[Trace, dict[str, float], dict[str, float]]:
    """The reference's trace, and how much rounding explains at its places and of its gradients."""
    single, double = (trace(framework, subject, inputs, name, seed) for name in ("float32", "float64"))
    wanted = double if dtype == "float64" else single
    places = rounding(single.places, double.places, step)
    return wanted, places, rounding(single.gradients, double.gradients, step)


def _joined(tables: list[list[Comparison]]) -> list[Comparison]:
    """Rows of the same places, one run each, as rows with all runs."""
    return [
        Comparison(same[0].place, same[0].largest, same[0].rounding, same[0].bound,
            {name: value for row in same for name, value in row.differences.items()})
        for same in zip(*tables, strict=True)
    ]  # fmt: skip

"""How many threads a command computes with: the given number, or the number of processors that its process may use.

Frameworks count the processors of the machine. In a container that may use fewer, the additional threads wait for each
other, and a command takes several times as long.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from pathlib import Path

# What each library reads when it is loaded: OpenMP and the BLAS libraries, TensorFlow, XLA (JAX), the tokenizers.
VARIABLES = (
    "OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "TF_NUM_INTRAOP_THREADS", "NPROC",
    "RAYON_NUM_THREADS",
)  # fmt: skip


def set_threads(count: int | None) -> None:
    """Have the libraries of this process compute with `count` threads; must be called before they are loaded.

    Args:
        count: None for the number of processors that the process may use, unless the environment sets another.

    Raises:
        ValueError: `count` is below 1.
    """
    if count is not None and count < 1:
        raise ValueError(f"--threads {count} must be at least 1")
    if count is not None:
        os.environ.update(dict.fromkeys(VARIABLES, str(count)))
        os.environ["TF_NUM_INTEROP_THREADS"] = "1"
        return
    allowed = usable()
    if allowed < (os.cpu_count() or 1):
        said = os.environ.get("OMP_NUM_THREADS", str(allowed))
        for name in VARIABLES:
            os.environ.setdefault(name, said)


def usable(root: Path = Path("/")) -> int:
    """The processors that this process may use: those it may run on, limited to the time that its container has.

    Args:
        root: of the file system with the limits.
    """
    there = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = min(_quotas(root), default=math.inf)
    return max(1, min(there, math.ceil(quota) if math.isfinite(quota) else there))


def _quotas(root: Path) -> Iterator[float]:
    """The processor time, in processors, of each control group around this process that has a limit."""
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        return
    for line in lines:
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if controllers and "cpu" not in controllers.split(","):
            continue
        mounts = [root / "sys/fs/cgroup"] if not controllers else [
            root / "sys/fs/cgroup" / name for name in (controllers, "cpu", "cpu,cpuacct")
        ]  # fmt: skip
        inner = Path(path.lstrip("/"))
        for mount in mounts:
            for group in (inner, *inner.parents):  # "." comes last: a container sees its own group there
                yield from (_version_1 if controllers else _version_2)(mount / group)


def _version_2(group: Path) -> Iterator[float]:
    """The limit in cpu.max, "QUOTA PERIOD"; QUOTA is "max" where there is none."""
    quota, _, period = _read(group / "cpu.max").partition(" ")
    if quota.isdecimal() and period.strip().isdecimal() and int(period):
        yield int(quota) / int(period)


def _version_1(group: Path) -> Iterator[float]:
    """The limit in two files; the quota is -1 where there is none."""
    quota, period = (_read(group / f"cpu.cfs_{name}_us") for name in ("quota", "period"))
    if quota.isdecimal() and period.isdecimal() and int(period):
        yield int(quota) / int(period)


def _read(file: Path) -> str:
    try:
        return file.read_text().strip()
    except OSError:
        return ""

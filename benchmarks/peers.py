"""Other people's systems, each fetched once into its own folder, and never a dependency.

A folder goes before the tested environment on the PYTHONPATH of a child process, so that its packages take precedence
there and nowhere else. `make oracle` fetches the first two of them in the same way.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / ".oracle"

# Name -> the packages that are fetched, without their dependencies; the rest comes from the tested environment.
PEERS: dict[str, tuple[str, ...]] = {
    "transformers4": (
        "transformers==4.57.6", "tokenizers==0.22.2", "huggingface_hub==0.36.0", "tf_keras==2.21.0", "requests",
    ),
    "transformers5": ("transformers==5.23.0",),
    # its Flax classes do not run on the tested jax
    "transformers4-flax": ("jax==0.4.38", "jaxlib==0.4.38", "flax==0.10.4"),
    "onnxruntime": ("onnxruntime==1.31.1", "onnx==1.23.2", "onnxscript==0.7.2", "onnx-ir==1.1.0"),
    "openvino": ("openvino==2026.4.1", "openvino-telemetry==2025.2.0"),
    "ctranslate2": ("ctranslate2==4.8.5",),
    "keras-hub": ("keras-hub==0.32.0", "kagglehub==1.0.3", "kagglesdk==0.1.38"),
    "matplotlib": (
        "matplotlib==3.11.2", "contourpy", "cycler", "fonttools", "kiwisolver", "pillow", "pyparsing",
        "python-dateutil",
    ),
}  # fmt: skip


def fetched(name: str) -> Path:
    """The folder of a peer, fetched if it does not exist."""
    folder = FOLDER / name
    if not folder.is_dir():
        part = folder.with_name(f"{name}.part")
        shutil.rmtree(part, ignore_errors=True)
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(part)]
        subprocess.run([*command, *PEERS[name]], check=True)
        part.rename(folder)
    return folder


def environment(*names: str | None, **settings: str) -> dict[str, str]:
    """The environment of a child: that of this process, with the peers' folders first, and settings; None adds nothing."""
    paths = [str(fetched(name)) for name in names if name is not None]
    paths += [path for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path]
    return {**os.environ, "PYTHONPATH": os.pathsep.join([*paths, str(ROOT)]), **settings}


def quiet(threads: int) -> dict[str, str]:
    """Settings of a child: a number of threads, which wait for a millisecond before they sleep, and no greetings."""
    settings = {"OMP_NUM_THREADS": str(threads), "KMP_BLOCKTIME": "1"}  # GNU's OpenMP waits about that long anyway
    return {**settings, "TF_CPP_MIN_LOG_LEVEL": "3", "HF_HUB_OFFLINE": "1"}


def measured(command: list[str], settings: dict[str, str]) -> tuple[dict[str, float], str]:
    """Wall and CPU seconds and peak MB of a process from start to end, and its output.

    The caller must not import numpy, because a child's ru_maxrss starts with its parent's memory.

    Raises:
        RuntimeError: if it ended with an error; the message holds the end of its stderr.
    """
    with tempfile.TemporaryFile("w+") as errors:
        start = time.perf_counter()
        process = subprocess.Popen(command, env=settings, stdout=subprocess.PIPE, stderr=errors, text=True)
        assert process.stdout is not None
        text = process.stdout.read()
        _, status, usage = os.wait4(process.pid, 0)
        wall = time.perf_counter() - start
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            errors.seek(0)
            raise RuntimeError(f"{command} ended with {process.returncode}: {errors.read()[-2000:]}")
    return {"wall": wall, "cpu": usage.ru_utime + usage.ru_stime, "MB": usage.ru_maxrss * 1024 / 1e6}, text

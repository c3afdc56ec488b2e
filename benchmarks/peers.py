"""Other people's systems, each in a folder of its own that is fetched once, and never a dependency.

A folder goes before the tested environment on the PYTHONPATH of a child, so that what it holds wins there and nowhere
else. `make oracle` fetches the first two of them in the same way.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / ".oracle"

# Name -> what is fetched, without what it asks for beside it; the rest is of the tested environment.
PEERS: dict[str, tuple[str, ...]] = {
    "transformers4": (
        "transformers==4.57.6", "tokenizers==0.22.2", "huggingface_hub==0.36.0", "tf_keras==2.21.0", "requests",
    ),
}  # fmt: skip


def fetched(name: str) -> Path:
    """The folder of a peer, fetched when it is not there."""
    folder = FOLDER / name
    if not folder.is_dir():
        part = folder.with_name(f"{name}.part")
        shutil.rmtree(part, ignore_errors=True)
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(part)]
        subprocess.run([*command, *PEERS[name]], check=True)
        part.rename(folder)
    return folder


def environment(name: str | None, **settings: str) -> dict[str, str]:
    """The environment of a child: that of this process, the peer's folder first, and settings."""
    paths = [str(fetched(name))] if name is not None else []
    paths += [path for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path]
    return {**os.environ, "PYTHONPATH": os.pathsep.join([*paths, str(ROOT)]), **settings}

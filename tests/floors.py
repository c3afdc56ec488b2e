"""Do the lowest versions that pyproject.toml allows work? `make floors` installs them beside .venv and runs tests.

`.floors/` is a virtual environment whose packages come before those of `.venv`, which it falls back on: PyTorch and
TensorFlow, which are too large to install twice, stay at the tested versions. pyproject.toml is the only source of the
floors.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
import venv
from pathlib import Path

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / ".floors"
EXTRAS = ("tf", "flax", "legacy", "train")

# Packages that stay at the tested version, and why.
KEPT = {
    "torch": "hundreds of megabytes; its floor is a security fix",
    "tensorflow": "hundreds of megabytes; Keras, which is what calls it here, is at its floor",
}
# The tests that call the packages, each in a different way.
TESTS = (
    "tests/common/test_arrays.py",
    "tests/common/test_files.py",
    "tests/common/test_held_files.py",
    "tests/common/test_hub.py",
    "tests/common/test_metrics.py",
    "tests/common/test_tokenizer_errors.py",
    "tests/common/test_tokenizer_files.py",
    "tests/common/test_tokenizer_golden.py",
    "tests/common/test_tokenizer_interface.py",
    "tests/common/test_tokenizer_properties.py",
    "tests/conversion/test_convert.py",
    "tests/conversion/test_training_state.py",
    "tests/every_backend/test_golden.py",
    "tests/every_backend/test_loading.py",
    "tests/every_backend/test_training_session.py",
    "tests/one_backend/test_flax.py",
    "tests/one_backend/test_infer_flax.py",
    "tests/one_backend/test_tensorflow.py",
    "tests/one_backend/test_training_flax.py",
    "tests/one_backend/test_training_tf.py",
)
# Tests that hold only for the tested version, and why.
LEFT_OUT = (
    # a bound on XLA's own rounding, which sums differently in jax 0.5
    "tests/one_backend/test_flax.py::test_a_product_in_parts_loses_no_more_than_one_sum[1300]",
)
_REQUIREMENT = re.compile(r"([A-Za-z0-9_.-]+)>=([0-9.]+)")


def floors(content: dict[str, object] | None = None) -> dict[str, str]:
    """Package -> the lowest version that pyproject.toml allows, for packages that users install.

    Raises:
        ValueError: if a requirement is not a floor.
    """
    project = (content or tomllib.loads((ROOT / "pyproject.toml").read_text()))["project"]
    listed = [*project["dependencies"], *(one for extra in EXTRAS for one in project["optional-dependencies"][extra])]
    result: dict[str, str] = {}
    for requirement in listed:
        found = _REQUIREMENT.fullmatch(requirement)
        if found is None:
            raise ValueError(f"{requirement!r} in pyproject.toml is not a floor such as numpy>=2.0")
        if result.setdefault(found[1], found[2]) != found[2]:
            raise ValueError(f"pyproject.toml has two floors for {found[1]}, {result[found[1]]} and {found[2]}")
    return result


def pins() -> list[str]:
    """The installed packages, such as "numpy==2.0"."""
    return [f"{name}=={version}" for name, version in floors().items() if name not in KEPT]


def build() -> Path:
    """Create the environment, and return its Python."""
    venv.create(FOLDER, with_pip=True, clear=True)
    (own,) = FOLDER.glob("lib/python*/site-packages")
    (tested,) = (ROOT / ".venv").glob("lib/python*/site-packages")
    (own / "tested.pth").write_text(f"{tested.resolve()}\n")  # after its own packages
    python = FOLDER / "bin" / "python"
    subprocess.run([python, "-m", "pip", "install", "--quiet", *pins()], check=True)
    return python


def main(arguments: list[str]) -> int:
    """Build the environment, run the tests or those given, and return the status of pytest."""
    python = build()
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    left_out = [f"--deselect={test}" for test in LEFT_OUT]
    command = [python, "-m", "pytest", *left_out, *(arguments or TESTS)]
    return subprocess.run(command, check=False, cwd=ROOT, env=environment).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

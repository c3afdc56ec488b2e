"""A user's script, checked by mypy and pyright against the package as pip installs it."""

from __future__ import annotations

import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "tests" / "architecture" / "user_script.py"
CHECKERS = {
    "mypy": ("--strict", "--python-executable"),
    "pyright": ("--pythonpath",),
}


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The interpreter of an environment with a wheel of the project and the packages that are installed here."""
    folder = tmp_path_factory.mktemp("wheel")
    source = shutil.copytree(
        ROOT, folder / "source", symlinks=False, ignore=shutil.ignore_patterns(".*", "build", "*.egg-info", "tests")
    )
    run = [sys.executable, "-m"]
    subprocess.run([*run, "venv", "--without-pip", folder / "venv"], check=True)
    site = next((folder / "venv" / "lib").glob("python*/site-packages"))
    pip = [*run, "pip", "install", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    subprocess.run([*pip, "--target", site, source], check=True)
    (site / "installed_here.pth").write_text(sysconfig.get_path("purelib"))
    return folder / "venv" / "bin" / "python"


def check(checker: str, python: Path, script: Path) -> subprocess.CompletedProcess[str]:
    """Run a checker where it does not find the project's own settings."""
    pytest.importorskip(checker)
    command = [sys.executable, "-m", checker, *CHECKERS[checker], python, script]
    return subprocess.run(command, cwd=script.parent, capture_output=True, text=True)


@pytest.mark.slow  # mypy reads all of torch, keras and jax
@pytest.mark.parametrize("checker", CHECKERS)
def test_a_users_script_has_no_error_but_the_wrong_name(checker: str, python: Path, tmp_path: Path) -> None:
    script = Path(shutil.copy(SCRIPT, tmp_path / "script.py"))
    done = check(checker, python, script)
    assert done.returncode == 0, done.stdout
    script.write_text(SCRIPT.read_text().replace("  # type: ignore[attr-defined]", ""))
    done = check(checker, python, script)
    assert done.returncode == 1
    assert "RobertaModl" in done.stdout
    assert done.stdout.count("error:") + done.stdout.count(" - error") <= 2, done.stdout

"""The recorded surface of transformers 4.57.6 is that of the installed library."""

from __future__ import annotations

import json
import subprocess
import sys

import peers
from surface import compare, walk


def test_the_recorded_surface_is_that_of_an_installed_transformers() -> None:
    environment = {**peers.environment(4), "USE_TF": "AUTO", "USE_FLAX": "AUTO", "TF_USE_LEGACY_KERAS": "1"}
    command = [sys.executable, walk.__file__, "transformers"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout.splitlines()[-1]) == compare.recorded()

"""Run the scripts of one framework: `python run.py LIBRARY FRAMEWORK FOLDER OUT`.

What each prints, or how it fails, goes to OUT/results.json. The one line of a script that names the library is
changed, nothing else.
"""

from __future__ import annotations

import contextlib
import importlib.util
import io
import json
import sys
import traceback
from pathlib import Path

SCRIPTS = Path(__file__).parent
IMPORT = "import transformers as lib\n"
OF_ALL = ("embeddings", "ner", "push", "qa")
BY_FRAMEWORK = {
    "pt": ("finetune_trainer", "onnx_export", "scratch", "generation", *OF_ALL),
    "tf": ("finetune_keras", "generation", *OF_ALL),
    "flax": ("finetune_flax", *OF_ALL),  # its generate fails in transformers: the cache of a decoder cannot be made
}
NEEDS = {"finetune_trainer": "accelerate", "onnx_export": "onnxruntime"}


def main(library: str, framework: str, folder: str, out: str) -> None:
    """Run each script as a user would, and keep what it prints, or how it fails."""
    results = {}
    for name in BY_FRAMEWORK[framework]:
        missing = NEEDS.get(name)
        if missing is not None and importlib.util.find_spec(missing) is None:
            results[name] = {"skipped": f"{missing} is not installed"}
            continue
        text = (SCRIPTS / f"{name}.py").read_text(encoding="utf-8")
        assert text.count(IMPORT) == 1
        place = Path(out, name)
        place.mkdir(parents=True)
        sys.argv = [f"{name}.py", folder, str(place), framework]
        printed = io.StringIO()
        try:
            with contextlib.redirect_stdout(printed):
                code = compile(text.replace(IMPORT, f"import {library} as lib\n"), f"{name}.py", "exec")
                exec(code, {"__name__": "__main__"})
            results[name] = json.loads(printed.getvalue().splitlines()[-1])
        except Exception:
            results[name] = {"error": traceback.format_exc()}
    Path(out, "results.json").write_text(json.dumps(results), encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])

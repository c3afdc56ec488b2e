"""`python -m benchmarks` lists the benchmarks; `python -m benchmarks NAME ...` runs one with the arguments that follow."""

from __future__ import annotations

import runpy
import sys

# Name -> what it shows.
BENCHMARKS = {
    "inference": "the encoder beside transformers, ONNX Runtime, OpenVINO, CTranslate2 and KerasHub",
    "conversion": "roberta convert beside a plain copy of the same bytes and beside transformers",
    "tokenizers": "both tokenizers beside transformers' and the tokenizers library",
    "rounding": "the error of float32 in each framework beside transformers'",
}


def main() -> None:
    """List, or run one."""
    name = sys.argv[1] if len(sys.argv) > 1 else None
    if name not in BENCHMARKS:
        print("\n".join(f"{name:11s} {what}" for name, what in BENCHMARKS.items()))
        sys.exit(name is not None and f"there is no benchmark {name}; take one of those above")
    sys.argv = [name, *sys.argv[2:]]
    runpy.run_module(f"benchmarks.{name}", run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()

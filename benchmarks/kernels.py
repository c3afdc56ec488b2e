"""Which projection is fastest on this CPU: `python -m benchmarks.kernels [--threads 2] [--rounds 9]`.

`roberta.pt.infer.linear` chooses between torch's library and oneDNN's own layout by the instruction set. This prints the
measurements behind that choice, for the three shapes of roberta-base, in one run with interleaved rounds: the GFLOP/s
of the median.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from roberta.pt import infer

SHAPES = {"query, key, value": (768, 2304), "widen": (768, 3072), "narrow": (3072, 768)}
TOKENS = (16, 128, 1024, 4096)


def kernels(weight: Tensor, bias: Tensor) -> dict[str, Callable[[Tensor], Tensor]]:
    """Name -> projection, with GELU where the name says so."""
    packed = torch.ops.mkldnn._reorder_linear_weight(weight)
    return {
        "torch": lambda x: F.linear(x, weight, bias),
        "oneDNN": lambda x: torch.ops.mkldnn._linear_pointwise(x, packed, bias, "none", [], ""),
        "int8": infer.linear(weight, bias, "int8"),
        "torch, GELU": lambda x: F.gelu(F.linear(x, weight, bias)),
        "oneDNN, GELU": lambda x: torch.ops.mkldnn._linear_pointwise(x, packed, bias, "gelu", [], "none"),
    }


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=9)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    print(f"{torch.backends.cpu.get_cpu_capability()}, {options.threads} threads, GFLOP/s")
    with torch.inference_mode():
        for name, (inputs, outputs) in SHAPES.items():
            table = kernels(torch.randn(outputs, inputs) * 0.02, torch.randn(outputs))
            for tokens in TOKENS:
                hidden = torch.randn(tokens, inputs)
                seconds: dict[str, list[float]] = {kind: [] for kind in table}
                for _ in range(options.rounds):
                    for kind, project in table.items():
                        start = time.perf_counter()
                        project(hidden)
                        seconds[kind].append(time.perf_counter() - start)
                work = 2e-9 * tokens * inputs * outputs
                speeds = ", ".join(f"{kind} {work / statistics.median(times):.0f}" for kind, times in seconds.items())
                print(f"{name}, {tokens} tokens: {speeds}", flush=True)


if __name__ == "__main__":
    main()

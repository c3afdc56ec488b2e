"""What a large training needs on many devices, by formulas: memory, bytes on the wire, and seconds of an update.

    python -m benchmarks.scale [--docs]

It prints the table of docs/scale.md, or with --docs writes it there. `tests/one_backend/test_communication_pt.py` counts
the bytes that collectives move, and `tests/common/test_scale.py` those that are kept for the backward pass, at small size.
"""

from __future__ import annotations

import argparse
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from roberta import RobertaConfig
from roberta.common.parameters import parameters

PAGE = Path(__file__).parents[1] / "docs" / "scale.md"
BEGIN, END = "<!-- scale -->\n", "<!-- end of scale -->\n"
Sharding = Literal["data", "full"]

# roberta-large
LARGE = RobertaConfig(
    vocab_size=50265, hidden_size=1024, num_hidden_layers=24, num_attention_heads=16, intermediate_size=4096,
    max_position_embeddings=514, type_vocab_size=1,
)  # fmt: skip
SEQ, SEQUENCES, MASKED = 512, 8192, 0.15
DEVICES = (8, 64, 512)
SHARDINGS: tuple[Sharding, ...] = ("data", "full")
# Bytes kept for the backward pass, for each token, hidden unit and layer, without dropout.
KEPT = {
    "float32": 64.0,
    "bfloat16": 40.0,
    "again": 4.0,
}  # "again": with gradient checkpointing, the layer's input alone
# A device like NVIDIA's H100, in hosts of eight: what it multiplies in bfloat16 in practice, and what reaches it
FLOPS = 400e12  # a second
INSIDE, BETWEEN = 450e9, 50e9  # bytes a second, each way, to devices of the same host and to other hosts
HOST = 8  # devices


@dataclass(frozen=True)
class Sizes:
    """Numbers of parameters of a model with the head of masked language models."""

    all: int
    layers: int
    layer: int

    @classmethod
    def of(cls, config: RobertaConfig) -> Sizes:
        """The numbers of a config, from the one table of parameters."""
        counts = {name: math.prod(one.shape) for name, one in parameters(config, "ForMaskedLM").items()}
        layers = sum(count for name, count in counts.items() if ".encoder.layer." in name)
        return cls(sum(counts.values()), layers, layers // config.num_hidden_layers)


@dataclass(frozen=True)
class Traffic:
    """Bytes of the whole tensors of collectives in an update of some micro-batches, before they are divided."""

    all_reduce: float = 0.0
    all_gather: float = 0.0
    reduce_scatter: float = 0.0

    def sent(self, devices: int) -> float:
        """What each device sends, by rings: twice its part of the others for an all-reduce, once for the rest."""
        return (2 * self.all_reduce + self.all_gather + self.reduce_scatter) * (devices - 1) / devices


def traffic(sizes: Sizes, sharding: Sharding, micro_batches: int, weight_bytes: int = 4) -> Traffic:
    """What moves in an update.

    Args:
        weight_bytes: of a weight that is gathered: 2 with sharding="full" in 16 bits. Gradients have 4.
    """
    if sharding == "data":  # gradients of the micro-batches before the last stay where they are
        return Traffic(all_reduce=4.0 * sizes.all)
    # layers are gathered for the forward and again for the backward pass, what is beside them once
    gathered = 2 * sizes.layers + (sizes.all - sizes.layers)
    return Traffic(
        all_gather=float(micro_batches * weight_bytes * gathered), reduce_scatter=4.0 * micro_batches * sizes.all
    )


def state_bytes(sizes: Sizes, sharding: Sharding, devices: int, low: bool = True) -> float:
    """Weights, gradients and both moments on a device, and copies of weights in 16 bits.

    With sharding="full" two layers, and what is beside the layers, are whole while they are computed.
    """
    if sharding == "data":
        return 16.0 * sizes.all + (2.0 * sizes.all if low else 0.0)
    beside = sizes.all - sizes.layers
    return 16.0 * sizes.all / devices + (2 if low else 4) * (beside + 2.0 * sizes.layer) + 4.0 * (beside + sizes.layer)


def kept_bytes(config: RobertaConfig, rows: int, dtype: str = "bfloat16", again: bool = False) -> float:
    """Memory for the backward pass of a micro-batch on a device: of the layers, and of the scores.

    Args:
        again: gradient checkpointing: the inputs of layers, and one layer at a time.
    """
    unit = rows * SEQ * config.hidden_size
    layers = config.num_hidden_layers
    kept = KEPT["again"] * layers + KEPT[dtype] if again else KEPT[dtype] * layers
    scores = rows * SEQ * MASKED * config.vocab_size * (2 if dtype == "bfloat16" else 0)  # as they are multiplied
    return unit * kept + scores + 2 * 4 * rows * SEQ * MASKED * config.vocab_size  # in float32, and their gradient


def flops(config: RobertaConfig, sizes: Sizes, sequences: int = SEQUENCES) -> float:
    """Operations of forward and backward: six for each weight and token, attention, and the scores of masked tokens."""
    tokens = sequences * SEQ
    attention = 12 * config.num_hidden_layers * SEQ * config.hidden_size
    return tokens * (6.0 * sizes.layers + attention + 6 * MASKED * config.vocab_size * config.hidden_size)


@dataclass(frozen=True)
class Line:
    """A row of the table."""

    devices: int
    sharding: Sharding
    rows: int  # of a micro-batch on a device
    micro_batches: int

    def cells(self) -> list[str]:
        """Its cells, as text."""
        sizes = Sizes.of(LARGE)
        memory = state_bytes(sizes, self.sharding, self.devices), kept_bytes(LARGE, self.rows)
        sent = traffic(sizes, self.sharding, self.micro_batches, weight_bytes=2).sent(self.devices)
        compute = flops(LARGE, sizes) / self.devices / FLOPS
        wire = sent / (INSIDE if self.devices <= HOST else BETWEEN)
        return [
            str(self.devices), self.sharding, f"{self.micro_batches} of {self.rows}",
            *(f"{one / 1e9:.1f}" for one in memory), f"{sent / 1e9:.1f}", f"{compute:.2f}", f"{wire:.3f}",
            f"{wire / compute:.0%}",
        ]  # fmt: skip


def table() -> str:
    """The table in Markdown."""
    head = [
        "devices", "sharding", "micro-batches of a device, rows", "state, GB", "kept, GB", "sent, GB", "computing, s",
        "sending, s", "sending / computing",
    ]  # fmt: skip
    rows = [head, ["---"] * len(head)]
    for devices in DEVICES:
        own = SEQUENCES // devices
        for sharding in SHARDINGS:
            size = min(own, 32)
            rows.append(Line(devices, sharding, size, own // size).cells())
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)


def with_table(page: str) -> str:
    """The page with today's table."""
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}{table()}{END}{after}"


def main() -> None:
    """Print the table, or write it into the page."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--docs", action="store_true", help="write the table into docs/scale.md")
    if parser.parse_args().docs:
        PAGE.write_text(with_table(PAGE.read_text("utf-8")), "utf-8")
        return
    print(table(), end="")


if __name__ == "__main__":
    main()

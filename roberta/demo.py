"""One checkpoint, the same sentences, three frameworks: how far apart are they, layer by layer?"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np

from roberta.common.checkpoint import save_checkpoint
from roberta.common.config import CONFIG_FILE, RobertaConfig
from roberta.common.parameters import parameters

SENTENCES = (
    "Shall I compare thee to a summer's day?",
    "The quality of mercy is not strain'd.",
    "We are such stuff as dreams are made on, and our little life is rounded with a sleep.",
    "Brevity is the soul of wit.",
)  # William Shakespeare
FAMILIES = {
    "PyTorch": "RobertaForMaskedLM",
    "TensorFlow": "TFRobertaForMaskedLM",
    "Flax": "FlaxRobertaForMaskedLM",
}
BOUND = 1e-10  # in float64, where right implementations differ by about 1e-14

Arrays = dict[str, np.ndarray]


def main(folder: Path) -> int:
    """Print the table of differences; 0 when all frameworks agree, 1 when not."""
    os.environ["JAX_ENABLE_X64"] = "1"  # read when jax is imported: float64 is JAX's to refuse otherwise
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    build(folder)
    batch = encode(SENTENCES)
    print(f"{len(SENTENCES)} sentences through RobertaForMaskedLM in {', '.join(FAMILIES)}, from {folder}\n")
    double = {name: run(name, folder, batch, "float64") for name in FAMILIES}
    single = {name: run(name, folder, batch, "float32") for name in FAMILIES}
    print(table(double, single))
    worst = np.max([difference(other, double["PyTorch"]) for other in double.values()])
    agree = worst < BOUND
    verdict = "The same" if agree else "NOT the same"
    print(f"\n{verdict}: in float64 at most {worst:.0e} apart, bound {BOUND:.0e}.")
    return 0 if agree else 1


def build(folder: Path) -> None:
    """Make the checkpoint unless it is there: small, and wide, so that every tensor shows in the result.

    Norm weights are drawn from N(1, 0.3), everything else from N(0, 0.3): a default initialisation would hide
    a bias that was never loaded.
    """
    if (folder / CONFIG_FILE).exists():
        return
    config = RobertaConfig(
        vocab_size=260, hidden_size=96, num_hidden_layers=4, num_attention_heads=6, intermediate_size=160,
        max_position_embeddings=130, layer_norm_eps=1e-5, architectures=[FAMILIES["PyTorch"]],
        dtype="float64",
    )  # fmt: skip
    rng = np.random.default_rng(0)
    arrays = {
        p.name: rng.normal(1.0 if p.kind == "norm" else 0.0, 0.3, p.shape)
        for p in parameters(config, "ForMaskedLM").values()
    }
    tensors = {name: (array.shape, "float64", lambda array=array: array) for name, array in arrays.items()}
    save_checkpoint(folder, {CONFIG_FILE: config.to_json_string()}, tensors)


def encode(sentences: tuple[str, ...]) -> Arrays:
    """Bytes as tokens, behind the four special ones: <s> 0, <pad> 1, </s> 2, <unk> 3."""
    rows = [[0, *(byte + 4 for byte in sentence.encode()), 2] for sentence in sentences]
    longest = max(map(len, rows))
    ids = np.array([row + [1] * (longest - len(row)) for row in rows])
    return {"input_ids": ids, "attention_mask": (ids != 1).astype(ids.dtype)}


def run(name: str, folder: Path, batch: Arrays, dtype: str) -> Arrays:
    """One framework's embedding, hidden states, attentions and logits, by the names of the table."""
    import roberta

    model = getattr(roberta, FAMILIES[name]).from_pretrained(folder, dtype=dtype)
    output = call(name, model, batch)
    arrays = {"embeddings": output.hidden_states[0]}
    for layer, (attention, hidden) in enumerate(zip(output.attentions, output.hidden_states[1:], strict=True), 1):
        arrays |= {f"layer {layer} attention": attention, f"layer {layer} hidden state": hidden}
    return {key: np.asarray(value) for key, value in (arrays | {"logits": output.logits}).items()}


def call(name: str, model: Any, batch: Arrays) -> Any:
    """The model's output, with all that the table compares."""
    if name != "PyTorch":
        return model(**batch, output_hidden_states=True, output_attentions=True)
    import torch

    with torch.no_grad():
        tensors = {key: torch.from_numpy(value) for key, value in batch.items()}
        return model(**tensors, output_hidden_states=True, output_attentions=True)


def difference(found: Arrays, wanted: Arrays, *names: str) -> float:
    """The largest difference, relative to the largest value of its array, over `names` or everything."""
    ratios = [
        np.abs(found[name].astype(np.float64) - wanted[name]).max() / np.abs(wanted[name]).max()
        for name in names or wanted
    ]
    return float(np.max(ratios))  # unlike max(), it never passes over a nan


def table(double: dict[str, Arrays], single: dict[str, Arrays]) -> str:
    """Every array against PyTorch's, in float64 and in float32."""
    others = [name for name in FAMILIES if name != "PyTorch"]
    columns = [f"{name} {dtype}" for dtype in ("float64", "float32") for name in others]
    lines = ["largest difference from PyTorch, relative to the largest value", ""]
    lines.append(" " * 22 + "".join(f"{column:>20}" for column in columns))
    for row in double["PyTorch"]:
        cells = [difference(run[other], run["PyTorch"], row) for run in (double, single) for other in others]
        lines.append(f"{row:<22}" + "".join(f"{cell:>20.1e}" for cell in cells))
    return "\n".join(lines)

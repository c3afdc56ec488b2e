"""`roberta demo`: a trained model from another library, converted, verified, and run in every framework."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from roberta.common.checkpoint.checkpoint import save_checkpoint
from roberta.common.config import CONFIG_FILE, RobertaConfig
from roberta.common.frameworks import installed
from roberta.common.parameters import parameters
from roberta.conversion import sapiens
from roberta.conversion.convert import convert
from roberta.conversion.verify import verify

SENTENCES = (
    "Shall I compare thee to a summer's day?",
    "The quality of mercy is not strain'd.",
    "We are such stuff as dreams are made on, and our little life is rounded with a sleep.",
    "Brevity is the soul of wit.",
)  # William Shakespeare


def run_demo(folder: Path, trained: Path) -> int:
    """Run the demo; 0 when all frameworks agree and recover the same residues, 1 when not.

    Args:
        folder: of the small checkpoint that the demo makes if it is missing.
        trained: of the trained model as published (fairseq/) and converted (roberta/).
    """
    build_checkpoint(folder)
    try:
        original = sapiens.fetch(trained / "fairseq")
    except sapiens.NotFetchedError as error:
        print(f"No trained model: {error}\nThe demo uses a random checkpoint that it made, {folder}.\n")
        report = verify(folder, ids=[byte_ids(sentence) for sentence in SENTENCES])
        print(report)
        return report.exit_code
    print(f"{sapiens.TITLE}\n")
    print(convert(original, trained / "roberta", to="safetensors", overwrite=True, progress=False).message())
    rows = sapiens.masked(sapiens.SEQUENCE)
    report = verify(trained / "roberta", ids=[sapiens.residue_ids(row, trained / "roberta") for row in rows])
    print(f"\n{report}\n")
    text, same = sapiens.recover(trained / "roberta", rows, installed())
    print(text)
    return 0 if report.agree and same else 1


def build_checkpoint(folder: Path) -> None:
    """Make the small checkpoint if it is missing: random, with wide weights, so that every tensor affects the result.

    Norm weights are drawn from N(1, 0.3), everything else from N(0, 0.3): a default initialisation would hide
    a bias that was never loaded.
    """
    if (folder / CONFIG_FILE).exists():
        return
    config = RobertaConfig(
        vocab_size=260, hidden_size=96, num_hidden_layers=4, num_attention_heads=6, intermediate_size=160,
        max_position_embeddings=130, layer_norm_eps=1e-5, architectures=["RobertaForMaskedLM"],
        dtype="float64",
    )  # fmt: skip
    rng = np.random.default_rng(0)
    arrays = {
        p.name: rng.normal(1.0 if p.kind == "norm" else 0.0, 0.3, p.shape)
        for p in parameters(config, "ForMaskedLM").values()
    }
    tensors = {name: (array.shape, "float64", lambda array=array: array) for name, array in arrays.items()}
    save_checkpoint(folder, {CONFIG_FILE: config.to_json_string()}, tensors)


def byte_ids(sentence: str) -> list[int]:
    """Bytes as tokens, after the four special ones: <s> 0, <pad> 1, </s> 2, <unk> 3."""
    return [0, *(byte + 4 for byte in sentence.encode()), 2]

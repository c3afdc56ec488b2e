"""The methods of the PyTorch classes against those of transformers 4.57: masks, counts, prefixes of an encoder.

Run as a program, this file is the peer: `python test_pytorch_oracle.py FOLDER` in an environment with transformers.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np

SIZES = {
    "vocab_size": 61, "hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 3, "intermediate_size": 40,
    "max_position_embeddings": 30, "layer_norm_eps": 1e-5,
}  # fmt: skip


def answers(library: Any, folder: Path) -> dict[str, Any]:
    """The results of a library's classes, with the weights in `folder`."""
    import torch

    found: dict[str, Any] = {}
    mask = torch.tensor([[1, 1, 1, 0, 0], [1, 1, 1, 1, 1]])
    heads = torch.tensor([1.0, 0.0, 0.5])
    for name, decoder in (("encoder", False), ("decoder", True)):
        model = library.RobertaForMaskedLM(library.RobertaConfig(**SIZES, is_decoder=decoder))
        found[f"{name} mask"] = model.get_extended_attention_mask(mask, (2, 5))
        found[f"{name} mask of pairs"] = model.get_extended_attention_mask(mask[:, None] * mask[..., None], (2, 5))
        found[f"{name} later mask"] = model.create_extended_attention_mask_for_decoder((2, 3), mask)
        found[f"{name} inverted"] = model.invert_attention_mask(mask)
        found[f"{name} head mask"] = model.get_head_mask(heads, 2)
        found[f"{name} head mask of layers"] = model.get_head_mask(torch.stack((heads, heads * 2)), 2, True)
    found["operations"] = model.floating_point_ops({"input_ids": mask})
    found["all operations"] = model.floating_point_ops({"input_ids": mask}, exclude_embeddings=False)
    found["parameters"] = model.num_parameters()
    found["bytes"] = model.get_memory_footprint(return_buffers=False)
    for head in ("Model", "ForCausalLM", "ForMaskedLM", "ForSequenceClassification", "ForQuestionAnswering"):
        kind = getattr(library, f"Roberta{head}")
        found[f"{head} generates"] = kind.can_generate()
        found[f"{head} sdpa"] = kind._supports_sdpa
        found[f"{head} checkpoints"] = kind.supports_gradient_checkpointing
        found[f"{head} ties"] = np.array(sorted(kind._tied_weights_keys or ["none"]))
    model = library.RobertaModel.from_pretrained(folder, dtype=torch.float64, attn_implementation="eager").eval()
    past = tuple(tuple(torch.from_numpy(part) for part in layer) for layer in np.load(folder / "prefix.npy"))
    if hasattr(library, "DynamicCache"):
        past = library.DynamicCache.from_legacy_cache(past)
    with torch.no_grad():
        found["prefix"] = model(
            torch.tensor([[0, 5, 6, 2], [0, 7, 8, 2]]), attention_mask=torch.ones(2, 7), past_key_values=past
        ).last_hidden_state
    return {name: np.asarray(value) for name, value in found.items()}


def test_methods_answer_as_those_of_transformers(tmp_path: Path) -> None:
    import checkpoints
    from backends import assert_close, backend
    from peers import environment

    backend("pt")
    import roberta

    checkpoints.make(tmp_path, "Model", layer_norm_eps=1e-5)
    np.save(tmp_path / "prefix.npy", np.random.default_rng(0).normal(size=(2, 2, 2, 3, 3, 8)))
    command = [sys.executable, __file__, str(tmp_path)]
    done = subprocess.run(command, env=environment(4), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    wanted = dict(np.load(tmp_path / "peer.npz"))
    found = answers(roberta, tmp_path)
    assert found.keys() == wanted.keys()
    for name, value in wanted.items():
        if name == "prefix":
            assert_close(found[name], value, 1e-10, name)
        else:
            assert np.array_equal(found[name], value), name


if __name__ == "__main__":
    import warnings

    import transformers

    warnings.simplefilter("ignore")
    np.savez(Path(sys.argv[1]) / "peer.npz", **answers(transformers, Path(sys.argv[1])))

"""PyTorch's `generate()` with objects of transformers: processors, criteria, streamers, configs and outputs.

Run as a program, this file is the child: `python test_generation_objects_oracle.py FOLDER VERSION` with that transformers on
its path prints the checks that failed.
"""

from __future__ import annotations

import copy
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import peers
import pytest


@pytest.mark.parametrize("version", [4, 5])
def test_objects_of_transformers_work_in_generate(tmp_path: Path, version: int) -> None:
    from checkpoints import make

    make(tmp_path / "model", "ForCausalLM", seed=3, num_hidden_layers=2, type_vocab_size=1)
    environment = peers.environment(version)
    environment["PYTHONPATH"] += f":{peers.ROOT}:{peers.ROOT / 'tests'}"
    command = [sys.executable, __file__, str(tmp_path / "model"), str(version)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]


def ids_of(model: Any, inputs: Any, **settings: Any) -> list[list[int]]:
    """The tokens of a call."""
    found: list[list[int]] = model.generate(inputs, max_new_tokens=8, eos_token_id=None, **settings).tolist()
    return found


def check(folder: Path, version: int) -> None:
    """Our `generate()` with transformers' objects against theirs with the same objects."""
    import torch
    import transformers
    from transformers import generation as theirs
    from transformers.models.roberta.modeling_roberta import RobertaForCausalLM

    from roberta import RobertaForCausalLM as Ours

    class Peer(RobertaForCausalLM):
        def prepare_inputs_for_generation(self, input_ids: Any, *rest: Any, **kwargs: Any) -> dict[str, Any]:
            inputs = super().prepare_inputs_for_generation(input_ids, *rest, **kwargs)
            positions = torch.arange(input_ids.shape[1])[None] + 2
            count = inputs["input_ids"].shape[1]
            return {**inputs, "position_ids": positions[:, -count:].expand(len(input_ids), -1)}

    assert transformers.__version__.startswith(f"{version}.")
    peer, model = Peer.from_pretrained(folder, dtype=torch.float64), Ours.from_pretrained(folder, dtype=torch.float64)
    inputs = torch.randint(3, model.config.vocab_size, (2, 6), generator=torch.Generator().manual_seed(0))
    processors = theirs.LogitsProcessorList(
        [
            theirs.NoRepeatNGramLogitsProcessor(1),
            theirs.SuppressTokensLogitsProcessor([5, 6, 7]),
            theirs.RepetitionPenaltyLogitsProcessor(1.4),
        ]
    )
    criteria = theirs.StoppingCriteriaList([theirs.MaxLengthCriteria(11)])
    for settings in (
        {"logits_processor": processors},
        {"logits_processor": processors, "repetition_penalty": 3.0},  # the caller's takes its place
        {"stopping_criteria": criteria},
        {"logits_processor": processors, "num_beams": 3, "num_return_sequences": 2},
        {"stopping_criteria": criteria, "num_beams": 3},
        {"prefix_allowed_tokens_fn": lambda batch, ids: [8 + batch, 9, int(ids[-1]) % 20 + 3], "num_beams": 2},
        {"generation_config": theirs.GenerationConfig(num_beams=2, no_repeat_ngram_size=2)},
        {"guidance_scale": 1.5, "negative_prompt_ids": inputs.flip(1)},
    ):
        found, wanted = ids_of(model, inputs, **settings), ids_of(peer, inputs, **settings)
        assert found == wanted, (settings, found, wanted)

    class Words:
        def decode(self, ids: Any, **_: Any) -> str:
            return "".join(f"{int(token)} " for token in ids)

    parts: list[str] = []

    class Streamer(theirs.TextStreamer):
        def on_finalized_text(self, text: str, stream_end: bool = False) -> None:
            parts.append(text)

    tokens = ids_of(model, inputs[:1], streamer=Streamer(Words(), skip_prompt=True))
    assert "".join(parts).split() == [str(token) for token in tokens[0][6:]]

    plain = model.generate(inputs, max_new_tokens=2, return_dict_in_generate=True, output_scores=True)
    beams = model.generate(inputs, max_new_tokens=2, num_beams=2, return_dict_in_generate=True, output_scores=True)
    assert isinstance(plain, theirs.GenerateDecoderOnlyOutput)
    assert isinstance(beams, theirs.GenerateBeamDecoderOnlyOutput)
    assert list(plain.keys()) == ["sequences", "scores", "past_key_values"]
    assert plain.logits is None
    plain.sequences = plain.sequences[:, 6:]
    assert plain["sequences"].shape == plain[0].shape == (2, 2)
    for twin in (copy.deepcopy(plain), pickle.loads(pickle.dumps(plain))):
        assert torch.equal(twin.sequences, plain.sequences)


if __name__ == "__main__":
    check(Path(sys.argv[1]), int(sys.argv[2]))

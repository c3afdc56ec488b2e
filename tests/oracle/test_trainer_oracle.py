"""Folders that the `Trainer` of transformers 4.57 and 5 writes for our model are complete."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import peers
import pytest

PEER = """
import sys
from transformers import Trainer, TrainingArguments
from pathlib import Path
import torch
import roberta
out = Path(sys.argv[1])
config = roberta.RobertaConfig(
    vocab_size=50, hidden_size=24, num_hidden_layers=1, num_attention_heads=3, intermediate_size=40,
    max_position_embeddings=30, num_labels=3, is_decoder=True)
rows = [{"input_ids": [0, 5 + row, 6, 2], "labels": [0, 5 + row, 6, 2]} for row in range(4)]

def trained(model, rows):
    arguments = TrainingArguments(
        output_dir=str(out / type(model).__name__), max_steps=2, save_steps=1, report_to=[], use_cpu=True,
        disable_tqdm=True, load_best_model_at_end=True, eval_strategy="steps", eval_steps=1)
    trainer = Trainer(model=model, args=arguments, train_dataset=rows, eval_dataset=rows)
    trainer.train()
    trainer.save_model()
    return trainer

trained(roberta.RobertaForCausalLM(config), rows)
trainer = trained(
    roberta.RobertaForSequenceClassification(config), [{**row, "labels": index % 3} for index, row in enumerate(rows)])
assert sum(type(callback).__name__ == "RobertaConfigCallback" for callback in trainer.callback_handler.callbacks) == 1
"""


@pytest.mark.parametrize("version", [4, 5])
def test_what_trainer_saves_is_loaded(tmp_path: Path, version: int) -> None:
    import roberta

    done = subprocess.run(
        [sys.executable, "-c", PEER, tmp_path], env=peers.environment(version), capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-3000:]
    for name in ("RobertaForCausalLM", "RobertaForSequenceClassification"):
        for folder in (tmp_path / name, tmp_path / name / "checkpoint-1", tmp_path / name / "checkpoint-2"):
            model, report = getattr(roberta, name).from_pretrained(folder, output_loading_info=True)
            assert not any(report.values()), (folder, report)
            assert model.config.num_labels == 3
            assert model.config.architectures == [name]

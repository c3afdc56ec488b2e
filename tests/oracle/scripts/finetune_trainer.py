"""Fine-tune a classifier with transformers' Trainer, evaluate it, save it, and load it again."""

import json
import sys
from pathlib import Path

import numpy as np
import torch
import transformers as lib
from transformers.data.data_collator import DataCollatorWithPadding
from transformers.trainer import Trainer
from transformers.training_args import TrainingArguments

folder, out = Path(sys.argv[1]), Path(sys.argv[2])
texts = json.loads((folder / "texts.json").read_text())
tokenizer = lib.RobertaTokenizerFast.from_pretrained(folder / "seq")
model = lib.RobertaForSequenceClassification.from_pretrained(
    folder / "seq", num_labels=3, id2label={0: "bad", 1: "fair", 2: "good"}, label2id={"bad": 0, "fair": 1, "good": 2}
)


class Reviews(torch.utils.data.Dataset):
    def __init__(self, texts):
        self.encodings = tokenizer(texts, truncation=True, max_length=16)
        self.labels = [len(text) % 3 for text in texts]

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, index):
        return {**{name: values[index] for name, values in self.encodings.items()}, "labels": self.labels[index]}


arguments = TrainingArguments(
    output_dir=str(out / "run"), max_steps=6, per_device_train_batch_size=4, per_device_eval_batch_size=3,
    learning_rate=1e-3, warmup_steps=2, weight_decay=0.01, logging_steps=1, save_strategy="no", report_to=[],
    use_cpu=True, seed=7, disable_tqdm=True, label_names=["labels"],
)  # fmt: skip
trainer = Trainer(
    model=model,
    args=arguments,
    train_dataset=Reviews(texts[:8]),
    eval_dataset=Reviews(texts[8:]),
    processing_class=tokenizer,
    data_collator=DataCollatorWithPadding(tokenizer),
    compute_metrics=lambda found: {"right": float((found.predictions.argmax(-1) == found.label_ids).mean())},
)
trainer.train()
scores = trainer.evaluate()
logits = trainer.predict(Reviews(texts[8:])).predictions
model.save_pretrained(out / "best")
again = lib.RobertaForSequenceClassification.from_pretrained(out / "best").eval()
with torch.no_grad():
    loaded = again(**tokenizer(texts[8:], return_tensors="pt", padding=True, truncation=True, max_length=16)).logits
print(
    json.dumps(
        {
            "losses": [entry["loss"] for entry in trainer.state.log_history if "loss" in entry],
            "norms": [entry["grad_norm"] for entry in trainer.state.log_history if "grad_norm" in entry],
            "eval": [scores["eval_loss"], scores["eval_right"]],
            "logits": np.asarray(logits).tolist(),
            "loaded": loaded.tolist(),
            "labels": [again.config.id2label[index] for index in loaded.argmax(-1).tolist()],
        }
    )
)

"""Sentence embeddings: the mean of the real tokens' states, batch by batch, and their similarities."""

import contextlib
import json
import sys
from pathlib import Path

import numpy as np
import transformers as lib

folder, framework = Path(sys.argv[1]), sys.argv[3]
texts = json.loads((folder / "texts.json").read_text())
tensors = {"pt": "pt", "tf": "tf", "flax": "jax"}[framework]
prefix = {"pt": "", "tf": "TF", "flax": "Flax"}[framework]
tokenizer = lib.RobertaTokenizerFast.from_pretrained(folder / "lm")
model = getattr(lib, f"{prefix}RobertaModel").from_pretrained(folder / "lm")
if framework == "pt":
    import torch

    model.eval()
no_grad = torch.no_grad if framework == "pt" else contextlib.nullcontext

vectors = np.zeros((len(texts), model.config.hidden_size))
for start in range(0, len(texts), 4):
    rows = slice(start, start + 4)
    batch = tokenizer(texts[rows], padding="max_length", truncation=True, max_length=16, return_tensors=tensors)
    with no_grad():
        output = model(**batch, output_hidden_states=True, return_dict=True)
    states = np.asarray(output.last_hidden_state) + np.asarray(output.hidden_states[-1])
    mask = np.asarray(batch["attention_mask"])[..., None]
    vectors[rows] = (states * mask).sum(1) / np.maximum(mask.sum(1), 1e-9)
vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
similar = vectors @ vectors.T
print(
    json.dumps(
        {
            "vectors": vectors[:4].tolist(),
            "similar": similar.tolist(),
            "nearest": [texts[row] for row in (similar - 2 * np.eye(len(texts))).argmax(1)],
        }
    )
)

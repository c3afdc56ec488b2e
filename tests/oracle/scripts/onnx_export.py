"""Export a classifier to ONNX with both axes free, run it with onnxruntime on other shapes, and compare."""

import json
import sys
from pathlib import Path

import numpy as np
import onnxruntime
import torch
import transformers as lib

folder, out = Path(sys.argv[1]), Path(sys.argv[2])
tokenizer = lib.RobertaTokenizerFast.from_pretrained(folder / "seq")
model = lib.RobertaForSequenceClassification.from_pretrained(folder / "seq", num_labels=3).eval()
model.config.return_dict = False
inputs = tokenizer(["Anna lives in Lisbon.", "A harbour."], padding=True, return_tensors="pt")
axes = {0: "batch", 1: "sequence"}
torch.onnx.export(
    model,
    (inputs["input_ids"], inputs["attention_mask"]),
    str(out / "model.onnx"),
    input_names=["input_ids", "attention_mask"],
    output_names=["logits"],
    dynamic_axes={"input_ids": axes, "attention_mask": axes, "logits": {0: "batch"}},
    opset_version=17,
    dynamo=False,
)
session = onnxruntime.InferenceSession(str(out / "model.onnx"), providers=["CPUExecutionProvider"])
found = {}
for texts in (
    ["The station was opened in May by the mayor."],
    ["One.", "Two and three.", "Nobody knows who wrote it."],
):
    arrays = tokenizer(texts, padding=True, return_tensors="np")
    feed = {name: arrays[name].astype(np.int64) for name in ("input_ids", "attention_mask")}
    found[str(len(texts))] = session.run(["logits"], feed)[0].tolist()
print(json.dumps({"inputs": [item.name for item in session.get_inputs()], "logits": found}))

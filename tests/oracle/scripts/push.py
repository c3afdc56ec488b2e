"""Save a model and its tokenizer, push both to the hub, and load them from there."""

import json
import sys
from pathlib import Path

import numpy as np
import transformers as lib

folder, framework = Path(sys.argv[1]), sys.argv[3]
prefix = {"pt": "", "tf": "TF", "flax": "Flax"}[framework]
cls = getattr(lib, f"{prefix}RobertaForSequenceClassification")
tokenizer = lib.RobertaTokenizerFast.from_pretrained(folder / "seq")
model = cls.from_pretrained(folder / "seq", num_labels=3)

model.push_to_hub("anna/reviews", commit_message="The model", private=True)
tokenizer.push_to_hub("anna/reviews")

again = cls.from_pretrained("anna/reviews")
words = lib.RobertaTokenizerFast.from_pretrained("anna/reviews")
arrays = dict(words(["Anna lives in Lisbon."], return_tensors="np"))
if framework == "pt":
    import torch

    arrays = {name: torch.from_numpy(values) for name, values in arrays.items()}
    logits = again.eval()(**arrays).logits.detach()
else:
    logits = (again(arrays) if framework == "tf" else again(**arrays)).logits
print(
    json.dumps(
        {
            "labels": again.config.num_labels,
            "tokens": words.tokenize("Anna lives"),
            "logits": np.asarray(logits).tolist(),
        }
    )
)

"""Go on writing a text: greedily, with beams, with what must and must not come, from a padded batch."""

import json
import sys
from pathlib import Path

import numpy as np
import transformers as lib

folder, framework = Path(sys.argv[1]), sys.argv[3]
tensors = {"pt": "pt", "tf": "tf", "flax": "np"}[framework]
prefix = {"pt": "", "tf": "TF", "flax": "Flax"}[framework]
tokenizer = lib.RobertaTokenizerFast.from_pretrained(folder / "causal", padding_side="left")
model = getattr(lib, f"{prefix}RobertaForCausalLM").from_pretrained(folder / "causal")

prompts = ["Anna lives in", "The old harbour"]
inputs = tokenizer(prompts, return_tensors=tensors, padding=True, add_special_tokens=False)
ways = {
    "greedy": {"do_sample": False, "max_new_tokens": 8},
    "beams": {"num_beams": 3, "do_sample": False, "max_new_tokens": 6},
    "lengths": {"do_sample": False, "max_length": 12, "min_length": 9},
}
if framework != "flax":
    ways["no repeats"] = {"do_sample": False, "max_new_tokens": 8, "no_repeat_ngram_size": 2, "repetition_penalty": 1.3}
settings = {"pad_token_id": tokenizer.pad_token_id, "eos_token_id": tokenizer.eos_token_id}
found = {}
for name, way in ways.items():
    output = model.generate(inputs["input_ids"], attention_mask=inputs["attention_mask"], **way, **settings)
    ids = np.asarray(output.sequences if framework == "flax" else output)
    found[name] = {"ids": ids.tolist(), "texts": tokenizer.batch_decode(ids.tolist(), skip_special_tokens=True)}
print(json.dumps(found))

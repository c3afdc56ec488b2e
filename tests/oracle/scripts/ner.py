"""Tag words: labels moved from words to tokens, a loss over them, and entities with their place in the text."""

import json
import sys
from pathlib import Path

import numpy as np
import transformers as lib

folder, framework = Path(sys.argv[1]), sys.argv[3]
tensors = {"pt": "pt", "tf": "tf", "flax": "np"}[framework]
prefix = {"pt": "", "tf": "TF", "flax": "Flax"}[framework]
tokenizer = lib.RobertaTokenizerFast.from_pretrained(folder / "token", add_prefix_space=True)
model = getattr(lib, f"{prefix}RobertaForTokenClassification").from_pretrained(folder / "token")

sentences = [["Anna", "Schmidt", "lives", "in", "Lisbon", "."], ["The", "harbour", "of", "Oslo-West"]]
tags = [[1, 2, 0, 0, 3, 0], [0, 0, 0, 3]]
encoded = tokenizer(
    sentences, is_split_into_words=True, padding=True, truncation=True, return_offsets_mapping=True,
    return_special_tokens_mask=True,
)  # fmt: skip
labels = []
for row, words in enumerate(tags):
    previous, aligned = None, []
    for word in encoded.word_ids(batch_index=row):
        aligned.append(-100 if word is None or word == previous else words[word])
        previous = word
    labels.append(aligned)

inputs = tokenizer.pad(
    {"input_ids": encoded["input_ids"], "attention_mask": encoded["attention_mask"]}, return_tensors=tensors
)
if framework == "pt":
    logits = model.eval()(**inputs).logits.detach().numpy()
else:
    logits = np.asarray((model(dict(inputs)) if framework == "tf" else model(**inputs)).logits)
scores = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
targets = np.array(labels)
loss = -np.take_along_axis(scores, np.maximum(targets, 0)[..., None], -1)[..., 0][targets != -100].mean()

text = "Anna Schmidt lives in Oslo."
found = tokenizer(text, return_offsets_mapping=True, return_tensors="np")
offsets = found.pop("offset_mapping")[0].tolist()
entities = [
    {"token": token, "word": text[start:end], "start": start, "end": end, "id": int(number)}
    for token, number, (start, end) in zip(found.tokens(), found["input_ids"][0], offsets, strict=True)
    if end > start
]
print(
    json.dumps(
        {
            "labels": labels,
            "offsets": np.asarray(encoded["offset_mapping"]).tolist(),
            "special": np.asarray(encoded["special_tokens_mask"]).tolist(),
            "logits": logits.tolist(),
            "loss": float(loss),
            "entities": entities,
            "names": [model.config.id2label[int(index)] for index in logits[0].argmax(-1)],
            "words": [found.token_to_word(index) for index in range(1, len(offsets) - 1)],
            "chars": [found.char_to_token(index) for index in range(len(text))],
        }
    )
)

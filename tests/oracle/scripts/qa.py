"""Answer questions on a text of several windows: features with stride, targets by offset, the best span of all."""

import json
import sys
from pathlib import Path

import numpy as np
import transformers as lib

folder, framework = Path(sys.argv[1]), sys.argv[3]
prefix = {"pt": "", "tf": "TF", "flax": "Flax"}[framework]
tokenizer = lib.RobertaTokenizerFast.from_pretrained(folder / "qa")
model = getattr(lib, f"{prefix}RobertaForQuestionAnswering").from_pretrained(folder / "qa")

text = " ".join(json.loads((folder / "texts.json").read_text())[:6])
questions = ["Who opened the station? ", "Where does Anna live?"]
answers = [text.index("station"), text.index("Lisbon")]
encoded = tokenizer(
    [question.strip() for question in questions], [text] * 2, truncation="only_second", max_length=32, stride=8,
    return_overflowing_tokens=True, return_offsets_mapping=True, padding="max_length",
)  # fmt: skip
samples = encoded.pop("overflow_to_sample_mapping")
offsets = encoded.pop("offset_mapping")
starts = []
for feature, sample in enumerate(samples):
    sides, place = encoded.sequence_ids(feature), answers[sample]
    inside = [
        index
        for index, (side, (start, end)) in enumerate(zip(sides, offsets[feature], strict=True))
        if side == 1 and start <= place < end
    ]
    starts.append(inside[0] if inside else encoded["input_ids"][feature].index(tokenizer.cls_token_id))

arrays = {name: np.array(values) for name, values in encoded.items()}
if framework == "pt":
    import torch

    with torch.no_grad():
        output = model.eval()(
            **{name: torch.tensor(values) for name, values in arrays.items()},
            start_positions=torch.tensor(starts),
            end_positions=torch.tensor(starts),
        )
    loss = float(output.loss)
else:
    output = model(arrays) if framework == "tf" else model(**arrays)
    loss = None
first, last = np.asarray(output.start_logits), np.asarray(output.end_logits)

best = []
for question in range(2):
    candidates = []
    for feature in [index for index, sample in enumerate(samples) if sample == question]:
        for start in np.argsort(first[feature])[-5:]:
            for end in np.argsort(last[feature])[-5:]:
                sides = encoded.sequence_ids(feature)
                if sides[start] == 1 and sides[end] == 1 and start <= end < start + 10:
                    span = (offsets[feature][start][0], offsets[feature][end][1])
                    candidates.append((float(first[feature][start] + last[feature][end]), text[span[0] : span[1]]))
    best.append(max(candidates, default=(0.0, "")))
print(
    json.dumps(
        {
            "samples": samples,
            "starts": starts,
            "offsets": np.asarray(offsets).tolist(),
            "first": first.tolist(),
            "last": last.tolist(),
            "loss": loss,
            "best": best,
        }
    )
)

"""Train a tokenizer and then a masked language model on it, from nothing but texts."""

import json
import sys
from pathlib import Path

import torch
import transformers as lib
from transformers.data.data_collator import DataCollatorForLanguageModeling

folder, out = Path(sys.argv[1]), Path(sys.argv[2])
texts = json.loads((folder / "texts.json").read_text())
old = lib.RobertaTokenizerFast.from_pretrained(folder / "lm")
tokenizer = old.train_new_from_iterator((texts[start : start + 4] for start in range(0, len(texts), 4)), vocab_size=330)
tokenizer.save_pretrained(out / "tokenizer")
tokenizer = lib.RobertaTokenizerFast.from_pretrained(out / "tokenizer", model_max_length=32)

config = lib.RobertaConfig(
    vocab_size=len(tokenizer), hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=64,
    max_position_embeddings=40, type_vocab_size=1, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0,
    pad_token_id=tokenizer.pad_token_id, bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id,
)  # fmt: skip
model = lib.RobertaForMaskedLM(config=config)
for name, parameter in sorted(model.named_parameters()):  # the same first values whatever the library draws
    if parameter.ndim == 2:
        numbers = torch.Generator().manual_seed(sum(name.encode()))
        torch.nn.init.normal_(parameter, std=0.02, generator=numbers)

collator = DataCollatorForLanguageModeling(tokenizer=tokenizer, mlm=True, mlm_probability=0.3, return_tensors="pt")
encoded = tokenizer(texts, truncation=True, return_special_tokens_mask=True)
examples = [{name: values[row] for name, values in encoded.items()} for row in range(len(texts))]
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
torch.manual_seed(5)
losses, masked = [], []
model.train()
for step in range(6):
    batch = collator(examples[step % 3 * 4 :][:4])
    loss = model(**batch).loss
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    optimizer.zero_grad()
    losses.append(loss.item())
    masked.append((batch["labels"] != -100).sum().item())
model.save_pretrained(out / "model")

again = lib.RobertaForMaskedLM.from_pretrained(out / "model").eval()
inputs = tokenizer(f"Anna lives in {tokenizer.mask_token}.", return_tensors="pt")
with torch.no_grad():
    logits = again(**inputs).logits[inputs.input_ids == tokenizer.mask_token_id]
print(
    json.dumps(
        {
            "vocab": dict(sorted(tokenizer.get_vocab().items())),
            "pieces": [tokenizer.tokenize(text) for text in texts[:4]],
            "ids": encoded["input_ids"],
            "masked": masked,
            "losses": losses,
            "logits": logits.tolist(),
            "parameters": model.num_parameters(),
        }
    )
)

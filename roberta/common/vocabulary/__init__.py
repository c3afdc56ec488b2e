"""What a tokenizer knows before it sees a text: merges, special tokens, templates, and the files they are in."""

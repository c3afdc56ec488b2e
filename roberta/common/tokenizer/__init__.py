"""The two tokenizers: byte-level BPE in Python, and on the tokenizers library."""

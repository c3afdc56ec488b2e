"""RoBERTa in PyTorch. The classes are in `models`; importing this package imports no framework."""

"""RoBERTa in Flax. The classes are in `models`; importing this package imports no framework."""

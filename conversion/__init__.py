"""Conversion and verification of checkpoints; installed as `roberta.conversion`."""

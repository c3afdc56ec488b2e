"""Conversion and verification of checkpoints; installed as `roberta.conversion`."""

from roberta.conversion.convert import Report, convert

__all__ = ["Report", "convert"]

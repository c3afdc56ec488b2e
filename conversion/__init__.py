"""Conversion and verification of checkpoints; installed as `roberta.conversion`.

`fairseq` and `keras_hub` read and write those systems' files, `verify` compares models layer by layer.
"""

from roberta.conversion.convert import ConversionReport as Report
from roberta.conversion.convert import convert

__all__ = ["Report", "convert"]

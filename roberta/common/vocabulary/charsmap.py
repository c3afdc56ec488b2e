"""The compiled rules of normalisation in a SentencePiece model and in a tokenizer.json that was made of one.

The tokenizers library trusts them: at rules that point outside of themselves it panics when it meets the character, and
at a wrong size it takes gigabytes or ends the process. So they are checked before the library has them.

Source: SentencePiece's normalizer.cc: the size of a double array in bytes, the array (darts-clone), the new texts, each
with a zero byte at its end.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterator

import numpy as np

from roberta.common.storage.folders import CheckpointError

_NAME = b'"precompiled_charsmap"'


def check_charsmap(where: str, charsmap: bytes) -> None:
    """Raise `CheckpointError`, which begins with `where`, unless every rule leads to a text.

    Args:
        charsmap: the rules; empty for none.
    """
    wrong = _damage_of(charsmap) if charsmap else None
    if wrong is not None:
        raise CheckpointError(
            f"{where}: the precompiled_charsmap, which has the rules of normalisation, is damaged: {wrong}; copy the file "
            "again"
        )


def check_charsmaps_of_json(where: str, raw: bytes) -> None:
    """The same for all such rules in a tokenizer.json, where they are written in base64."""
    for written in _charsmaps_of_json(raw):
        try:
            charsmap = base64.b64decode(written, validate=True)
        except binascii.Error as error:
            raise CheckpointError(
                f"{where}: the precompiled_charsmap, which has the rules of normalisation, is not base64: {error}; copy "
                "the file again"
            ) from None
        check_charsmap(where, charsmap)


def _charsmaps_of_json(raw: bytes) -> Iterator[bytes]:
    """The text behind each such name: found by `find`, as a pattern takes ten times as long, and JSON longer still."""
    at = raw.find(_NAME)
    while at >= 0:
        begin = raw.find(b'"', at + len(_NAME)) + 1
        end = raw.find(b'"', begin)
        if raw[at + len(_NAME) : begin].split() in ([b":", b'"'], [b':"']) and end >= 0:
            text = raw[begin:end]
            yield text.replace(b"\\/", b"/") if b"\\" in text else text  # the one mark of base64 that may be escaped
        at = raw.find(_NAME, begin or at + 1)


def _damage_of(charsmap: bytes) -> str | None:
    """The fault of rules; None if there is none."""
    # the two parts
    size = int.from_bytes(charsmap[:4], "little")
    if len(charsmap) < 8 or not size or size % 4 or 4 + size > len(charsmap):
        return f"a table of {size} bytes in {len(charsmap)} bytes"
    texts = charsmap[4 + size :]
    try:
        texts.decode()
    except UnicodeDecodeError as error:
        return f"its texts are not UTF-8: {error}"
    # a unit of the array: bit 31 marks a value; else bits 10 to 30 say where the next units are, in steps of 256 with
    # bit 9, and with bit 8 a key ends here, whose value is at that place
    units = np.frombuffer(charsmap, "<u4", size // 4, 4)
    places = np.flatnonzero(units < 2**31)
    nodes = units[places]
    steps = (nodes >> 10) << np.where(nodes & 512, 8, 0).astype(np.uint32)
    following = places ^ steps
    if ((following | 0xFF) >= len(units)).any():
        return "a place outside of its table"
    # a value is where a text begins
    values = units[following[(nodes & 256) > 0]] & 0x7FFFFFFF
    if (values >= len(texts)).any() or not texts.endswith(b"\0"):
        return "a text outside of its texts"
    is_within = np.frombuffer(texts, np.uint8) & 0xC0 == 0x80
    return "a text that begins within a character" if is_within[values].any() else None

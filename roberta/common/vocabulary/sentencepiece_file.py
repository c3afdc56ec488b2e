"""A `.model` file of SentencePiece: its pieces, and how it normalises texts.

Source: sentencepiece_model.proto, for the numbers, types and defaults of the fields.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from roberta.common.storage.folders import CheckpointError

NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = range(1, 7)  # the kinds of pieces
_LARGEST = 2**27  # bytes; XLM-R's has 5 MB

# Message -> its fields: name, number, type, default. "*" stands for a field that may be repeated.
_MESSAGES: dict[str, tuple[tuple[str, int, str, str], ...]] = {
    "Piece": (("piece", 1, "STRING", ""), ("score", 2, "FLOAT", ""), ("type", 3, "INT32", "1")),
    "Trainer": (
        ("model_type", 3, "INT32", "1"),
        ("byte_fallback", 35, "BOOL", "false"),
        ("unk_id", 40, "INT32", "0"),
        ("unk_piece", 45, "STRING", "<unk>"),
    ),
    "Normalizer": (
        ("precompiled_charsmap", 2, "BYTES", ""),
        ("add_dummy_prefix", 3, "BOOL", "true"),
        ("remove_extra_whitespaces", 4, "BOOL", "true"),
    ),
    "Model": (("pieces", 1, "*Piece", ""), ("trainer", 2, "Trainer", ""), ("normalizer", 3, "Normalizer", "")),
}


@dataclass(frozen=True)
class SentencePieceModel:
    """The content of a file.

    Attributes:
        pieces: the text, score and kind of each piece, in the order of the ids.
        is_unigram: whether it is a unigram model; else it is a BPE, whose scores are the ranks of its merges.
        charsmap: the compiled rules of normalisation; empty for none.
        adds_space: whether a space goes before each text.
        removes_spaces: whether several spaces become one.
    """

    pieces: tuple[tuple[str, float, int], ...]
    is_unigram: bool
    unk_id: int
    unk_piece: str
    has_byte_fallback: bool
    charsmap: bytes
    adds_space: bool
    removes_spaces: bool

    def texts_of(self, *kinds: int) -> frozenset[str]:
        """The texts of the pieces of some kinds."""
        return frozenset(text for text, _, kind in self.pieces if kind in kinds)


def read_sentencepiece(path: Path) -> SentencePieceModel:
    """The model in a file.

    Raises:
        CheckpointError: it is missing, damaged, or of a kind that has no pieces of several characters.
    """
    # the bytes
    try:
        if path.stat().st_size > _LARGEST:
            raise CheckpointError(f"{path} is too large for a SentencePiece model")
        content = path.read_bytes()
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        raise CheckpointError(f"{path} is not a file; it must be a SentencePiece model") from None
    # imported only when such a file is read
    from google.protobuf.message import DecodeError

    # the message in them
    message = _message_class()()
    try:
        message.ParseFromString(content)
        pieces = tuple((piece.piece, piece.score, piece.type) for piece in message.pieces)
    except (DecodeError, UnicodeDecodeError) as error:
        raise CheckpointError(
            f"{path} is not a SentencePiece model, or is damaged (truncated?): {error}; copy it again, or load a folder "
            "with tokenizer.json"
        ) from None
    # what makes it a model of the two kinds that have pieces of several characters
    if not pieces or not message.HasField("trainer"):
        raise CheckpointError(
            f"{path} is not a SentencePiece model, or is truncated: it has {len(pieces)} pieces and "
            f"{'a' if message.HasField('trainer') else 'no'} trainer_spec; copy it again"
        )
    if message.trainer.model_type not in (1, 2):
        raise CheckpointError(
            f"{path} has the model_type {message.trainer.model_type}, which must be 1 (unigram) or 2 (BPE)"
        )
    return SentencePieceModel(
        pieces=pieces,
        is_unigram=message.trainer.model_type == 1,
        unk_id=message.trainer.unk_id,
        unk_piece=message.trainer.unk_piece,
        has_byte_fallback=message.trainer.byte_fallback,
        charsmap=message.normalizer.precompiled_charsmap,
        adds_space=message.normalizer.add_dummy_prefix,
        removes_spaces=message.normalizer.remove_extra_whitespaces,
    )


@lru_cache(maxsize=1)
def _message_class() -> Any:
    """protobuf's class for a model file, made of `_MESSAGES`."""
    from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

    file = descriptor_pb2.FileDescriptorProto(name="roberta_sentencepiece.proto", package="roberta", syntax="proto2")
    field_type = descriptor_pb2.FieldDescriptorProto
    for message_name, fields in _MESSAGES.items():
        message = file.message_type.add(name=message_name)
        for name, number, kind, default in fields:
            field = message.field.add(name=name, number=number)
            field.label = field_type.LABEL_REPEATED if kind.startswith("*") else field_type.LABEL_OPTIONAL
            if kind.removeprefix("*") in _MESSAGES:
                field.type, field.type_name = field_type.TYPE_MESSAGE, f".roberta.{kind.removeprefix('*')}"
            else:
                field.type = getattr(field_type, f"TYPE_{kind}")
            if default:
                field.default_value = default
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("roberta.Model"))

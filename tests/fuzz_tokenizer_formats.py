"""Files of tokenizers of every kind for `fuzz_files`: small good ones made here, how to damage them, and their reader."""

from __future__ import annotations

import json
import random
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import tokenizers
from fuzz_damage import damaged, plain, text
from tokenizers import decoders, models, normalizers, pre_tokenizers, processors

from roberta import AutoTokenizer, CheckpointError
from roberta.common.vocabulary import sentencepiece_file

# Format -> the files of the folder; those that are damaged stand first, as many as the number says.
OF_FAMILY: dict[str, tuple[int, tuple[str, ...]]] = {
    "unigram-json": (1, ("tokenizer.json",)),
    "wordpiece-json": (1, ("tokenizer.json", "tokenizer_config.json")),
    "bpe-json": (1, ("tokenizer.json",)),
    "xlmr-model": (1, ("sentencepiece.bpe.model", "tokenizer_config.json")),
    "camembert-model": (1, ("sentencepiece.bpe.model", "config.json")),
    "t5-model": (1, ("spiece.model",)),
    "wordpiece-vocab": (1, ("vocab.txt",)),
    "phobert": (2, ("vocab.txt", "bpe.codes", "config.json")),
    "xlmr-settings": (1, ("tokenizer_config.json", "tokenizer.json")),
    "wordpiece-settings": (1, ("tokenizer_config.json", "vocab.txt")),
    "phobert-settings": (1, ("tokenizer_config.json", "vocab.txt", "bpe.codes")),
}
CLASSES = {"xlmr": "XLMRobertaTokenizer", "wordpiece": "BertTokenizer", "phobert": "PhobertTokenizer"}
TEXTS = ["low lower <mask> new 1 é A\n", "", " [MASK] the\u0301 \u3000Ａ ﬁ 中 ▁##@@", "A" * 150]
WORDS = [
    "[PAD]",
    "[UNK]",
    "[CLS]",
    "[SEP]",
    "[MASK]",
    "low",
    "##er",
    "new",
    "1",
    "a",
    "##a",
    "e",
    "the",
    "#",
    "@",
    "fi",
]
COUNTED = ["low 9", "low@@ 8", "er 7", "new 6", "A@@ 5", "A 4", "1 3", "é 2"]
CODES = ["l o 9", "lo w</w> 8", "lo w 7", "e r</w> 6", "n e 5", "ne w</w> 4", "A A 3", "A A</w> 2"]
SPECIALS = ["<s>", "<pad>", "</s>", "<unk>"]
UNIGRAM = [
    *((name, 0.0) for name in SPECIALS),
    ("▁", -2.0),
    ("▁low", -3.0),
    ("er", -3.5),
    ("▁new", -4.0),
    *((c, -6.0) for c in "lowern1Aa"),
]


def charsmap() -> bytes:
    """Compiled rules of SentencePiece with one rule, `A` to `a`: a double array, and the texts it points to."""
    units = [0] * 256
    units[0] = 1 << 10  # the root, whose children are at 1 ^ byte
    units[1 ^ 0x41] = 0x80 << 10 | 1 << 8 | 0x41  # `A`, which ends a key; its value is at its own place ^ 0x80
    units[1 ^ 0x41 ^ 0x80] = 0  # the place of the new text
    return struct.pack("<I256I", 4 * 256, *units) + b"a\0"


def rows(begin: str, end: str, ids: tuple[int, int]) -> processors.TemplateProcessing:
    return processors.TemplateProcessing(
        single=f"{begin} $A {end}",
        pair=f"{begin} $A {end} $B:1 {end}:1",
        special_tokens=[(begin, ids[0]), (end, ids[1])],
    )


def library_tokenizer(kind: str) -> str:
    """A tokenizer.json of the kind, with many of the parts that there are."""
    if kind == "wordpiece":
        made = tokenizers.Tokenizer(
            models.WordPiece({token: index for index, token in enumerate(WORDS)}, unk_token="[UNK]")
        )
        made.normalizer, made.pre_tokenizer = normalizers.BertNormalizer(), pre_tokenizers.BertPreTokenizer()
        made.decoder, made.post_processor = decoders.WordPiece(), rows("[CLS]", "[SEP]", (2, 3))
        made.add_special_tokens(WORDS[:5])
    elif kind == "bpe":
        tokens = [*SPECIALS, *"lowern1A", "Ġ", "Ċ", "Ã", "©", "lo", "low"]
        made = tokenizers.Tokenizer(
            models.BPE({t: i for i, t in enumerate(tokens)}, [("l", "o"), ("lo", "w")], unk_token="<unk>")
        )
        made.normalizer = normalizers.Sequence(
            [normalizers.NFKC(), normalizers.Replace("x", "y"), normalizers.Prepend("l")]
        )
        made.pre_tokenizer = pre_tokenizers.Sequence(
            [pre_tokenizers.Digits(), pre_tokenizers.ByteLevel(add_prefix_space=False)]
        )
        made.decoder, made.post_processor = decoders.ByteLevel(), processors.RobertaProcessing(("</s>", 2), ("<s>", 0))
        made.add_special_tokens(SPECIALS)
    else:
        made = tokenizers.Tokenizer(models.Unigram(UNIGRAM, 3, False))
        made.normalizer = normalizers.Sequence(
            [normalizers.Precompiled(charsmap()), normalizers.Strip(left=False), normalizers.Nmt()]
        )
        made.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace()])
        made.decoder, made.post_processor = decoders.Metaspace(), rows("<s>", "</s>", (0, 2))
        made.add_special_tokens([*SPECIALS, tokenizers.AddedToken("<mask>", lstrip=True, special=True)])
    made.enable_truncation(40), made.enable_padding()
    return str(made.to_str(pretty=True))


def sentencepiece(is_bpe: bool) -> bytes:
    """A `.model` file."""
    message = sentencepiece_file._message_class()()
    for at, (piece, score) in enumerate([("<unk>", 0.0), ("<s>", 0.0), ("</s>", 0.0), *UNIGRAM[4:]]):
        message.pieces.add(piece=piece, score=score, type=2 if at == 0 else 3 if at < 3 else 1)
    message.trainer.model_type = 2 if is_bpe else 1
    message.normalizer.precompiled_charsmap = charsmap()
    return bytes(message.SerializeToString())


def settings(kind: str) -> dict[str, Any]:
    """A tokenizer_config.json of a class, with settings of all types."""
    begin, end, unknown, mask = (
        ("[CLS]", "[SEP]", "[UNK]", "[MASK]") if kind == "wordpiece" else ("<s>", "</s>", "<unk>", "<mask>")
    )
    token = {
        "content": mask,
        "lstrip": True,
        "rstrip": False,
        "single_word": False,
        "normalized": False,
        "special": True,
    }
    place = {"wordpiece": 4, "xlmr": len(UNIGRAM), "phobert": len(COUNTED) + 4}[kind]
    return {
        "tokenizer_class": CLASSES[kind], "model_max_length": 512, "padding_side": "right", "truncation_side": "left",
        "cls_token": begin, "bos_token": begin, "sep_token": end, "eos_token": end, "unk_token": unknown,
        "mask_token": token, "pad_token": "[PAD]" if kind == "wordpiece" else "<pad>", "clean_up_tokenization_spaces": True,
        "added_tokens_decoder": {str(place): token}, "additional_special_tokens": ["<new>"], "do_lower_case": True,
        "strip_accents": None, "tokenize_chinese_chars": True, "sp_model_kwargs": {}, "normalization": False,
        "model_input_names": ["input_ids", "attention_mask"], "legacy": True, "extra_ids": 3,
        "extra_special_tokens": {"row_token": "<row>"}, "add_prefix_space": True,
        "chat_template": "{{ messages[0].content }}",
    }  # fmt: skip


def lines(rng: random.Random, content: bytes) -> bytes:
    """Damage a file of lines: lines are removed, repeated, swapped or emptied, or get other parts; or bytes are damaged."""
    if rng.random() < 0.3:
        return damaged(rng, content, is_text=False)
    found = content.decode().split("\n")
    for _ in range(rng.choice([1, 1, 2, 5])):
        at, other = rng.randrange(len(found)), rng.randrange(len(found))
        odd = rng.choice(
            [
                "",
                " ",
                "\t",
                "x",
                " 5",
                "a b",
                "a b c d",
                f"{found[at]} 3",
                "\ufeffa 1",
                "@@ 1",
                "</w> 1",
                "\x85 2",
                "\r",
            ]
        )
        change = rng.choice([[], [odd], [found[at], found[other]], [found[other]], [found[at], odd]])
        found[at : at + 1] = change
        if not found:
            break
    return "\n".join(found[: rng.choice([len(found), len(found), rng.randint(0, len(found))])]).encode()


def family_tokenizer(
    name: str, folder: Path
) -> tuple[tuple[str, ...], Callable[[random.Random, bytes], bytes], Callable[[Path], Any]]:
    """Write the good folder of a format; the files to damage, how, and their reader."""
    kind = name.partition("-")[0]
    number, names = OF_FAMILY[name]
    contents = {
        "tokenizer.json": library_tokenizer("unigram" if kind == "xlmr" else kind) if "tokenizer.json" in names else "",
        "tokenizer_config.json": json.dumps(settings(kind) if kind in CLASSES else {}),
        "config.json": json.dumps({"model_type": kind}),
        "sentencepiece.bpe.model": sentencepiece(is_bpe=False),
        "spiece.model": sentencepiece(is_bpe=True),
        "vocab.txt": "\n".join(WORDS if kind == "wordpiece" else COUNTED) + "\n",
        "bpe.codes": "\n".join(CODES) + "\n",
    }
    folder.mkdir()
    for file in names:
        content = contents[file]
        (folder / file).write_bytes(content if isinstance(content, bytes) else content.encode())
    damage = text if names[0].endswith("json") else plain if names[0].endswith("model") else lines
    return names[:number], damage, working


def working(folder: Path) -> bool:
    """Whether a folder has a tokenizer that encodes and decodes; its ids are its own, its offsets in the texts."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    try:
        return encodes(tokenizer)
    except ValueError as error:
        # the unknown token that a vocabulary lacks is an error where a text needs it, and names the file
        if "no token for unknown symbols" in str(error):
            raise CheckpointError(str(error)) from None
        raise


def encodes(tokenizer: Any) -> bool:
    """Whether calls of all kinds work."""
    for add in (True, False):
        found = tokenizer(TEXTS, return_offsets_mapping=True, add_special_tokens=add, verbose=False)
        for given, ids, spans in zip(TEXTS, found["input_ids"], found["offset_mapping"], strict=True):
            assert all(type(index) is int and index >= 0 for index in ids), ids
            assert all(0 <= start <= end <= len(given) for start, end in spans), spans
    assert (
        tokenizer(TEXTS, verbose=False)["input_ids"]
        == tokenizer(TEXTS, verbose=False, return_offsets_mapping=True)["input_ids"]
    )
    tokenizer(TEXTS[0], TEXTS[2], truncation=True, max_length=12)
    tokenizer.batch_decode(found["input_ids"], skip_special_tokens=True)
    return True

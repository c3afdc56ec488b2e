"""The format of a source, and its reader. A format is recognised by the files that are there, never guessed."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, get_args

from roberta.common.adapters.adapter_files import base_and_adapter, holds_adapter, holds_weights
from roberta.common.adapters.lora_adapter import LoraAdapter
from roberta.common.checkpoint.checkpoint import open_once
from roberta.common.config import CONFIG_FILE
from roberta.common.config_protocol import checked_config
from roberta.common.model_types import STEMS, class_name
from roberta.common.parameters import Head
from roberta.common.storage.folders import CheckpointError
from roberta.common.storage.hub import HubOptions, local_checkpoint, local_folder
from roberta.common.storage.names import FORMATS, WEIGHT_SUFFIXES, other_weights, weight_files
from roberta.common.vocabulary.files import SENTENCEPIECE_FILE
from roberta.conversion.fairseq import dictionary
from roberta.conversion.fairseq import reader as fairseq
from roberta.conversion.fairseq.dictionary import DICTIONARY_FILE
from roberta.conversion.keras_hub import reader as keras_hub
from roberta.conversion.model import ALL_HEADS, SourceModel, checked_model, of_family

CheckpointFormat = Literal["safetensors", "pt", "tf", "flax", "fairseq", "keras-hub"]
ALL: tuple[CheckpointFormat, ...] = get_args(CheckpointFormat)

# Files that are copied beside the weights, whatever their format.
TEXTS = (
    "vocab.json",
    "merges.txt",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    SENTENCEPIECE_FILE,  # XLM-R's and CamemBERT's slow tokenizers
    "vocab.txt",  # PhoBERT's and BERTweet's
    "bpe.codes",
    "generation_config.json",
    DICTIONARY_FILE,
)
VOCABULARIES = ("vocab.json", "merges.txt", "tokenizer.json", SENTENCEPIECE_FILE, "vocab.txt", "bpe.codes")
_LARGEST_TEXT = 2**27  # bytes; tokenizer.json of roberta-base has 3.6 MB


@dataclass(frozen=True)
class SourceOptions:
    """What a user adds to a source.

    Attributes:
        head: the head to keep; of a fairseq file also the name of a classification head.
        dictionary, encoder_json, vocab_bpe, sentencepiece: fairseq's dict.txt, GPT-2's two files, and a SentencePiece
            model; by default those beside the source.
        num_attention_heads: of a fairseq file without hyperparameters.
        adapter: merged into the tensors as they are read.
        adapter_folder: where it was read from, if that has a config or a tokenizer of its own.
        adapted_dtype: of what the adapter changes; None for the dtype of the file.
    """

    head: str | None = None
    dictionary: Path | None = None
    encoder_json: Path | None = None
    vocab_bpe: Path | None = None
    sentencepiece: Path | None = None
    num_attention_heads: int | None = None
    adapter: LoraAdapter | None = None
    adapter_folder: Path | None = None
    adapted_dtype: str | None = None


def local(source: str | Path, format_: CheckpointFormat | None, revision: str | None = None) -> Path:
    """A local path, or the local copy of a name on the hub, tokenizer files included.

    Of a folder of sentence-transformers, it is that of the transformer.
    """
    if Path(source).is_dir():
        return local_folder(Path(source), files=(CONFIG_FILE,))
    if Path(source).exists():
        return Path(source)
    if format_ in ("fairseq", "keras-hub"):
        raise CheckpointError(f"{source} does not exist; a checkpoint of {format_} is read from a file or folder")
    folder = local_checkpoint(source, formats=None if format_ is None else (format_,), revision=revision)
    if holds_adapter(folder) and not holds_weights(folder):
        return folder
    # the same folder, with the tokenizer's files
    return local_folder(source, files=(CONFIG_FILE, *TEXTS), revision=revision)


def with_adapter(path: Path, adapter: str | Path | None, options: SourceOptions) -> tuple[Path, SourceOptions]:
    """The base's path, and the options with the adapter that is to be merged: the caller's, or the source folder's own."""
    base, lora = base_and_adapter(path, adapter, HubOptions(), lambda name, revision: local(name, None, revision))
    return base, replace(options, adapter=lora, adapter_folder=None if lora is None else lora.source.parent)


def recognise(path: Path) -> tuple[Path, CheckpointFormat]:
    """The file or folder to read, and its format.

    Raises:
        CheckpointError: no format is recognised, or more than one; names the ways out.
    """
    if path.is_file():
        return path, _of_file(path)
    if not path.is_dir():
        raise CheckpointError(f"{path} does not exist")
    if keras_hub.is_preset(path):
        return path, "keras-hub"
    found: list[tuple[Path, CheckpointFormat]] = []
    for format_ in ALL[:4]:
        found += [(path / name, format_) for name in weight_files(format_) if (path / name).is_file()][:1]
    others = other_weights([file.name for file in path.iterdir() if file.is_file()])
    found += [(path / name, _of_file(path / name)) for name in others if name.endswith(".pt") or not found]
    if len(found) == 1:
        return found[0]
    if not found:
        raise CheckpointError(f"{path} has no weights of a known format: {', '.join(ALL)}")
    names = ", ".join(f"{file.name} ({format_})" for file, format_ in found)
    raise CheckpointError(f"{path} has {names}; choose with --from (from_=), or give the file")


def _of_file(file: Path) -> CheckpointFormat:
    suffix = Path(file.name.partition(".index")[0]).suffix if file.suffix == ".json" else file.suffix
    if file.suffix == ".json":
        return "pt" if suffix == ".bin" else "safetensors"
    format_ = WEIGHT_SUFFIXES.get(suffix)
    if format_ is None:
        raise CheckpointError(f"{file} has no known format; it must end in one of {', '.join(WEIGHT_SUFFIXES)}")
    if format_ == "pt" and fairseq.is_fairseq(fairseq.open_file(file, keeps_unknown=True)):
        return "fairseq"
    found: CheckpointFormat = format_  # type: ignore[assignment]
    return found


def read_model(path: Path, format_: CheckpointFormat | None, options: SourceOptions) -> SourceModel:
    """The model in a file or folder; `read_one_save` ensures that all its files belong to one save.

    Args:
        format_: None to recognise it by the files.
    """
    if format_ is None:
        path, format_ = recognise(path)
    if options.adapter is not None and format_ in ("fairseq", "keras-hub"):
        raise CheckpointError(
            f"{path} is a checkpoint of {format_}, whose names an adapter of PEFT does not know; convert it to safetensors "
            "first, and then with --adapter"
        )
    if format_ == "fairseq":
        return _read_fairseq(path, options)
    _refuse_fairseq_options(format_, options)
    head = _class(options.head)
    if format_ == "keras-hub":
        return keras_hub.read_preset(path, head=head, files=tokenizer_texts(path))
    folder = path.parent if path.is_file() else path
    if not (folder / CONFIG_FILE).is_file():
        raise CheckpointError(f"{folder} has no {CONFIG_FILE}; a checkpoint of {format_} needs one beside its weights")
    config, files = checked_config(folder)[0], tokenizer_texts(folder)
    adapted = options.adapter_folder
    if adapted is not None:
        # what lies beside an adapter is the adapted model's: labels, and perhaps a tokenizer
        config = checked_config(adapted)[0] if (adapted / CONFIG_FILE).is_file() else config
        own = tokenizer_texts(adapted)
        files = own if set(VOCABULARIES) & own.keys() else files
    checkpoint = open_once(path, formats=(format_,))
    return checked_model(
        config, checkpoint.tensors, checkpoint.source, format_, head=head, files=files, notes=checkpoint.remarks,
        adapter=options.adapter, adapted_dtype=options.adapted_dtype,
    )  # fmt: skip


def _read_fairseq(path: Path, options: SourceOptions) -> SourceModel:
    # the one weights file
    file = path
    if path.is_dir():
        files = sorted(path.glob("*.pt"))
        if len(files) != 1:
            there = ", ".join(file.name for file in files) or "none"
            raise CheckpointError(f"{path} needs one .pt file to be read as fairseq, it has {there}; give the file")
        file = files[0]
    # its tokenizer: the folder's own, or one made from a dictionary and the files beside it
    folder = file.parent
    files_there = tokenizer_texts(folder)
    model = fairseq.read_fairseq(
        file, head=options.head, files=files_there, num_attention_heads=options.num_attention_heads
    )  # fmt: skip
    given = options.dictionary or _beside(folder, DICTIONARY_FILE)
    has_tokenizer = options.dictionary is None and bool({"vocab.json", "tokenizer.json"} & set(files_there))
    if given is None or has_tokenizer:
        _refuse_unused(folder, options, has_tokenizer)
        return model
    _refuse_unfit(given, options)
    beside = dictionary.Beside(
        options.encoder_json or _beside(folder, "encoder.json"),
        options.vocab_bpe or _beside(folder, "vocab.bpe", "merges.txt"),
        options.sentencepiece or _beside(folder, SENTENCEPIECE_FILE),
    )
    made, notes = dictionary.dictionary_tokenizer(
        given, model.config.vocab_size, model.config.max_length_tokens, beside
    )
    others = {name: content for name, content in files_there.items() if name == "generation_config.json"}
    model = replace(model, files={**others, **made}, notes=(*model.notes, *notes))
    settings = json.loads(made.get("tokenizer_config.json", b"{}"))
    model_type = _TYPES.get(settings.get("tokenizer_class", ""))
    return model if model_type is None else of_family(model, model_type)


def _refuse_unused(folder: Path, options: SourceOptions, has_tokenizer: bool) -> None:
    """Raise for options that need a dictionary where no dictionary is used."""
    for name in ("vocab_bpe", "sentencepiece"):
        if getattr(options, name) is not None:
            why = f"{folder} has a tokenizer already" if has_tokenizer else f"{folder} has no {DICTIONARY_FILE}"
            raise ValueError(f"{name}={getattr(options, name)} needs a dictionary, and {why}; give --dictionary too")


def _refuse_unfit(given: Path, options: SourceOptions) -> None:
    """Raise for a file that the tokenizer of such a dictionary does not use."""
    kind = dictionary.kind_of_symbols(dictionary.symbols(given))
    fitting = {
        "encoder_json": ("numbers",),
        "vocab_bpe": ("numbers", "byte-level"),
        "sentencepiece": ("sentencepiece",),
    }
    for name, kinds in fitting.items():
        if getattr(options, name) is not None and kind not in kinds:
            what, way = dictionary.MISSING[kind]
            raise ValueError(f"{name}={getattr(options, name)} is not used: the symbols of {given} are {what}; {way}")


def _refuse_fairseq_options(format_: str, options: SourceOptions) -> None:
    for name in ("dictionary", "vocab_bpe", "sentencepiece", "num_attention_heads"):
        if getattr(options, name) is not None:
            raise ValueError(
                f"{name}={getattr(options, name)} is for a source of fairseq, and this one is {format_}; omit it"
            )


# The class of a tokenizer made from a dictionary -> the model type whose models have such tokenizers.
_TYPES = {"XLMRobertaTokenizer": "xlm-roberta", "CamembertTokenizer": "camembert"}


def _class(head: str | None) -> Head | None:
    """The class that a caller names: "ForMaskedLM", or with its family, "CamembertForMaskedLM"."""
    found = [known for known in ALL_HEADS if head in (known, *(class_name(family, known) for family in STEMS))]
    if head is not None and not found:
        raise ValueError(f"head={head!r} must be one of {', '.join(ALL_HEADS)}")
    return found[0] if found else None


def _beside(folder: Path, *names: str) -> Path | None:
    """The first of these files that exists."""
    return next((folder / name for name in names if (folder / name).is_file()), None)


def tokenizer_texts(folder: Path) -> Mapping[str, bytes]:
    """The tokenizer's files of a folder."""
    found = {}
    for name in TEXTS:
        if (folder / name).is_file():
            if (folder / name).stat().st_size > _LARGEST_TEXT:
                raise CheckpointError(f"{folder / name} is too large for a tokenizer file")
            found[name] = (folder / name).read_bytes()
    return found


assert set(FORMATS) == set(ALL[:4])

"""AutoTokenizer: the tokenizer that a folder carries, whatever the type of its model."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

from roberta.common.keywords import meaningful
from roberta.common.storage.folders import CheckpointError
from roberta.common.storage.hub import hub_options, local_folder
from roberta.common.tokenizer.base import TokenizerBase
from roberta.common.tokenizer.families import (
    BertTokenizerFast,
    CamembertTokenizerFast,
    T5TokenizerFast,
    XLMRobertaTokenizerFast,
)
from roberta.common.tokenizer.fast import RobertaTokenizerFast
from roberta.common.tokenizer.library import PreTrainedTokenizerFast
from roberta.common.tokenizer.phobert import BertweetTokenizer, PhobertTokenizer
from roberta.common.tokenizer.python import RobertaTokenizer
from roberta.common.vocabulary.files import TOKENIZER_CONFIG_FILE, TOKENIZER_FILE, TOKENIZER_FILES

_logger = logging.getLogger(__name__)

_CONFIG_FILE = "config.json"

# A class by its name in files, without "Fast".
_CLASSES: dict[str, type[TokenizerBase]] = {
    "PhobertTokenizer": PhobertTokenizer,  # before BertTokenizer, which reads a vocab.txt alone
    "BertweetTokenizer": BertweetTokenizer,
    "RobertaTokenizer": RobertaTokenizerFast,
    "XLMRobertaTokenizer": XLMRobertaTokenizerFast,  # before CamemBERT's, which has a file of the same name
    "CamembertTokenizer": CamembertTokenizerFast,
    "BertTokenizer": BertTokenizerFast,
    "T5Tokenizer": T5TokenizerFast,
    "PreTrainedTokenizer": PreTrainedTokenizerFast,
    "TokenizersBackend": PreTrainedTokenizerFast,  # its name in transformers 5
}

# The class of a model type in transformers.
_OF_MODEL_TYPES = {
    "roberta": "RobertaTokenizer",
    "camembert": "CamembertTokenizer",
    "xlm-roberta": "XLMRobertaTokenizer",
    "phobert": "PhobertTokenizer",
    "bertweet": "BertweetTokenizer",
}


class AutoTokenizer:
    """Makes the tokenizer of a folder; it has no instances."""

    def __init__(self) -> None:
        raise TypeError("AutoTokenizer has no instances; call AutoTokenizer.from_pretrained(folder)")

    @classmethod
    def from_pretrained(
        cls,
        pretrained_model_name_or_path: str | Path,
        *,
        use_fast: bool = True,
        tokenizer_type: str | None = None,
        cache_dir: str | Path | None = None,
        force_download: bool = False,
        local_files_only: bool = False,
        token: str | bool | None = None,
        revision: str | None = "main",
        subfolder: str | None = "",
        **overrides: Any,
    ) -> TokenizerBase:
        """The tokenizer of a folder or a hub name.

        Its class is the one that tokenizer_config.json names, else config.json, else that of the model's type. Where the
        folder lacks the files of that class, the files decide. The class taken, and why, is logged: as a warning where
        the files contradict the settings.

        Args:
            use_fast: False for RobertaTokenizer in place of RobertaTokenizerFast; other tokenizers have one class.
            tokenizer_type: a model type in place of all that the files say.
            overrides: arguments of the constructor, in place of what the files say.

        Raises:
            CheckpointError: no such folder or name; no tokenizer in it; a malformed file.
            ValueError: an unknown tokenizer_type.
        """
        overrides = meaningful(overrides)
        token = overrides.pop("token", token)
        hub = hub_options(locals())
        folder = local_folder(pretrained_model_name_or_path, files=(*TOKENIZER_FILES, _CONFIG_FILE), **hub)
        if tokenizer_type is not None and tokenizer_type not in _OF_MODEL_TYPES:
            raise ValueError(f"tokenizer_type={tokenizer_type!r} must be one of {', '.join(_OF_MODEL_TYPES)}")
        found = _class_of_folder(folder, tokenizer_type)
        if found is RobertaTokenizerFast and not use_fast:
            found = RobertaTokenizer
        if subfolder and not Path(pretrained_model_name_or_path).is_dir():
            return found.from_pretrained(pretrained_model_name_or_path, **hub, **overrides)
        return found.from_pretrained(folder, name_or_path=str(pretrained_model_name_or_path), **overrides)


def _class_of_folder(folder: Path, tokenizer_type: str | None) -> type[TokenizerBase]:
    """The class of a folder's tokenizer, logged with the reason."""
    # what the settings name, best first
    config = _object(folder / _CONFIG_FILE)
    named = [
        (f"{TOKENIZER_CONFIG_FILE} names", _object(folder / TOKENIZER_CONFIG_FILE).get("tokenizer_class")),
        (f"{_CONFIG_FILE} names", config.get("tokenizer_class")),
        (f"the model type {config.get('model_type')!r} has", _OF_MODEL_TYPES.get(str(config.get("model_type")))),
    ]
    if tokenizer_type is not None:
        named = [(f"tokenizer_type={tokenizer_type!r} means", _OF_MODEL_TYPES[tokenizer_type])]
    # the first of them whose files are there
    said = [(reason, name) for reason, name in named if isinstance(name, str)]
    for reason, name in said:
        cls = _CLASSES.get(name.removesuffix("Fast"))
        if cls is not None and cls.is_readable(folder):
            _logger.info("%s: %s, as %s it", folder, cls.__name__, reason)
            return cls
        if cls is None and (folder / TOKENIZER_FILE).is_file():
            _logger.info("%s: PreTrainedTokenizerFast, as %s %s, and %s is there", folder, reason, name, TOKENIZER_FILE)
            return PreTrainedTokenizerFast
    # no class that is named can read the files: the files decide
    order: list[type[TokenizerBase]] = [PreTrainedTokenizerFast, *_CLASSES.values()]
    found = next((cls for cls in order if cls.is_readable(folder)), None)
    if found is None:
        raise CheckpointError(
            f"{folder} has no tokenizer: none of {', '.join(TOKENIZER_FILES[:-4])} is there; copy the tokenizer's files "
            "beside the model's"
        )
    _logger.warning(
        "%s: %s, by the files that are there%s",
        folder,
        found.__name__,
        "".join(f"; {reason} {name}, whose files are not" for reason, name in said[:1]),
    )
    return found


def _object(path: Path) -> dict[str, Any]:
    """The object of a small JSON file; empty where there is none."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (ValueError, RecursionError, OSError) as error:
        raise CheckpointError(f"{path} is not valid JSON (truncated?): {error}") from None
    if not isinstance(content, dict):
        raise CheckpointError(f"{path} holds a {type(content).__name__}, not a JSON object")
    return content

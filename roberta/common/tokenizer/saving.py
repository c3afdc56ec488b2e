"""Tokenizers from folders and hub names, and back."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

from roberta.common.keywords import meaningful
from roberta.common.storage.folders import CheckpointError, write_folder
from roberta.common.storage.hub import PushesToHub, hub_options, local_folder, upload_later
from roberta.common.tokenizer.chat_templates import written_templates
from roberta.common.tokenizer.settings import (
    CONSTRUCTOR_ARGUMENTS,
    FURTHER_ARGUMENTS,
    OF_ONE_PROCESS,
    TokenizerSettings,
)
from roberta.common.vocabulary.files import (
    ADDED_FILE,
    CHAT_FILE,
    CHAT_FOLDER,
    MERGES_FILE,
    SPECIAL_FILE,
    TOKENIZER_CONFIG_FILE,
    TOKENIZER_FILE,
    TOKENIZER_FILES,
    VOCAB_FILE,
    Vocabulary,
    json_text,
    merges_text,
    read_settings,
    token_object,
    tokenizer_json,
    vocab_text,
)
from roberta.common.vocabulary.special_tokens import AddedToken
from roberta.common.vocabulary.template import with_settings

# Settings of a file that apply or not, depending on what its tokenizer.json does.
_OF_THE_VOCABULARY = {"trim_offsets", "add_prefix_space"}


class Saving(PushesToHub, TokenizerSettings):
    """`from_pretrained`, `save_pretrained`, `save_vocabulary` and `push_to_hub`."""

    @classmethod
    def from_pretrained(
        cls,
        pretrained_model_name_or_path: str | Path,
        *,
        cache_dir: str | Path | None = None,
        force_download: bool = False,
        local_files_only: bool = False,
        token: str | bool | None = None,
        revision: str | None = "main",
        subfolder: str | None = "",
        **overrides: Any,
    ) -> Self:
        """The tokenizer of a folder or a hub name.

        Args:
            overrides: arguments of the constructor, in place of what the files say; it keeps those it does not know.

        Raises:
            CheckpointError: no such folder or name; no vocabulary in it; a malformed file.
        """
        verbose = overrides.get("verbose", True)
        overrides = meaningful(overrides)
        token = overrides.pop("token", token)
        folder = local_folder(pretrained_model_name_or_path, files=TOKENIZER_FILES, **hub_options(locals()))
        # the settings of the files: arguments of the constructor, and the rest
        settings = read_settings(folder)
        arguments = {*CONSTRUCTOR_ARGUMENTS, *cls.own_settings} - _OF_THE_VOCABULARY
        known = {name: value for name, value in settings.items() if name in arguments}
        if "model_max_length" in overrides or "max_len" in overrides:
            known.pop("model_max_length", None)
        rest = {
            name: value
            for name, value in settings.items()
            if name not in (*arguments, *OF_ONE_PROCESS) and (name not in _OF_THE_VOCABULARY or value is not None)
        }
        own_tokens = {name: rest.pop(name) for name in list(rest) if name.endswith("_token") and _is_token(rest[name])}
        if own_tokens and not known.get("extra_special_tokens"):
            known["extra_special_tokens"] = own_tokens
        # the files of the vocabulary, unless they are given
        make: Callable[..., Self] = cls  # the two classes have constructors of their own
        has_files = any(
            name in overrides for name in ("vocab_file", "tokenizer_file", "tokenizer_object", "vocabulary")
        )
        files = {} if has_files else cls._vocabulary_files(folder)
        given = {"name_or_path": str(pretrained_model_name_or_path), **known, **overrides}
        try:
            return make(**files, **given, config=rest, verbose=verbose)
        except CheckpointError:
            raise
        except ValueError as error:
            given_names = ", ".join(name for name in overrides if name != "name_or_path")
            what = f"{folder}, with {given_names} given" if given_names else str(folder)
            raise CheckpointError(f"cannot make a tokenizer of {what}: {error}") from None

    @classmethod
    def _vocabulary_files(cls, folder: Path) -> dict[str, Path]:
        """The files of a folder that hold the vocabulary, by argument of the constructor."""
        names = {**cls.vocab_files_names, "tokenizer_file": TOKENIZER_FILE}
        paths = {name: folder / file for name, file in names.items()}
        here = {name: path for name, path in paths.items() if path.is_file()}
        has_one = "tokenizer_file" in here
        has_others = len(paths) > 1 and len(here) - has_one == len(paths) - 1
        if has_one and (cls.is_fast or not has_others):
            # the others are copied when the tokenizer is saved
            return here if has_others else {"tokenizer_file": here["tokenizer_file"]}
        if has_others:
            return here
        others = [path.name for name, path in paths.items() if name != "tokenizer_file"]
        missing = " and no ".join(paths[name].name for name in paths if name not in here and name != "tokenizer_file")
        raise CheckpointError(
            f"{folder} has no {missing}, nor {TOKENIZER_FILE}; a tokenizer needs {' and '.join(others)}, or "
            f"{TOKENIZER_FILE}"
            if others
            else f"{folder} has no {TOKENIZER_FILE}, which {cls.__name__} needs; AutoTokenizer finds a class for the files"
        )

    @classmethod
    def is_readable(cls, folder: Path) -> bool:
        """Whether a folder has the files of this tokenizer's vocabulary."""
        try:
            return bool(cls._vocabulary_files(folder))
        except CheckpointError:
            return False

    # -- saving --------------------------------------------------------------------------------------------------

    def save_pretrained(
        self,
        save_directory: str | Path,
        legacy_format: bool | None = None,
        filename_prefix: str | None = None,
        push_to_hub: bool = False,
        *,
        save_jinja_files: bool = True,
        **hub: Any,
    ) -> tuple[str, ...]:
        """Write the files into a folder, all or none; returns their paths. Another tokenizer's files there are removed.

        Args:
            legacy_format: True for vocab.json, merges.txt and added_tokens.json, False for tokenizer.json, None for
                what the class reads: the first, and for RobertaTokenizerFast both.
            filename_prefix: "pp" for pp-vocab.json and so on.
            save_jinja_files: write chat templates as files of their own; False writes them into tokenizer_config.json.
            push_to_hub: upload the folder too.
            hub: with `push_to_hub`, the arguments of `push_to_hub` (repo_id, by default the folder's name; token, ...).

        Raises:
            CheckpointError: the folder is a file.
            TypeError: an argument is not one of these.
        """
        upload = upload_later(save_directory, push_to_hub, hub, has_weights=False, commit_message="Upload tokenizer")
        # an upload has no folders, so several templates go into tokenizer_config.json
        save_jinja_files = save_jinja_files and not (push_to_hub and isinstance(self.chat_template, dict))
        files = self.files_to_save(legacy_format, save_jinja_files=save_jinja_files)
        prefix = f"{filename_prefix}-" if filename_prefix else ""
        files = {name if "/" in name else prefix + name: content for name, content in files.items()}
        ours = {*(prefix + name for name in TOKENIZER_FILES), CHAT_FOLDER}
        write_folder(save_directory, files, stale=ours.__contains__)
        upload()
        return tuple(str(Path(save_directory, name)) for name in files)

    def files_to_save(self, legacy_format: bool | None = None, *, save_jinja_files: bool = True) -> dict[str, bytes]:
        """The contents that `save_pretrained` writes, by file name, for a caller that adds files to the same save.

        Args:
            legacy_format, save_jinja_files: as in `save_pretrained`.
        """
        files = self._config_files(save_jinja_files)
        if legacy_format is not False:
            files |= self._vocabulary_texts()
            beside = {text: index for text, index in self._ids_of_added.items() if text not in self._vocabulary}
            if beside:
                files[ADDED_FILE] = json_text(beside)
        if legacy_format is False or (self.is_fast and legacy_format is None):
            files[TOKENIZER_FILE] = self._tokenizer_json()
        return files

    def save_vocabulary(self, save_directory: str | Path, filename_prefix: str | None = None) -> tuple[str, str]:
        """Write vocab.json and merges.txt into a folder, without added tokens; returns their paths."""
        prefix = f"{filename_prefix}-" if filename_prefix else ""
        files = {prefix + name: content for name, content in self._vocabulary_texts().items()}
        write_folder(save_directory, files)
        vocab, merges = (str(Path(save_directory, name)) for name in files)
        return vocab, merges

    def _vocabulary_texts(self) -> dict[str, bytes]:
        """vocab.json and merges.txt, as the class of that name in transformers lays them out."""
        vocab = vocab_text(self._vocabulary, indented=not self.is_fast)
        return {VOCAB_FILE: vocab, MERGES_FILE: merges_text(self._merges)}

    def _config_files(self, save_jinja_files: bool) -> dict[str, bytes]:
        """tokenizer_config.json, special_tokens_map.json and the chat templates."""
        config = {
            **self._kept_settings(),
            **self.special_tokens_map,
            "added_tokens_decoder": {
                str(index): token_object(token, special=True) for index, token in self.added_tokens_decoder.items()
            },
            "clean_up_tokenization_spaces": self.clean_up_tokenization_spaces,
            "extra_special_tokens": self.extra_special_tokens,
            "model_max_length": self.model_max_length,
            "tokenizer_class": self._class_in_files(),
            **self._own_settings(),
        }
        for name in self.extra_special_tokens:
            config.pop(name, None)
        sides = {"padding_side": self.padding_side, "truncation_side": self.truncation_side}
        config |= {name: side for name, side in sides.items() if side != "right" or name in self.init_kwargs}
        if self._writes_trim:
            config["trim_offsets"] = self.trim_offsets
        if self.model_input_names != type(self).model_input_names:
            config["model_input_names"] = list(self.model_input_names)
        if self.split_special_tokens:
            config["split_special_tokens"] = True
        templates = self._chat_files() if save_jinja_files else {}
        if self.chat_template is not None and not save_jinja_files:
            config["chat_template"] = written_templates(self.chat_template)
        special = {name: _file_form(value) for name, value in self.special_tokens_map_extended.items()}
        return {TOKENIZER_CONFIG_FILE: json_text(config), SPECIAL_FILE: json_text(special), **templates}

    def _kept_settings(self) -> dict[str, Any]:
        """The arguments of the constructor that it does not know itself, where JSON can write them."""
        own = (*CONSTRUCTOR_ARGUMENTS, *FURTHER_ARGUMENTS, *OF_ONE_PROCESS)
        return {name: value for name, value in self.init_kwargs.items() if name not in own and _is_json(value)}

    def _class_in_files(self) -> str:
        """The class that tokenizer_config.json names."""
        return "RobertaTokenizer"

    def _own_settings(self) -> dict[str, Any]:
        """The settings that the class has beside those of all tokenizers, for tokenizer_config.json."""
        return {"add_prefix_space": self.add_prefix_space, "errors": self.errors}

    def _chat_files(self) -> dict[str, bytes]:
        """The chat templates as files."""
        if self.chat_template is None:
            return {}
        named = {"default": self.chat_template} if isinstance(self.chat_template, str) else self.chat_template
        return {
            CHAT_FILE if name == "default" else f"{CHAT_FOLDER}/{name}.jinja": template.encode()
            for name, template in named.items()
        }

    def _tokenizer_json(self) -> bytes:
        return tokenizer_json(
            Vocabulary(dict(self._vocabulary), self._merges),
            self.added_tokens_decoder,
            post_processor=self._post_processor(),
            add_prefix_space=self.add_prefix_space,
        )

    def _post_processor(self) -> Any:
        """RoBERTa's own post_processor, or that of the file the tokenizer came from where its rows differ."""
        level = {"trim_offsets": self.trim_offsets, "add_prefix_space": self.add_prefix_space}
        if self._template is not None:
            processor = with_settings(self._template.processor, level)
            if self._template.trims is not None or not self.trim_offsets:
                return processor
            trimming = {"type": "ByteLevel", **level, "use_regex": True}
            return {"type": "Sequence", "processors": [trimming, processor]} if processor else trimming
        sep, cls = [self.sep_token or "", self.sep_token_id or 0], [self.cls_token or "", self.cls_token_id or 0]
        return {"type": "RobertaProcessing", "sep": sep, "cls": cls, **level}


def _is_json(value: object) -> bool:
    """Whether JSON can write a value."""
    try:
        json.dumps(value)
    except (TypeError, ValueError):
        return False
    return True


def _is_token(value: object) -> bool:
    return isinstance(value, str | AddedToken)


def _file_form(value: object) -> Any:
    """A special token, or a list or mapping of them, as special_tokens_map.json writes it."""
    if isinstance(value, AddedToken):
        return token_object(value, special=False)
    if isinstance(value, Mapping):
        return {name: _file_form(token) for name, token in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_file_form(token) for token in value]
    return value

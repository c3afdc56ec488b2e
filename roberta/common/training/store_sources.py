"""Token stores that a training is given as its data, and what the options of reading mean for them."""

from __future__ import annotations

from typing import Any, cast

from roberta.common.tokenizer.base import TokenizerBase
from roberta.common.training.data.source_chunks import ReadingOptions
from roberta.common.training.data.tasks import Task
from roberta.common.training.data.token_store import TokenStore, is_store
from roberta.common.training.fingerprints import hash_of_ids, paths_of


def opened_store(source: Any, task: Task, tokenizer: TokenizerBase) -> Any:
    """The token store that a source is or names, checked; any other source as it is.

    Raises:
        ValueError: the task does not train on one, it was prepared with another tokenizer, or there are other files
            beside it.
        CheckpointError: it is not finished, or damaged.
    """
    paths = paths_of(source) or []
    folders = [path for path in paths if is_store(path)]
    if not folders and not isinstance(source, TokenStore):
        return source
    if len(paths) > 1:
        raise ValueError(
            f"{folders[0]} is a token store, and {len(paths) - 1} more beside it; give one store: prepare all files into it"
        )
    store = TokenStore(folders[0]) if folders else cast(TokenStore, source)
    if task not in ("mlm", "clm"):
        raise ValueError(
            f"{store.folder} is a token store, which is for mlm and clm; give the files of {task} themselves"
        )
    if store.info.tokenizer != hash_of_ids(tokenizer):
        raise ValueError(
            f"{store.folder} was prepared with another tokenizer, and its ids would mean different tokens; give "
            "tokenizer= the folder that it was prepared with, or prepare the files again with the tokenizer of this training"
        )
    return store


def read_otherwise(store: TokenStore, options: ReadingOptions) -> dict[str, Any]:
    """The options that are said, and that the files of a store were not read with; the format has no part in it."""
    said, settings = options.said(), store.info.settings
    return {name: value for name, value in said.items() if name != "format" and settings.get(name) != value}


def check_options(train: Any, validation: Any, options: ReadingOptions, text_column: str | None) -> None:
    """Raise `ValueError` for options of reading where there are only stores, whose files were read with other ones.

    Args:
        train, validation: token stores, opened, or any other data.
        text_column: if the column of texts was said by this option.
    """
    stores = [source for source in (train, validation) if source is not None]
    if not all(isinstance(source, TokenStore) for source in stores):
        return  # they are for the files
    for store in stores:
        for name, value in read_otherwise(store, options).items():
            named = f"text_column={text_column!r}" if name == "columns" and text_column else None
            raise ValueError(
                f"{named or f'{name}={value!r}'} is for files, and {store.folder} is a token store, whose files were read "
                f"with {dict(store.info.settings) or 'no such option'}; omit it, or prepare the files with it"
            )

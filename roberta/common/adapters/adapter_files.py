"""The files of an adapter: found in a folder, read, and written in PEFT's layout."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from roberta.common.adapters.lora_adapter import LoraAdapter, lora_adapter
from roberta.common.adapters.lora_config import lora_config
from roberta.common.config import read_json
from roberta.common.formats import safetensors_file, torch_bin
from roberta.common.formats.safetensors_file import Source
from roberta.common.storage.folders import CheckpointError, Content, write_folder
from roberta.common.storage.held_files import read_one_save
from roberta.common.storage.hub import HubOptions, local_folder
from roberta.common.storage.names import ADAPTER_CONFIG_FILE, ADAPTER_WEIGHTS_FILES, other_weights, weights_key

ADAPTER_FILES = (ADAPTER_CONFIG_FILE, *ADAPTER_WEIGHTS_FILES)


def holds_adapter(folder: Path) -> bool:
    """Whether a folder has an adapter, alone or beside a model."""
    return (folder / ADAPTER_CONFIG_FILE).is_file()


def holds_weights(folder: Path) -> bool:
    """Whether a folder has a model's weights, of any format."""
    names = [file.name for file in folder.iterdir()]
    return any(weights_key(name) is not None for name in names) or bool(other_weights(names))


def open_adapter(folder: str | Path, hub: HubOptions | None = None) -> LoraAdapter:
    """The adapter in a folder, or of a name on the hub; its two files are of one save.

    Raises:
        UnsupportedAdapterError: it is of a kind that is not computed here.
        CheckpointError: a file is missing or damaged, or the two do not fit each other.
    """
    place = local_folder(folder, files=ADAPTER_FILES, **(hub or {}))
    return read_one_save(place, lambda: _open(place))


def _open(folder: Path) -> LoraAdapter:
    if not holds_adapter(folder):
        raise CheckpointError(f"{folder} has no {ADAPTER_CONFIG_FILE}; an adapter's folder has one beside its weights")
    config = lora_config(folder / ADAPTER_CONFIG_FILE, read_json(folder / ADAPTER_CONFIG_FILE))
    file = next((folder / name for name in ADAPTER_WEIGHTS_FILES if (folder / name).is_file()), None)
    if file is None:
        raise CheckpointError(f"{folder} has {ADAPTER_CONFIG_FILE}, and none of {', '.join(ADAPTER_WEIGHTS_FILES)}")
    is_safe = file.suffix == ".safetensors"
    stored = safetensors_file.read_safetensors(file) if is_safe else torch_bin.read_tensors(file, [])
    if not stored:
        raise CheckpointError(f"{file} holds no tensors; save the adapter again")
    return lora_adapter(config, file, stored)


def base_and_adapter(
    path: Path, adapter: str | Path | None, hub: HubOptions, find_base: Callable[[str, str | None], Path]
) -> tuple[Path, LoraAdapter | None]:
    """The weights to read, and the adapter to merge into them; None where there is none.

    Args:
        path: a folder or a weights file; a folder may hold an adapter, alone or beside its base.
        adapter: the adapter that the caller names, a folder or a name on the hub.
        hub: where a name of an adapter is looked up.
        find_base: the local folder of the base that an adapter names, by its name and revision.

    Raises:
        CheckpointError: a folder with an adapter alone does not say of which base it is, or two adapters are given.
    """
    has_own = path.is_dir() and holds_adapter(path)
    if adapter is not None:
        if has_own:
            raise CheckpointError(
                f"{path} has an adapter of its own beside adapter={str(adapter)!r}; give the base's folder without one, "
                f"or merge the first: roberta convert {path} FOLDER --to safetensors"
            )
        given = {name: value for name, value in hub.items() if name not in ("revision", "subfolder")}
        return path, open_adapter(adapter, HubOptions(**given))  # type: ignore[typeddict-item]
    if not has_own:
        return path, None
    # an adapter in the folder itself: beside its base, or alone
    own = open_adapter(path)
    if holds_weights(path):
        return path, own
    name = own.config.base_model_name_or_path
    if not name:
        raise CheckpointError(
            f"{path / ADAPTER_CONFIG_FILE} does not say which model it adapts (base_model_name_or_path); load that model "
            f"with adapter={str(path)!r}"
        )
    try:
        base = find_base(name, own.config.revision)
    except CheckpointError as error:
        raise CheckpointError(
            f"{path / ADAPTER_CONFIG_FILE}: base_model_name_or_path={name!r} cannot be read: {error}; load the base from "
            f"where it is, with adapter={str(path)!r}"
        ) from error
    if base.is_dir() and holds_adapter(base):
        raise CheckpointError(
            f"{path / ADAPTER_CONFIG_FILE}: the base {name!r} has an adapter of its own; merge that one first: roberta "
            f"convert {name} FOLDER --to safetensors, and load FOLDER with adapter={str(path)!r}"
        )
    return base, own


def adapter_contents(tensors: Mapping[str, Source]) -> dict[str, Content]:
    """The weights file of an adapter, by name."""
    return {ADAPTER_WEIGHTS_FILES[0]: safetensors_file.safetensors_pieces(tensors)}


def write_adapter(folder: str | Path, adapter: LoraAdapter, *, is_peft: bool = True) -> None:
    """Write an adapter into a folder, both files or neither; an older file of its weights there goes.

    One that was fitted to a class is written as it was read, with the head of another class that it has: its config
    fits that, and both load wherever the file did.
    """
    adapter = adapter.as_read or adapter
    files: dict[str, Content] = {ADAPTER_CONFIG_FILE: adapter.config.to_json().encode()}
    files |= adapter_contents(adapter.tensors(is_peft))
    write_folder(folder, files, stale=lambda name: name in ADAPTER_WEIGHTS_FILES)

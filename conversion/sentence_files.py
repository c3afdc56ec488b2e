"""What a model of sentence-transformers has beside its transformer, copied so that its vectors stay the same."""

from __future__ import annotations

import json
from pathlib import Path

from roberta.common.config import CONFIG_FILE
from roberta.common.pipelines.sentence_recipe import PROMPTS_FILE, SETTINGS_FILES
from roberta.common.storage.folders import CheckpointError, Content
from roberta.common.storage.hub import local_folder
from roberta.common.storage.modules_file import MODULES_FILE, is_transformer, read_modules
from roberta.common.storage.names import weight_files

_LARGEST = 2**28  # bytes of a file; a dense layer of roberta-large has 4 MB
_PART = (CONFIG_FILE, weight_files("safetensors")[0], weight_files("pt")[0])


def sentence_files(source: str | Path, to: str) -> tuple[dict[str, Content], list[str]]:
    """The files of the parts after the transformer, with a list of parts whose transformer is in the folder itself.

    Args:
        to: the format of the target; fairseq's and KerasHub's have no place for such files.

    Returns:
        Name -> content, empty of another source; and notes.
    """
    path = Path(source)
    if path.is_file():
        return {}, []
    root = local_folder(source, files=(MODULES_FILE, PROMPTS_FILE, CONFIG_FILE, "README.md"), in_transformer=False)
    if not (root / MODULES_FILE).is_file():
        return {}, []
    if to in ("fairseq", "keras-hub"):
        return {}, [f"left out: {MODULES_FILE} and what it lists; {to} has no place for the pooling"]
    parts = read_modules(root / MODULES_FILE)
    # the list of parts, as the transformer lies at the top now
    listed = json.loads((root / MODULES_FILE).read_text(encoding="utf-8"))
    if is_transformer(parts[0]):
        listed[0]["path"] = ""
    files: dict[str, Content] = {MODULES_FILE: (json.dumps(listed, indent=2) + "\n").encode()}
    # the settings of texts, and every further part
    places = [("", "", (PROMPTS_FILE,)), (parts[0].path, "", SETTINGS_FILES)]
    places += [(part.path, f"{part.path}/", _PART) for part in parts[1:] if part.path]
    for inside, prefix, names in places:
        is_local = path.is_dir() or not inside
        folder = root / inside if is_local else _fetched(source, inside, names)
        for name in names:
            if folder is not None and (folder / name).is_file():
                if (folder / name).stat().st_size > _LARGEST:
                    raise CheckpointError(f"{folder / name} is too large for a part after the transformer")
                files[f"{prefix}{name}"] = (folder / name).read_bytes()
    return files, [f"a model of sentence-transformers: copied {', '.join(files)}"]


def _fetched(source: str | Path, inside: str, names: tuple[str, ...]) -> Path | None:
    """A folder of a repository; None if it has none of these files, as that of a part without settings has."""
    try:
        return local_folder(source, files=names, in_transformer=False, subfolder=inside)
    except CheckpointError:
        return None

"""Model names to local files, and local files to the hub: the only module that touches the network.

A name that is a folder is that folder. Any other name is a model on the Hugging Face hub (or the server
that `HF_ENDPOINT` names): the files that are wanted, and no others, are fetched into the hub's cache, all of
one commit. Nothing of a repository is executed. huggingface_hub is imported when a name is looked up.
"""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from inspect import signature
from pathlib import Path, PurePosixPath
from typing import Any, TypedDict, Unpack, cast

from roberta.common.keywords import OF_WEIGHTS, meaningful, suggestion
from roberta.common.storage.folders import CheckpointError, restore
from roberta.common.storage.modules_file import MODULES_FILE, transformer_folder
from roberta.common.storage.names import (
    ADAPTER_CONFIG_FILE,
    ADAPTER_WEIGHTS_FILES,
    FORMATS,
    find_weights,
    read_index,
    weight_files,
    weights_key,
)

CARD = "README.md"

# Beside the weights, what `from_pretrained` reads of a model.
_TEXTS = ("config.json", "generation_config.json")

# Beside the weights, what `upload_folder` sends; other files in a folder are not sent.
_UPLOADED_TEXTS = (
    *_TEXTS, "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json",
    "vocab.json", "merges.txt", "chat_template.jinja", CARD, ADAPTER_CONFIG_FILE, *ADAPTER_WEIGHTS_FILES,
)  # fmt: skip


class HubOptions(TypedDict, total=False):
    """Where a name is looked up: the arguments of huggingface_hub of the same names; None is the default of each."""

    revision: str | None
    subfolder: str | None
    cache_dir: str | Path | None
    force_download: bool
    local_files_only: bool
    token: str | bool | None


def hub_options(arguments: Mapping[str, Any]) -> HubOptions:
    """The options among the arguments of a function, from its `locals()`."""
    return cast(HubOptions, {name: arguments[name] for name in HubOptions.__annotations__ if name in arguments})


@dataclass(frozen=True)
class _Repository:
    """A model on the hub at one revision, and how it is reached."""

    name: str
    revision: str = "main"
    subfolder: str = ""
    cache_dir: str | Path | None = None
    force_download: bool = False
    local_files_only: bool = False
    token: str | bool | None = None

    def __str__(self) -> str:
        inside = f", subfolder {self.subfolder}" if self.subfolder else ""
        return f"{self.name} (revision {self.revision}{inside})"


# -- from the hub --------------------------------------------------------------------------------------------


def local_folder(
    name_or_path: str | Path, *, files: Sequence[str], in_transformer: bool = True, **where: Unpack[HubOptions]
) -> Path:
    """A local folder with those of `files` that are there: the folder itself, or a snapshot in the cache.

    Args:
        files: plain names; of a hub name, exactly these are fetched. What a repository (offline: the cache) does not
            have is left out, as it may be in a folder.
        in_transformer: of a model of sentence-transformers, look in the folder of its transformer.

    Raises:
        CheckpointError: no such folder, name or revision; a name that cannot be reached; none of `files`.
    """
    place = _folder_or_repository(name_or_path, where)
    if isinstance(place, Path):
        return _transformer_in(place) if in_transformer and not where.get("subfolder") else place
    known = (*files, MODULES_FILE) if in_transformer else files
    repository, there = _names(place, known)
    if in_transformer:
        repository, there = _at_transformer(repository, there, files)
    wanted = [file for file in files if file in there]
    if not wanted:
        raise CheckpointError(f"{repository} has none of {', '.join(files)}; check the name and the subfolder")
    return _fetch(repository, wanted)[1]


def local_checkpoint(
    name_or_path: str | Path,
    *,
    formats: tuple[str, ...] | None = None,
    variant: str | None = None,
    **where: Unpack[HubOptions],
) -> Path:
    """A local folder with a model's config and weights: the folder itself, or a snapshot in the hub's cache.

    Of a hub name, the texts and the weights of the first format that is there are fetched, shards included, and an
    adapter beside them; of a name that has an adapter alone, the adapter. Of a model of sentence-transformers, it is the
    folder of its transformer.

    Args:
        formats: of `names.FORMATS`, best first; None for all.
        variant: the mark in `model.fp16.safetensors`.

    Raises:
        CheckpointError: no such folder, name or revision; a name that cannot be reached; no weights of the
            formats; an index that names a file outside its folder (before any shard is fetched).
    """
    place = _folder_or_repository(name_or_path, where)
    if isinstance(place, Path):
        return place if where.get("subfolder") else _transformer_in(place)
    # the weights to fetch, of all that the hub or the cache has
    known = [name for format_ in formats or tuple(FORMATS) for name in weight_files(format_, variant)]
    adapter_files = (ADAPTER_CONFIG_FILE, *ADAPTER_WEIGHTS_FILES)
    looked = (*known, *adapter_files)
    repository, there = _at_transformer(*_names(place, (*looked, MODULES_FILE)), looked)
    adapter = [name for name in adapter_files if ADAPTER_CONFIG_FILE in there and name in there]
    if adapter and not there.intersection(known):
        return _fetch(repository, [*(text for text in _TEXTS if text in there), *adapter])[1]
    weights = find_weights(repository, there, formats, variant)
    # the texts first, whose commit is that of everything
    repository, folder = _fetch(repository, [*(text for text in _TEXTS if text in there), *adapter, weights])
    if weights.endswith(".json"):
        suffix = PurePosixPath(weights.partition(".index.")[0]).suffix
        _fetch(repository, sorted(set(read_index(folder / weights, suffix).values())))
    return folder


def _transformer_in(folder: Path) -> Path:
    """The folder of the transformer in a model of sentence-transformers; any other folder itself."""
    names = {entry.name for entry in os.scandir(folder)}
    if not _has_inner(names):
        return folder
    return folder / transformer_folder(folder / MODULES_FILE)


def _at_transformer(repository: _Repository, there: set[str], known: Sequence[str]) -> tuple[_Repository, set[str]]:
    """As `_transformer_in`, of a repository: it at that folder, and the names of the files there."""
    if repository.subfolder or not _has_inner(there):
        return repository, there
    repository, folder = _fetch(repository, [MODULES_FILE])
    inner = transformer_folder(folder / MODULES_FILE)
    return _names(replace(repository, subfolder=inner), known) if inner else (repository, there)


def _has_inner(names: Iterable[str]) -> bool:
    """Whether a folder of these files may have its transformer in another one: it has a list of parts, and no weights."""
    names = set(names)
    return MODULES_FILE in names and not any(map(weights_key, names))


def commit_of(folder: Path) -> str | None:
    """The commit that a folder in the hub's cache holds; None of any other folder."""
    found = re.search(r"snapshots/([0-9a-f]{40})(?:/|$)", folder.as_posix())
    return found[1] if found else None


def _folder_or_repository(name_or_path: str | Path, where: HubOptions) -> Path | _Repository:
    """The folder of that name, or the repository when it can only be a name on the hub."""
    name = str(name_or_path)
    options: dict[str, Any] = {key: value for key, value in where.items() if value is not None}
    subfolder: str = options.pop("subfolder", "")
    path = Path(name_or_path)
    if name:
        restore(path)
    if name and path.is_dir():  # Path("") would be the working directory
        if not (path / subfolder).is_dir():
            raise CheckpointError(f"{name} has no folder {subfolder}; check subfolder")
        return path / subfolder
    if name and path.exists():
        raise CheckpointError(f"{name} is a file; give the folder it is in")
    is_path = isinstance(name_or_path, Path) or name.startswith((".", "~", os.sep)) or name.count("/") > 1
    if is_path or "\\" in name:
        raise CheckpointError(f"{name} does not exist; give a folder, or a hub name such as organisation/name")
    revision = options.pop("revision", "") or "main"
    return _Repository(name, revision, subfolder.strip("/"), **options)


def _names(repository: _Repository, known: Sequence[str]) -> tuple[_Repository, set[str]]:
    """The names of the files in the repository's (sub)folder, or of those of `known` that are in the cache.

    The cache is asked when the hub may not be or does not answer; the repository that comes back then asks
    the cache only, too.
    """
    from huggingface_hub import HfApi, constants, errors

    reason: Exception | None = None
    if not repository.local_files_only:
        try:
            seconds = constants.HF_HUB_ETAG_TIMEOUT
            info = HfApi().model_info(
                repository.name, revision=repository.revision, token=repository.token, timeout=seconds
            )
            return repository, set(_inside(repository, (file.rfilename for file in info.siblings or ())))
        except (errors.RevisionNotFoundError, errors.HFValidationError) as error:
            raise _explained(error, repository) from error
        except Exception as error:  # the transport's own errors differ between versions (requests, httpx)
            if repository.force_download:
                raise _explained(error, repository) from error
            reason = error
    cached = {name for name in known if _is_cached(repository, name)}
    if cached:
        return replace(repository, local_files_only=True), cached
    raise _explained(reason, repository) from reason


def _inside(repository: _Repository, files: Iterable[str]) -> Iterable[str]:
    """The plain names of the files that are in the subfolder itself."""
    for file in map(PurePosixPath, files):
        if file.parent == PurePosixPath(repository.subfolder):
            yield file.name


def _is_cached(repository: _Repository, name: str) -> bool:
    from huggingface_hub import try_to_load_from_cache

    file = str(PurePosixPath(repository.subfolder, name))
    try:
        # a path, None, or a mark for "known not to exist"
        return isinstance(
            try_to_load_from_cache(repository.name, file, cache_dir=repository.cache_dir, revision=repository.revision),
            str,
        )
    except ValueError as error:
        raise _explained(error, repository) from error


def _fetch(repository: _Repository, names: Sequence[str]) -> tuple[_Repository, Path]:
    """Fetch files of one folder into the cache, all of the commit that the first is of.

    Returns:
        The repository at that commit, and the local folder.
    """
    for name in names:
        folder = _download(repository, name).parent
        depth = len(PurePosixPath(repository.subfolder).parts)
        commit = (folder, *folder.parents)[depth].name  # the cache has <commit>/<subfolder>/<name>
        repository = replace(repository, revision=commit)
    return repository, folder


def _download(repository: _Repository, name: str) -> Path:
    """The path of one file in the cache, fetched when it is missing or no longer the same."""
    from huggingface_hub import hf_hub_download

    try:
        return Path(
            hf_hub_download(
                repository.name,
                name,
                subfolder=repository.subfolder or None,
                revision=repository.revision,
                cache_dir=repository.cache_dir,
                force_download=repository.force_download,
                local_files_only=repository.local_files_only,
                token=repository.token,
            )
        )
    except Exception as error:  # the transport's own errors differ between versions (requests, httpx)
        raise _explained(error, repository, name) from error


# -- to the hub ----------------------------------------------------------------------------------------------


def upload_folder(
    folder: str | Path,
    *,
    repo_id: str,
    token: str | bool | None = None,
    private: bool | None = None,
    commit_message: str | None = None,
    commit_description: str | None = None,
    revision: str | None = None,
    create_pr: bool = False,
    tags: Sequence[str] | None = None,
) -> str:
    """Upload a model's files as one commit; returns the address of the commit, or of the pull request.

    Config, tokenizer, model card and weights are sent, and no other file of the folder. Weights that
    would be read beside or in place of the new ones (same format and variant, another number of shards) are
    removed in the same commit.

    Args:
        repo_id: "organisation/name", or "name" of the user; made when missing, private when `private`.
        revision: the branch, made when missing; main by default.
        tags: added to those of the model card, README.md of the folder or else of the repository; made when missing.

    Raises:
        CheckpointError: nothing to upload; the hub refuses or is out of reach.
    """
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi

    names = sorted(path.name for path in Path(folder).iterdir() if path.is_file())
    names = [name for name in names if name in _UPLOADED_TEXTS or weights_key(name) is not None]
    if not names:
        raise CheckpointError(f"{folder} has nothing to upload; save_pretrained writes config and weights")
    api = HfApi(token=token)
    try:
        # the repository and its branch, and the files that are there before
        repo_id = api.create_repo(repo_id, private=private, exist_ok=True).repo_id
        if revision is not None and revision != "main" and not revision.startswith("refs/") and not create_pr:
            api.create_branch(repo_id, branch=revision, exist_ok=True)
        source = None if create_pr else revision
        there = api.list_repo_files(repo_id, revision=source)
        # what is sent, the model card with its tags
        contents: dict[str, Path | bytes] = {name: Path(folder, name) for name in names}
        if tags:
            old = Path(folder, CARD)
            if CARD not in names and CARD in there:
                old = Path(api.hf_hub_download(repo_id, CARD, revision=source))
            contents[CARD] = _tagged(old, repo_id, tags)
        # one commit, so that no reader sees old and new weights side by side
        commit = api.create_commit(
            repo_id,
            [
                *(CommitOperationDelete(name) for name in _superseded(names, there)),
                *(CommitOperationAdd(name, content) for name, content in contents.items()),
            ],
            commit_message=commit_message or f"Upload {', '.join(names)}",
            commit_description=commit_description,
            revision=revision,
            create_pr=create_pr,
        )
    except Exception as error:  # the transport's own errors differ between versions (requests, httpx)
        raise CheckpointError(
            f"could not upload to {repo_id}: {_line(error)}; check the name and the connection, and log in "
            'with "hf auth login" or give a token= that may write there'
        ) from error
    return str(commit.pr_url or commit.commit_url)


def upload_later(
    folder: str | Path,
    is_wanted: bool,
    options: Mapping[str, Any],
    *,
    has_weights: bool = True,
    commit_message: str | None = None,
) -> Callable[[], object]:
    """What `save_pretrained` calls once it has saved: `upload_folder`, or nothing when nothing is to be uploaded.

    Args:
        has_weights: False for a config or tokenizer, where arguments for saving weights are ignored.

    Raises:
        TypeError: an unknown option, or any but a token when nothing is to be uploaded.
    """
    options = {n: value for n, value in meaningful(options).items() if has_weights or n not in OF_WEIGHTS}
    if not is_wanted:
        options.pop("token", None)  # for the hub, which is not asked
    known = set(signature(upload_folder).parameters) - {"folder"}
    unknown = sorted(set(options) - known if is_wanted else options)
    if unknown:
        raise TypeError(
            f"save_pretrained does not know {unknown}; with push_to_hub=True it takes {', '.join(sorted(known))}"
        )
    if not is_wanted:
        return lambda: None
    return partial(upload_folder, folder, **{"repo_id": Path(folder).name, "commit_message": commit_message, **options})


class PushesToHub:
    """`push_to_hub`, for what has `save_pretrained`."""

    def push_to_hub(
        self,
        repo_id: str,
        use_temp_dir: bool | None = None,
        commit_message: str | None = None,
        private: bool | None = None,
        token: bool | str | None = None,
        max_shard_size: int | str | None = "5GB",
        create_pr: bool = False,
        safe_serialization: bool = True,
        revision: str | None = None,
        commit_description: str | None = None,
        tags: Sequence[str] | None = None,
        **deprecated_kwargs: Any,
    ) -> str:
        """Save and upload as one commit; returns the address of the commit, or of the pull request.

        Args:
            repo_id: "organisation/name", or "name" of the user; made when missing.
            use_temp_dir: False saves into the folder of that name in the working directory, which stays, and uploads
                what that folder has of a model; else a temporary folder is used.
            max_shard_size, safe_serialization: how weights are saved; a config and a tokenizer have none.
            tags: added to those of the model card.
            deprecated_kwargs: `use_auth_token` and `organization`, older names; and of a model, `variant`.

        Raises:
            CheckpointError: the hub refuses or is out of reach.
            TypeError: an unknown argument.
        """
        older = meaningful({"token": token, **deprecated_kwargs})
        token = older.pop("token")
        organization = older.pop("organization", None)
        save: Callable[..., Any] = self.save_pretrained  # type: ignore[attr-defined]
        options = {"max_shard_size": max_shard_size or "5GB", "safe_serialization": safe_serialization}
        options |= {"variant": older.pop("variant")} if "variant" in older else {}
        if isinstance(getattr(self, "chat_template", None), dict):
            options["save_jinja_files"] = False  # files of several templates lie in a folder, and uploads have none
        taken = signature(save).parameters
        options = {name: value for name, value in options.items() if name in taken or name == "variant"}
        if older or not options.keys() <= taken.keys():
            unknown = sorted({*older, *(options.keys() - taken.keys())})
            raise TypeError(f"push_to_hub does not know {unknown}{suggestion(unknown[0], _PUSH_ARGUMENTS)}")
        name = type(self).__name__
        kind = next((word for word in ("tokenizer", "config") if word in name.lower()), "model")
        with tempfile.TemporaryDirectory() as temporary:
            # a saver writes beside its folder first
            folder = Path(Path(repo_id).name) if use_temp_dir is False else Path(temporary, kind)
            save(folder, **options)
            return upload_folder(
                folder,
                repo_id=f"{organization}/{Path(repo_id).name}" if organization else repo_id,
                token=token,
                private=private,
                commit_message=commit_message or f"Upload {kind}",
                commit_description=commit_description,
                revision=revision,
                create_pr=create_pr,
                tags=tags,
            )


_PUSH_ARGUMENTS = tuple(signature(PushesToHub.push_to_hub).parameters)[1:-1]


def _tagged(card: Path, repo_id: str, tags: Sequence[str]) -> bytes:
    """A model card with more tags, made where the file is missing."""
    from huggingface_hub import ModelCard

    text = card.read_text(encoding="utf-8") if card.is_file() else f"# {repo_id.rpartition('/')[2]}\n"
    made = ModelCard(text, ignore_metadata_errors=True)
    before = made.data.get("tags") or ()
    made.data["tags"] = list(dict.fromkeys([*before, *([tags] if isinstance(tags, str) else tags)]))
    return str(made).encode()


def _superseded(names: Sequence[str], there: Iterable[str]) -> list[str]:
    """Those weights files of the repository that belong to the checkpoint that `names` replaces."""
    keys = {weights_key(name) for name in names} - {None}
    return [name for name in there if weights_key(name) in keys and name not in names]


# -- errors --------------------------------------------------------------------------------------------------


def _explained(error: Exception | None, repository: _Repository, file: str | None = None) -> CheckpointError:
    """The one error for what went wrong: it names the model and the way out. None: not in the cache."""
    from huggingface_hub import errors

    name = repository.name
    what = str(repository) if file is None else f"{file} of {repository}"
    log_in = 'log in with "hf auth login" or give token='
    if isinstance(error, errors.LocalEntryNotFoundError) and isinstance(error.__cause__, Exception):
        error = error.__cause__  # why the hub could not be asked
    # from the most to the least specific: some of these are subclasses of others
    match error:
        case errors.HFValidationError():
            rule = 'which is "name" or "organisation/name"'
            text = f"{name!r} is neither a folder nor a name on the hub, {rule}"
        case errors.GatedRepoError():
            text = f"{name} is gated; ask for access on its page, then {log_in}"
        case errors.RepositoryNotFoundError():
            text = f"{name} is neither a folder nor a model on the hub; check it, or if it is private {log_in}"
        case errors.RevisionNotFoundError():
            text = f"{name} has no revision {repository.revision!r}; give a branch, a tag or a commit"
        case errors.LocalTokenNotFoundError():
            text = f"{name}: token=True, but nobody is logged in; {log_in}"
        case None | errors.OfflineModeIsEnabled() | errors.LocalEntryNotFoundError():
            text = (
                f"{what} is neither a folder nor in the hub's cache, and the hub is not asked (offline); "
                "fetch it once without local_files_only and HF_HUB_OFFLINE, or give a folder"
            )
        case errors.EntryNotFoundError():  # after LocalEntryNotFoundError, which is one too
            text = f"{what} was not found; check the name, revision and subfolder"
        case _:
            text = (
                f"there is no file or folder {name}, and the hub, asked for {what}, does not answer ({_line(error)}); "
                "check the path, or the connection and token="
            )
    return CheckpointError(text)


def _line(error: Exception) -> str:
    """An error's kind and text in one line."""
    return " ".join(f"{type(error).__name__}: {error}".split())

"""From a folder or hub name to a config and the tensors of one class: `from_pretrained` without a framework."""

from __future__ import annotations

import copy
import functools
import logging
import warnings
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

from roberta.common.adapters.adapter_files import base_and_adapter, open_adapter
from roberta.common.adapters.lora_adapter import LoraAdapter
from roberta.common.checkpoint.checkpoint import Checkpoint, LoadReport, Match, match, open_once
from roberta.common.config import CONFIG_FILE, RobertaConfig
from roberta.common.config_protocol import as_config, checked_config
from roberta.common.dtype_names import FLOAT_DTYPES
from roberta.common.formats.safetensors_file import StoredTensor
from roberta.common.generation.config import generation_fields
from roberta.common.keywords import meaningful, suggestion
from roberta.common.parameters import Head, Parameter, parameters
from roberta.common.storage.folders import CheckpointError
from roberta.common.storage.held_files import read_one_save
from roberta.common.storage.hub import HubOptions, local_checkpoint

_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Pretrained:
    """The config, the folder, and a tensor for every parameter of the class except those in `report`.

    Attributes:
        generation: the fields of the folder's generation_config.json, if it has one; of a class that generates.
    """

    config: RobertaConfig
    folder: Path
    match: Match
    generation: dict[str, Any] | None = None

    @property
    def report(self) -> LoadReport:
        """The tensors that were missing, unexpected or of another shape."""
        return self.match.report

    def dtype(self, wanted: str | None) -> str:
        """The name of the dtype to load in: float32 by default, "auto" what the config or else the file has."""
        if wanted is None:
            return "float32"
        name = str(wanted).removeprefix("torch.")
        if name == "auto":
            stored = {tensor.dtype for tensor in self.match.found.values()}
            name = self.config.dtype or (stored.pop() if len(stored) == 1 else "float32")
        if name not in FLOAT_DTYPES:
            raise ValueError(f"dtype={wanted!r} is not one of {', '.join(FLOAT_DTYPES)}, auto")
        return name


def open_pretrained(
    name_or_path: str | Path | None,
    head: Head | None,
    *,
    config: Any = None,
    overrides: Mapping[str, Any] = MappingProxyType({}),
    hub: HubOptions | None = None,
    formats: tuple[str, ...] | None = None,
    variant: str | None = None,
    has_pooler: bool | None = None,
    ignore_mismatched_sizes: bool = False,
    may_be_partial: bool = False,
    is_reported: bool = False,
    tensors: Mapping[str, StoredTensor] | None = None,
    table: Callable[[RobertaConfig], Mapping[str, Parameter]] | None = None,
    config_class: type[RobertaConfig] | None = None,
    adapter: str | Path | None = None,
    wanted_dtype: str | None = None,
) -> Pretrained:
    """Find and check everything before a model is built; config and weights are of one save.

    Args:
        name_or_path: None, where `config` and `tensors` are given.
        config: a `RobertaConfig` or transformers' own, taken instead of the folder's, or where one is; `overrides`
            are refused beside an object.
        overrides: fields of the config to replace.
        formats: the file formats to look for, best first; None for all.
        may_be_partial: report what the checkpoint lacks of the encoder, instead of raising.
        is_reported: the caller is given the report, even of a checkpoint that has no tensor of the model.
        tensors: taken instead of the folder's.
        table: the tensors of a caller's own class, which has no `head`.
        config_class: the class of the config that is read, that of the model's class; None for the one of the
            folder's model type.
        adapter: folder or hub name of a LoRA adapter, merged into the tensors as they are read. One in the folder
            itself is merged too; of a folder with an adapter alone, the base is read that it names.
        wanted_dtype: what the caller loads in; a merged tensor is rounded to the file's dtype with "auto" alone.

    Raises:
        CheckpointError: the files do not make this model; one error lists everything that is wrong.
        TypeError: an override that is not a field of the config.
    """
    # config and tensors: both given, or both of one save of a folder
    place: HubOptions = hub or {}
    needed = meaningful(overrides)
    if name_or_path is None:
        if config is None or tensors is None:
            raise ValueError("pretrained_model_name_or_path=None needs both config= and state_dict=")
        folder, generation, lora = Path(), None, None if adapter is None else open_adapter(adapter, place)
        (found, unknown), checkpoint = (
            _config(folder, config, needed, config_class),
            Checkpoint(Path("state_dict"), tensors),
        )
    else:
        path = Path(name_or_path)
        if not path.is_file():
            path = local_checkpoint(name_or_path, formats=formats, variant=variant, **place)
        given = path
        path, lora = base_and_adapter(path, adapter, place, partial(_base_of_adapter, formats, variant, place))
        folder = path.parent if path.is_file() else path
        # an adapter's folder may have a config of its own, with the labels of its head
        own = given if lora is None or given != path else lora.source.parent
        described = own if own != path and (own / CONFIG_FILE).is_file() else folder
        (found, unknown), checkpoint, generation = read_one_save(
            path,
            lambda: (
                _config(described, config, needed, config_class),
                Checkpoint(Path("state_dict"), tensors)
                if tensors is not None
                else open_once(path, variant=variant, formats=formats),
                generation_fields(folder, needed) if head == "ForCausalLM" else None,
            ),
        )
        found.name_or_path = str(name_or_path)
        if lora is not None and config is None:
            _take_labels(found, head, lora, needed)
    # an override that is not a field is a typing error
    if unknown:
        hint = suggestion(min(unknown), vars(found))
        raise TypeError(
            f"from_pretrained does not know {sorted(unknown)}{hint}; give arguments of from_pretrained or fields of the "
            "config, and fields only without config="
        )
    # a tensor for each parameter of the class
    wanted = parameters(found, head, has_pooler=has_pooler) if head is not None else table(found) if table else {}
    matched = match(
        wanted,
        checkpoint,
        ignore_mismatched_sizes=ignore_mismatched_sizes,
        may_be_partial=may_be_partial,
        is_reported=is_reported,
        may_drop_layers="num_hidden_layers" in overrides,  # the caller's own word
        adapter=lora,
        adapted_dtype=_dtype_of_merged(wanted_dtype),
    )
    if matched.report.remarks:
        say_once(f"{checkpoint.source}: {'; '.join(matched.report.remarks)}")
    return Pretrained(found, folder, matched, generation)


@functools.lru_cache(maxsize=1024)
def say_once(text: str) -> None:
    """Log what a user should know of a file; the second time, in the same process, nothing."""
    _logger.warning("%s", text)


def _dtype_of_merged(wanted: str | None) -> str | None:
    """The dtype of a merged tensor: the file's with "auto", else wide enough for what the caller loads in."""
    if wanted == "auto":
        return None
    return "float64" if wanted is not None and wanted.endswith("float64") else "float32"


def _base_of_adapter(
    formats: tuple[str, ...] | None, variant: str | None, hub: HubOptions, name: str, revision: str | None
) -> Path:
    """The local folder of the model that an adapter names."""
    own: HubOptions = {**hub, "revision": revision or "main", "subfolder": ""}
    return local_checkpoint(name, formats=formats, variant=variant, **own)


def _take_labels(config: RobertaConfig, head: Head | None, adapter: LoraAdapter, overrides: Mapping[str, Any]) -> None:
    """Give a config as many labels as the head has that an adapter brings, unless the caller says how many."""
    said = {"num_labels", "id2label", "label2id"} & overrides.keys()
    is_taken = head in ("ForSequenceClassification", "ForTokenClassification") and not said
    if is_taken:
        problem_type = config.problem_type
        adapter.take_labels(config)
        if "problem_type" in overrides:
            config.problem_type = problem_type


def report_to_user(report: LoadReport, class_name: str) -> None:
    """Warn, in one message, when parts of the model are newly initialised."""
    message = report.message(class_name)
    if message and (report.missing or report.mismatched):
        warnings.warn(message, stacklevel=4)


def loading_info(report: LoadReport) -> dict[str, list[Any]]:
    """What `output_loading_info=True` returns beside the model."""
    return {
        "missing_keys": list(report.missing),
        "unexpected_keys": list(report.unexpected),
        "mismatched_keys": list(report.mismatched),
        "error_msgs": [],
    }


def preferred_formats(
    own: str,
    *,
    from_pt: bool = False,
    from_tf: bool = False,
    from_flax: bool = False,
    use_safetensors: bool | None,
) -> tuple[str, ...] | None:
    """The file formats to look for; the `from_*` flags and `use_safetensors` narrow the choice, else all are read."""
    flags = {"pt": from_pt, "tf": from_tf, "flax": from_flax}
    chosen = [name for name, flag in flags.items() if flag]
    if len(chosen) > 1:
        raise ValueError(f"give one of from_pt, from_tf and from_flax, not {chosen}")
    others = chosen or [own, *(name for name in flags if name != own)]
    if use_safetensors is None:
        return ("safetensors", *others) if not chosen or chosen == ["pt"] else (*others, "safetensors")
    return ("safetensors",) if use_safetensors else tuple(others)


def resized(matrix: np.ndarray, rows: int, name: str) -> np.ndarray:
    """`matrix` with `rows` rows: the first ones kept, new ones drawn close around the mean of the old.

    Args:
        matrix: (rows, columns), or (rows,), of which new entries are 0.
        name: of the parameter; new rows depend on it, on how many rows there are, and on the old ones.

    Source: Hewitt 2021, "Initializing new word embeddings for pretrained language models": new rows near the mean
    keep the old rows' probabilities.
    """
    old = matrix.shape[0]
    if rows <= old:
        return np.ascontiguousarray(matrix[:rows])
    if matrix.ndim == 1:
        return np.concatenate((matrix, np.zeros(rows - old, matrix.dtype)))
    wide = matrix.astype(np.float64)
    generator = np.random.default_rng((old, zlib.crc32(name.encode())))
    noise = generator.normal(0.0, 1e-5, (rows - old, matrix.shape[1])) * wide.std(axis=0)
    return np.concatenate((matrix, (wide.mean(axis=0) + noise).astype(matrix.dtype)))


def _config(
    folder: Path, given: Any, overrides: dict[str, Any], config_class: type[RobertaConfig] | None
) -> tuple[RobertaConfig, dict[str, Any]]:
    """The config to build from, and the overrides that are not fields of it; a given object is not changed."""
    config, unknown = as_config(given, config_class), dict(overrides)
    if config is not None:
        config = copy.deepcopy(config)
        if "attn_implementation" in unknown:  # of the call, never of a file
            config.attn_implementation = unknown.pop("attn_implementation")
        config.validate()
        return config, unknown
    if given is None and not (folder / CONFIG_FILE).is_file():
        raise CheckpointError(f"{folder} has no {CONFIG_FILE}; a model folder needs one, or give config=")
    return checked_config(folder if given is None else given, overrides, config_class)

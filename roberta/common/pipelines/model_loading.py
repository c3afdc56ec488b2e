"""The model and the tokenizer of a pipeline: loaded from a folder or a hub name, or given."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from roberta.common import frameworks
from roberta.common.checkpoint.loading import say_once
from roberta.common.config_protocol import named_model_type
from roberta.common.devices import to_load_on
from roberta.common.model_types import class_name
from roberta.common.parameters import Head
from roberta.common.pipelines.base import Model
from roberta.common.pipelines.sentence_recipe import read_recipe
from roberta.common.storage.hub import HubOptions
from roberta.common.tokenizer.auto import AutoTokenizer
from roberta.common.tokenizer.base import TokenizerBase

# The bundled model, for when none is given; docs/small_model.md says how it was made.
DEFAULT_MODEL = Path(__file__).parents[2] / "small"

_SPARE_ROWS = 128  # rows of an embedding that may have no token
_LOADED = ("float32", "float64")  # dtypes that a model is loaded in
_COMPUTED = ("bfloat16", "int8")  # dtypes that `infer` computes in, from weights in float32


def dtypes(dtype: str | None, *, is_loaded: bool) -> tuple[str | None, str | None]:
    """The dtype to load a model in, and the dtype for `infer` to compute in; "auto" depends on the device."""
    if dtype not in (None, *_LOADED, *_COMPUTED, "auto"):
        raise ValueError(f"dtype={dtype!r} must be one of {', '.join((*_LOADED, *_COMPUTED, 'auto'))}, or None")
    if is_loaded and dtype in _LOADED:
        raise ValueError(
            f"dtype={dtype!r} applies when a model is loaded, and this one is loaded already; give its folder"
        )
    return (None, dtype) if dtype in _COMPUTED else (dtype, None)


def open_model(
    model: Any,
    head: Head,
    *,
    framework: str | None,
    dtype: str | None,
    has_pooler: bool,
    source: HubOptions,
    device: object = None,
) -> Any:
    """The model, loaded in the framework if it is a folder or a name.

    Args:
        dtype: to load it in; None for float32.
        device: to load it on; None for an accelerator if there is one.
        has_pooler: for the head "Model": whether its pooler is needed.

    Raises:
        ValueError: a model of a framework that was not asked for, or a checkpoint that lacks the head's weights.
        CheckpointError: see `from_pretrained`.
    """
    if not isinstance(model, str | Path):
        if framework not in (None, model.framework):
            raise ValueError(f"framework={framework!r}, but the model belongs to {model.framework!r}; omit framework")
        return model
    # as the class of the task, whatever was saved
    name = frameworks.one_framework(framework, frameworks.installed())
    model_type = named_model_type(model, **source)
    options = {"add_pooling_layer": has_pooler} if head == "Model" else {}
    with warnings.catch_warnings():
        warnings.filterwarnings(
            "ignore", ".*: new, as the checkpoint does not have them", UserWarning
        )  # an error, below
        loaded, report = frameworks.class_of(name, head, model_type).from_pretrained(
            model,
            dtype=dtype or "float32",
            output_loading_info=True,
            device_map=to_load_on(device, dtype, name),
            **source,
            **options,
        )
    if report["missing_keys"]:
        saved, missing = ", ".join(loaded.config.architectures or ["an unknown class"]), sorted(report["missing_keys"])
        raise ValueError(
            f"{model} was saved as {saved} and has no {', '.join(missing)}: as {class_name(model_type, head)} it would "
            "answer at random; give a model that was trained for this task; docs/training.md shows how to make one"
        )
    if not loaded.config.architectures:
        say_once(
            f"{model}: the config names no class (architectures); Roberta{head} was taken, which this task needs and "
            "whose tensors are all there"
        )
    return loaded


def open_tokenizer(tokenizer: Any, model: Any, source: HubOptions) -> TokenizerBase:
    """The tokenizer: the given one, one from a folder or name, or the one beside the model's weights."""
    if tokenizer is None:
        tokenizer = model if isinstance(model, str | Path) else getattr(model, "name_or_path", "")
        if not tokenizer:
            raise ValueError("this model does not say where it was loaded from; pass tokenizer, its own or a folder")
    if not isinstance(tokenizer, str | Path):
        opened: TokenizerBase = tokenizer
        return opened
    path = Path(tokenizer)
    return AutoTokenizer.from_pretrained(path.parent if path.is_file() else tokenizer, **source)


def open_recipe(model: Any, tokenizer: Any, source: HubOptions, given: Mapping[str, Any]) -> dict[str, Any]:
    """The options that a folder of sentence-transformers asks for beside those given, said once; none of another folder.

    Of a loaded model it is the folder that it came from, if that is still there, or its tokenizer comes from there too.

    Raises:
        CheckpointError: it has a part that is not supported.
    """
    place = model if isinstance(model, str | Path) else getattr(model, "name_or_path", "")
    is_asked = isinstance(model, str | Path) or tokenizer is None
    if not place or not (is_asked or Path(place).is_dir()):
        return {}
    recipe = read_recipe(place, source)
    if recipe is None:
        return {}
    say_once(f"{place} is a model of sentence-transformers: {recipe.note(given)}")
    return recipe.options(given)


def check_vocabulary(tokenizer: TokenizerBase, model: Model) -> None:
    """Warn of a tokenizer that most likely belongs to another model: its ids mean other tokens, or have no embedding.

    Embeddings are padded to round numbers, and tokenizers get extra tokens, so a small difference is normal.
    """
    tokens, rows = len(tokenizer), model.config.vocab_size
    if tokens > rows or rows - tokens > max(_SPARE_ROWS, tokens // 10):
        warnings.warn(
            f"the tokenizer has {tokens:,} tokens, and the model embeddings for {rows:,}: if it belongs to "
            "another model, the answers are meaningless; give the model's own as tokenizer",
            stacklevel=3,
        )

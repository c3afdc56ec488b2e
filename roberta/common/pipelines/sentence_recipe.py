"""How a folder of sentence-transformers makes a vector of a text: pooling, dense layers, normalising, lengths, case.

Source: the files that sentence-transformers 0.2 to 5 write: modules.json lists the parts, each with a folder; the first
is the transformer. Its own code is not needed, and no code in a folder is run.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np

from roberta.common.checkpoint.checkpoint import open_checkpoint
from roberta.common.config import CONFIG_FILE, read_json
from roberta.common.storage.folders import CheckpointError
from roberta.common.storage.hub import HubOptions, local_folder
from roberta.common.storage.modules_file import MODULES_FILE, Module, is_transformer, read_modules
from roberta.common.storage.names import weight_files

TokenPooling = Literal["mean", "cls", "max", "mean_sqrt_len_tokens", "weightedmean", "lasttoken"]
PROMPTS_FILE = "config_sentence_transformers.json"
# The transformer's own settings; before 0.3 each architecture had a name of its own.
SETTINGS_FILES = tuple(f"sentence_{name}_config.json" for name in ("bert", "roberta", "camembert", "xlm-roberta"))
_WEIGHTS = (weight_files("safetensors")[0], weight_files("pt")[0])

# Field of a pooling's config -> its pooling, in the order in which several are put together.
_FIELDS: dict[str, TokenPooling] = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
    "pooling_mode_weightedmean_tokens": "weightedmean",
    "pooling_mode_lasttoken": "lasttoken",
}
_ACTIVATIONS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "Identity": lambda values: values,
    "Tanh": np.tanh,
    "ReLU": lambda values: np.maximum(values, 0),
    "Sigmoid": lambda values: 1 / (1 + np.exp(-values)),
    "SiLU": lambda values: values / (1 + np.exp(-values)),
    "GELU": lambda values: values * (1 + np.vectorize(math.erf, otypes=[values.dtype])(values / math.sqrt(2))) / 2,
}


@dataclass(frozen=True)
class DenseLayer:
    """A layer after the pooling: weight (out, in), bias (out,) or None, and the name of its activation."""

    weight: np.ndarray = field(repr=False)
    bias: np.ndarray | None = field(repr=False)
    activation: str

    def __call__(self, vectors: np.ndarray) -> np.ndarray:
        """Vectors, (rows, in), through the layer, (rows, out)."""
        values = vectors @ self.weight.T.astype(vectors.dtype)
        if self.bias is not None:
            values = values + self.bias.astype(vectors.dtype)
        return np.asarray(_ACTIVATIONS[self.activation](values), vectors.dtype)


@dataclass(frozen=True)
class SentenceRecipe:
    """What a folder of sentence-transformers says of its vectors.

    Attributes:
        poolings: put together where they are several.
        layers: through which the pooled vector goes.
        normalize: whether vectors are divided by their length at the end.
        max_length: tokens to cut texts to; None for what the model takes.
        is_lower: whether texts are put into lower case.
        prompt: text before each text.
    """

    poolings: tuple[TokenPooling, ...]
    layers: tuple[DenseLayer, ...] = ()
    normalize: bool = False
    max_length: int | None = None
    is_lower: bool = False
    prompt: str = ""

    def text(self, value: str) -> str:
        """A text as the model was trained to read it."""
        value = f"{self.prompt}{value}"
        return value.lower() if self.is_lower else value

    def options(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """Options of a pipeline beside those that its caller gave: texts are cut, as sentence-transformers does."""
        if not {"truncation", "max_length", "tokenize_kwargs"}.isdisjoint(given):
            return {"recipe": self}
        return {"recipe": self, "truncation": True, "max_length": self.max_length}

    def note(self, given: Mapping[str, Any]) -> str:
        """What of it is used, for the user.

        Args:
            given: the options that the caller gave, which win.
        """
        parts = []
        if given.get("pooling") is None:
            parts.append(f"pooling {' + '.join(self.poolings)}")
            parts += [f"a dense layer to {len(layer.weight)} with {layer.activation}" for layer in self.layers]
        if given.get("normalize") is None:
            parts.append("vectors of length 1" if self.normalize else "vectors as long as they are")
        if {"truncation", "max_length", "tokenize_kwargs"}.isdisjoint(given):
            parts.append(
                f"texts cut to {self.max_length or 'what the model takes'}{' tokens' if self.max_length else ''}"
            )
        parts += ["texts in lower case"] if self.is_lower else []
        parts += [f"the prompt {self.prompt!r}"] if self.prompt else []
        return ", ".join(parts)


def pool(states: np.ndarray, mask: np.ndarray, pooling: TokenPooling) -> np.ndarray:
    """One vector of the hidden states of each row.

    Args:
        states: (rows, tokens, hidden).
        mask: int, (rows, tokens), 1 for tokens, then 0 for padding.

    Returns:
        (rows, hidden), of the dtype of `states`.
    """
    kept = mask.astype(states.dtype)
    match pooling:
        case "cls":
            return np.asarray(states[:, 0])
        case "lasttoken":
            return np.asarray(states[np.arange(len(states)), mask.sum(axis=1) - 1])
        case "max":
            return np.asarray(np.where(mask[..., None] > 0, states, -np.inf).max(axis=1), states.dtype)
        case "mean":
            shares = kept / kept.sum(axis=1, keepdims=True)
        case "mean_sqrt_len_tokens":
            shares = kept / np.sqrt(kept.sum(axis=1, keepdims=True))
        case "weightedmean":  # later tokens count more: 1, 2, 3, ...
            shares = kept * np.arange(1, kept.shape[1] + 1, dtype=states.dtype)
            shares = shares / shares.sum(axis=1, keepdims=True)
    return np.asarray(np.einsum("rs,rsh->rh", shares, states))


# -- reading --------------------------------------------------------------------------------------------------------


def read_recipe(name_or_path: str | Path, where: HubOptions) -> SentenceRecipe | None:
    """The recipe of a folder or a name on the hub; None if it is not of sentence-transformers.

    Raises:
        CheckpointError: a part of it is not known here, or its files are damaged; names the file and the way out.
    """
    path = Path(name_or_path)
    root = path.parent if path.is_file() else name_or_path
    files = (MODULES_FILE, PROMPTS_FILE, CONFIG_FILE, "README.md")
    folder = local_folder(root, files=files, in_transformer=False, **where)
    if not (folder / MODULES_FILE).is_file():
        return None
    modules = read_modules(folder / MODULES_FILE)
    if not is_transformer(modules[0]):
        raise _unknown(folder, modules[0])

    def place(module: Module, *files: str) -> Path:
        if isinstance(root, Path) or Path(root).is_dir():
            return folder / module.path
        inner = where.copy()
        inner["subfolder"] = module.path
        return local_folder(root, files=files, in_transformer=False, **inner)

    recipe = _settings(place(modules[0], CONFIG_FILE, *SETTINGS_FILES), folder)
    for module in modules[1:]:
        recipe = _with_module(recipe, module, folder, place)
    if not recipe.poolings:
        raise CheckpointError(f"{folder / MODULES_FILE} lists no Pooling; give pooling=, such as pooling='mean'")
    return recipe


def _settings(transformer: Path, root: Path) -> SentenceRecipe:
    """The settings of texts."""
    file = next((transformer / name for name in SETTINGS_FILES if (transformer / name).is_file()), None)
    settings = {} if file is None else read_json(file)
    length = settings.get("max_seq_length")
    if length is not None and (type(length) is not int or length < 1):
        raise CheckpointError(f"{file}: max_seq_length={length!r} must be a positive int or null")
    # a prompt for texts of all kinds; others have names, and callers put them before their texts
    prompts = read_json(root / PROMPTS_FILE) if (root / PROMPTS_FILE).is_file() else {}
    name = prompts.get("default_prompt_name")
    prompt = "" if name is None else (prompts.get("prompts") or {}).get(name)
    if not isinstance(prompt, str):
        raise CheckpointError(f"{root / PROMPTS_FILE}: default_prompt_name={name!r} is not one of its prompts")
    return SentenceRecipe((), max_length=length, is_lower=bool(settings.get("do_lower_case")), prompt=prompt)


def _with_module(recipe: SentenceRecipe, module: Module, root: Path, place: Callable[..., Path]) -> SentenceRecipe:
    """The recipe with one part more."""
    match module.kind:
        case "Pooling" if not recipe.poolings:
            return replace(recipe, poolings=_poolings(place(module, CONFIG_FILE) / CONFIG_FILE, recipe.prompt))
        case "Dense" if recipe.poolings and not recipe.normalize:
            return replace(recipe, layers=(*recipe.layers, _dense(place(module, CONFIG_FILE, *_WEIGHTS))))
        case "Normalize" if recipe.poolings:
            return replace(recipe, normalize=True)
        case "Dropout":  # only in training
            return recipe
    raise _unknown(root, module)


def _unknown(root: Path, module: Module) -> CheckpointError:
    return CheckpointError(
        f"{root / MODULES_FILE}: {module.path or 'its first part'} is a {module.kind}, which is not supported there: a "
        "Transformer, then Pooling, Dense and Normalize are; give recipe=None for the vectors of the transformer alone"
    )


def _poolings(file: Path, prompt: str) -> tuple[TokenPooling, ...]:
    """The poolings of a config; the mean where none is chosen."""
    fields = read_json(file)
    newer = fields.get("pooling_mode")  # of version 5.4; before, a switch for each
    if newer is not None:
        chosen = [newer] if isinstance(newer, str) else newer
    else:
        unknown = [
            name for name in fields if name.startswith("pooling_mode_") and name not in _FIELDS and fields[name] is True
        ]
        chosen = [*unknown, *(pooling for name, pooling in _FIELDS.items() if fields.get(name))] or ["mean"]
    if not isinstance(chosen, list) or not chosen or not set(map(str, chosen)) <= set(get_args(TokenPooling)):
        raise CheckpointError(
            f"{file}: the pooling {chosen!r} is not supported; {', '.join(get_args(TokenPooling))} are"
        )
    if prompt and fields.get("include_prompt") is False:
        raise CheckpointError(
            f"{file}: include_prompt=false with the default prompt {prompt!r} is not supported; give recipe=None, and "
            "pooling="
        )
    return tuple(chosen)


def _dense(folder: Path) -> DenseLayer:
    """A dense layer, from its config and weights."""
    file = folder / CONFIG_FILE
    fields = read_json(file)
    # the activation by its class in torch, without its module; and what goes through the layer
    activation = str(fields.get("activation_function", "torch.nn.modules.activation.Tanh")).rpartition(".")[2]
    if activation not in _ACTIVATIONS:
        raise CheckpointError(f"{file}: the activation {activation} is not supported; {', '.join(_ACTIVATIONS)} are")
    for name in ("module_input_name", "module_output_name"):
        if fields.get(name) not in (None, "sentence_embedding"):
            raise CheckpointError(f"{file}: {name}={fields[name]!r} is not supported; sentence_embedding is")
    # its weights, of the sizes that the config says
    tensors = dict(_arrays(folder))
    sizes = (fields.get("out_features"), fields.get("in_features"))
    wanted: dict[str, tuple[Any, ...]] = {"linear.weight": sizes}
    wanted |= {"linear.bias": sizes[:1]} if fields.get("bias", True) else {}
    found = {name: array.shape for name, array in tensors.items()}
    if found != wanted:
        raise CheckpointError(f"{folder}: the layer has the tensors {found}, and by its config {wanted}")
    return DenseLayer(tensors["linear.weight"], tensors.get("linear.bias"), activation)


def _arrays(folder: Path) -> Iterator[tuple[str, np.ndarray]]:
    for name, tensor in open_checkpoint(folder).tensors.items():
        yield name, np.array(tensor.load())

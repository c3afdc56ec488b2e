"""The `README.md` of a model trained with Keras: what the hub shows of it, and how the training went."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import tensorflow as tf

from roberta.tf.weights import keras

Names = str | Sequence[str] | None


def write_card(folder: str | Path, model: keras.Model, name: str, facts: Mapping[str, Names]) -> None:
    """Write the card into a folder, which is created if it is missing.

    Args:
        facts: what the head of the card says, by its name there: language, license, base_model, tags, datasets, ...;
            None is left out.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "README.md").write_text("\n".join(_lines(model, name, facts)) + "\n", encoding="utf-8")


def _lines(model: keras.Model, name: str, facts: Mapping[str, Names]) -> list[str]:
    base, sets = facts.get("base_model"), _names(facts.get("datasets"))
    trained = f"`{type(model).__name__}`"
    trained += f", fine-tuned from {base}" if base else ""
    trained += f", on {', '.join(sets)}" if sets else ""
    # JSON is YAML: a text with a colon in it stays a text
    head = [f"{key}: {json.dumps(value)}" for key, value in facts.items() if value]
    return ["---", *head, "---", "", f"# {name}", "", f"{trained}.", "", *_training(model), *_versions()]


def _training(model: keras.Model) -> list[str]:
    """The optimizer and the losses and metrics of each epoch of the last `fit`."""
    history = getattr(model, "history", None)
    if history is None or not history.history:
        return []
    names = list(history.history)
    rows = zip(history.epoch, *(history.history[name] for name in names), strict=True)
    lines = ["## Training", "", f"| epoch | {' | '.join(names)} |", f"|{' ---: |' * (len(names) + 1)}"]
    lines += [f"| {epoch + 1} | {' | '.join(f'{value:.4f}' for value in values)} |" for epoch, *values in rows]
    optimizer = json.dumps(keras.optimizers.serialize(model.optimizer)["config"], default=str)
    return [*lines, "", f"Optimizer: {type(model.optimizer).__name__} `{optimizer}`", ""]


def _versions() -> list[str]:
    from roberta import __version__

    return [f"Made with roberta {__version__}, TensorFlow {tf.__version__} and Keras {keras.__version__}."]


def _names(value: Names) -> list[str]:
    return [value] if isinstance(value, str) else list(value or ())

"""The config beside the weights in the folders of transformers' `Trainer`.

`Trainer` calls `save_pretrained` of its own base class only. Of any other model it saves the weights alone, and a folder
without config.json cannot be loaded.
"""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from roberta.common.storage.folders import write_folder

_NAME = "RobertaConfigCallback"


def follow_trainer(model_class: type) -> None:
    """Have every `Trainer` made from now on write the texts of our models; nothing happens until one is imported.

    Args:
        model_class: the base of our models, with `texts_to_save`.
    """
    module: Any = sys.modules.get("transformers.trainer")
    callbacks = getattr(module, "DEFAULT_CALLBACKS", None)
    if callbacks is not None and _NAME not in (getattr(callback, "__name__", "") for callback in callbacks):
        callbacks.append(_callback(module.TrainerCallback, model_class))


def _callback(base: type, model_class: type) -> type:
    """A callback of that transformers: the texts go into each checkpoint, and at the end into the output folder."""

    def write(folder: Path, state: Any, model: object) -> None:
        if state.is_world_process_zero and isinstance(model, model_class) and folder.is_dir():
            texts = model.texts_to_save(str(model.dtype).removeprefix("torch."))  # type: ignore[attr-defined]
            write_folder(folder, {name: text.encode() for name, text in texts.items()})

    def on_save(self: object, args: Any, state: Any, control: object, *, model: object = None, **others: Any) -> None:
        """After a checkpoint was written."""
        write(Path(args.output_dir, f"checkpoint-{state.global_step}"), state, model)

    def on_train_end(
        self: object, args: Any, state: Any, control: object, *, model: object = None, **others: Any
    ) -> None:
        """Before `trainer.save_model()`, which writes into the output folder."""
        write(Path(args.output_dir), state, model)

    events: dict[str, Callable[..., None]] = {"on_save": on_save, "on_train_end": on_train_end}
    return type(_NAME, (base,), events)

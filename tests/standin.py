"""A model whose `infer` is its own forward pass: all that pipelines need, without any fast path."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

PER_TOKEN = ("ForMaskedLM", "ForCausalLM", "ForTokenClassification", "Model")


class StandIn:
    """A PyTorch model with the interface that a pipeline uses. `seen` records the shape of each batch."""

    def __init__(self, model: Any) -> None:
        self.model = model
        self.config = model.config
        self.head = model.head
        self.framework = model.framework
        self.name_or_path = model.name_or_path
        self.seen: list[tuple[int, ...]] = []

    @property
    def generation_config(self) -> Any:
        return self.model.generation_config

    def generate(self, *args: Any, **settings: Any) -> Any:
        return self.model.generate(*args, **settings)

    def infer(
        self, batch: Mapping[str, np.ndarray], *, where: np.ndarray | None, dtype: str | None, batch_tokens: int
    ) -> dict[str, np.ndarray]:
        import torch

        self.seen.append(batch["input_ids"].shape)
        with torch.no_grad():
            output = self.model(**{name: torch.from_numpy(np.array(array)) for name, array in batch.items()})
        found = {name: np.array(value) for name, value in output.items() if isinstance(value, torch.Tensor)}
        mask = batch["attention_mask"] == 1
        for name, array in found.items():
            if array.shape[: mask.ndim] == mask.shape and (name != "logits" or self.head in PER_TOKEN):
                array[~mask] = 0
                found[name] = array if where is None else array[where]
        return found


def stand_in(head: str, folder: Any, dtype: str = "float64") -> StandIn:
    """The class of a head, loaded."""
    import roberta

    return StandIn(getattr(roberta, f"Roberta{head}").from_pretrained(folder, dtype=dtype))


class Loader:
    """Loads a stand-in where the command expects one of our classes."""

    def __init__(self, head: str) -> None:
        self.head = head

    def from_pretrained(self, folder: Any, output_loading_info: bool = False, **options: Any) -> Any:
        import roberta

        class_ = getattr(roberta, f"Roberta{self.head}")
        if not output_loading_info:
            return StandIn(class_.from_pretrained(folder, **options))
        model, report = class_.from_pretrained(folder, output_loading_info=True, **options)
        return StandIn(model), report

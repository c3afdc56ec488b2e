"""The classes under the names that Keras writes into `.keras` files, known without TensorFlow being imported.

`import roberta` alone is then enough for `keras.models.load_model`, whichever of the two is imported first: as soon as
Keras has the table of its registered classes, `roberta._KerasWatch` has stand-ins put into it, which import the real
ones when they are asked.
"""

import sys
from typing import Any

PACKAGE, REGISTRY = "roberta", "keras.src.saving.object_registration"
CLASS_NAMES = tuple(
    f"TF{family}{head}"
    for family in ("Roberta", "Camembert", "XLMRoberta")
    for head in (
        "Model", "ForCausalLM", "ForMaskedLM", "ForSequenceClassification", "ForMultipleChoice",
        "ForTokenClassification", "ForQuestionAnswering",
    )
)  # fmt: skip


class StandIn:
    """In the place of a class in Keras' table until `roberta.tf.models` or `roberta.tf.families` puts that there itself."""

    def __init__(self, name: str) -> None:
        self.name = name

    def from_config(self, config: dict[str, Any]) -> Any:
        """The model that the real class makes of `config`."""
        import roberta

        return getattr(roberta, self.name).from_config(config)


def register() -> bool:
    """Put the stand-ins into Keras' table; False where there is none yet."""
    table = getattr(sys.modules.get(REGISTRY), "GLOBAL_CUSTOM_OBJECTS", None)
    if table is None or not hasattr(sys.modules[REGISTRY], "get_registered_object"):
        return False
    for name in CLASS_NAMES:
        table.setdefault(f"{PACKAGE}>{name}", StandIn(name))
    return True

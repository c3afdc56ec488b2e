"""What the three backends share: configuration, parameter table, checkpoints, outputs. Never a framework.

docs/architecture.md shows the rooms and who imports whom.
"""

import importlib
import sys
import warnings
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType

# Modules that the documentation named before they moved; the old names stay for one release.
MOVED = {
    "roberta.common.collation": "roberta.common.training.data.collation",
    "roberta.common.masking": "roberta.common.training.data.masking",
    "roberta.common.memory": "roberta.common.commands.memory",
    "roberta.common.packing": "roberta.common.training.data.packing",
    "roberta.common.recipes": "roberta.common.training.recipes",
    "roberta.common.training.batches": "roberta.common.training.data.batches",
    "roberta.common.training_state": "roberta.common.training.optimizer_state",
}


class MovedModules(MetaPathFinder, Loader):
    """Finds a module of `MOVED` under its old name, and warns."""

    def find_spec(self, name: str, path: object = None, target: object = None) -> ModuleSpec | None:
        """Python's hook for a module that is imported for the first time."""
        return ModuleSpec(name, self) if name in MOVED else None

    def exec_module(self, module: ModuleType) -> None:
        """Put the module of the new name in place of the empty one that Python made."""
        new = MOVED[module.__name__]
        warnings.warn(f"{module.__name__} is now {new}", DeprecationWarning, stacklevel=2)
        sys.modules[module.__name__] = importlib.import_module(new)


if not any(type(finder).__name__ == "MovedModules" for finder in sys.meta_path):
    sys.meta_path.append(MovedModules())

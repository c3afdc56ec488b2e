"""Libraries that are not required: what lacks them says which command installs them."""

from __future__ import annotations

import importlib
from types import ModuleType

_NAMES = {"sklearn": "scikit-learn"}  # module -> what it is installed as, if that differs


def library(module: str, needed_by: str = "these metrics", way_out: str = "pip install 'roberta[train]'") -> ModuleType:
    """A module such as "sklearn.metrics", of a library that is not required.

    Raises:
        ModuleNotFoundError: it is not installed; names what needs it, and the way out.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        top = module.partition(".")[0]
        if error.name != top and error.name != module:  # something that the library itself needs
            raise
        raise ModuleNotFoundError(
            f"{needed_by} need {_NAMES.get(top, top)}, which is not installed; {way_out}",
            name=error.name,
        ) from error

"""Choices in numbered fields: which number a label means where the fields count from 1."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from roberta.common.training.data.examples import Choice, Example
from roberta.common.training.data.fields import Roles, counts_from_1

DOUBT = 0.05  # a chance that is not relied on


@dataclass
class Counting:
    """Whether the labels of a data set show that they count from where they are taken to.

    A label that counts from 0 is 0 for some example, and one that counts from 1 is the number of the last choice; if
    none is so, all labels may mean the choice beside.

    Attributes:
        roles: of the first example whose choices count from 1.
        chance: that none of the examples so far has the label that shows it.
    """

    roles: Roles = field(default_factory=dict)
    chance: float = 1.0
    where: str = ""
    is_shown: bool = False

    def see(self, fields: Mapping[str, Any], roles: Roles, made: Example) -> None:
        """Look at an example of these fields."""
        if self.is_shown or not isinstance(made, Choice) or not counts_from_1(fields, roles):
            return
        self.roles, self.where = roles, self.where or made.where
        names_fields = roles["label"].lower() != "label"
        self.is_shown = made.label == (len(made.choices) - 1 if names_fields else 0)
        self.chance *= 1 - 1 / len(made.choices)

    def check(self) -> None:
        """Refuse labels that may count from elsewhere.

        Raises:
            ValueError: there are enough examples for each choice to be right, and one never is.
        """
        if self.is_shown or not self.roles or self.chance > DOUBT:
            return
        label = self.roles["label"]
        counts, other, name = (1, 0, "label") if label.lower() != "label" else (0, 1, "answer")
        never = "the last choice" if counts else "the first choice"
        raise ValueError(
            f"{self.where} and all further examples: {label} is taken to count the choices from {counts}, and {never} is "
            f"never right. If it counts from {other}, rename it {name!r}; if it does count from {counts}, give the choices "
            "as a list in one field, with labels that count from 0"
        )

"""What a user of the library writes, for `mypy` in `make lint`: names have their types, and a misspelt one is an error."""

from typing import assert_type

from roberta import (
    FlaxRobertaModel,
    RobertaConfig,
    RobertaForMaskedLM,
    RobertaTokenizerFast,
    TFRobertaModel,
)
from roberta import RobertaModl as Misspelt  # type: ignore[attr-defined]

config = RobertaConfig()
assert_type(RobertaForMaskedLM(config).config, RobertaConfig)
assert_type(RobertaConfig.base(), RobertaConfig)
assert_type(RobertaTokenizerFast.from_pretrained("folder"), RobertaTokenizerFast)
print(TFRobertaModel(config), FlaxRobertaModel(config), Misspelt)

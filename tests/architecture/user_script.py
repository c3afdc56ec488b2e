"""A user's script, for `mypy` in `make lint`: names have their types, and a misspelt name is an error."""

from typing import assert_type

from roberta import (
    CamembertConfig,
    CamembertForMaskedLM,
    FlaxRobertaModel,
    RobertaConfig,
    RobertaForMaskedLM,
    RobertaTokenizerFast,
    TFRobertaModel,
    XLMRobertaModel,
)
from roberta import RobertaModl as Misspelt  # type: ignore[attr-defined]

config = RobertaConfig()
assert_type(RobertaForMaskedLM(config).config, RobertaConfig)
assert_type(RobertaConfig.base(), RobertaConfig)
assert_type(RobertaConfig.from_pretrained("folder"), RobertaConfig)
config, unused = RobertaConfig.from_pretrained("folder", return_unused_kwargs=True)
assert_type(RobertaTokenizerFast.from_pretrained("folder"), RobertaTokenizerFast)
assert_type(RobertaForMaskedLM.from_pretrained("folder"), RobertaForMaskedLM)
assert_type(TFRobertaModel.from_pretrained("folder", from_pt=True), TFRobertaModel)
assert_type(FlaxRobertaModel.from_pretrained("folder"), FlaxRobertaModel)
assert_type(CamembertForMaskedLM.from_pretrained("folder"), CamembertForMaskedLM)
assert_type(XLMRobertaModel(CamembertConfig(vocab_size=40)), XLMRobertaModel)
model, report = RobertaForMaskedLM.from_pretrained("folder", output_loading_info=True)
assert_type(model, RobertaForMaskedLM)
print(report, unused, TFRobertaModel(config), FlaxRobertaModel(config), Misspelt)

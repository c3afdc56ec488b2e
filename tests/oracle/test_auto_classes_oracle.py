"""Our classes behind the auto classes and pipelines of transformers 4.57 and 5."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import peers
import pytest

import roberta

PEER = """
import sys, warnings
warnings.simplefilter("ignore")
import torch, transformers
from transformers import AutoConfig, AutoModel, AutoModelForMaskedLM, pipeline
import roberta
small = sys.argv[1]
roberta.register_auto_classes()
roberta.register_auto_classes()
assert type(AutoConfig.from_pretrained(small)) is roberta.RobertaConfig
model = AutoModelForMaskedLM.from_pretrained(small, dtype=torch.float16)
assert type(model) is roberta.RobertaForMaskedLM and model.dtype == model.config.dtype == torch.float16
assert type(AutoModel.from_pretrained(small)) is roberta.RobertaModel
try:
    roberta.register_auto_classes(["keras"])
except ValueError as error:
    assert "'keras' has no auto classes in transformers" in str(error), error

for stem, type_ in (("Camembert", "camembert"), ("XLMRoberta", "xlm-roberta")):
    folder = f"{sys.argv[2]}/{type_}"
    fields = dict(vocab_size=30, hidden_size=12, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16)
    there = getattr(transformers, f"{stem}ForMaskedLM")(getattr(transformers, f"{stem}Config")(**fields))
    there.save_pretrained(folder)
    assert type(AutoConfig.from_pretrained(folder)) is getattr(roberta, f"{stem}Config")
    here = AutoModelForMaskedLM.from_pretrained(folder)
    assert type(here) is getattr(roberta, f"{stem}ForMaskedLM")
    assert type(AutoModel.from_pretrained(folder)) is getattr(roberta, f"{stem}Model")
    ids = torch.tensor([[0, 5, 9, 2]])
    assert torch.allclose(here(ids).logits, there.eval()(ids).logits, atol=1e-5)
    here.save_pretrained(folder + "-ours")  # which transformers' own class reads, without a word about its type
    again = getattr(transformers, f"{stem}ForMaskedLM").from_pretrained(folder + "-ours")
    assert torch.equal(again(ids).logits, there(ids).logits)
    assert again.config.model_type == type_ and again.config.architectures == [f"{stem}ForMaskedLM"]
    assert getattr(roberta, f"{stem}Model")(again.config).config.model_type == type_

theirs = transformers.RobertaForMaskedLM.from_pretrained(small, dtype=torch.float32)
ours = roberta.RobertaForMaskedLM.from_pretrained(small, config=theirs.config)
assert roberta.RobertaModel(theirs.config).config.to_dict() == ours.config.to_dict()
own, other = roberta.RobertaTokenizerFast.from_pretrained(small), transformers.AutoTokenizer
tokenizer = transformers.RobertaTokenizerFast.from_pretrained(small)
text = "To be or not to <mask>."
found = pipeline("fill-mask", model=ours, tokenizer=own)(text)
wanted = pipeline("fill-mask", model=theirs, tokenizer=tokenizer)(text)
for one, two in zip(found, wanted):
    assert one["sequence"] == two["sequence"] and abs(one["score"] - two["score"]) < 1e-5, (one, two)

def config(**fields):
    return roberta.RobertaConfig(
        vocab_size=ours.config.vocab_size, hidden_size=24, num_hidden_layers=1, num_attention_heads=3,
        intermediate_size=40, max_position_embeddings=130, **fields)

def ask(task, model, *inputs, **options):
    return pipeline(task, model=model.eval(), tokenizer=own, **options)(*inputs)

assert ask("text-classification", roberta.RobertaForSequenceClassification(config()), "a text")[0]["label"]
tagged = ask("token-classification", roberta.RobertaForTokenClassification(config()), "Hello from Rome",
             aggregation_strategy="simple")
assert tagged[0]["start"] == 0 and tagged[-1]["end"] == 15
generated = ask("text-generation", roberta.RobertaForCausalLM(config(is_decoder=True)), "Hello", max_new_tokens=3)
assert generated[0]["generated_text"].startswith("Hello")
embedded = ask("feature-extraction", roberta.RobertaModel(config(return_dict=False)), "Hello")
assert len(embedded[0][0]) == 24
if transformers.__version__ < "5":
    answer = ask("question-answering", roberta.RobertaForQuestionAnswering(config()),
                 {"question": "Who?", "context": "He was there."})
    assert answer["answer"] in "He was there."
"""


@pytest.mark.parametrize("version", [4, 5])
def test_auto_classes_and_pipelines_of_transformers_take_ours(version: int, tmp_path: Path) -> None:
    environment = peers.environment(version)
    root = str(Path(roberta.__file__).parents[1])
    environment["PYTHONPATH"] = os.pathsep.join((root, environment["PYTHONPATH"]))
    command = [sys.executable, "-c", PEER, str(Path(roberta.__file__).parent / "small"), str(tmp_path)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]

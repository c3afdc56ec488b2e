"""Adapters of peft inside our PyTorch classes, and our classes inside peft's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import adapters
import checkpoints
import pytest
from backends import backend
from safetensors.numpy import load_file

torch = pytest.importorskip("torch", reason="torch is not installed")
PT = backend("pt")
CONFIG = checkpoints.small_config()
IDS = torch.from_numpy(checkpoints.batch("Model", CONFIG)["input_ids"])
HEAD = "ForSequenceClassification"


@pytest.fixture(scope="module")
def peft() -> Any:
    return pytest.importorskip("peft", reason="peft is not installed")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return checkpoints.make(tmp_path_factory.mktemp("model"), HEAD)


def lora(peft: Any, *targets: str) -> Any:
    return peft.LoraConfig(r=2, target_modules=list(targets), init_lora_weights=False)


@pytest.mark.filterwarnings("ignore:Already found a `peft_config`:UserWarning")  # peft warns about a second adapter
def test_an_adapter_is_added_switched_saved_and_taken_out(peft: Any, folder: Path, tmp_path: Path) -> None:
    model = PT.load(HEAD, folder)
    without = model(IDS).logits
    model.add_adapter(lora(peft, "query", "value"))
    model.eval()
    with_first = model(IDS).logits
    assert not torch.allclose(with_first, without)
    model.disable_adapters()
    assert torch.allclose(model(IDS).logits, without, atol=1e-12)
    model.enable_adapters()
    model.save_pretrained(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["adapter_config.json", "adapter_model.safetensors"]
    again = PT.load(HEAD, folder)
    again.load_adapter(tmp_path)
    outside = peft.PeftModel.from_pretrained(PT.load(HEAD, folder), tmp_path).eval()
    for found in (again(IDS).logits, outside(input_ids=IDS).logits):
        assert torch.allclose(found, with_first, atol=1e-6)  # peft keeps adapters in float32
    model.add_adapter(lora(peft, "key"), "second")
    assert model.active_adapters() == ["second"]
    with pytest.raises(ValueError, match="has an adapter 'second' already"):
        model.add_adapter(lora(peft, "key"), "second")
    model.set_adapter("default")
    assert torch.allclose(model(IDS).logits, with_first, atol=1e-12)
    model.delete_adapter(["second", "default"])
    assert torch.allclose(model(IDS).logits, without, atol=1e-12)
    with pytest.raises(ValueError, match="the model has no adapter; add_adapter"):
        model.active_adapters()


@pytest.mark.parametrize("kind", ["LoraConfig", "IA3Config", "PromptTuningConfig", "PrefixTuningConfig"])
def test_peft_trains_around_the_model(peft: Any, folder: Path, kind: str) -> None:
    options = {"num_virtual_tokens": 3} if kind.startswith("P") else {"target_modules": ["query", "value"]}
    if kind == "IA3Config":
        options["feedforward_modules"] = []
    model = peft.get_peft_model(PT.load(HEAD, folder).float(), getattr(peft, kind)(task_type="SEQ_CLS", **options))
    mask = (CONFIG.pad_token_id != IDS).long()
    model(input_ids=IDS, attention_mask=mask, labels=torch.tensor([0, 1, 2])).loss.backward()
    trained = [
        name for name, value in model.named_parameters() if value.grad is not None and value.grad.abs().max() > 0
    ]
    assert any("classifier" not in name for name in trained)
    assert not any("word_embeddings.weight" in name for name in trained)


def test_trained_rows_of_a_tied_embedding_stay_tied(peft: Any, tmp_path: Path) -> None:
    model = PT.load("ForMaskedLM", checkpoints.make(tmp_path, "ForMaskedLM")).float()
    tuned = peft.get_peft_model(
        model, peft.TrainableTokensConfig(target_modules=["word_embeddings"], token_indices=[5])
    )
    tuned(input_ids=IDS, labels=IDS).loss.backward()
    torch.optim.SGD([value for value in tuned.parameters() if value.requires_grad], lr=1.0).step()
    merged = tuned.merge_and_unload()
    assert torch.equal(merged.lm_head.decoder.weight, merged.roberta.embeddings.word_embeddings.weight)


def test_what_a_file_lacks_is_named_where_peft_loads_it(peft: Any, folder: Path, tmp_path: Path) -> None:
    tensors = adapters.draw(adapters.pair(adapters.QUERY, 24, 24))
    half = adapters.write(tmp_path, tensors, target_modules=["query"])
    with pytest.raises(
        ValueError, match=r"lacks \[.*layer\.1\.attention\.self\.query\.lora_A.*target_modules only what"
    ):
        PT.load(HEAD, folder).load_adapter(half, is_trainable=True)
    whole = adapters.write(tmp_path / "whole", tensors)
    PT.load(HEAD, folder).load_adapter(whole, is_trainable=True)


def test_a_loaded_adapter_is_saved_where_trainer_gives_the_state(folder: Path, tmp_path: Path) -> None:
    model = PT.load(HEAD, folder)
    model.load_adapter(adapters.write(tmp_path / "first", adapters.two_layers()))
    state = {name: value.clone() for name, value in model.state_dict().items()}
    model.save_pretrained(tmp_path / "saved", state_dict=state)
    saved = load_file(tmp_path / "saved" / "adapter_model.safetensors")
    assert {name: value.tolist() for name, value in saved.items()} == {
        name: value.tolist() for name, value in adapters.two_layers().items()
    }
    state[f"{adapters.QUERY}.weight"] += 1
    with pytest.raises(ValueError, match=r"state_dict has other values of .*query\.weight .*merge_adapter\(\)"):
        model.save_pretrained(tmp_path / "other", state_dict=state)
    with pytest.raises(ValueError, match="not among the tensors of state_dict; omit it"):
        model.get_adapter_state_dict(state_dict=state)
    # the way out
    model.merge_adapter()
    model.save_pretrained(tmp_path / "other", state_dict=state)
    name = f"{adapters.QUERY}.weight"
    assert torch.equal(PT.load(HEAD, tmp_path / "other").state_dict()[name], state[name])

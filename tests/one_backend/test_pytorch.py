"""Features that only PyTorch has: trace, compile, export, pruning, chunks, sdpa and eager, state dicts."""

from __future__ import annotations

import copy
import pickle
import subprocess
import sys
from pathlib import Path

import checkpoints
import numpy as np
import pytest
from backends import assert_close, backend

torch = pytest.importorskip("torch", reason="torch is not installed")
PT = backend("pt")
CONFIG = checkpoints.small_config()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return checkpoints.make(tmp_path / "model", "ForMaskedLM")


def tensors() -> dict[str, torch.Tensor]:
    return {name: torch.from_numpy(value) for name, value in checkpoints.batch("Model", CONFIG).items()}


def test_sdpa_equals_eager(folder: Path) -> None:
    inputs = checkpoints.batch("Model", CONFIG)
    found = [PT.run(PT.load("ForMaskedLM", folder, attn_implementation=name), inputs) for name in ("sdpa", "eager")]
    assert_close(found[0]["logits"], found[1]["logits"])


@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")  # torch 2.13 advises export instead
@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning")  # torch's own check of padding_idx
def test_a_trace_runs_on_another_batch(folder: Path) -> None:
    model = PT.load("ForMaskedLM", folder, torchscript=True)
    ids = tensors()["input_ids"]
    traced = torch.jit.trace(model, (ids,))
    other = ids.flip(0)[:2, :7]
    assert torch.allclose(traced(other)[0], model(other)[0], atol=1e-12)


def test_the_encoder_compiles_whole(folder: Path) -> None:
    model = PT.load("ForMaskedLM", folder)
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    inputs = tensors()
    assert torch.allclose(compiled(**inputs).logits, model(**inputs).logits, atol=1e-12)


@torch.no_grad()
def test_compiled_and_exported_decoders_keep_the_count_of_their_cache(tmp_path: Path) -> None:
    """Row 0 has padding between tokens, without a mask."""
    model = PT.load("ForCausalLM", checkpoints.make(tmp_path, "ForCausalLM"))
    ids = torch.tensor([[0, 1, 5, 7, 8], [0, 5, 1, 1, 9]])
    wanted = model(ids).logits[:, 3:]
    exported = torch.export.export(model, (ids[:, :3],)).module()
    for first in (torch.compile(model, fullgraph=True, backend="aot_eager"), exported):
        past = first(ids[:, :3]).past_key_values
        for kept in (past, copy.deepcopy(past), pickle.loads(pickle.dumps(past))):
            found = model(ids[:, 3:], past_key_values=kept).logits
            assert torch.allclose(found, wanted, atol=1e-12)


def test_export_with_any_batch_and_length(folder: Path) -> None:
    model = PT.load("ForMaskedLM", folder)
    ids = tensors()["input_ids"]
    sizes = ({0: torch.export.Dim("batch", min=2), 1: torch.export.Dim("seq", min=2, max=28)},)
    exported = torch.export.export(model, (ids,), dynamic_shapes=sizes).module()
    assert torch.allclose(exported(ids[:2, :6]).logits, model(ids[:2, :6]).logits, atol=1e-12)


def test_pruned_heads_stay_pruned(folder: Path, tmp_path: Path) -> None:
    model = PT.load("ForMaskedLM", folder)
    inputs = checkpoints.batch("Model", CONFIG)
    mask = np.ones((2, 3))
    mask[0, [0, 2]] = 0
    wanted = PT.run(model, inputs | {"head_mask": mask})["logits"]
    model.prune_heads({0: [0]})
    model.prune_heads({0: [2]})
    assert_close(PT.run(model, inputs)["logits"], wanted)
    model.save_pretrained(tmp_path / "pruned")
    again = PT.load("ForMaskedLM", tmp_path / "pruned")
    assert again.config.pruned_heads == {0: [0, 2]}
    assert_close(PT.run(again, inputs)["logits"], wanted)
    with pytest.raises(ValueError, match="one must stay"):
        again.prune_heads({0: [1]})


def test_chunks_and_checkpoints_change_nothing(folder: Path) -> None:
    inputs = tensors() | {"labels": tensors()["input_ids"]}
    gradients = []
    for options in ({}, {"chunk_size_feed_forward": 4}):
        model = PT.load("ForMaskedLM", folder, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0, **options)
        for on in (False, True):
            model.train()
            if on:
                model.gradient_checkpointing_enable()
            assert model.is_gradient_checkpointing == on
            model.zero_grad()
            model(**inputs).loss.backward()
            gradients.append([parameter.grad.clone() for parameter in model.parameters()])
    for other in gradients[1:]:
        assert all(torch.allclose(a, b, atol=1e-12) for a, b in zip(gradients[0], other, strict=True))


def test_dropout_is_on_in_training_only(folder: Path) -> None:
    model = PT.load("ForMaskedLM", folder)
    ids = tensors()["input_ids"]
    assert torch.equal(model(ids).logits, model(ids).logits)
    model.train()
    assert not torch.equal(model(ids).logits, model(ids).logits)


def test_loading_leaves_nothing_on_the_meta_device_and_ties_stay(folder: Path) -> None:
    model = PT.load("ForMaskedLM", folder)
    assert not any(parameter.is_meta for parameter in model.parameters())
    assert model.lm_head.decoder.weight is model.roberta.embeddings.word_embeddings.weight
    assert model.lm_head.decoder.bias is model.lm_head.bias
    assert model.num_parameters() == sum(array.size for array in PT.parameters(model).values())


def test_a_state_dict_loads_with_and_without_repeated_names(folder: Path) -> None:
    model = PT.load("ForMaskedLM", folder)
    state = {name: tensor * 2 for name, tensor in model.state_dict().items()}
    fresh = type(model)(model.config).double()
    fresh.load_state_dict(state)
    assert torch.equal(fresh.lm_head.decoder.bias, state["lm_head.bias"])
    assert fresh.lm_head.decoder.weight is fresh.roberta.embeddings.word_embeddings.weight
    fresh.load_state_dict(state | {"lm_head.decoder.bias": state["lm_head.bias"]})


def test_models_are_copied_and_pickled(folder: Path) -> None:
    model = PT.load("ForMaskedLM", folder)
    ids = tensors()["input_ids"]
    for other in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert torch.equal(other(ids).logits, model(ids).logits)
        assert other.lm_head.decoder.weight is other.roberta.embeddings.word_embeddings.weight


def test_assigning_a_state_dict_keeps_ties_and_numbers(folder: Path) -> None:
    model = PT.load("ForMaskedLM", folder)
    with torch.device("meta"):
        fresh = type(model)(model.config)
    fresh.load_state_dict(model.state_dict(), assign=True)
    ids = tensors()["input_ids"]
    assert torch.equal(fresh.eval()(ids).logits, model(ids).logits)
    assert fresh.lm_head.decoder.weight is fresh.roberta.embeddings.word_embeddings.weight
    assert fresh.lm_head.decoder.bias is fresh.lm_head.bias


def test_one_process_saves_what_it_is_given(folder: Path, tmp_path: Path) -> None:
    model = PT.load("ForMaskedLM", folder)
    model.save_pretrained(tmp_path / "none", is_main_process=False)
    assert not (tmp_path / "none").exists()
    model.save_pretrained(tmp_path / "twice", state_dict={n: t * 2 for n, t in model.state_dict().items()})
    found = PT.parameters(PT.load("ForMaskedLM", tmp_path / "twice"))
    assert all(np.array_equal(found[name], value * 2) for name, value in PT.parameters(model).items())


def test_a_loaded_model_does_not_hang_on_its_file(folder: Path, tmp_path: Path) -> None:
    model = PT.load("ForMaskedLM", folder)
    model.save_pretrained(tmp_path / "bin", safe_serialization=False)
    again = PT.load("ForMaskedLM", tmp_path / "bin")
    (tmp_path / "bin" / "pytorch_model.bin").write_bytes(b"x")
    ids = tensors()["input_ids"]
    assert torch.equal(again(ids).logits, model(ids).logits)


def test_pruning_is_all_or_nothing(folder: Path) -> None:
    model = PT.load("ForMaskedLM", folder)
    for heads in ({0: [0], 1: [5]}, {-3: [0]}, {7: [0]}):
        with pytest.raises(ValueError, match="cannot prune"):
            model.prune_heads(heads)
    assert model.config.pruned_heads == {}
    assert model.roberta.encoder.layer[0].attention.self.query.out_features == 24


@pytest.mark.parametrize("name", sorted({"gelu_new", "laplace", "relu2", "silu"}))
def test_a_model_with_any_activation_is_pickled(name: str) -> None:
    model = PT.classes("Model")(checkpoints.small_config(hidden_act=name)).eval()
    ids = tensors()["input_ids"]
    assert torch.equal(pickle.loads(pickle.dumps(model))(ids)[0], model(ids)[0])


def test_checkpointing_takes_torchs_arguments(folder: Path) -> None:
    model = PT.load("ForMaskedLM", folder).train()
    model.gradient_checkpointing_enable(
        gradient_checkpointing_kwargs={"use_reentrant": False, "determinism_check": "none"}
    )
    model(**tensors(), labels=tensors()["input_ids"]).loss.backward()


def test_a_loaded_model_stays_on_its_file_and_never_changes_it(tmp_path: Path) -> None:
    folder = checkpoints.make(tmp_path, "ForMaskedLM", dtype="float32")
    before = (folder / "model.safetensors").read_bytes()
    model = PT.load("ForMaskedLM", folder, "float32")
    maps = Path("/proc/self/maps")
    if maps.exists():
        assert maps.read_text().count(str(folder / "model.safetensors")) == 1  # one map, one descriptor
    assert not any(value.data_ptr() % 64 for name, value in model.named_parameters() if value.nbytes % 64 == 0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(2)
    assert (folder / "model.safetensors").read_bytes() == before
    model.save_pretrained(folder)
    again = PT.load("ForMaskedLM", folder, "float32")
    assert all(torch.equal(new, old) for new, old in zip(again.parameters(), model.parameters(), strict=True))


def test_values_that_are_not_aligned_in_a_file_are_copied(tmp_path: Path) -> None:
    folder = checkpoints.make(tmp_path, "Model", dtype="float32")
    wanted = {name: value.clone() for name, value in PT.load("Model", folder, "float32").state_dict().items()}
    file = folder / "model.safetensors"
    data = file.read_bytes()
    length = int.from_bytes(data[:8], "little")
    file.write_bytes((length + 1).to_bytes(8, "little") + data[8 : 8 + length] + b" " + data[8 + length :])
    found = PT.load("Model", folder, "float32").state_dict()
    assert all(torch.equal(found[name], value) for name, value in wanted.items())
    assert not any(value.data_ptr() % 4 for value in found.values())


def test_loading_draws_nothing_and_imports_no_compiler(tmp_path: Path) -> None:
    folder = checkpoints.make(tmp_path, "Model", dtype="float32")
    code = (
        "import sys, roberta as r; r.RobertaModel.from_pretrained(sys.argv[1]); print('torch._dynamo' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(folder)], capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "False", done.stderr


def test_a_deep_copy_of_an_output_keeps_values_and_gradients(folder: Path) -> None:
    model = PT.load("ForMaskedLM", folder)
    ids = torch.tensor([[0, 5, 6, 2]])
    output = model(ids, labels=ids, output_hidden_states=True)
    copied = copy.deepcopy(output)
    assert type(copied) is type(output)
    assert torch.equal(copied.hidden_states[0], output.hidden_states[0])
    with torch.no_grad():
        output.logits.zero_()
    assert copied.logits.abs().max() > 0
    copied.loss.backward()
    assert model.get_input_embeddings().weight.grad.abs().max() > 0


@pytest.mark.parametrize("options", [{"use_reentrant": False}, {"use_reentrant": True}], ids=str)
def test_checkpoints_give_encoder_states_and_head_masks_their_gradients(options: dict[str, bool]) -> None:
    from roberta import RobertaForCausalLM

    fields = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    config = checkpoints.small_config(is_decoder=True, add_cross_attention=True, **fields)
    model = RobertaForCausalLM(config).train()
    ids = torch.tensor([[0, 5, 6, 7, 2]])
    model.enable_input_require_grads()
    found = []
    for enables in (False, True):
        if enables:
            model.gradient_checkpointing_enable(options)
        states = torch.linspace(-1, 1, 3 * config.hidden_size).reshape(1, 3, -1).requires_grad_(True)
        head_mask = torch.ones(config.num_hidden_layers, config.num_attention_heads, requires_grad=True)
        model(ids, labels=ids, encoder_hidden_states=states * 1, head_mask=head_mask).loss.backward()
        found.append((states.grad, head_mask.grad))
    for now, then in zip(*found, strict=True):
        torch.testing.assert_close(now, then)


def test_layers_run_one_after_another_with_a_mask_as_scripts_do() -> None:
    from roberta import RobertaModel

    model = RobertaModel(checkpoints.small_config()).eval()
    ids, mask = torch.tensor([[0, 5, 6, 2], [0, 5, 2, 1]]), torch.tensor([[1, 1, 1, 1], [1, 1, 1, 0]])
    with torch.no_grad():
        hidden = model.embeddings(ids)
        for layer in model.encoder.layer:
            hidden = layer(hidden, model.get_extended_attention_mask(mask, ids.shape))[0]
        wanted = model(ids, mask).last_hidden_state
    torch.testing.assert_close(hidden[mask == 1], wanted[mask == 1])


class Doubled(torch.nn.Module):
    """A module that a caller puts in place of a layer."""

    def __init__(self, layer: torch.nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, hidden: torch.Tensor, *arguments: object) -> tuple[object, ...]:
        hidden, *rest = self.layer(hidden, *arguments)
        return 2 * hidden, *rest


def test_a_callers_own_module_in_place_of_a_layer_is_checkpointed_as_it_is() -> None:
    config = checkpoints.small_config("Model", hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
    model = PT.classes("Model")(config).train()
    model.encoder.layer[0] = Doubled(model.encoder.layer[0])
    ids = torch.arange(4, 12).reshape(2, 4)
    plain = model(ids).last_hidden_state
    model.gradient_checkpointing_enable()
    assert torch.equal(model(ids).last_hidden_state, plain)


def test_a_layer_takes_its_tensors_in_the_order_of_transformers() -> None:
    model = PT.classes("Model")(checkpoints.small_config("Model")).eval()
    layer, hidden = model.encoder.layer[0], torch.randn(2, 3, model.config.hidden_size)
    bias, head_mask = torch.randn(2, 1, 1, 3), torch.rand(1, model.config.num_attention_heads, 1, 1)
    wanted = layer(hidden, bias=bias, head_mask=head_mask)[0]
    assert torch.equal(layer(hidden, bias, head_mask, None, None, None, False)[0], wanted)
    assert not torch.equal(layer(hidden, bias)[0], wanted)

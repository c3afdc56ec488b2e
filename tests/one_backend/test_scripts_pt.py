"""What scripts for transformers' PyTorch classes do with ours: other ways of loading, their own heads, switches."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import checkpoints
import numpy as np
import pytest
from backends import backend

torch = pytest.importorskip("torch", reason="torch is not installed")
from torch import nn  # noqa: E402

import roberta  # noqa: E402
from roberta import RobertaModel, RobertaPreTrainedModel, modeling_roberta  # noqa: E402

PT = backend("pt")
CONFIG = checkpoints.small_config()
IDS = torch.from_numpy(checkpoints.batch("Model", CONFIG)["input_ids"])


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return checkpoints.make(tmp_path_factory.mktemp("model"), "ForMaskedLM")


@pytest.fixture
def model(folder: Path) -> Any:
    return PT.load("ForMaskedLM", folder)


# -- loading ------------------------------------------------------------------------------------------------------


def test_a_config_and_tensors_are_enough(model: Any) -> None:
    state = model.state_dict()
    again = type(model).from_pretrained(None, config=model.config, state_dict=state, dtype="float64")
    assert torch.equal(again(IDS).logits, model(IDS).logits)
    with torch.no_grad():
        again.lm_head.bias.add_(1)
    assert torch.equal(model.lm_head.bias, state["lm_head.bias"])  # nothing is shared
    with pytest.raises(ValueError, match="needs both config= and state_dict="):
        type(model).from_pretrained(None, config=model.config)
    with pytest.raises(ValueError, match=r"'model' of type OrderedDict, not a tensor"):
        type(model).from_pretrained(None, config=model.config, state_dict={"model": state})


def test_tensors_are_taken_instead_of_the_folders(model: Any, folder: Path) -> None:
    state = {name: tensor * 2 for name, tensor in model.state_dict().items()}
    again = PT.load("ForMaskedLM", folder, state_dict=state)
    assert all(torch.equal(again.state_dict()[name], tensor) for name, tensor in state.items())


@pytest.mark.parametrize("device_map", ["auto", "cpu", torch.device("cpu"), {"": "cpu"}, {"": torch.device("cpu")}])
def test_a_model_is_loaded_on_one_device(folder: Path, device_map: Any) -> None:
    model = PT.load("ForMaskedLM", folder, device_map=device_map)
    wanted = torch.accelerator.current_accelerator() if device_map == "auto" else None
    assert model.device == (wanted or torch.device("cpu"))


@pytest.mark.parametrize(
    ("device_map", "text"),
    [({"roberta": 0, "lm_head": "cpu"}, "splits the model over"), ("nonsense", "does not exist here"), (None, "")],
)
def test_no_other_map_of_devices(folder: Path, device_map: Any, text: str) -> None:
    if device_map is None:
        assert not hasattr(PT.load("ForMaskedLM", folder), "hf_device_map")
        return
    with pytest.raises(ValueError, match=text):
        PT.load("ForMaskedLM", folder, device_map=device_map)


def test_under_the_meta_device_all_is_there(folder: Path) -> None:
    with torch.device("meta"):
        model = PT.load("ForMaskedLM", folder)
    assert {value.device.type for value in model.parameters()} == {"meta"}


def test_the_pooler_may_be_left_out_by_place(folder: Path) -> None:
    assert RobertaModel.from_pretrained(folder, False).pooler is None


def test_an_untied_head_without_any_values_is_drawn(tmp_path: Path) -> None:
    config = checkpoints.small_config(tie_word_embeddings=False)
    checkpoints.save(tmp_path, config, {"else": np.ones((2, 2), np.float32)})
    with pytest.warns(UserWarning, match="does not have them"):
        model, info = PT.load("ForMaskedLM", tmp_path, output_loading_info=True)
    names = {name for name, _ in model.named_parameters()}
    assert set(info["missing_keys"]) == names
    matrix = model.lm_head.decoder.weight
    assert 0.9 < matrix.std() / config.initializer_range < 1.1
    assert not torch.equal(matrix, model.get_input_embeddings().weight)


def test_the_config_says_the_dtype_that_was_loaded(folder: Path) -> None:
    for wanted, name in (("float16", "float16"), (None, "float32"), ("auto", "float64")):
        assert roberta.RobertaForMaskedLM.from_pretrained(folder, dtype=wanted).config.dtype == name


def test_a_class_draws_in_its_own_way_what_a_file_lacks(tmp_path: Path) -> None:
    class Ones(roberta.RobertaForMaskedLM):
        def _init_weights(self, module: nn.Module) -> None:
            for parameter in module.parameters(recurse=False):
                nn.init.ones_(parameter)

    tensors = checkpoints.draw(CONFIG, "ForMaskedLM")
    kept = tensors["lm_head.layer_norm.weight"]
    lacking = ("lm_head.dense.weight", "lm_head.bias", "lm_head.layer_norm.bias")
    checkpoints.save(tmp_path, CONFIG, {name: value for name, value in tensors.items() if name not in lacking})
    with pytest.warns(UserWarning, match="does not have them"):
        model = Ones.from_pretrained(tmp_path, dtype="float64")
    assert all((model.get_parameter(name) == 1).all() for name in lacking)
    assert np.array_equal(model.lm_head.layer_norm.weight.detach().numpy(), kept)  # in the same module, and in the file
    words = model.get_input_embeddings().weight
    assert model.lm_head.decoder.weight is words
    assert np.array_equal(words.detach().numpy(), tensors["roberta.embeddings.word_embeddings.weight"])


def test_shapes_that_do_not_fit(folder: Path) -> None:
    with pytest.raises(RuntimeError, match=r"word_embeddings.weight is \[61, 24\] in the file and \[10, 24\]"):
        PT.load("ForMaskedLM", folder, vocab_size=10)
    with pytest.warns(UserWarning, match="the shapes did not match"):
        model = PT.load("ForMaskedLM", folder, vocab_size=10, ignore_mismatched_sizes=True)
    assert model.vocab_size == 10


# -- a user's own head ------------------------------------------------------------------------------------------


class TwoLabels(RobertaPreTrainedModel):
    """A class as users write it: an encoder, and their own layers after it."""

    def __init__(self, config: Any, width: int = 7) -> None:
        super().__init__(config)
        self.num_labels, self.vocab_size, self.loss_function = config.num_labels, config.vocab_size, sum
        self.roberta = RobertaModel(config, add_pooling_layer=False)
        self.norm = nn.LayerNorm(config.hidden_size)
        self.lstm = nn.LSTM(config.hidden_size, width, batch_first=True)
        self.scores = nn.Linear(width, 2)
        self.post_init()

    def forward(self, input_ids: Any, attention_mask: Any = None) -> Any:
        hidden = self.roberta(input_ids, attention_mask).last_hidden_state
        return self.scores(self.lstm(self.norm(hidden))[0])


def test_a_class_of_ones_own_loads_trains_and_is_saved(folder: Path, tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match=r"new, .*lstm.weight_ih_l0.*scores.weight"):
        model = TwoLabels.from_pretrained(folder, width=5, dtype="float64")
    encoder = PT.load("Model", folder, add_pooling_layer=False)
    assert torch.allclose(model.roberta(IDS)[0], encoder(IDS)[0], atol=1e-12)
    assert model.lstm.hidden_size == 5
    assert model.lstm.weight_ih_l0.detach().abs().max().item() > 0.02  # the constructor's values
    assert model.scores.bias.abs().max() == 0
    assert torch.equal(model.norm.weight, torch.ones_like(model.norm.weight))
    model(IDS).sum().backward()
    model.save_pretrained(tmp_path)
    with pytest.raises(TypeError, match="width_"):
        TwoLabels.from_pretrained(tmp_path, width_=5)
    again = TwoLabels.from_pretrained(tmp_path, 5, dtype="float64")
    assert torch.equal(again(IDS), model.eval()(IDS))
    with pytest.raises(ValueError, match=r"missing: roberta\.embeddings\.word_embeddings\.weight"):
        model.save_pretrained(tmp_path, state_dict={"scores.bias": model.scores.bias})


def test_a_way_of_ones_own_to_draw_first_values() -> None:
    class Ones(TwoLabels):
        def _init_weights(self, module: nn.Module) -> None:
            if isinstance(module, nn.Linear):
                nn.init.ones_(module.weight)

    assert torch.equal(Ones(CONFIG).scores.weight, torch.ones(2, 7))


# -- changes ------------------------------------------------------------------------------------------------------


def test_heads_are_pruned_by_the_config_and_from_the_end(folder: Path, tmp_path: Path) -> None:
    mask = np.ones((2, 3))
    mask[0, 1:], mask[1, 0] = 0, 0
    wanted = PT.load("ForMaskedLM", folder)(IDS, head_mask=torch.from_numpy(mask)).logits
    pruned = PT.load("ForMaskedLM", folder)
    pruned.prune_heads({0: [1, 2], -1: [0]})
    pruned.prune_heads({0: [1]})  # once more
    assert pruned.config.pruned_heads == {0: [1, 2], 1: [0]}
    assert torch.allclose(pruned(IDS).logits, wanted, atol=1e-12)
    config = checkpoints.small_config("ForMaskedLM")
    config.pruned_heads = {0: [1, 2], -1: [0]}
    built = PT.classes("ForMaskedLM")(config).double().eval()
    built.load_state_dict(pruned.state_dict())
    built.save_pretrained(tmp_path)
    assert torch.allclose(PT.load("ForMaskedLM", tmp_path)(IDS).logits, wanted, atol=1e-12)


def test_rows_are_padded_to_a_whole_multiple(model: Any) -> None:
    assert model.resize_token_embeddings(70, pad_to_multiple_of=32).weight.shape[0] == 96 == model.vocab_size
    assert model.lm_head.decoder.weight is model.get_input_embeddings().weight
    with pytest.raises(ValueError, match=r"pad_to_multiple_of=1.3 must be an int"):
        model.resize_token_embeddings(70, pad_to_multiple_of=1.3)
    larger = model._get_resized_embeddings(model.get_input_embeddings(), 99)
    assert larger.weight.shape[0] == 99
    assert torch.equal(larger.weight[:96], model.get_input_embeddings().weight)


def test_attention_is_one_of_two(model: Any) -> None:
    assert model.config.attn_implementation == "sdpa"
    model.set_attn_implementation({"": "eager"})
    assert model.config.attn_implementation == "eager"
    with pytest.raises(ValueError, match=r'Specified `attn_implementation="foo"` is not supported; give "sdpa"'):
        model.set_attn_implementation("foo")


# -- training -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("every", [1, 2])
def test_every_nth_layer_is_computed_again(model: Any, every: int) -> None:
    seen: list[int] = []
    for index, layer in enumerate(model.roberta.encoder.layer):
        layer.register_forward_pre_hook(lambda *_, index=index: seen.append(index))
    model.train().activation_checkpointing_enable({"use_reentrant": True}, every_n_layers=every)
    model(IDS, labels=IDS).loss.backward()
    assert seen == ([0, 1, 1, 0] if every == 1 else [0, 1, 0])
    assert pickle.loads(pickle.dumps(model.roberta.encoder.checkpoint_function)).keywords == {"use_reentrant": True}
    model.activation_checkpointing_disable()
    assert not model.is_gradient_checkpointing
    with pytest.raises(ValueError, match="offload=True is not supported"):
        model.gradient_checkpointing_enable(offload=True)
    with pytest.raises(ValueError, match="every_n_layers=0 must be"):
        model.gradient_checkpointing_enable(every_n_layers=0)


def test_a_config_may_ask_for_checkpointing_once() -> None:
    config = checkpoints.small_config()
    config.gradient_checkpointing = True
    assert RobertaModel(config).is_gradient_checkpointing
    assert not hasattr(config, "gradient_checkpointing")


def test_layers_behind_a_frozen_embedding_get_gradients(model: Any) -> None:
    model.train().requires_grad_(False)
    model.roberta.encoder.layer[0].output.dense.weight.requires_grad_(True)
    model.gradient_checkpointing_enable({"use_reentrant": True})
    model.enable_input_require_grads()
    model(IDS, labels=IDS).loss.backward()
    assert model.roberta.encoder.layer[0].output.dense.weight.grad is not None
    model.disable_input_require_grads()
    assert not model.get_input_embeddings()._forward_hooks


def test_a_causal_models_loss_can_be_another(tmp_path: Path) -> None:
    model = PT.load("ForCausalLM", checkpoints.make(tmp_path, "ForCausalLM"))
    own = model(IDS, labels=IDS).loss
    logits = model(IDS).logits
    assert torch.equal(model.loss_function(logits, IDS, vocab_size=61), own)
    model.loss_function = lambda logits, labels, vocab_size, num_items_in_batch: logits.sum() * vocab_size
    assert torch.equal(model(IDS, labels=IDS).loss, logits.sum() * 61)
    assert model.accepts_loss_kwargs
    with pytest.raises(ValueError, match="cannot be replaced"):
        RobertaModel(CONFIG).loss_function = sum
    assert not hasattr(RobertaModel(CONFIG), "loss_function")


# -- other people's transformations -------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning", "ignore::torch.jit.TracerWarning")
@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_a_trace_of_a_model_as_it_is_has_a_dictionary(folder: Path, attention: str) -> None:
    model = PT.load("ForMaskedLM", folder, attn_implementation=attention)
    mask = (model.config.pad_token_id != IDS).long()
    traced = torch.jit.trace(model, (IDS, mask), strict=False)
    other = (IDS[:2, :5], mask[:2, :5])
    assert torch.allclose(traced(*other)["logits"], model(*other).logits, atol=1e-12)


@pytest.mark.filterwarnings("ignore:There is a performance drop:UserWarning")  # a warning of PyTorch, for sdpa
def test_gradients_of_each_example_by_vmap(tmp_path: Path) -> None:
    model = PT.load("ForSequenceClassification", checkpoints.make(tmp_path, "ForSequenceClassification"))
    values = {name: value.detach() for name, value in model.named_parameters()}
    labels = torch.tensor([0, 3, 1])

    def loss(values: Any, ids: Any, label: Any) -> Any:
        return torch.func.functional_call(model, values, (ids[None],), {"labels": label[None]}).loss

    found = torch.func.vmap(torch.func.grad(loss), in_dims=(None, 0, 0))(values, IDS, labels)
    for row in range(3):
        model.zero_grad()
        model(IDS[row : row + 1], labels=labels[row : row + 1]).loss.backward()
        for name, parameter in model.named_parameters():
            wanted = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
            assert torch.allclose(found[name][row], wanted, atol=1e-12), name


# -- names and facts ----------------------------------------------------------------------------------------------


def test_layers_have_the_names_that_people_import(model: Any) -> None:
    layer = model.roberta.encoder.layer[0]
    assert type(layer) is modeling_roberta.RobertaLayer
    names = {type(module).__name__ for module in model.modules()}
    assert {"RobertaLayer", "RobertaEmbeddings", "RobertaLMHead"} <= names
    assert set(model._no_split_modules) <= names
    hidden = torch.randn(2, 5, 24, dtype=torch.float64)
    assert layer(hidden)[0].shape == hidden.shape
    assert modeling_roberta.RobertaSelfOutput(CONFIG).dense.in_features == 24
    assert modeling_roberta.RobertaModel is roberta.RobertaModel


def test_positions_under_transformers_names() -> None:
    embeddings = modeling_roberta.RobertaEmbeddings(CONFIG)
    ids = torch.tensor([[0, 31, 13, embeddings.padding_idx]])
    found = modeling_roberta.create_position_ids_from_input_ids(ids, embeddings.padding_idx)
    assert found.tolist() == [[2, 3, 4, 1]]
    found = embeddings.create_position_ids_from_inputs_embeds(torch.empty(2, 4, 24))
    assert found.tolist() == [[2, 3, 4, 5]] * 2
    assert torch.equal(embeddings.eval()(ids, position_ids=found[:1] * 0 + 3), embeddings(ids, None, found[:1] * 0 + 3))


def test_names_of_modules_and_tags(model: Any) -> None:
    names = ["roberta.embeddings.LayerNorm.weight", "lm_head.bias"]
    assert model.retrieve_modules_from_names(names) == [model.roberta.embeddings.LayerNorm, model.lm_head]
    assert model.roberta.retrieve_modules_from_names(names, add_prefix=True) == [model.roberta.embeddings.LayerNorm]
    bare = ["embeddings.LayerNorm.weight"]
    assert model.retrieve_modules_from_names(bare, remove_prefix=True) == [model.roberta.embeddings.LayerNorm]
    model.add_model_tags("one")
    model.add_model_tags(["one", "two"])
    assert model.model_tags == ["one", "two"]
    assert type(model).model_tags is None
    assert model.get_parameter_or_buffer("lm_head.bias") is model.lm_head.bias
    with pytest.raises(AttributeError, match="named_parameters"):
        model.get_parameter_or_buffer("lm_head.weight")


def test_places_in_the_cache_are_those_that_follow(tmp_path: Path) -> None:
    model = PT.load("ForCausalLM", checkpoints.make(tmp_path, "ForCausalLM")).roberta
    past = model(IDS[:, :3], use_cache=True).past_key_values
    wanted = model(IDS[:, 3:5], past_key_values=past)[0]
    assert torch.equal(model(IDS[:, 3:5], past_key_values=past, cache_position=torch.tensor([3, 4]))[0], wanted)
    assert past.get_seq_length() == 3
    with pytest.raises(ValueError, match="does not follow the 3 tokens in the cache"):
        model(IDS[:, 3:5], past_key_values=past, cache_position=torch.tensor([0, 1]))


def test_saving_takes_the_arguments_of_accelerate(model: Any, tmp_path: Path) -> None:
    model.save_pretrained(tmp_path, is_main_process=True, save_function=print, state_dict=model.state_dict(), token="x")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["config.json", "model.safetensors"]
    with pytest.raises(ValueError, match="not supported with safe_serialization=False"):
        model.save_pretrained(tmp_path, save_function=print, safe_serialization=False)

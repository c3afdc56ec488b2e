"""RobertaConfig: values that it refuses, how it derives labels, and its file."""

from __future__ import annotations

import copy
import json
import pickle
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

from roberta import CheckpointError, RobertaConfig
from roberta.common.config_protocol import checked_config

REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"hidden_size": 10}, "is not a multiple of num_attention_heads"),
    ({"pad_token_id": None}, "pad_token_id"),
    ({"pad_token_id": -1}, "pad_token_id"),
    ({"pad_token_id": 50265}, "pad_token_id"),
    ({"max_position_embeddings": 2}, "leaves no position"),
    ({"hidden_act": "gelo"}, "hidden_act='gelo' must be one of gelu"),
    ({"position_embedding_type": "relative"}, "position_embedding_type"),
    ({"hidden_dropout_prob": 1.5}, "hidden_dropout_prob=1.5"),
    ({"classifier_dropout": -0.1}, "classifier_dropout"),
    ({"type_vocab_size": 0}, "type_vocab_size"),
    ({"add_cross_attention": True}, "needs is_decoder=True"),
    ({"attn_implementation": "flash"}, "attn_implementation"),
    ({"pruned_heads": {"a": 1}}, "pruned_heads names layer 'a'"),
    ({"pruned_heads": {-13: [1]}}, "pruned_heads names layer -13"),
    ({"pruned_heads": {0: [12]}}, "heads from 0 to 11"),
    ({"pruned_heads": {0: range(11), -12: [11]}}, "leaves layer 0 none of its 12 heads"),
]


@pytest.mark.parametrize(("values", "message"), REFUSED, ids=lambda value: str(value)[:40])
def test_a_value_no_model_can_be_built_from_is_taken_and_refused_by_validate(
    values: dict[str, Any], message: str
) -> None:
    config = RobertaConfig(**values)
    changed = RobertaConfig()
    changed.update(values)
    for each in (config, changed):
        with pytest.raises(ValueError, match=message):
            each.validate()
    unchanged = RobertaConfig()
    with pytest.raises(ValueError, match=message):
        unchanged.update_checked({"use_cache": False, **values})
    assert unchanged == RobertaConfig()


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"problem_type": "ranking"}, "problem_type='ranking' must be None or one of regression"),
        ({"num_labels": 3, "id2label": {0: "a"}}, "contradicts"),
        ({"id2label": {0: "a"}, "label2id": {"b": 0}}, "contradict"),
    ],
)
def test_labels_that_contradict_each_other_are_refused_at_once(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        RobertaConfig(**values)


def test_defaults_are_those_of_transformers_and_base_is_the_published_model() -> None:
    config = RobertaConfig()
    assert (config.layer_norm_eps, config.max_position_embeddings, config.type_vocab_size) == (1e-12, 512, 2)
    assert config.max_length_tokens == 510
    base = RobertaConfig.base()
    assert (base.layer_norm_eps, base.max_position_embeddings, base.type_vocab_size) == (1e-5, 514, 1)
    large = RobertaConfig.large()
    sizes = (large.hidden_size, large.intermediate_size, large.num_attention_heads, large.num_hidden_layers)
    assert sizes == (1024, 4096, 16, 24)


@pytest.mark.parametrize(
    "values", [{"num_labels": 3}, {"id2label": {0: "a", 1: "b", 2: "c"}}, {"label2id": {"a": 0, "b": 1, "c": 2}}]
)
def test_any_of_three_arguments_defines_the_labels(values: dict[str, Any]) -> None:
    config = RobertaConfig(**values)
    assert config.num_labels == 3
    assert config.label2id == {label: index for index, label in config.id2label.items()}
    config.num_labels = 4
    assert config.id2label[3] == "LABEL_3"


def test_a_file_round_trip_keeps_every_field(tmp_path: Path) -> None:
    config = RobertaConfig.base(
        id2label={0: "no", 1: "yes", 2: "maybe"}, pruned_heads={1: [3]}, is_decoder=True, something_else=[1, 2]
    )
    config.save_pretrained(tmp_path)
    text = (tmp_path / "config.json").read_text()
    assert text.endswith("}\n")
    assert json.loads(text)["id2label"] == {"0": "no", "1": "yes", "2": "maybe"}
    again = RobertaConfig.from_pretrained(tmp_path)
    assert again == config
    assert again.pruned_heads == {1: [3]}
    assert again.something_else == [1, 2]
    assert pickle.loads(pickle.dumps(again)) == config
    assert RobertaConfig.from_dict(config.to_dict()) == config


def test_fields_of_old_files(tmp_path: Path) -> None:
    old = {"model_type": "roberta", "torch_dtype": "float16", "_num_labels": 3, "output_past": True}
    (tmp_path / "config.json").write_text(json.dumps(old))
    config = RobertaConfig.from_pretrained(tmp_path)
    assert config.dtype == "float16"
    assert config.to_dict()["output_past"] is True


def test_the_older_name_of_dtype_is_read_where_the_newer_says_nothing() -> None:
    """As in transformers, which used the name torch_dtype: a given dtype decides, None decides nothing."""
    for dtype, torch_dtype, wanted in (
        (None, "float16", "float16"),
        ("float32", "float16", "float32"),
        ("float32", None, "float32"),
    ):
        names = {"dtype": dtype, "torch_dtype": torch_dtype}
        file = {"model_type": "roberta", "dtype": "bfloat16"}
        assert RobertaConfig(**names).dtype == wanted, names
        assert RobertaConfig.from_dict(file, **names).dtype == wanted, names
        assert RobertaConfig.from_dict(names).dtype == wanted, names
    assert RobertaConfig.from_dict(file, torch_dtype=None).dtype == "bfloat16"
    assert RobertaConfig(output_attentions=None, _output_attentions=True).output_attentions is True


def test_a_files_two_maps_of_labels_are_kept_as_they_are(tmp_path: Path) -> None:
    """As in transformers; a saved model has them again."""
    labels = {"id2label": {"0": "no", "1": "yes"}, "label2id": {"yes": 0, "no": 1}}
    (tmp_path / "config.json").write_text(json.dumps(labels))
    with pytest.warns(UserWarning, match="contradict each other.* predictions are named by id2label"):
        config = RobertaConfig.from_pretrained(tmp_path)
    assert config.id2label == {0: "no", 1: "yes"}
    assert config.label2id == {"yes": 0, "no": 1}
    assert json.loads(config.to_json_string())["label2id"] == {"yes": 0, "no": 1}
    assert RobertaConfig.from_pretrained(tmp_path, id2label={0: "a", 1: "b"}).label2id == {"a": 0, "b": 1}


def test_overrides_and_what_is_left_of_them(tmp_path: Path) -> None:
    RobertaConfig().save_pretrained(tmp_path)
    config, unused = RobertaConfig.from_pretrained(
        tmp_path, hidden_dropout_prob=0.3, not_a_field=1, return_unused_kwargs=True
    )
    assert config.hidden_dropout_prob == 0.3
    assert unused == {"not_a_field": 1}


def test_what_is_no_config_is_one_error(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"config\.json"):
        RobertaConfig.from_pretrained(tmp_path)
    (tmp_path / "config.json").write_text("[1]")
    with pytest.raises(CheckpointError, match="not a JSON object"):
        RobertaConfig.from_pretrained(tmp_path)
    with pytest.raises(CheckpointError, match="is a file"):
        RobertaConfig().save_pretrained(tmp_path / "config.json")


@pytest.mark.parametrize(
    "text",
    [
        '{"id2label": {"0": {}}}',
        '{"vocab_size": 1' + "0" * 5000 + "}",
        '{"a":' * 20_000,
        '{"x": 1',
        '{"num_labels": 4294967296}',
        '{"label2id": {"a": Infinity}}',
        '{"label2id": {"a": -Infinity}}',
    ],
    ids=[
        "an invalid label", "a number of 5000 digits", "nested too deep", "cut short",
        "billions of labels", "an infinite id", "an id below all",
    ],
)  # fmt: skip
def test_a_damaged_file_is_one_error_that_names_it(text: str, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(CheckpointError, match=r"config\.json"):
        RobertaConfig.from_pretrained(tmp_path)


def test_an_infinite_id_beside_names_is_refused() -> None:
    with pytest.raises(ValueError, match="label2id gives a label the id Infinity"):
        RobertaConfig(id2label={0: "a"}, label2id={"a": float("inf")})


@pytest.mark.parametrize(
    "text",
    [
        '{"hidden_size": 10}', '{"num_hidden_layers": 4294967296}', '{"architectures": 1.5}',
        '{"architectures": [["RobertaModel"]]}',
    ],
    ids=["a size that does not fit", "billions of layers", "a class that is a number", "a class in a list"],
)  # fmt: skip
def test_a_file_that_makes_no_model_is_read_and_refused_where_a_model_is_wanted(text: str, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(text)
    config = RobertaConfig.from_pretrained(tmp_path)
    assert RobertaConfig.from_dict(json.loads(config.to_json_string())) == config
    for name in (tmp_path, tmp_path / "config.json"):
        with pytest.raises(CheckpointError, match=r"config\.json"):
            checked_config(name)


def test_every_common_field_is_kept_as_it_is_given() -> None:
    """The values from transformers' own test of a config; no model can be built from some of them."""
    given: dict[str, Any] = {
        "return_dict": False, "output_hidden_states": True, "output_attentions": True, "torchscript": True,
        "use_bfloat16": True, "tf_legacy_loss": True, "pruned_heads": {"a": 1}, "tie_word_embeddings": False,
        "is_decoder": True, "cross_attention_hidden_size": 128, "add_cross_attention": True,
        "tie_encoder_decoder": True, "max_length": 50, "num_beams": 3, "bad_words_ids": [1, 2, 3],
        "exponential_decay_length_penalty": (5, 1.01), "begin_suppress_tokens": 2, "id2label": {0: "label"},
        "label2id": {"label": "0"}, "tokenizer_class": "BertTokenizerFast", "prefix": "prefix", "bos_token_id": 6,
        "pad_token_id": 7, "sep_token_id": 9, "decoder_start_token_id": 10,
        "task_specific_params": {"translation": "some_params"}, "problem_type": "regression",
    }  # fmt: skip
    config = RobertaConfig(**copy.deepcopy(given))
    assert {name: getattr(config, name) for name in given} == given


def test_pruned_heads_of_json_are_those_of_python() -> None:
    assert RobertaConfig(pruned_heads={"1": [3, 0], -1: {2}}).pruned_heads == {1: [0, 3], -1: [2]}
    config = RobertaConfig(num_hidden_layers=3, num_attention_heads=4, pruned_heads={0: [1], 2: [0], -1: [0, 3]})
    assert [config.heads_kept(layer) for layer in range(3)] == [3, 4, 2]


def test_a_field_may_be_called_by_the_names_that_transformers_has_for_it(tmp_path: Path) -> None:
    config = RobertaConfig()
    config._name_or_path = tmp_path
    config._attn_implementation = "eager"
    assert (config.name_or_path, config.attn_implementation) == (str(tmp_path), "eager")
    assert (config._name_or_path, config._attn_implementation, config._commit_hash) == (str(tmp_path), "eager", None)
    assert config.get_text_config(decoder=True) is config
    assert config.to_dict() == RobertaConfig().to_dict()
    config.save_pretrained(tmp_path / "inside" / "it")
    assert RobertaConfig.from_pretrained(tmp_path, subfolder="inside/it") == config
    fields, unused = RobertaConfig.get_config_dict(tmp_path, subfolder="inside/it", proxies={}, something=1)
    assert (fields["model_type"], unused) == ("roberta", {"something": 1})

    class Renamed(RobertaConfig):
        attribute_map: ClassVar[dict[str, str]] = {"n_embd": "hidden_size"}

    assert Renamed(n_embd=32).hidden_size == Renamed(hidden_size=32).n_embd == 32


def test_a_keyword_nobody_knows_is_kept_and_logged_and_a_files_is_not(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    config = RobertaConfig(hiden_size=3, zzz=4, gradient_checkpointing=True, torch_dtype="float16", _num_labels=3)
    assert (config.hiden_size, config.zzz, config.to_dict()["zzz"]) == (3, 4, 4)
    assert [record.getMessage() for record in caplog.records] == [
        "RobertaConfig does not know 'hiden_size' (did you mean \"hidden_size\"?); it is kept as it is",
        "RobertaConfig does not know 'zzz'; it is kept as it is",
    ]
    caplog.clear()
    config.save_pretrained(tmp_path)
    assert RobertaConfig.from_pretrained(tmp_path, trust_remote_code=True, vocab_size=9).zzz == 4
    assert not caplog.records
    assert not hasattr(RobertaConfig.from_pretrained(tmp_path, layer_norm_ep=1), "layer_norm_ep")
    assert "'layer_norm_ep' (did you mean \"layer_norm_eps\"?); it is ignored" in caplog.text


def test_equal_configs_have_one_hash_and_a_changed_one_another() -> None:
    config = RobertaConfig(num_labels=3, dtype="float16", name_or_path="here")
    same = RobertaConfig(num_labels=3, dtype=np.float16)
    assert config == same
    assert hash(config) == hash(same)
    same.is_decoder = True
    assert hash(config) != hash(same)


def test_a_dtype_of_any_framework_is_a_name_that_equals_it() -> None:
    for dtype in ("torch.float16", np.float16, np.dtype("float16")):
        config = RobertaConfig(dtype=dtype)
        assert config.dtype == config.torch_dtype == "float16" == config.dtype == np.float16
        assert config.dtype != np.float32
        assert type(config.to_dict()["dtype"]) is str
    nested: dict[str, Any] = {"dtype": np.dtype("float32"), "inner": {"dtype": np.float64}}
    RobertaConfig().dict_dtype_to_str(nested)
    assert nested == {"dtype": "float32", "inner": {"dtype": "float64"}}


def test_a_text_sets_fields_by_the_type_they_have() -> None:
    config = RobertaConfig()
    config.update_from_string("hidden_size=37,hidden_dropout_prob=0.5,is_decoder=yes,hidden_act=relu")
    assert (config.hidden_size, config.hidden_dropout_prob, config.is_decoder, config.hidden_act) == (
        37, 0.5, True, "relu"
    )  # fmt: skip
    with pytest.raises(ValueError, match=r'no field \'hiden_size\' \(did you mean "hidden_size"'):
        config.update_from_string("hiden_size=3")
    with pytest.raises(ValueError, match="is_decoder=maybe must be true or false"):
        config.update_from_string("is_decoder=maybe")
    with pytest.raises(TypeError, match="id2label=3 cannot be set from a string"):
        config.update_from_string("id2label=3")


def test_a_key_of_another_program_that_is_derived_here_is_kept_and_changes_nothing(tmp_path: Path) -> None:
    file = tmp_path / "config.json"
    file.write_text(json.dumps({"hidden_size": 8, "num_attention_heads": 2, "head_size": 64, "use_return_dict": False}))
    config = RobertaConfig.from_pretrained(tmp_path)
    assert (config.head_size, config.use_return_dict) == (4, True)
    copy.deepcopy(config).save_pretrained(tmp_path)
    kept = json.loads(file.read_text())
    assert (kept["head_size"], kept["use_return_dict"]) == (64, False)
    with pytest.raises(AttributeError, match="head_size"):
        RobertaConfig(head_size=64)

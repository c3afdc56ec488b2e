"""RobertaConfig: what it refuses, how labels are found, and its file."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import pytest

from roberta import CheckpointError, RobertaConfig

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
    ({"problem_type": "ranking"}, "problem_type"),
    ({"add_cross_attention": True}, "needs is_decoder=True"),
    ({"num_labels": 3, "id2label": {0: "a"}}, "contradicts"),
    ({"id2label": {0: "a"}, "label2id": {"b": 0}}, "contradict"),
    ({"attn_implementation": "flash"}, "attn_implementation"),
]


@pytest.mark.parametrize(("values", "message"), REFUSED, ids=lambda value: str(value)[:40])
def test_a_value_no_model_can_be_built_from_is_refused(values: dict[str, Any], message: str) -> None:
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
    """As in transformers, whose name was torch_dtype: a dtype that is given decides, None decides nothing."""
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
    """As transformers does; a saved model has them again."""
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
        '{"hidden_size": 10}',
        '{"id2label": {"0": {}}}',
        '{"vocab_size": 1' + "0" * 5000 + "}",
        '{"a":' * 20_000,
        '{"x": 1',
        '{"num_hidden_layers": 4294967296}',
        '{"num_labels": 4294967296}',
        '{"label2id": {"a": Infinity}}',
        '{"architectures": 1.5}',
        '{"architectures": [["RobertaModel"]]}',
    ],
    ids=[
        "a size that does not fit", "a label that is none", "a number of 5000 digits", "nested too deep", "cut short",
        "billions of layers", "billions of labels", "an infinite id", "a class that is a number", "a class in a list",
    ],
)  # fmt: skip
def test_a_damaged_file_is_one_error_that_names_it(text: str, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(CheckpointError, match=r"config\.json"):
        RobertaConfig.from_pretrained(tmp_path)

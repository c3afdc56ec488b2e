"""fairseq's checkpoints: a trained one against its reference outputs, made-up ones in every naming, hostile ones."""

from __future__ import annotations

import argparse
import collections
import json
import os
import pickle
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from backends import Backend, relative

import roberta.common.formats.pickle_machine as machine
from roberta import CheckpointError
from roberta.common.formats import torch_zip
from roberta.common.formats.safetensors_file import read_safetensors
from roberta.conversion import convert
from roberta.conversion.fairseq import options as fairseq_options
from roberta.conversion.fairseq.dictionary import symbols, vocabulary

torch = pytest.importorskip("torch", reason="torch is not installed; it writes the files")

HIDDEN, LAYERS, INNER, VOCAB, ROWS = 12, 2, 20, 17, 26


def make(
    path: Path,
    *,
    outer: str = "encoder",
    old_norm: bool = False,
    numbered: bool = False,
    fused: bool = False,
    form: str = "args",
    zipped: bool = True,
    version: bool = True,
    heads: dict[str, tuple[int, int]] | None = None,
    untied: bool = False,
    drop: tuple[str, ...] = (),
    extra: dict[str, Any] | None = None,
    options: dict[str, Any] | None = None,
) -> dict[str, np.ndarray]:
    """Write a checkpoint with the names of fairseq's classes of some year, by torch; return what it should become."""
    rng = np.random.default_rng(3)
    truth: dict[str, np.ndarray] = {}
    state: dict[str, Any] = collections.OrderedDict()

    def put(theirs: str, ours: str, *shape: int) -> None:
        truth[ours] = rng.normal(0.0, 0.3, shape).astype(np.float32)
        state[theirs] = torch.from_numpy(truth[ours])

    def both(theirs: str, ours: str, *shape: int) -> None:
        put(f"{theirs}.weight", f"{ours}.weight", *shape)
        put(f"{theirs}.bias", f"{ours}.bias", shape[0])

    top = f"{outer}.sentence_encoder"
    put(f"{top}.embed_tokens.weight", "roberta.embeddings.word_embeddings.weight", VOCAB, HIDDEN)
    put(f"{top}.embed_positions.weight", "roberta.embeddings.position_embeddings.weight", ROWS, HIDDEN)
    truth["roberta.embeddings.token_type_embeddings.weight"] = np.zeros((1, HIDDEN), np.float32)
    both(f"{top}.{'emb_layer_norm' if old_norm else 'layernorm_embedding'}", "roberta.embeddings.LayerNorm", HIDDEN)
    first, second = ("layer_norms.0", "layer_norms.1") if numbered else ("self_attn_layer_norm", "final_layer_norm")
    for i in range(LAYERS):
        theirs, ours = f"{top}.layers.{i}", f"roberta.encoder.layer.{i}"
        for short, long in (("q", "query"), ("k", "key"), ("v", "value")):
            both(f"{theirs}.self_attn.{short}_proj", f"{ours}.attention.self.{long}", HIDDEN, HIDDEN)
        if fused:
            for leaf in ("weight", "bias"):
                parts = [state.pop(f"{theirs}.self_attn.{short}_proj.{leaf}") for short in "qkv"]
                state[f"{theirs}.self_attn.in_proj_{leaf}"] = torch.cat(parts)
        both(f"{theirs}.self_attn.out_proj", f"{ours}.attention.output.dense", HIDDEN, HIDDEN)
        both(f"{theirs}.{first}", f"{ours}.attention.output.LayerNorm", HIDDEN)
        both(f"{theirs}.fc1", f"{ours}.intermediate.dense", INNER, HIDDEN)
        both(f"{theirs}.fc2", f"{ours}.output.dense", HIDDEN, INNER)
        both(f"{theirs}.{second}", f"{ours}.output.LayerNorm", HIDDEN)
    both(f"{outer}.lm_head.dense", "lm_head.dense", HIDDEN, HIDDEN)
    both(f"{outer}.lm_head.layer_norm", "lm_head.layer_norm", HIDDEN)
    put(f"{outer}.lm_head.bias", "lm_head.bias", VOCAB)
    state[f"{outer}.lm_head.weight"] = state[f"{top}.embed_tokens.weight"]
    if untied:
        put(f"{outer}.lm_head.weight", "lm_head.decoder.weight", VOCAB, HIDDEN)
    for name, (inner, labels) in (heads or {}).items():
        both(f"classification_heads.{name}.dense", f"{name}.dense", inner, HIDDEN)
        both(f"classification_heads.{name}.out_proj", f"{name}.out_proj", labels, inner)
    if version:
        state[f"{top}.version"] = torch.tensor([3.0])
    state = {name: tensor for name, tensor in state.items() if not any(part in name for part in drop)} | (extra or {})
    values = {"encoder_attention_heads": 3, "dropout": 0.2, "activation_fn": "gelu", "attention_dropout": 0.05}
    values |= {"max_positions": ROWS - 2, "task": "masked_lm", **(options or {})}
    held = {"args": argparse.Namespace(**values)} if form == "args" else {"args": None, "cfg": {"model": values}}
    content = {**held, "model": state, "optimizer_history": [], "extra_state": {"epoch": 3}, "last_optimizer_state": {}}
    torch.save(content, path, _use_new_zipfile_serialization=zipped)
    return truth


SPELLINGS: dict[str, dict[str, Any]] = {
    "of today": {"form": "cfg"},
    "of 2020": {"outer": "decoder", "old_norm": True, "version": False, "zipped": False},
    "of 2019": {"outer": "decoder", "old_norm": True, "numbered": True, "fused": True, "zipped": False},
    "of 2021": {"old_norm": True, "form": "args"},
    "fused in a new container": {"fused": True, "form": "cfg"},
}


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_every_spelling_becomes_the_same_tensors_and_itself_again(spelling: str, tmp_path: Path) -> None:
    truth = make(tmp_path / "model.pt", **SPELLINGS[spelling])
    report = convert(tmp_path / "model.pt", tmp_path / "out", to="safetensors")
    found = read_safetensors(tmp_path / "out" / "model.safetensors")
    assert {name: tensor.load().tobytes() for name, tensor in found.items()} == {
        name: array.tobytes() for name, array in truth.items()
    }
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    assert (config["num_attention_heads"], config["hidden_dropout_prob"], config["type_vocab_size"]) == (3, 0.2, 1)
    assert (config["layer_norm_eps"], config["max_position_embeddings"]) == (1e-5, ROWS)
    assert report.source_format == "fairseq"

    convert(tmp_path / "out", tmp_path / "again", to="fairseq")
    with torch.serialization.safe_globals([argparse.Namespace]):
        old = torch.load(tmp_path / "model.pt", weights_only=True)
        new = torch.load(tmp_path / "again" / "model.pt", weights_only=True)
    assert new["model"].keys() == old["model"].keys()
    assert all(torch.equal(new["model"][name], tensor) for name, tensor in old["model"].items())
    assert (new["args"] is None) == (old["args"] is None)
    told = new["cfg"]["model"] if new["args"] is None else vars(new["args"])
    wanted = {"encoder_layers": LAYERS, "encoder_attention_heads": 3, "max_positions": ROWS - 2, "dropout": 0.2}
    assert {name: told[name] for name in wanted} == wanted


def test_a_classification_head_is_chosen_by_its_name(tmp_path: Path) -> None:
    truth = make(tmp_path / "model.pt", heads={"mnli": (HIDDEN, 3), "other": (HIDDEN, 2)})
    with pytest.raises(CheckpointError, match="several heads; choose one with --head: mnli, other, ForMaskedLM"):
        convert(tmp_path / "model.pt", tmp_path / "out", to="safetensors")
    report = convert(tmp_path / "model.pt", tmp_path / "out", to="safetensors", head="mnli")
    found = read_safetensors(tmp_path / "out" / "model.safetensors")
    assert np.array_equal(found["classifier.out_proj.weight"].load(), truth["mnli.out_proj.weight"])
    assert report.head == "ForSequenceClassification"
    assert any("left out: lm_head.dense.weight" in note for note in report.notes)
    convert(tmp_path / "out", tmp_path / "again", to="fairseq")
    model = torch_zip.read_torch_zip(tmp_path / "again" / "model.pt", records=("argparse Namespace",))["model"]
    assert {name for name in model if name.startswith("classification_heads.")} == {
        f"classification_heads.mnli.{part}.{leaf}" for part in ("dense", "out_proj") for leaf in ("weight", "bias")
    }


def test_a_ranking_head_becomes_multiple_choice(tmp_path: Path) -> None:
    truth = make(tmp_path / "model.pt", heads={"rank": (HIDDEN, 1)}, options={"criterion": "sentence_ranking"})
    report = convert(tmp_path / "model.pt", tmp_path / "out", to="safetensors", head="rank")
    found = read_safetensors(tmp_path / "out" / "model.safetensors")
    assert report.head == "ForMultipleChoice"
    assert np.array_equal(found["roberta.pooler.dense.weight"].load(), truth["rank.dense.weight"])
    assert np.array_equal(found["classifier.weight"].load(), truth["rank.out_proj.weight"])


@pytest.mark.parametrize("options", [{"untie_weights_roberta": True}, {}], ids=["said", "unsaid"])
def test_an_untied_head_is_kept(options: dict[str, Any], tmp_path: Path) -> None:
    truth = make(tmp_path / "model.pt", untied=True, options=options)
    convert(tmp_path / "model.pt", tmp_path / "out", to="safetensors")
    found = read_safetensors(tmp_path / "out" / "model.safetensors")
    assert np.array_equal(found["lm_head.decoder.weight"].load(), truth["lm_head.decoder.weight"])
    assert json.loads((tmp_path / "out" / "config.json").read_text())["tie_word_embeddings"] is False


def test_options_of_omegaconf_are_data(tmp_path: Path) -> None:
    """`cfg` as OmegaConf's classes pickle it; the classes are created here and do not exist when it is read."""
    model = {"encoder_attention_heads": 3, "activation_fn": "relu"}
    nodes = {name: machine.Record("omegaconf.nodes AnyNode", (), {"_val": value}) for name, value in model.items()}
    inner = machine.Record("omegaconf.dictconfig DictConfig", (), {"_content": nodes, "_parent": None})
    cfg = machine.Record("omegaconf.dictconfig DictConfig", (), {"_content": {"model": inner}})
    from roberta.common.formats.torch_writer import state_dict, torch_zip_pieces

    make(tmp_path / "plain.pt")
    tensors = torch_zip.read_torch_zip(tmp_path / "plain.pt", records=("argparse Namespace",))["model"]
    content = {
        "args": None,
        "cfg": cfg,
        "model": state_dict({n: (t.shape, t.dtype, t.load) for n, t in tensors.items()}),
    }
    (tmp_path / "model.pt").write_bytes(b"".join(map(bytes, torch_zip_pieces(content))))
    convert(tmp_path / "model.pt", tmp_path / "out", to="safetensors")
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    assert (config["num_attention_heads"], config["hidden_act"]) == (3, "relu")


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "a missing tensor": ({"drop": ("layers.1.fc2.bias",)}, r"missing: roberta\.encoder\.layer\.1\.output\.dense\.bias"),
    "no positions": ({"drop": ("embed_positions",)}, "has another architecture, or is damaged"),
    "a layer between": ({"drop": ("layers.0.",)}, r"has the layers \[1\]; some between are missing"),
    "a norm before": ({"extra": {"encoder.sentence_encoder.layer_norm.weight": torch.ones(3)}}, "normalises first"),
    "a stranger": ({"extra": {"encoder.adapter.weight": torch.ones(3)}}, r"adapter\.weight \[3\] is not a tensor"),
    "no heads": ({"options": {"encoder_attention_heads": None}}, "has no encoder_attention_heads"),
    "an activation": ({"options": {"activation_fn": "swish"}}, "activation_fn='swish'; known are 'gelu'"),
    "heads that do not divide": ({"options": {"encoder_attention_heads": 5}}, "not a multiple of num_attention_heads"),
    "a wide head": ({"heads": {"mnli": (HIDDEN + 1, 3)}}, r"classifier\.dense\.weight is \[13, 12\] in the file"),
    "no model": ({"drop": ("",)}, "has another architecture"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_no_roberta_is_one_error(case: str, tmp_path: Path) -> None:
    options, text = REFUSED[case]
    make(tmp_path / "model.pt", **options)
    with pytest.raises(CheckpointError, match=text) as caught:
        convert(tmp_path / "model.pt", tmp_path / "out", to="safetensors", head="mnli" if "heads" in options else None)
    assert "model.pt" in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_lost_hyperparameters_can_be_given(tmp_path: Path) -> None:
    make(tmp_path / "model.pt", options={"encoder_attention_heads": None})
    convert(tmp_path / "model.pt", tmp_path / "out", to="safetensors", num_attention_heads=4)
    assert json.loads((tmp_path / "out" / "config.json").read_text())["num_attention_heads"] == 4


# -- pickles that would run code -----------------------------------------------------------------------------------


class Runs:
    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch {self.marker}",)


@pytest.mark.parametrize("where", ["args", "cfg", "extra_state", "model"])
@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "old"])
def test_no_pickle_runs(where: str, zipped: bool, tmp_path: Path) -> None:
    marker = tmp_path / "marker"
    content = {"args": argparse.Namespace(), "model": {}, where: {"a": Runs(marker)}}
    torch.save(content, tmp_path / "model.pt", _use_new_zipfile_serialization=zipped)
    with pytest.raises(CheckpointError, match=r"model\.pt would call posix\.system.*it is not opened"):
        convert(tmp_path / "model.pt", tmp_path / "out", to="safetensors")
    assert not marker.exists()
    assert not (tmp_path / "out").exists()


PICKLES: dict[str, bytes] = {
    "an unknown instruction": pickle.dumps({"a": Runs(Path("x"))}, protocol=4),
    "a text": b"\x80\x02X\x01\x00\x00\x00a.",
    "nothing on the stack": b"\x80\x02.",
    "a mark that does not exist": b"\x80\x02t.",
    "a memo that does not exist": b"\x80\x02h\x05.",
    "a value that is called": b"\x80\x02K\x01)R.",
    "state for a number": b"\x80\x02K\x01}b.",
    "items for a number": b"\x80\x02K\x01(K\x01K\x01u.",
    "a dictionary with a list as key": b"\x80\x02}(]K\x01u.",
    "a list in itself": b"\x80\x02}q\x00(X\x04\x00\x00\x00argsh\x00X\x05\x00\x00\x00modelh\x00u.",
    "a memo of four billion": b"\x80\x02}r\xff\xff\xff\xff.",
    "a class as a storage": b"\x80\x02(X\x07\x00\x00\x00storagecargparse\nNamespace\nX\x01\x00\x00\x000NK\x01tQ.",
    "INST": b"(ios\nsystem\n.",
}


@pytest.mark.parametrize("case", PICKLES)
def test_a_crafted_pickle_is_one_error(case: str, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "model.pt", "w") as archive:
        archive.writestr("archive/data.pkl", PICKLES[case])
    with pytest.raises(CheckpointError, match=r"model\.pt"):
        convert(tmp_path / "model.pt", tmp_path / "out", to="safetensors", from_="fairseq")


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "old"])
def test_views_of_one_storage_are_read_as_torch_reads_them(zipped: bool, tmp_path: Path) -> None:
    base = torch.arange(60, dtype=torch.float32).reshape(6, 10)
    state = {"rows": base[2:4], "turned": base.T, "column": base[:, 3], "every": base[::2, 1::3], "none": base[:0]}
    state |= {"half": torch.ones(3, dtype=torch.bfloat16) / 3, "number": torch.tensor(7)}
    torch.save(state, tmp_path / "a.pt", _use_new_zipfile_serialization=zipped)
    for name, tensor in torch_zip.read_torch_zip(tmp_path / "a.pt").items():
        assert np.array_equal(tensor.load().astype(np.float64), state[name].double().numpy()), name


def test_a_file_cut_short_is_one_error(tmp_path: Path) -> None:
    for zipped in (True, False):
        make(tmp_path / "whole.pt", zipped=zipped)
        whole = (tmp_path / "whole.pt").read_bytes()
        for size in (0, 1, 9, 200, len(whole) // 2, len(whole) - 1):
            (tmp_path / "model.pt").write_bytes(whole[:size])
            with pytest.raises(CheckpointError, match=r"model\.pt"):
                convert(tmp_path / "model.pt", tmp_path / "out", to="safetensors", from_="fairseq")


# -- dictionaries --------------------------------------------------------------------------------------------------


def test_the_dictionary_of_roberta_base_gives_its_vocabulary(golden: Path, tmp_path: Path) -> None:
    """GPT-2's tokens in another order, with the numbers of the published vocab.json, give the same vocab.json again."""
    published = json.loads((golden / "roberta-base-tokenizer" / "vocab.json").read_text())
    tokens = sorted(published, key=published.__getitem__)[4:-1]
    encoder = {token: index for index, token in enumerate(sorted(t for t in tokens if "madeup" not in t))}
    lines = [f"{encoder.get(token, token)} {9999 - i // 10}" for i, token in enumerate(tokens)]
    (tmp_path / "dict.txt").write_text("\n".join(lines) + "\n")
    (tmp_path / "encoder.json").write_text(json.dumps(encoder))
    assert vocabulary(tmp_path / "dict.txt", 50265) is None
    assert vocabulary(tmp_path / "dict.txt", 50265, tmp_path / "encoder.json") == published


def test_a_dictionary_of_another_model_is_refused(tmp_path: Path) -> None:
    (tmp_path / "dict.txt").write_text("a 1\nb 1\n")
    assert vocabulary(tmp_path / "dict.txt", 7) == {
        "<s>": 0,
        "<pad>": 1,
        "</s>": 2,
        "<unk>": 3,
        "a": 4,
        "b": 5,
        "<mask>": 6,
    }
    assert vocabulary(tmp_path / "dict.txt", 6) == {"<s>": 0, "<pad>": 1, "</s>": 2, "<unk>": 3, "a": 4, "b": 5}
    with pytest.raises(CheckpointError, match=r"dict\.txt has 2 symbols, with the special ones 6, and the model 9"):
        vocabulary(tmp_path / "dict.txt", 9)
    (tmp_path / "dict.txt").write_text("a 1\nb\n")
    with pytest.raises(CheckpointError, match=r"dict\.txt, line 2: 'b' is not a new symbol and its count"):
        symbols(tmp_path / "dict.txt")


# -- the trained model ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def sapiens(golden: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sapiens")
    convert(golden / "sapiens-vh" / "checkpoint_vh.pt", folder / "out", to="safetensors")
    return folder / "out"


@pytest.mark.parametrize(("dtype", "bound"), [("float64", 1e-10), ("float32", 1e-5)])
def test_the_trained_model_computes_what_its_reference_says(
    backend: Backend, dtype: str, bound: float, golden: Path, sapiens: Path
) -> None:
    """The reference: an independent forward pass in numpy on the raw tensors."""
    truth = np.load(golden / "sapiens-vh" / "golden.npz")
    inputs = {name: truth[name] for name in ("input_ids", "attention_mask")}
    found = backend.run(backend.load("ForMaskedLM", sapiens, dtype=dtype), inputs, output_hidden_states=True)
    is_token = inputs["attention_mask"] == 1
    assert relative(found["logits"][is_token], truth["logits_f64"][is_token]) < bound
    for index in range(5):
        wanted = truth[f"hidden_states_f64.{index}"].reshape(-1, 128)[is_token[0]]  # fairseq makes padding zero
        assert relative(found[f"hidden_states.{index}"][0][is_token[0]], wanted) < bound


def test_masked_residues_are_recovered_as_by_the_reference(backend: Backend, golden: Path, sapiens: Path) -> None:
    ids = json.loads((sapiens / "vocab.json").read_text())
    names = {index: token for token, index in ids.items()}
    cases = json.loads((golden / "sapiens-vh" / "golden.json").read_text())["recovery"]["cases"]
    model, right, total, phase0 = backend.load("ForMaskedLM", sapiens, dtype="float32"), 0, 0, 0
    for case in cases:
        row = [ids["<s>"], *(ids["<mask>"] if r in "*X" else ids[r] for r in case["masked"]), ids["</s>"]]
        logits = backend.run(model, {"input_ids": np.array([row])})["logits"][0]
        residues = [names[int(i)] for i in logits[:, 4:24].argmax(axis=-1) + 4]
        predicted = "".join(residues[position + 1] for position in case["positions"])
        assert predicted == case["predicted"]
        hits = sum(a == b for a, b in zip(predicted, case["truth"], strict=True))
        right, total, phase0 = right + hits, total + len(predicted), phase0 + hits * (case["phase"] == 0)
    assert (right, total, phase0) == (553, 723, 89)


def test_the_trained_model_is_written_with_the_tensors_it_had(golden: Path, sapiens: Path, tmp_path: Path) -> None:
    report = convert(sapiens, tmp_path / "again", to="fairseq")
    old, new = (
        torch_zip.read_torch_zip(path, records=("argparse Namespace",))["model"]
        for path in (golden / "sapiens-vh" / "checkpoint_vh.pt", tmp_path / "again" / "model.pt")
    )
    assert {name: tensor.shape for name, tensor in new.items()} == {name: tensor.shape for name, tensor in old.items()}
    assert all(np.array_equal(new[name].load(), tensor.load()) for name, tensor in old.items())
    assert "dict.txt" in report.files


def test_options_that_hold_one_value_a_trillion_times_are_refused() -> None:
    value: Any = 1
    for _ in range(12):
        value = [value] * 10
    with pytest.raises(CheckpointError, match=r"model\.pt: the configuration is nested .* or has over"):
        fairseq_options.options(Path("model.pt"), {"cfg": {"model": value}})

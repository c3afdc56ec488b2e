"""Any format to any other and back gives the same bits, and each file is read by its own framework's reader."""

from __future__ import annotations

import itertools
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_args

import checkpoints
import numpy as np
import pytest

from roberta import CheckpointError, cli
from roberta.common.dtype_names import FLOAT_DTYPES
from roberta.common.finite import not_finite
from roberta.common.formats.safetensors_file import numpy_dtype, read_safetensors
from roberta.conversion import convert
from roberta.conversion.formats import ALL, CheckpointFormat, SourceOptions, read_model

pytest.importorskip("h5py", reason="h5py is not installed")
pytest.importorskip("msgpack", reason="msgpack is not installed")

Bits = dict[str, tuple[str, tuple[int, ...], bytes]]


@pytest.fixture
def quick_h5(monkeypatch: pytest.MonkeyPatch) -> None:
    """List h5 files in this process: they are our own, and a separate process for each of a thousand takes minutes."""
    from roberta.common.formats import h5_file, h5_layout

    monkeypatch.setattr(h5_file, "list_h5", lambda path: h5_layout.locate_tensors(str(path)))


def bits(tensors: Mapping[str, Any]) -> Bits:
    return {name: (t.dtype, t.shape, np.ascontiguousarray(t.load()).tobytes()) for name, t in tensors.items()}


def as_dtype(found: Bits, dtype: str) -> Bits:
    """A bfloat16 model, which tf_model.h5 holds as float32, in bfloat16 again."""
    kind = numpy_dtype(dtype)
    return {
        name: (dtype, shape, np.frombuffer(data, numpy_dtype(stored)).astype(kind).tobytes())
        for name, (stored, shape, data) in found.items()
    }


@pytest.mark.usefixtures("quick_h5")
@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
@pytest.mark.parametrize("head", checkpoints.HEADS)
def test_every_format_to_every_other_keeps_every_bit(head: Any, dtype: str, tmp_path: Path) -> None:
    source = checkpoints.make(tmp_path / "source", head, dtype=dtype)
    config, drawn = checkpoints.small_config(head), checkpoints.draw(checkpoints.small_config(head), head)
    kind = numpy_dtype(dtype)
    wanted = {name: (dtype, array.shape, array.astype(kind).tobytes()) for name, array in drawn.items()}
    for one in ALL:
        convert(source, tmp_path / one, to=one)
    for one, other in itertools.product(ALL, ALL):
        target = tmp_path / f"{one}-{other}"
        report = convert(tmp_path / one, target, to=other)
        assert (report.source_format, report.head, report.tensors) == (one, head, len(wanted))
        model = read_model(target, None, SourceOptions())
        assert as_dtype(bits(model.tensors), dtype) == wanted, (one, other)
        assert (model.format, model.head, model.config.num_labels) == (other, head, config.num_labels)


def test_the_same_model_makes_the_same_bytes_at_another_time(tmp_path: Path) -> None:
    source = checkpoints.make(tmp_path / "source", "ForMaskedLM", dtype="float32")
    written = []
    for turn in ("first", "second"):
        time.sleep(1.1 * len(written))  # HDF5 can record the time, to the second
        for to in ALL:
            convert(source, tmp_path / turn / to, to=to)
        files = [path for path in (tmp_path / turn).rglob("*") if path.is_file()]
        written.append({path.relative_to(tmp_path / turn): path.read_bytes() for path in files})
    assert written[0] == written[1]


@pytest.mark.usefixtures("quick_h5")
@pytest.mark.parametrize("to", ["safetensors", "pt", "tf", "flax"])
def test_shards_hold_every_bit(to: CheckpointFormat, tmp_path: Path) -> None:
    source = checkpoints.make(tmp_path / "source", "ForMaskedLM", dtype="float32")
    report = convert(source, tmp_path / "parts", to=to, max_shard_size="10kB")
    assert sum("-of-" in name for name in report.files) > 3
    convert(tmp_path / "parts", tmp_path / "whole", to="safetensors")
    assert bits(read_safetensors(tmp_path / "whole" / "model.safetensors")) == bits(
        read_safetensors(source / "model.safetensors")
    )


def test_an_untied_decoder_travels(tmp_path: Path) -> None:
    source = checkpoints.make(tmp_path / "source", "ForMaskedLM", dtype="float32", tie_word_embeddings=False)
    for to in ("pt", "tf", "flax", "fairseq"):
        convert(source, tmp_path / to, to=to)
        convert(tmp_path / to, tmp_path / f"{to}-back", to="safetensors")
        assert bits(read_safetensors(tmp_path / f"{to}-back" / "model.safetensors")) == bits(
            read_safetensors(source / "model.safetensors")
        )
    with pytest.raises(CheckpointError, match="keras-hub has no tie_word_embeddings=False"):
        convert(source, tmp_path / "hub", to="keras-hub")


# -- other people's readers -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16", "bfloat16"])
@pytest.mark.parametrize("mmap", [False, True], ids=["read", "mapped"])
def test_torch_loads_what_is_written(dtype: str, mmap: bool, tmp_path: Path) -> None:
    torch = pytest.importorskip("torch", reason="torch is not installed")
    source = checkpoints.make(tmp_path / "source", "ForMaskedLM", dtype=dtype)
    convert(source, tmp_path / "pt", to="pt")
    state = torch.load(tmp_path / "pt" / "pytorch_model.bin", weights_only=True, mmap=mmap)
    for name, array in checkpoints.draw(checkpoints.small_config("ForMaskedLM"), "ForMaskedLM").items():
        assert state[name].dtype == getattr(torch, dtype)
        assert np.array_equal(state.pop(name).double().numpy(), array.astype(numpy_dtype(dtype)).astype(np.float64))
    assert not state


def test_flax_restores_what_is_written(tmp_path: Path) -> None:
    serialization = pytest.importorskip("flax.serialization", reason="flax is not installed")
    source = checkpoints.make(tmp_path / "source", "Model", dtype="float32")
    convert(source, tmp_path / "flax", to="flax")
    tree = serialization.msgpack_restore((tmp_path / "flax" / "flax_model.msgpack").read_bytes())
    drawn = checkpoints.draw(checkpoints.small_config("Model"), "Model")
    kernel = drawn["encoder.layer.1.intermediate.dense.weight"].astype(np.float32)
    assert np.array_equal(tree["encoder"]["layer"]["1"]["intermediate"]["dense"]["kernel"], kernel.T)
    assert np.array_equal(tree["embeddings"]["LayerNorm"]["scale"], drawn["embeddings.LayerNorm.weight"].astype("f4"))


def test_h5py_reads_what_is_written(tmp_path: Path) -> None:
    import h5py

    source = checkpoints.make(tmp_path / "source", "ForQuestionAnswering", dtype="float32")
    convert(source, tmp_path / "tf", to="tf")
    drawn = checkpoints.draw(checkpoints.small_config("ForQuestionAnswering"), "ForQuestionAnswering")
    with h5py.File(tmp_path / "tf" / "tf_model.h5") as file:
        assert list(file.attrs["layer_names"]) == ["roberta", "qa_outputs"]
        kernel = file["qa_outputs/tf_roberta/qa_outputs/kernel:0"][:]
        assert np.array_equal(kernel, drawn["qa_outputs.weight"].astype(np.float32).T)


# -- what is copied, and what is recognised --------------------------------------------------------------------------


def test_config_and_tokenizer_travel_and_old_weights_go(tmp_path: Path) -> None:
    source = checkpoints.make(tmp_path / "source", "ForMaskedLM", dtype="float32")
    texts = {"vocab.json": '{"<s>": 0}', "merges.txt": "#version: 0.2\na b\n", "tokenizer.json": "{}"}
    for name, text in texts.items():
        (source / name).write_text(text)
    target = tmp_path / "target"
    convert(source, target, to="pt")
    (target / "notes.md").write_text("mine")
    report = convert(source, target, to="flax", overwrite=True)
    assert "flax_model.msgpack" in report.files
    assert set(report.replaced) == {"config.json", "pytorch_model.bin", *texts}
    assert "replaced config.json, merges.txt, pytorch_model.bin" in report.message()
    assert {path.name for path in target.iterdir()} == {"config.json", "flax_model.msgpack", "notes.md", *texts}
    assert json.loads((target / "config.json").read_text())["dtype"] == "float32"
    convert(target, tmp_path / "hub", to="keras-hub")
    convert(tmp_path / "hub", tmp_path / "back", to="safetensors")
    assert {name: (tmp_path / "back" / name).read_text() for name in texts} == {
        **texts, "merges.txt": "a b\n",
    }  # fmt: skip


def test_a_format_is_never_guessed(tmp_path: Path) -> None:
    source = checkpoints.make(tmp_path / "source", "Model", dtype="float32")
    convert(source, tmp_path / "pt", to="pt")
    (source / "pytorch_model.bin").write_bytes((tmp_path / "pt" / "pytorch_model.bin").read_bytes())
    with pytest.raises(CheckpointError, match=r"model\.safetensors \(safetensors\), pytorch_model\.bin \(pt\); choose"):
        convert(source, tmp_path / "target", to="tf")
    assert convert(source, tmp_path / "one", to="tf", from_="pt").source_format == "pt"
    assert convert(source / "pytorch_model.bin", tmp_path / "two", to="tf").source_format == "pt"


def test_a_head_is_never_dropped_unseen(tmp_path: Path) -> None:
    config = checkpoints.small_config("ForMaskedLM")
    both = checkpoints.draw(config, "ForMaskedLM") | checkpoints.draw(config, "ForSequenceClassification")
    source = checkpoints.save(tmp_path / "source", config, both, "float32")
    with pytest.raises(CheckpointError, match="several heads, classifier, lm_head; choose one with --head"):
        convert(source, tmp_path / "target", to="pt")
    report = convert(source, tmp_path / "target", to="pt", head="RobertaForMaskedLM")
    assert "left out: classifier.dense.weight" in report.notes


def test_a_class_that_the_config_does_not_name_is_never_taken_unseen(tmp_path: Path) -> None:
    config = checkpoints.small_config("ForMaskedLM")
    checkpoints.save(
        tmp_path / "a", config, {f"roberta.{name}": v for name, v in checkpoints.draw(config, "Model").items()}
    )
    with pytest.raises(
        CheckpointError, match=r"tensors of RobertaModel, but its config names RobertaForMaskedLM; .*--head"
    ):
        read_model(tmp_path / "a", None, SourceOptions())
    assert read_model(tmp_path / "a", None, SourceOptions(head="Model")).head == "Model"


def test_a_tensor_of_no_head_is_never_dropped_unseen(tmp_path: Path) -> None:
    config = checkpoints.small_config("ForMaskedLM")
    more = checkpoints.draw(config, "ForMaskedLM") | {"lm_head.adapter.weight": np.ones((3, 3))}
    source = checkpoints.save(tmp_path / "source", config, more, "float32")
    with pytest.raises(CheckpointError, match=r"has more than RobertaForMaskedLM: lm_head\.adapter\.weight"):
        convert(source, tmp_path / "target", to="pt")


ERRORS: dict[str, tuple[dict[str, Any], str]] = {
    "an unknown format": ({"to": "onnx"}, "the formats are safetensors, pt"),
    "an unknown dtype": ({"to": "pt", "dtype": "int8"}, "dtype='int8' is not one of float32"),
    "bfloat16 in HDF5": ({"to": "tf", "dtype": "bfloat16"}, "tf_model.h5 cannot hold it; float32 holds the same"),
    "an unknown head": ({"to": "pt", "head": "ForTranslation"}, "must be one of Model, ForCausalLM"),
    "another head": ({"to": "pt", "head": "ForQuestionAnswering"}, "missing qa_outputs.weight"),
    "not a size": ({"to": "pt", "max_shard_size": "big"}, "'big' is not a size"),
    "fairseq's options": (
        {"to": "pt", "num_attention_heads": 3},
        "is for a source of fairseq, and this one is safetensors",
    ),
    "too large for float16": ({"to": "pt", "dtype": "float16"}, "which float16 cannot hold; choose float32"),
}


@pytest.mark.parametrize("case", ERRORS)
def test_what_cannot_be_is_one_error_and_nothing_is_written(case: str, tmp_path: Path) -> None:
    options, text = ERRORS[case]
    config = checkpoints.small_config("ForMaskedLM")
    drawn = checkpoints.draw(config, "ForMaskedLM")
    drawn["lm_head.bias"][3] = 1e6
    source = checkpoints.save(tmp_path / "source", config, drawn, "float32")
    target = checkpoints.make(tmp_path / "target", "Model", dtype="float32")
    before = {path.name: path.read_bytes() for path in target.iterdir()}
    with pytest.raises(ValueError, match=text):
        convert(source, target, **{"overwrite": True, **options})
    assert {path.name: path.read_bytes() for path in target.iterdir()} == before
    assert {path.name for path in tmp_path.iterdir()} <= {"source", "target"}


def test_what_another_program_would_compute_otherwise_is_refused(tmp_path: Path) -> None:
    source = checkpoints.make(tmp_path / "source", "Model", dtype="float32", layer_norm_eps=1e-12)
    for to in ("fairseq", "keras-hub"):
        with pytest.raises(CheckpointError, match=f"{to} has no layer_norm_eps=1e-12"):
            convert(source, tmp_path / to, to=to)


@pytest.mark.parametrize("to", ["fairseq", "keras-hub"])
def test_a_decoder_for_a_program_without_causal_mask_is_noted(to: CheckpointFormat, tmp_path: Path) -> None:
    decoder = checkpoints.make(tmp_path / "decoder", "ForCausalLM", dtype="float32", layer_norm_eps=1e-5)
    both = checkpoints.make(tmp_path / "both", "ForMaskedLM", dtype="float32", layer_norm_eps=1e-5)
    assert any("no causal mask" in note for note in convert(decoder, tmp_path / "one", to=to).notes)
    assert not any("no causal mask" in note for note in convert(both, tmp_path / "two", to=to).notes)


def test_the_source_is_not_written_over(tmp_path: Path) -> None:
    source = checkpoints.make(tmp_path / "source", "Model", dtype="float32")
    with pytest.raises(CheckpointError, match="is the source's own folder"):
        convert(source, source, to="pt")


def test_a_model_in_the_target_is_never_replaced_unasked(tmp_path: Path) -> None:
    """`convert tf precious --to flax` once silently deleted precious/model.safetensors."""
    source = checkpoints.make(tmp_path / "source", "Model", dtype="float32")
    precious = checkpoints.make(tmp_path / "precious", "ForMaskedLM", seed=7)
    before = {path.name: path.read_bytes() for path in precious.iterdir()}
    with pytest.raises(CheckpointError, match=r"precious has config\.json, model\.safetensors, which .* --overwrite"):
        convert(source, precious, to="flax")
    assert {path.name: path.read_bytes() for path in precious.iterdir()} == before
    assert cli.main(["convert", str(source), str(precious), "--to", "flax", "--overwrite"]) == 0
    assert {path.name for path in precious.iterdir()} == {"config.json", "flax_model.msgpack"}


def test_a_target_with_files_that_are_no_model_needs_no_leave(tmp_path: Path) -> None:
    source = checkpoints.make(tmp_path / "source", "Model", dtype="float32")
    (tmp_path / "target").mkdir()
    (tmp_path / "target" / "notes.md").write_text("mine")
    assert convert(source, tmp_path / "target", to="pt").replaced == ()
    assert (tmp_path / "target" / "notes.md").read_text() == "mine"


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16", "float64"])
@pytest.mark.parametrize("to", ["safetensors", "tf", "fairseq"])
def test_values_that_are_not_finite_are_copied_and_named(to: CheckpointFormat, dtype: str, tmp_path: Path) -> None:
    config = checkpoints.small_config("ForMaskedLM", layer_norm_eps=1e-5)
    drawn = checkpoints.draw(config, "ForMaskedLM")
    drawn["lm_head.dense.weight"][1, 2] = np.nan
    drawn["lm_head.bias"][[0, 3]] = np.inf
    source = checkpoints.save(tmp_path / "source", config, drawn, dtype)
    (note,) = (note for note in convert(source, tmp_path / "out", to=to).notes if "finite" in note)
    assert f"lm_head.bias (infinity in 2 of {config.vocab_size} values)" in note
    assert re.search(r"lm_head\.dense\.weight \(nan in 1 of \d+ values\)", note)


def test_a_sum_that_overflows_is_no_value_that_is_not_finite() -> None:
    assert not_finite(np.full(9, 3e38, np.float32)) is None
    assert not_finite(np.full((3, 2), 60000, np.float16).T) is None
    assert not_finite(np.array([1.0, -np.inf, np.inf], np.float32)) == "infinity in 2 of 3 values"
    assert not_finite(np.arange(5)) is None


# -- the command ---------------------------------------------------------------------------------------------------


def test_the_command_says_what_it_did(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = checkpoints.make(tmp_path / "source", "ForMaskedLM", dtype="float32")
    assert cli.main(["convert", str(source), str(tmp_path / "out"), "--to", "flax", "--dtype", "float16"]) == 0
    text = capsys.readouterr().out
    assert "(safetensors, RobertaForMaskedLM)" in text
    assert "flax_model.msgpack" in text
    assert "float16" in text
    assert cli.main(["convert", str(tmp_path / "no"), str(tmp_path / "x"), "--to", "pt", "--from", "fairseq"]) == 1
    assert "no does not exist; a checkpoint of fairseq" in capsys.readouterr().err


def test_the_command_knows_the_formats_of_the_converter() -> None:
    assert cli.CHECKPOINT_FORMATS == ALL == get_args(CheckpointFormat)
    assert cli.CHECKPOINT_DTYPES == FLOAT_DTYPES


def test_no_framework_is_imported(tmp_path: Path) -> None:
    """No framework is needed either: files for torch, Keras and Flax are written without them."""
    source = checkpoints.make(tmp_path / "source", "ForMaskedLM", dtype="float32")
    code = (
        "import sys; from roberta.conversion import convert\n"
        f"for to in {ALL}: convert({str(source)!r}, {str(tmp_path)!r} + '/' + to, to=to)\n"
        f"for to in {ALL}: convert({str(tmp_path)!r} + '/' + to, {str(tmp_path / 'out')!r}, to='pt', overwrite=True)\n"
        "print(*sorted({'torch', 'tensorflow', 'keras', 'jax', 'flax'} & set(sys.modules)))"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    assert done.stdout.split() == []

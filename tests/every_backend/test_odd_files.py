"""Weights as trainings leave them: below other keys, inside other models' names, in files of any name."""

from __future__ import annotations

import argparse
import collections
import enum
import functools
import json
import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import checkpoints
import numpy as np
import pytest
from backends import Backend
from pipeline_cases import make_models

from roberta import CheckpointError, cli, pipeline
from roberta.common.checkpoint.checkpoint import Checkpoint, match, open_checkpoint
from roberta.common.checkpoint.loading import say_once
from roberta.common.parameters import parameters
from roberta.conversion import convert

torch = pytest.importorskip("torch", reason="torch is not installed")

HEAD = "ForTokenClassification"
CONFIG = checkpoints.small_config(HEAD)
DRAWN = checkpoints.draw(CONFIG, HEAD)
Names = Callable[[str], str]


def folder_of(folder: Path) -> Path:
    """A folder with the config alone."""
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(CONFIG.to_json_string())
    return folder


def state(rename: Names = str, seed: int = 0) -> Any:
    drawn = DRAWN if seed == 0 else checkpoints.draw(CONFIG, HEAD, seed)
    return collections.OrderedDict((rename(name), torch.from_numpy(array.copy())) for name, array in drawn.items())


@functools.cache
def optimizer_state() -> Any:
    """The state of an optimizer that has made a step."""
    weights = [torch.nn.Parameter(tensor.float()) for tensor in state().values()]
    optimizer = torch.optim.AdamW(weights)
    sum(weight.sum() for weight in weights).backward()
    optimizer.step()
    return optimizer.state_dict()


class Mode(enum.Enum):
    """As an enum of a user's own program."""

    FAST = "fast"


def touch(path: str) -> None:
    """What a pickle calls here, as any function of a user's module."""
    Path(path).touch()


class Settings(dict):
    """An object whose pickle calls a function, and then sets items and attributes."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return touch, (str(self.path),), {"attribute": 1}, iter([1, 2]), iter([("key", Mode.FAST)])


def lightning(path: Path, marker: Path) -> None:
    settings = {
        "namespace": argparse.Namespace(lr=0.1, where=Path("runs")), "mode": Mode.FAST, "own": Settings(marker),
        "seen": {1, 2}, "frozen": frozenset({"a"}), "score": np.float64(0.5), "array": np.arange(3), "size": 2**70,
        "step": functools.partial(touch, "x"), "counts": collections.defaultdict(list, a=[1]), "raw": b"\x00\xff",
        "dtype": torch.bfloat16, "device": torch.device("cpu"), "complex": torch.ones(2, dtype=torch.complex64),
        ("a", ("nested", "key")): 1,
    }  # fmt: skip
    content = {
        "epoch": 3, "global_step": 120, "pytorch-lightning_version": "2.5.0",
        "state_dict": {**state("model.{}".format), "loss_fn.weight": torch.ones(5)},
        "loops": {"fit_loop": {"state_dict": {}, "epoch_progress": {"total": {"ready": 1}}}},
        "callbacks": {"ModelCheckpoint{'monitor': None}": {"best_model_score": torch.tensor(0.5), "dirpath": Path("a")}},
        "optimizer_states": [optimizer_state()], "lr_schedulers": [{"last_epoch": 3, "lr_lambdas": [None]}],
        "hparams_name": "kwargs", "hyper_parameters": settings,
    }  # fmt: skip
    torch.save(content, path)


def deepspeed(path: Path, marker: Path) -> None:
    content = {
        "module": state(), "buffer_names": ["roberta.embeddings.position_ids"], "optimizer": None,
        "param_shapes": [collections.OrderedDict((name, tensor.shape) for name, tensor in state().items())],
        "frozen_param_shapes": None, "shared_params": {}, "lr_scheduler": {"last_batch_iteration": 5},
        "data_sampler": None, "random_ltd": None, "sparse_tensor_module_names": set(), "skipped_steps": 0,
        "global_steps": 5, "global_samples": 40, "dp_world_size": 1, "mp_world_size": 1, "ds_version": "0.15.0",
        "ds_config": {"zero_optimization": {"stage": 2}, "own": Settings(marker)},
    }  # fmt: skip
    torch.save(content, path)


def own(path: Path, marker: Path, key: str = "model", **options: Any) -> None:
    arguments = argparse.Namespace(lr=0.1, settings=Settings(marker))
    content = {"epoch": 1, key: state("module.{}".format), "optimizer": optimizer_state(), "args": arguments}
    torch.save(content, path, **options)


# File -> what writes it.
FILES: dict[str, Callable[[Path, Path], None]] = {
    "epoch=3-step=120.ckpt": lightning,
    "mp_rank_00_model_states.pt": deepspeed,
    "checkpoint.pth": own,
    "best.pt": functools.partial(own, key="model_state_dict", pickle_protocol=4),
    "pytorch_model.bin": functools.partial(own, key="net", _use_new_zipfile_serialization=False),
    "five.pt": functools.partial(own, key="weights", pickle_protocol=5),
}


@pytest.fixture
def said(caplog: pytest.LogCaptureFixture) -> Iterator[Callable[[], list[str]]]:
    """The lines that were logged, of a process that has not said any yet."""
    say_once.cache_clear()
    caplog.set_level(logging.WARNING)
    yield lambda: [record.getMessage() for record in caplog.records]
    say_once.cache_clear()


def check(backend: Backend, place: Path, unused: tuple[str, ...] = (), **options: Any) -> None:
    """Load a model and compare every tensor with those put in."""
    model, report = backend.load(HEAD, place, output_loading_info=True, **options)
    found = backend.parameters(model)
    assert found.keys() == DRAWN.keys()
    assert all(np.array_equal(found[name], DRAWN[name]) for name in DRAWN)
    assert report["unexpected_keys"] == list(unused)
    assert not report["missing_keys"]


@pytest.mark.parametrize("name", FILES)
def test_the_weights_of_a_training_load_and_nothing_in_the_file_is_called(
    backend: Backend, name: str, tmp_path: Path, said: Callable[[], list[str]]
) -> None:
    folder = folder_of(tmp_path / "model")
    marker = tmp_path / "called"
    FILES[name](folder / name, marker)
    for other in ("optimizer.pt", "rng_state_0.pth", "training_args.bin", "zero_pp_rank_0_mp_rank_00_optim_states.pt"):
        torch.save({"state": 1}, folder / other)
    unused = ("loss_fn.weight",) if FILES[name] is lightning else ()
    check(backend, folder, unused)  # the only weights in the folder
    check(backend, folder / name, unused)  # by its path
    assert not marker.exists()
    lines = [line for line in said() if name in line]
    assert len(lines) == 1, "said once"
    assert "the weights are those under" in lines[0]
    assert ("'model.' was removed from" in lines[0]) == (FILES[name] is lightning)
    assert ("unused, as they lie outside of it: loss_fn.weight" in lines[0]) == (FILES[name] is lightning)


PREFIXES = (
    "_forward_module.", "_fsdp_wrapped_module.", "module.", "net.", "model.", "backbone.", "base_model.model.",
    "roberta.", "roberta.roberta.", "_orig_mod.", "model._orig_mod.net.module.", "anything.else.0.", "my_roberta.",
    "encoder.", "embeddings.", "head.classifier.", "a.roberta.b.",
)  # fmt: skip


@pytest.mark.parametrize("prefix", PREFIXES)
def test_one_prefix_before_all_names_is_removed(backend: Backend, prefix: str, tmp_path: Path) -> None:
    spelled = {f"{prefix}{name}": array for name, array in DRAWN.items()}
    folder = checkpoints.save(tmp_path, CONFIG, {**spelled, "loss_fn.weight": np.ones(5)})
    outside = not {"module", "_orig_mod", "_forward_module", "_fsdp_wrapped_module"}.issuperset(prefix.split(".")[:-1])
    check(backend, folder, ("loss_fn.weight",))
    assert outside == bool(match_of(folder).report.unused)


def match_of(folder: Path) -> Any:
    return match(parameters(CONFIG, HEAD), open_checkpoint(folder))


INNER: dict[str, Names] = {
    "fsdp": lambda name: name.replace("encoder.layer.", "encoder._fsdp_wrapped_module.layer."),
    "checkpoint": lambda name: name.replace(".attention.", "._checkpoint_wrapped_module.attention."),
    "both": lambda name: "net." + name.replace(".self.", "._fsdp_wrapped_module._checkpoint_wrapped_module.self."),
    "ddp of the encoder": lambda name: name.replace("roberta.", "roberta.module."),
    "compiled layers": lambda name: name.replace(".layer.1.", ".layer.1._orig_mod."),
}


@pytest.mark.parametrize("kind", INNER)
def test_wrappers_inside_names_are_removed(backend: Backend, kind: str, tmp_path: Path) -> None:
    folder = checkpoints.save(tmp_path, CONFIG, {INNER[kind](name): array for name, array in DRAWN.items()})
    check(backend, folder)


def test_copies_of_a_whole_encoder_are_left_over(tmp_path: Path) -> None:
    """Averages and teachers beside the model, which has no prefix."""
    copies = {f"ema.{name}": array for name, array in DRAWN.items() if name.startswith("roberta.")}
    found = match_of(checkpoints.save(tmp_path, CONFIG, {**DRAWN, **copies}))
    assert set(found.report.unexpected) == set(copies)
    assert all(np.array_equal(found.found[name].load(), DRAWN[name]) for name in DRAWN)


# -- what is refused ------------------------------------------------------------------------------------------------


def some_with(prefix: str, where: str) -> Names:
    return lambda name: f"{prefix}{name}" if where in name else name


def refused(path: Path) -> dict[str, tuple[Callable[[], None], str]]:
    """Mistake -> the function that writes the file, and the error."""
    save = functools.partial(torch.save, f=path)
    encoder = {name: tensor for name, tensor in state().items() if name.startswith("roberta.")}
    head = {name: tensor for name, tensor in state().items() if not name.startswith("roberta.")}
    two = {f"{side}.{name}": tensor for side in ("query", "passage") for name, tensor in encoder.items()}
    empty = {name: torch.empty(0) for name in state()}
    fairseq = {f"decoder.sentence_encoder.{index}": tensor for index, tensor in enumerate(state().values())}
    adapter = {f"base_model.model.x.lora_A.{index}.weight": tensor for index, tensor in enumerate(state().values())}
    return {
        "a prefix on some names": (lambda: save(state(some_with("net.", "layer.1."))), "only some names have the prefix"),
        "a head outside": (
            lambda: save({**{f"net.{name}": value for name, value in encoder.items()}, **head}),
            r"classifier\.weight, classifier\.bias lies outside of the prefix 'net\.'",
        ),
        "two encoders": (lambda: save(two), r"2 encoders, whose names begin with 'query\.', 'passage\.'"),
        "two state dicts": (
            lambda: save({"model": state(), "ema": state(seed=1), "epoch": 1}),
            r"the tensors of several models: model, ema",
        ),
        "a name twice": (
            lambda: save({**state(), "module.classifier.bias": torch.ones(5)}),
            r"classifier\.bias twice, once as module\.classifier\.bias",
        ),
        "a whole model": (lambda: save(torch.nn.Linear(2, 2)), r"an object of torch\.nn\.modules\.linear\.Linear"),
        "a model among others": (
            lambda: save({"epoch": 1, "model": torch.nn.Linear(2, 2)}),
            r"model is an object of torch\.nn\.modules\.linear\.Linear.*save the model's state_dict\(\)",
        ),
        "an object for a tensor": (
            lambda: save({"state_dict": {**state(), "classifier.bias": Settings(path)}}),
            r"classifier\.bias is a .*test_odd_files\.touch; only dense tensors",
        ),
        "a program to start": (
            lambda: save({"state_dict": state(), "callbacks": Runs()}), r"would call posix\.system"
        ),
        "no tensors": (lambda: save({"epoch": 1, "args": {}}), "no dictionary of tensors by name; it has epoch, args"),
        "fairseq's names": (lambda: save(fairseq), r"(?s)0 of the 39 names.*in the file: decoder\.sentence_enc"
                            r".*looked for: roberta\.embeddings.*fairseq's names: roberta convert"),
        "an adapter's names": (lambda: save(adapter), r"(?s)in the file: base_model.*adapter's names"),
        "empty tensors": (lambda: save({"module": empty}), "ZeRO stage 3: zero_to_fp32.py"),
    }  # fmt: skip


class Runs:
    """Its pickle starts a program."""

    def __reduce__(self) -> tuple[Any, ...]:
        import os

        return os.system, ("true",)


@pytest.mark.parametrize("wrong", refused(Path()))
def test_what_may_be_another_model_is_an_error_that_names_it(backend: Backend, wrong: str, tmp_path: Path) -> None:
    path = folder_of(tmp_path / "model") / "last.ckpt"
    write, message = refused(path)[wrong]
    write()
    for output_loading_info in (False, True):
        if output_loading_info and wrong in ("fairseq's names", "an adapter's names"):
            continue  # reported instead
        with pytest.raises(CheckpointError, match=message) as caught:
            backend.load(HEAD, path.parent, output_loading_info=output_loading_info)
        assert "last.ckpt" in str(caught.value)


def test_a_training_file_cut_short_is_an_error(tmp_path: Path) -> None:
    path = folder_of(tmp_path / "model") / "last.ckpt"
    lightning(path, tmp_path / "called")
    whole = path.read_bytes()
    for size in (0, 9, len(whole) // 4, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:size])
        with pytest.raises(CheckpointError, match=r"last\.ckpt"):
            open_checkpoint(path.parent)


def test_several_files_that_may_be_the_weights_are_an_error(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "model")
    for name in ("a.ckpt", "b.pt"):
        torch.save(state(), folder / name)
    with pytest.raises(CheckpointError, match=r"of a\.ckpt, b\.pt any may be the weights: give the file"):
        open_checkpoint(folder)
    checkpoints.save(folder, CONFIG, DRAWN)
    assert open_checkpoint(folder).source.name == "model.safetensors", "the usual name goes before any other"


def test_a_class_finds_its_own_names_as_they_are() -> None:
    """A module called `module`, or a second encoder, of a user's own class."""
    from roberta.common.formats.safetensors_file import StoredTensor
    from roberta.common.parameters import Parameter

    names = ["roberta.embeddings.LayerNorm.weight", "other.embeddings.LayerNorm.weight", "module.weight"]
    table = {name: Parameter(name, (2,), "norm") for name in names}
    tensors = {name: StoredTensor(name, (2,), "float32", Path("x"), lambda: np.ones(2)) for name in names}
    found = match(table, Checkpoint(Path("x"), tensors))
    assert set(found.found) == set(names)
    assert found.report.remarks == ()


# -- the other formats ----------------------------------------------------------------------------------------------


SCOPES: dict[str, tuple[str, str]] = {  # the text before the parts of the model, in the groups of layers
    "no scope of the model": ("", ""),
    "a model called roberta": ("roberta/", "roberta.dense"),
    "two scopes": ("outer/tf_roberta_for_token_classification/", "outer.dense"),
    "three scopes": ("a/b/c/", "dense"),
}


@pytest.mark.parametrize("kind", SCOPES)
def test_h5_files_with_other_scopes(backend: Backend, kind: str, tmp_path: Path) -> None:
    h5py = pytest.importorskip("h5py", reason="h5py is not installed")
    from roberta.common.formats import tf_h5
    from roberta.common.parameters import kind_of

    folder = folder_of(tmp_path)
    scope, beside = SCOPES[kind]
    with h5py.File(folder / "tf_model.h5", "w") as file:
        for name, array in DRAWN.items():
            path = tf_h5.native_name(name).split("/", 1)[1]  # roberta/encoder/..., classifier/...
            group = path.partition("/")[0] if scope.count("/") < 2 else "tf_roberta_for_token_classification"
            file[f"{group}/{scope}{path}"] = array.T if kind_of(name) == "dense" else array
        if beside:
            file[f"dense/{beside.replace('.', '/')}/kernel:0"] = np.ones((2, 2))
        file.attrs["layer_names"] = [name.encode() for name in file]
    unused = {"roberta.dense": ("dense.weight",), "": ()}  # with the prefix of the others, or outside of it
    check(backend, folder, unused.get(beside, (f"{beside}.weight",)))


@pytest.mark.parametrize("nesting", ["params", "params/params", "state", "module"])
def test_msgpack_files_with_other_trees(
    backend: Backend, nesting: str, tmp_path: Path, said: Callable[[], list[str]]
) -> None:
    serialization = pytest.importorskip("flax.serialization", reason="flax is not installed")
    optax = pytest.importorskip("optax", reason="optax is not installed")
    import jax

    from roberta.common.formats import flax_msgpack
    from roberta.common.parameters import kind_of

    folder = folder_of(tmp_path)
    tree: dict[str, Any] = {}
    for name, array in DRAWN.items():
        *path, leaf = flax_msgpack.native_name(name).split("/")
        branch = functools.reduce(lambda branch, key: branch.setdefault(key, {}), path, tree)
        branch[leaf] = array.T.copy() if kind_of(name) == "dense" else array
    if nesting == "module":
        content: Any = {"params": {"encoder_of_mine": tree, "out": {"kernel": np.ones((2, 2))}}}
    elif nesting == "state":  # what flax writes of a train state
        moments = optax.adamw(1e-3).init(jax.tree.map(np.asarray, tree))
        content = {"step": 3, "params": tree, "opt_state": moments, "scale": np.float32(2), "rate": 0.5}
    else:
        inner = {"params": tree, "batch_stats": {"norm": {"mean": np.ones(3)}}}
        content = {"params": inner} if nesting == "params/params" else inner
    (folder / "flax_model.msgpack").write_bytes(serialization.to_bytes(content))
    check(backend, folder, ("out.weight",) if nesting == "module" else ())
    wanted = {"module": "'encoder_of_mine.' was removed", "state": "not read: step, opt_state, scale, rate"}
    assert wanted.get(nesting, "not read: batch_stats") in said()[-1]


# -- convert and info -----------------------------------------------------------------------------------------------


def test_convert_reads_the_file_of_a_training(tmp_path: Path) -> None:
    path = folder_of(tmp_path / "model") / "last.ckpt"
    lightning(path, tmp_path / "called")
    for number, source in enumerate((path, path.parent)):
        report = convert(source, tmp_path / f"out{number}", to="safetensors")
        assert "unused, as they lie outside of it: loss_fn.weight" in report.notes
        assert any(note.startswith("the weights are those under state_dict") for note in report.notes)
        assert any("'model.' was removed" in note for note in report.notes)
        found = open_checkpoint(tmp_path / f"out{number}").tensors
        assert found.keys() == DRAWN.keys()
        assert all(np.array_equal(found[name].load(), DRAWN[name]) for name in DRAWN)
    own(path, tmp_path / "called")  # model and args, as fairseq's files have
    assert convert(path, tmp_path / "own", to="pt").source_format == "pt"
    assert not (tmp_path / "called").exists()


def test_a_config_that_names_no_class(
    backend: Backend, tmp_path: Path, said: Callable[[], list[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    folder = make_models(tmp_path, ("labels",))["labels"]
    config = json.loads((folder / "config.json").read_text())
    del config["architectures"], config["label2id"]
    names = dict(reversed(config.pop("id2label").items()))
    odd = {**config, "id2label": names, "num_labels": 7, "quantization_config": None}
    (folder / "config.json").write_text(json.dumps(odd))
    found = pipeline("text-classification", str(folder), framework=backend.name, top_k=None)(["A ship left."])
    assert {one["label"] for one in found[0]} == {"no", "yes", "perhaps"}
    assert "the config names no class (architectures); RobertaForSequenceClassification was taken" in said()[-1]
    report = convert(folder, tmp_path / "out", to="flax")
    assert any("RobertaForSequenceClassification was taken, as the file has the tensors" in n for n in report.notes)
    assert json.loads((tmp_path / "out" / "config.json").read_text())["id2label"] == {
        "0": "no",
        "1": "yes",
        "2": "perhaps",
    }
    for place in (folder, folder / "model.safetensors"):
        assert cli.main(["info", str(place)]) == 0
        assert "RobertaForSequenceClassification by its tensors; the config names none" in capsys.readouterr().out
    # the number of labels alone, under its old name
    (folder / "config.json").write_text(json.dumps({**config, "_num_labels": 3}))
    assert backend.load("ForSequenceClassification", folder).config.num_labels == 3

"""Checks on the simulated device, in a process of their own: `tests/one_backend/test_devices_pt.py` runs them.

Each computes something on the device and compares it with the CPU; what misses a transfer fails before. Prints a JSON
object: name of the check -> "" or what went wrong.
"""

from __future__ import annotations

import dataclasses
import json
import logging
import os
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

os.environ["OMP_NUM_THREADS"] = "1"

import adapters
import checkpoints
import numpy as np
import pytest
import simulated_device
import torch
import updates
from backends import assert_close

import roberta
from roberta.common.training.data.tasks import HEADS as TASK_HEADS
from roberta.pt import devices, packed, sharding
from roberta.pt.optimizers import fill_optimizer
from roberta.pt.training import Trainer
from roberta.pt.weights import to_numpy

KEPT = simulated_device.register()
DEVICE = torch.device("sim:0")  # the one that the autograd of PyTorch has a thread for
FOLDER = Path(tempfile.mkdtemp())
WITHOUT_DROPOUT = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
DECODER = {"is_decoder": True, "eos_token_id": 60, **WITHOUT_DROPOUT}
CROSS = {"is_decoder": True, "add_cross_attention": True, **WITHOUT_DROPOUT}
# Name -> head, fields of the config.
MODELS: dict[str, tuple[Any, dict[str, Any]]] = {
    **{head: (head, WITHOUT_DROPOUT) for head in checkpoints.HEADS},
    "regression": ("ForSequenceClassification", {**WITHOUT_DROPOUT, "problem_type": "regression"}),
    "several labels": ("ForSequenceClassification", {**WITHOUT_DROPOUT, "problem_type": "multi_label_classification"}),
    "cross-attention": ("ForCausalLM", CROSS),
    "distances": ("ForMaskedLM", {**WITHOUT_DROPOUT, "position_embedding_type": "relative_key_query"}),
    "eager": ("ForMaskedLM", {**WITHOUT_DROPOUT, "attn_implementation": "eager"}),
}  # fmt: skip
CHECKS: dict[str, Callable[[], None]] = {}


def check(function: Callable[[], None]) -> Callable[[], None]:
    CHECKS[function.__name__] = function
    return function


def folder(name: str) -> Path:
    place = FOLDER / name.replace(" ", "-")
    if not place.exists():
        head, settings = MODELS[name]
        checkpoints.make(place, head, **settings)
    return place


def load(name: str, device: Any = DEVICE, **options: Any) -> Any:
    options = {"dtype": "float64", **options}
    return getattr(roberta, f"Roberta{MODELS[name][0]}").from_pretrained(folder(name), device_map=device, **options)


def batch(name: str) -> dict[str, np.ndarray]:
    head, settings = MODELS[name]
    config = checkpoints.small_config(head, **settings)
    inputs = checkpoints.batch(head, config)
    found = inputs | checkpoints.labels(head, config, inputs)
    if settings.get("problem_type"):
        found["labels"] = np.random.default_rng(3).integers(0, 2, (3, 5)).astype(np.float64)
    if settings.get("add_cross_attention"):
        found["encoder_hidden_states"] = np.random.default_rng(4).normal(size=(3, 6, config.hidden_size))
    return found


def tensors(arrays: Mapping[str, np.ndarray], device: Any, but: tuple[str, ...] = ()) -> dict[str, torch.Tensor]:
    """Arrays on a device, `but` some on the CPU."""
    return {name: torch.from_numpy(np.array(a)).to("cpu" if name in but else device) for name, a in arrays.items()}


def answers(model: Any, given: Mapping[str, torch.Tensor]) -> dict[str, np.ndarray]:
    """Outputs and gradients of a model; everything must be where the model is."""
    model.zero_grad()
    output = model(**given, output_hidden_states=True, output_attentions=model.config.attn_implementation == "eager")
    total = output.loss if "loss" in output else output.last_hidden_state.sum() + output.pooler_output.sum()
    total.backward()
    found = {"loss": total, **{name: value for name, value in output.items() if isinstance(value, torch.Tensor)}}
    found |= {f"d {name}": p.grad for name, p in model.named_parameters() if p.grad is not None}
    assert {value.device for value in found.values()} == {model.device}
    return {name: to_numpy(value) for name, value in found.items()}


def same(found: Mapping[str, np.ndarray], wanted: Mapping[str, np.ndarray], bound: float = 1e-10) -> None:
    assert found.keys() == wanted.keys()
    largest = max(
        np.abs(value).max() for value in wanted.values()
    )  # some gradients, of biases of keys, are 0 but for rounding
    for name, value in wanted.items():
        difference = np.abs(np.asarray(found[name], np.float64) - np.asarray(value, np.float64)).max()
        assert difference < bound * largest, f"{name} differs by {difference}"


@check
def an_operation_on_two_devices_fails() -> None:
    """The simulation itself: a tensor of the CPU, or of another device, is refused; a number is not."""
    there = torch.ones(2, device=DEVICE)
    assert (there * torch.tensor(2.0)).sum().item() == 4
    for stranger in (torch.ones(2), torch.ones(2, device="sim:1")):
        for operation in (torch.add, torch.dot, lambda a, b: torch.cat((a, b)), lambda a, b: a[b.long()[:1]].add_(b)):
            with pytest.raises(RuntimeError, match="same device"):
                operation(there, stranger)


@check
def every_head_gives_outputs_losses_and_gradients() -> None:
    for name in MODELS:
        arrays = batch(name)
        wanted = answers(load(name, "cpu"), tensors(arrays, "cpu"))
        same(answers(load(name), tensors(arrays, DEVICE)), wanted)


@check
def labels_and_masks_may_be_on_the_cpu() -> None:
    for name in MODELS:
        arrays = batch(name)
        wanted = answers(load(name, "cpu"), tensors(arrays, "cpu"))
        rest = ("labels", "start_positions", "end_positions", "attention_mask")
        same(answers(load(name), tensors(arrays, DEVICE, but=rest)), wanted)


@check
def inputs_may_be_embeddings_and_without_a_mask() -> None:
    for name in ("ForMaskedLM", "ForCausalLM", "distances"):
        models = [load(name, device) for device in ("cpu", DEVICE)]
        embeds = np.random.default_rng(0).normal(size=(2, 5, 24))
        given = {"inputs_embeds": embeds, "head_mask": np.array([[1.0, 0.5, 0.0]] * 2)}
        wanted, found = (to_numpy(model(**tensors(given, model.device)).logits) for model in models)
        assert_close(found, wanted)
        ids = {"input_ids": batch(name)["input_ids"]}
        wanted, found = (to_numpy(model(**tensors(ids, model.device)).logits) for model in models)
        assert_close(found, wanted)


@check
def generation_gives_the_same_ids() -> None:
    prompts = {"input_ids": np.array([[0, 7, 9, 12], [0, 5, 6, 8]]), "attention_mask": np.ones((2, 4), np.int64)}
    embeds = {"inputs_embeds": np.random.default_rng(0).normal(size=(2, 4, 24))}
    ways: list[dict[str, Any]] = [
        {}, {"use_cache": False}, {"do_sample": True, "seed": 3}, {"num_beams": 3}, {"num_beams": 3, "use_cache": False},
        {"do_sample": True, "num_return_sequences": 2, "seed": 1, "top_k": 5}, {"penalty_alpha": 0.6, "top_k": 4},
    ]  # fmt: skip
    wanted_of, found_of = load("ForCausalLM", "cpu"), load("ForCausalLM")
    for way in ways:
        for given in (prompts, embeds) if "penalty_alpha" not in way else (prompts,):
            wanted = wanted_of.generate(**tensors(given, "cpu"), max_new_tokens=6, **way)
            found = found_of.generate(**tensors(given, DEVICE), max_new_tokens=6, **way)
            assert found.device == DEVICE, found.device
            assert found.tolist() == wanted.tolist(), way
    states = batch("cross-attention")["encoder_hidden_states"][:2]
    wanted, found = (
        load("cross-attention", device).generate(
            **tensors({**prompts, "encoder_hidden_states": states}, device), max_new_tokens=5, num_beams=2
        )
        for device in ("cpu", DEVICE)
    )
    assert found.tolist() == wanted.tolist()


@check
def a_cache_goes_on_from_embeddings() -> None:
    embeds = {"inputs_embeds": np.random.default_rng(0).normal(size=(2, 4, 24))}
    logits = []
    for device in ("cpu", DEVICE):
        model = load("ForCausalLM", device)
        cache = model(**tensors(embeds, device), use_cache=True).past_key_values
        logits.append(to_numpy(model(torch.tensor([[7], [8]], device=device), past_key_values=cache).logits))
    assert_close(logits[1], logits[0])


@check
def infer_gives_the_same() -> None:
    for name in MODELS:
        inputs = {key: value for key, value in batch(name).items() if key in ("input_ids", "attention_mask")}
        wanted, on_device = load(name, "cpu").infer(inputs), load(name)
        same(on_device.infer(inputs), wanted)
        same(on_device.infer(inputs, batch_tokens=8), wanted)
        on_device.register_forward_hook(lambda *_: None)  # the model's own pass
        same(on_device.infer(inputs), wanted)
    model, inputs = load("ForMaskedLM", dtype="float32"), {"input_ids": np.arange(4, 34).reshape(3, 10)}
    low = model.infer(inputs, dtype="bfloat16", where=np.eye(3, 10, dtype=bool))["logits"]
    assert 1e-5 < np.abs(low - model.infer(inputs, where=np.eye(3, 10, dtype=bool))["logits"]).max() < 1
    with pytest.raises(ValueError, match="runs on a CPU"):
        model.infer(inputs, dtype="int8")


@check
def a_model_is_loaded_where_it_is_asked_for() -> None:
    places = {"auto": "sim:0", "sim": "sim:0", 1: "sim:1", "1": "sim:1", DEVICE: "sim:0", -1: "cpu", "gpu": "sim:0"}
    for asked, place in places.items():
        for device_map in (asked, {"": asked}):
            model = load("ForTokenClassification", device_map)
            assert {p.device for p in model.parameters()} == {torch.device(place)}, (device_map, model.device)
    lacking = roberta.RobertaForMultipleChoice.from_pretrained(folder("ForMaskedLM"), device_map=DEVICE)
    assert {p.device for p in lacking.parameters()} == {DEVICE}
    with torch.device(DEVICE):  # what is made elsewhere must not stay there
        lacking = roberta.RobertaForMultipleChoice.from_pretrained(folder("ForMaskedLM"), device_map="cpu")
    assert {p.device.type for p in lacking.parameters()} == {"cpu"}


@check
def an_error_lists_what_there_is() -> None:
    for wrong in ("cuda", "cuda:0", 2, "sim:2", "mps"):
        text = f"device={wrong!r} does not exist here: PyTorch finds sim:0, sim:1, cpu; give one of these"
        with pytest.raises(ValueError, match=text):
            roberta.pipeline("fill-mask", device=wrong)


@check
def pipelines_run_on_the_accelerator_and_say_so_once() -> None:
    said: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: said.append(record.getMessage())  # type: ignore[method-assign]
    logging.getLogger("roberta").addHandler(handler)
    devices.say_taken.cache_clear()
    text = "To be, or not to <mask>"
    taken = [roberta.pipeline("fill-mask") for _ in range(2)]
    assert [pipe.device for pipe in taken] == [torch.device("sim:0")] * 2
    lines = [line for line in said if "no device was named" in line]
    assert len(lines) == 1, said
    assert lines[0].startswith("PyTorch runs on sim"), lines
    wanted = roberta.pipeline("fill-mask", device="cpu")(text)
    moved = roberta.RobertaForMaskedLM.from_pretrained(roberta.common.pipelines.model_loading.DEFAULT_MODEL)
    assert roberta.pipeline("fill-mask", moved).device.type == "cpu"
    for pipe in (
        taken[0],
        roberta.pipeline("fill-mask", device=1),
        roberta.pipeline("fill-mask", moved, device=DEVICE),
    ):
        assert pipe.device.type == "sim"
        for one, other in zip(pipe(text), wanted, strict=True):
            assert one["token"] == other["token"]
            assert abs(one["score"] - other["score"]) < 1e-5
    auto = roberta.pipeline("fill-mask", dtype="auto", device="sim")
    assert auto.dtype == "bfloat16"  # the device says that it has it
    assert auto(text)[0]["token"] == wanted[0]["token"]
    assert roberta.pipeline("fill-mask", dtype="int8").device.type == "cpu"
    vector = roberta.pipeline("embeddings", device=1)("A ship")
    assert_close(vector, roberta.pipeline("embeddings", device=-1)("A ship"), 1e-5)


def trainer(case: str, device: Any, **changed: Any) -> Trainer:
    place = FOLDER / f"train-{case}"
    chosen = dataclasses.replace(updates.settings(case, dataclasses.replace(updates.RECIPE, clip_norm=0.5)), **changed)
    if not place.exists():
        updates.folder_of(place, case)
    cls = getattr(roberta, f"Roberta{TASK_HEADS[chosen.task]}")
    dtype = "float32" if chosen.dtype == "bfloat16" else chosen.dtype
    return Trainer(cls.from_pretrained(next(place.iterdir()), dtype=dtype, device_map=device), chosen)


def weights(one: Trainer) -> dict[str, np.ndarray]:
    return {name: to_numpy(p) for name, p in one.model.named_parameters()}


@check
def an_update_of_each_task_gives_the_same_weights_and_state() -> None:
    for case in updates.CASES:
        both = [trainer(case, device) for device in ("cpu", DEVICE)]
        parts = updates.micro_batches(case, updates.inputs(case, both[0].model.config), 4)
        for number in (1, 2):
            losses = [one.update(parts, 2e-3, number) for one in both]
            assert abs(losses[0] - losses[1]) < 1e-10 * abs(losses[0]), losses
        assert {p.device for p in both[1].model.parameters()} == {DEVICE}
        same(weights(both[1]), weights(both[0]))
        states = [one.state() for one in both]
        assert states[0].step == states[1].step == 2
        same(states[1].moments, states[0].moments)
        # a state of the device continues on the CPU, and the other way round
        swapped = [trainer(case, device) for device in ("cpu", DEVICE)]
        for one, other, state in zip(swapped, reversed(both), reversed(states), strict=True):
            one.model.load_state_dict({name: value.cpu() for name, value in other.model.state_dict().items()})
            fill_optimizer(state, one.optimizer, one.model)
        for one in (*both, *swapped):
            one.update(parts, 1e-3, 3)
        for one in (both[1], *swapped):
            same(weights(one), weights(both[0]))


@check
def packed_tokens_are_on_the_device() -> None:
    """Rows lie end to end in `infer` of every head and in an update of every task, padded in buckets for attention."""
    seen: list[packed.PackedRows] = []
    attend = packed.BucketedRows.attend
    packed.BucketedRows.attend = lambda rows, *given: seen.append(rows) or attend(rows, *given)  # type: ignore
    try:
        for head in checkpoints.HEADS:
            inputs = {name: batch(head)[name] for name in ("input_ids", "attention_mask")}
            same(load(head).infer(inputs), load(head, "cpu").infer(inputs))
            assert len(seen) >= 2, head  # layers, and a trial
            seen.clear()
        for case in updates.CASES:
            wanted, found = (trainer(case, device) for device in ("cpu", DEVICE))
            assert not found._pack.obstacle, found._pack.obstacle
            assert "for NVIDIA's GPUs" in found._pack.varlen_obstacle or "16 bits" in found._pack.varlen_obstacle
            seen.clear()
            parts = updates.micro_batches(case, updates.inputs(case, wanted.model.config))
            losses = [one.update(parts, 2e-3, 1) for one in (wanted, found)]
            assert len(seen) == wanted.model.config.num_hidden_layers, case
            assert abs(losses[0] - losses[1]) < 1e-10 * abs(losses[0]), losses
            same(weights(found), weights(wanted))
    finally:
        packed.BucketedRows.attend = attend  # type: ignore[method-assign]


@check
def dropout_leaves_the_callers_generators() -> None:
    one = trainer("mlm", DEVICE, recipe=dataclasses.replace(updates.RECIPE, dropout=0.3))
    parts = updates.micro_batches("mlm", updates.inputs("mlm", one.model.config))
    torch.manual_seed(5)
    before = torch.get_rng_state()
    found = [trainer("mlm", DEVICE, recipe=one.settings.recipe).update(parts, 2e-3, 1) for _ in range(2)]
    assert found[0] == found[1]
    assert torch.equal(torch.get_rng_state(), before)


@check
def bfloat16_is_autocast_on_the_device() -> None:
    for case in ("mlm", "classes", "answers"):
        low, full = (trainer(case, DEVICE, dtype=dtype) for dtype in ("bfloat16", "float32"))
        parts = updates.micro_batches(case, updates.inputs(case, low.model.config))
        losses = [one.update(parts, 2e-3, 1) for one in (low, full)]
        assert 1e-7 < abs(losses[0] / losses[1] - 1) < 0.05, (case, losses)
        assert {p.dtype for p in low.model.parameters()} == {torch.float32}


def with_base(place: Path, model: Path) -> Path:
    """The folder with weights of an encoder, so that an adapter has a base."""
    config = roberta.RobertaConfig.from_pretrained(model)
    return checkpoints.save(model, config, checkpoints.draw(config, "Model", has_pooler=False))


def train_lora(device: Any, output: Path) -> Any:
    import training_cases

    place = FOLDER / "lora"
    arguments = training_cases.make(place, "text-classification", **WITHOUT_DROPOUT)
    arguments["model"] = with_base(place, arguments["model"])
    return roberta.Training(
        **arguments, output=output, framework="pt", updates=3, batch_size=4, learning_rate=1e-2, lora="r=2,alpha=4",
        device=device, dtype="float64", tensorboard=False, dropout=0.0,
    ).run()  # fmt: skip


@check
def a_training_with_an_adapter_gives_the_same_files() -> None:
    for device, name in (("cpu", "on-cpu"), (None, "on-device")):
        train_lora(device, FOLDER / name)
    from safetensors.numpy import load_file

    wanted, found = (load_file(FOLDER / name / "adapter_model.safetensors") for name in ("on-cpu", "on-device"))
    same(found, wanted)


@check
def what_is_saved_is_the_same() -> None:
    model = load("ForMaskedLM", dtype="float32")
    model.save_pretrained(FOLDER / "saved")
    load("ForMaskedLM", "cpu", dtype="float32").save_pretrained(FOLDER / "saved-cpu")
    for name in ("model.safetensors", "config.json"):
        assert (FOLDER / "saved" / name).read_bytes() == (FOLDER / "saved-cpu" / name).read_bytes(), name
    model.resize_token_embeddings(70)
    model.prune_heads({0: [1]})
    assert {p.device for p in model.parameters()} == {DEVICE}
    assert model(torch.tensor([[0, 65, 2]], device=DEVICE)).logits.shape[-1] == 70


@check
def loaded_adapters_are_computed_on_the_device() -> None:
    place = adapters.write(FOLDER / "adapter", adapters.two_layers())
    inputs = {"input_ids": batch("ForMaskedLM")["input_ids"], "attention_mask": batch("ForMaskedLM")["attention_mask"]}
    found = []
    for device in ("cpu", DEVICE):
        model = load("ForMaskedLM", device)
        plain = model.infer(inputs)["logits"]
        model.load_adapter(place)
        found.append(model.infer(inputs)["logits"])
        assert np.abs(found[-1] - plain).max() > 1e-3
        assert {tensor.device for tensor in model.get_adapter_state_dict().values()} == {model.device}
        model.delete_adapter("default")
        assert_close(model.infer(inputs)["logits"], plain)
    assert_close(found[1], found[0])


@check
def verify_compares_on_the_device() -> None:
    from roberta.conversion.verify import verify

    for name in ("ForMaskedLM", "cross-attention"):
        report = verify(folder(name), against=folder(name), frameworks=["pt"], device="sim", gradients=True)
        assert report.exit_code == 0, report
    with pytest.raises(ValueError, match="PyTorch finds sim:0"):
        verify(folder("ForMaskedLM"), against=folder("ForMaskedLM"), frameworks=["pt"], device="cuda")


@check
def processes_of_torchrun_take_a_device_each() -> None:
    environment = dict(os.environ)
    try:
        os.environ.update(LOCAL_RANK="1", LOCAL_WORLD_SIZE="2", RANK="1")
        assert devices.training_device(None, "data") == torch.device("sim:1")
        assert devices.training_device("sim", "full") == torch.device("sim:1")
        assert devices.training_device("cpu", "full") == torch.device("cpu")
        assert devices.training_device(None, "none") == torch.device("sim")
        for device, rank, text in (
            ("sim:0", "1", "is one device, and torchrun"),
            (None, "2", "finds sim:0, sim:1, cpu"),
        ):
            os.environ["LOCAL_RANK"] = rank
            with pytest.raises(ValueError, match=text):
                devices.training_device(device, "data")
    finally:
        os.environ.clear()
        os.environ.update(environment)
    assert sharding.group_backend(torch.device("cuda:1")) == "cpu:gloo,cuda:nccl"
    assert sharding.group_backend(torch.device("cpu")) == "gloo"


def main() -> int:
    """Run the checks named, or all."""
    found = {}
    for name in sys.argv[1:] or CHECKS:
        start = time.process_time()
        try:
            CHECKS[name]()
            found[name] = ""
        except Exception:
            found[name] = traceback.format_exc()
        print(f"{time.process_time() - start:.1f} s  {name}", file=sys.stderr)
    print(json.dumps(found))
    sys.stdout.flush()
    os._exit(0)  # at its own end, torch would look for the backend's functions, which are gone


if __name__ == "__main__":
    main()

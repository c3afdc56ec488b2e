"""A training that continues in another framework makes the same steps as in the first."""

from __future__ import annotations

import functools
import importlib
import itertools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import checkpoints
import numpy as np
import pytest
from backends import NEEDS, Arrays, backend

from roberta.common.formats import safetensors_file
from roberta.common.parameters import kind_of
from roberta.common.storage.folders import CheckpointError
from roberta.common.training.optimizer_state import (
    STATE_FILES,
    Group,
    TrainingState,
    entries,
    load_training_state,
    save_training_state,
)
from roberta.conversion import convert

FRAMEWORKS = ("pt", "tf", "flax")
PAIRS = list(itertools.product(FRAMEWORKS, FRAMEWORKS))
HEAD = "ForMaskedLM"  # its word embedding is tied to the head: one parameter, two uses
CONFIG = {"num_hidden_layers": 1, "hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
# learning rate, betas, epsilon, decay. Keras keeps the rate in float32, where a power of two is exact.
SETTINGS = (2.0**-7, 0.9, 0.98, 1e-6, 0.1)
BEFORE, AFTER = 2, 3
KERNEL = "roberta.encoder.layer.0.attention.self.value.weight"  # square: transposed or not, it fits


def have(*names: str) -> None:
    for module in (module for name in names for module in (*NEEDS[name], *(["optax"] if name == "flax" else []))):
        pytest.importorskip(module, reason=f"{module} is not installed")
    for name in names:
        backend(name)


def optimizers(framework: str) -> Any:
    """The module that reads and fills optimizers of a framework."""
    return importlib.import_module(f"roberta.{framework}.optimizers")


def recipe(names: Any) -> tuple[Group, ...]:
    """RoBERTa's rule: norms and biases are not decayed."""
    plain = tuple(name for name in names if kind_of(name) not in ("embedding", "dense"))
    return Group(*SETTINGS, tuple(n for n in names if n not in plain)), Group(*SETTINGS[:4], 0.0, plain)


def examples(seed: int) -> Arrays:
    config = checkpoints.small_config(HEAD, **CONFIG)
    inputs = checkpoints.batch(HEAD, config, seed)
    return {**inputs, **checkpoints.labels(HEAD, config, inputs, seed)}


# -- one training in each framework ----------------------------------------------------------------------------------


class PyTorchRun:
    """A PyTorch model and its AdamW."""

    def __init__(self, folder: Path, groups: tuple[Group, ...]) -> None:
        import torch

        self.model = backend("pt").load(HEAD, folder).train()
        own = dict(self.model.named_parameters())
        self.optimizer = torch.optim.AdamW(
            [{"params": [own[name] for name in group.parameters], **group.arguments("pt")} for group in groups]
        )

    def step(self, inputs: Arrays) -> float:
        import torch

        self.optimizer.zero_grad()
        loss = self.model(**{name: torch.from_numpy(value) for name, value in inputs.items()}).loss
        loss.backward()
        self.optimizer.step()
        return float(loss.detach())

    def get(self, groups: tuple[Group, ...]) -> TrainingState:
        return optimizers("pt").read_optimizer(self.optimizer, self.model)

    def put(self, state: TrainingState) -> None:
        optimizers("pt").fill_optimizer(state, self.optimizer, self.model)


@functools.cache
def keras_adamw() -> Any:
    """Keras' AdamW with the update of PyTorch and optax: epsilon is added after the correction of the bias."""
    import keras
    import tensorflow as tf

    class PlainEpsilonAdamW(keras.optimizers.AdamW):
        def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
            place = self._get_variable_index(variable)
            m, v = self._momentums[place], self._velocities[place]
            rate = tf.cast(learning_rate, variable.dtype)
            step = tf.cast(self.iterations.value, tf.float64) + 1
            powers = [1 - tf.constant(beta, tf.float64) ** step for beta in (self.beta_1, self.beta_2)]
            m.assign_add((gradient - m) * (1 - self.beta_1))
            v.assign_add((gradient**2 - v) * (1 - self.beta_2))
            variable.assign_sub(rate * (m / powers[0]) / (tf.sqrt(v / powers[1]) + self.epsilon))

        def _apply_weight_decay(self, variables: Any) -> None:  # Keras' own AdamW rounds the decay to float32
            for variable in filter(self._use_weight_decay, variables):
                variable.assign(variable * (1 - tf.cast(self.learning_rate, tf.float64) * self.weight_decay))

    return PlainEpsilonAdamW


class KerasRun:
    """A TensorFlow model and Keras' AdamW."""

    def __init__(self, folder: Path, groups: tuple[Group, ...], make: Callable[[], Any] = keras_adamw) -> None:
        from roberta.tf.weights import native

        self.model = backend("tf").load(HEAD, folder)
        decayed, plain = groups
        self.optimizer = make()(**decayed.arguments("tf"))
        table = native(self.model)
        self.optimizer.exclude_from_weight_decay(var_list=[table[name][0] for name in plain.parameters])

    def step(self, inputs: Arrays) -> float:
        import tensorflow as tf

        with tf.GradientTape() as tape:
            loss = self.model(**{name: tf.constant(value) for name, value in inputs.items()}, training=True).loss
        variables = self.model.trainable_variables
        found = tape.gradient(loss, [variable.value for variable in variables])
        # Keras squares the gradients of an embedding row separately if the row is used more than once
        gradients = [tf.convert_to_tensor(gradient) for gradient in found]
        self.optimizer.apply_gradients(zip(gradients, variables, strict=True))
        return float(loss)

    def get(self, groups: tuple[Group, ...]) -> TrainingState:
        return optimizers("tf").read_optimizer(self.optimizer, self.model)

    def put(self, state: TrainingState) -> None:
        optimizers("tf").fill_optimizer(state, self.optimizer, self.model)


@functools.cache
def flax_gradient() -> Any:
    """Loss and gradients of parameters and a batch, compiled once."""
    import jax

    model = backend("flax").classes(HEAD)(checkpoints.small_config(HEAD, **CONFIG), dtype="float64", _do_init=False)
    return jax.jit(jax.value_and_grad(lambda params, inputs: model(**inputs, params=params).loss))


class FlaxRun:
    """A Flax model and optax.adamw."""

    def __init__(self, folder: Path, groups: tuple[Group, ...]) -> None:
        import jax
        import optax

        from roberta.common.formats.flax_msgpack import canonical_name

        self.model = backend("flax").load(HEAD, folder)
        decayed = groups[0].parameters
        mask = jax.tree_util.tree_map_with_path(
            lambda path, _: canonical_name("/".join(key.key for key in path))[0] in decayed, self.model.params
        )
        self.optimizer = optax.adamw(**groups[0].arguments("flax"), mask=mask)
        self.state = self.optimizer.init(self.model.params)

    def step(self, inputs: Arrays) -> float:
        import optax

        loss, gradients = flax_gradient()(self.model.params, inputs)
        updates, self.state = self.optimizer.update(gradients, self.state, self.model.params)
        self.model.params = optax.apply_updates(self.model.params, updates)
        return float(loss)

    def get(self, groups: tuple[Group, ...]) -> TrainingState:
        return optimizers("flax").read_optimizer(self.state, groups=groups)

    def put(self, state: TrainingState) -> None:
        self.state = optimizers("flax").fill_optimizer(state, self.state)


RUNS: dict[str, Any] = {"pt": PyTorchRun, "tf": KerasRun, "flax": FlaxRun}


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], tuple[Path, list[float]]]:
    """For a framework: the folder written after two steps, and the losses of its next three steps."""
    start = checkpoints.make(tmp_path_factory.mktemp("start"), HEAD, **CONFIG)
    names = checkpoints.draw(checkpoints.small_config(HEAD, **CONFIG), HEAD)

    @functools.cache
    def train(framework: str) -> tuple[Path, list[float]]:
        have(framework)
        run, folder = RUNS[framework](start, recipe(names)), tmp_path_factory.mktemp(framework) / "saved"
        for seed in range(BEFORE):
            run.step(examples(seed))
        run.model.save_pretrained(folder)
        save_training_state(folder, run.get(recipe(names)))
        return folder, [run.step(examples(BEFORE + seed)) for seed in range(AFTER)]

    return train


def go_on(framework: str, folder: Path, state: TrainingState) -> list[float]:
    """The losses of the next steps in a framework, from the model in a folder and a state."""
    have(framework)
    run = RUNS[framework](folder, state.groups)
    run.put(state)
    return [run.step(examples(BEFORE + seed)) for seed in range(AFTER)]


def apart(found: list[float], wanted: list[float]) -> float:
    return max(abs(one - other) / abs(other) for one, other in zip(found, wanted, strict=True))


# -- the claim, and that it could fail -------------------------------------------------------------------------------


@pytest.mark.parametrize(("first", "second"), PAIRS)
def test_a_run_begun_in_one_framework_goes_on_in_another(first: str, second: str, trained: Any) -> None:
    folder, wanted = trained(first)
    state = load_training_state(folder)
    assert state.step == BEFORE
    found = go_on(second, folder, state)
    assert apart(found, wanted) < 1e-10, (found, wanted)
    assert len(set(found)) == AFTER  # it really trains


def spoiled(state: TrainingState, entry: str, change: Callable[[np.ndarray], np.ndarray]) -> TrainingState:
    moments = {**state.moments, entry: change(state.moments[entry])}
    return TrainingState(state.step, moments, state.groups, state.source)


SPOILERS: dict[str, Callable[[TrainingState], TrainingState]] = {
    "a first moment dropped": lambda state: spoiled(state, "exp_avg.lm_head.bias", np.zeros_like),
    "a second moment dropped": lambda state: spoiled(state, "exp_avg_sq.lm_head.bias", np.zeros_like),
    "a kernel's first moment not transposed": lambda state: spoiled(state, f"exp_avg.{KERNEL}", np.transpose),
    "a kernel's second moment not transposed": lambda state: spoiled(state, f"exp_avg_sq.{KERNEL}", np.transpose),
    "a step forgotten": lambda state: TrainingState(state.step - 1, state.moments, state.groups, state.source),
}


@pytest.mark.parametrize("framework", FRAMEWORKS)
@pytest.mark.parametrize("fault", SPOILERS)
def test_a_fault_in_the_state_is_seen_in_the_losses(fault: str, framework: str, trained: Any) -> None:
    folder, wanted = trained("pt")
    assert apart(go_on(framework, folder, SPOILERS[fault](load_training_state(folder))), wanted) > 1e-8


def test_every_moment_is_the_same_in_the_three(trained: Any) -> None:
    states = {name: load_training_state(trained(name)[0]) for name in FRAMEWORKS}
    for name, state in states.items():
        assert state.groups == states["pt"].groups, name
        assert state.moments.keys() == states["pt"].moments.keys()
        for entry, array in state.moments.items():
            wanted = states["pt"].moments[entry]  # for a key's bias there is only rounding, because softmax cancels it
            assert np.allclose(array, wanted, rtol=1e-9, atol=1e-15), (name, entry)


def drawn_state(seed: int = 5) -> TrainingState:
    """Large random moments, no two of them equal."""
    rng = np.random.default_rng(seed)
    drawn = checkpoints.draw(checkpoints.small_config(HEAD, **CONFIG), HEAD)
    moments = {entry: rng.uniform(0.1, 1.0, drawn[name].shape) for _, name, entry in entries(drawn)}
    return TrainingState(7, moments, recipe(drawn), "drawn")


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_what_is_put_is_what_is_read_bit_by_bit(framework: str, trained: Any) -> None:
    have(framework)
    state = drawn_state()
    run = RUNS[framework](trained("pt")[0], state.groups)
    run.put(state)
    found = run.get(state.groups)
    assert (found.step, found.groups) == (7, state.groups)
    assert found.moments.keys() == state.moments.keys()
    assert all(np.array_equal(found.moments[entry], array) for entry, array in state.moments.items())
    run.step(examples(0))  # which must not change the state that was filled in
    assert all(np.array_equal(array, drawn_state().moments[entry]) for entry, array in state.moments.items())


def test_keras_own_adamw_takes_the_same_state(trained: Any) -> None:
    """With a negligible epsilon, which Keras applies elsewhere, and numbers that float32 can hold, because Keras rounds."""
    have("pt", "tf")
    import keras

    folder, _ = trained("pt")
    groups = tuple(Group(2.0**-7, 0.875, 0.96875, 1e-30, 0.125 * (i == 0), g.parameters)
                   for i, g in enumerate(drawn_state().groups))  # fmt: skip
    losses = []
    for run in (PyTorchRun(folder, groups), KerasRun(folder, groups, lambda: keras.optimizers.AdamW)):
        run.put(drawn_state())
        losses.append([run.step(examples(seed)) for seed in range(AFTER)])
    assert apart(losses[1], losses[0]) < 1e-10


# -- what is copied ----------------------------------------------------------------------------------------------------


def test_convert_carries_the_state_along(trained: Any, tmp_path: Path) -> None:
    pytest.importorskip("msgpack", reason="msgpack is not installed")
    folder, wanted = trained("pt")
    report = convert(folder, tmp_path / "out", to="flax")
    assert set(STATE_FILES) <= set(report.files)
    assert all((tmp_path / "out" / name).read_bytes() == (folder / name).read_bytes() for name in STATE_FILES)
    have("flax")
    run = FlaxRun(folder, load_training_state(tmp_path / "out").groups)
    run.put(load_training_state(tmp_path / "out"))
    assert apart([run.step(examples(BEFORE + seed)) for seed in range(AFTER)], wanted) < 1e-10
    other = checkpoints.make(tmp_path / "other", HEAD, **CONFIG)
    convert(other, tmp_path / "out", to="flax", overwrite=True)  # a model without state: the old state is removed
    assert not any((tmp_path / "out" / name).exists() for name in STATE_FILES)


def test_convert_refuses_a_damaged_state(tmp_path: Path) -> None:
    source = checkpoints.make(tmp_path / "source", HEAD, dtype="float32", **CONFIG)
    save_training_state(source, drawn_state())
    (source / STATE_FILES[0]).write_bytes((source / STATE_FILES[0]).read_bytes()[:-3])
    with pytest.raises(CheckpointError, match=r"optimizer\.safetensors is cut short"):
        convert(source, tmp_path / "out", to="pt")
    assert not (tmp_path / "out").exists()


def test_a_tied_embedding_is_there_once(tmp_path: Path) -> None:
    save_training_state(tmp_path, drawn_state())
    state = load_training_state(tmp_path)
    assert not [name for name in state.parameters if "decoder" in name]
    assert set(safetensors_file.read_safetensors(tmp_path / STATE_FILES[0])) == {"step", *state.moments}
    assert state.parameters == [name for _, name, _ in list(entries(state.parameters))[::2]]


# -- errors ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_all_that_does_not_fit_is_one_error_and_nothing_is_set(framework: str, trained: Any) -> None:
    have(framework)
    state = drawn_state()
    moments = dict(state.moments)
    del moments["exp_avg.lm_head.bias"]
    moments["exp_avg.lm_head.decoder.bias"] = np.zeros(61)
    moments["exp_avg_sq.lm_head.dense.weight"] = np.zeros((3, 24))
    moments["exp_avg_sq.lm_head.dense.bias"] = np.zeros(24, np.float32)  # widened: not an error
    run = RUNS[framework](trained("pt")[0], state.groups)
    with pytest.raises(CheckpointError) as caught:
        run.put(TrainingState(7, moments, state.groups, "drawn"))
    assert str(caught.value).splitlines() == [
        "drawn does not hold the state of this training:",
        "  missing: exp_avg.lm_head.bias [61]",
        "  not of this optimizer: exp_avg.lm_head.decoder.bias",
        "  exp_avg_sq.lm_head.dense.weight is [3, 24], and [24, 24] in the optimizer",
    ]
    found = run.get(state.groups)
    assert found.step == 0
    assert not any(array.any() for array in found.moments.values())


def test_digits_are_not_lost_unasked(tmp_path: Path) -> None:
    have("pt")
    folder = checkpoints.make(tmp_path / "model", HEAD, dtype="float32", **CONFIG)
    import torch

    model = backend("pt").load(HEAD, folder, dtype="float32")
    optimizer = torch.optim.AdamW(model.parameters())
    save_training_state(folder, drawn_state())
    with pytest.raises(CheckpointError, match=r"is float64, and float32 in the optimizer.*dtype='float32'\) rounds"):
        optimizers("pt").fill_optimizer(load_training_state(folder), optimizer, model)
    optimizers("pt").fill_optimizer(load_training_state(folder, dtype="float32"), optimizer, model)
    assert optimizers("pt").read_optimizer(optimizer, model).step == 7


def test_bfloat16_moments_keep_their_bits(tmp_path: Path) -> None:
    have("pt")
    import torch

    folder = checkpoints.make(tmp_path / "model", HEAD, dtype="bfloat16", **CONFIG)
    model = backend("pt").load(HEAD, folder, dtype="bfloat16")
    optimizer = torch.optim.AdamW(model.parameters())
    save_training_state(folder, drawn_state())
    state = load_training_state(folder, dtype="bfloat16")
    optimizers("pt").fill_optimizer(state, optimizer, model)
    save_training_state(tmp_path / "again", optimizers("pt").read_optimizer(optimizer, model))
    again = load_training_state(tmp_path / "again")
    assert all(array.tobytes() == state.moments[entry].tobytes() for entry, array in again.moments.items())


BROKEN: dict[str, tuple[Callable[[Path], None], str]] = {
    "no settings": (
        lambda folder: (folder / STATE_FILES[1]).unlink(),
        r"has no optimizer\.json; write both with save_tr",
    ),
    "no state": (
        lambda folder: [(folder / name).unlink() for name in STATE_FILES] and None,
        r"has no optimizer\.safetensors and no optimizer\.json",
    ),
    "another algorithm": (lambda folder: edit(folder, algorithm="lion"), "of algorithm 'lion'; only 'adamw' is known"),
    "no groups": (
        lambda folder: (folder / STATE_FILES[1]).write_text("{}") and None,
        "cannot be read: KeyError: 'algorithm'",
    ),
    "a rate that is not a number": (lambda folder: edit(folder, learning_rate="nan"), "a setting is not finite"),
    "too large a rate": (lambda folder: edit(folder, learning_rate=10**400), "cannot be read: OverflowError"),
    "a name that is a number": (lambda folder: edit(folder, parameters=[1]), "are not a list of names"),
    "a parameter too many": (lambda folder: edit(folder, parameters=["x"]), r"missing: exp_avg\.x\n.*exp_avg_sq\.x"),
}


def edit(folder: Path, algorithm: str = "adamw", **changes: Any) -> None:
    content = json.loads((folder / STATE_FILES[1]).read_text())
    content["groups"][0] |= changes
    (folder / STATE_FILES[1]).write_text(json.dumps({**content, "algorithm": algorithm}))


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_state_is_one_error(case: str, tmp_path: Path) -> None:
    breaking, text = BROKEN[case]
    save_training_state(tmp_path, drawn_state())
    breaking(tmp_path)
    with pytest.raises(CheckpointError, match=text):
        load_training_state(tmp_path)


def write(folder: Path, tensors: Arrays) -> None:
    sources = {name: (array.shape, array.dtype.name, lambda a=array: a) for name, array in tensors.items()}
    (folder / STATE_FILES[0]).write_bytes(
        b"".join(bytes(piece) for piece in safetensors_file.safetensors_pieces(sources))
    )


STEPS: dict[str, tuple[Arrays, str]] = {
    "none": ({}, "missing: step"),
    "a float": ({"step": np.ones(1)}, r"step is float64 \[1\], and must be one int64"),
    "several": ({"step": np.ones(3, np.int64)}, r"step is int64 \[3\]"),
    "negative": ({"step": -np.ones(1, np.int64)}, "of at least 0"),
}


@pytest.mark.parametrize("case", STEPS)
def test_the_step_is_one_whole_number(case: str, tmp_path: Path) -> None:
    tensors, text = STEPS[case]
    save_training_state(tmp_path, drawn_state())
    write(tmp_path, {**drawn_state().moments, **tensors})
    with pytest.raises(CheckpointError, match=text):
        load_training_state(tmp_path)


def test_what_is_saved_belongs_together(tmp_path: Path) -> None:
    state = drawn_state()
    moments = {**state.moments, "exp_avg.lm_head.bias": np.zeros(3), "exp_inf.lm_head.bias": np.zeros(61)}
    groups = (*state.groups, Group(*SETTINGS, ("lm_head.bias",)))
    with pytest.raises(CheckpointError) as caught:
        save_training_state(tmp_path / "out", TrainingState(7, moments, groups, "drawn"))
    assert str(caught.value).splitlines()[1:] == [
        "  of no group in optimizer.json: exp_inf.lm_head.bias",
        "  in more than one group of optimizer.json: lm_head.bias",
        "  lm_head.bias: the moments are [3] and [61]",
    ]
    assert not (tmp_path / "out").exists()


def test_what_the_layout_has_no_place_for_is_refused(trained: Any) -> None:
    have("pt", "flax", "tf")
    import keras
    import optax
    import torch

    folder, _ = trained("pt")
    model = backend("pt").load(HEAD, folder)
    amsgrad = torch.optim.AdamW(model.parameters(), amsgrad=True)
    with pytest.raises(ValueError, match="amsgrad=True is not part of a training state"):
        optimizers("pt").read_optimizer(amsgrad, model)
    with pytest.raises(TypeError, match=r"is a SGD, and must be a torch\.optim\.AdamW"):
        optimizers("pt").read_optimizer(torch.optim.SGD(model.parameters()), model)
    stranger = torch.optim.AdamW([*model.parameters(), torch.nn.Parameter(torch.zeros(2, 3))])
    with pytest.raises(ValueError, match=r"not of the model, of shapes \[\[2, 3\]\]"):
        optimizers("pt").read_optimizer(stranger, model)
    with pytest.raises(ValueError, match="gradient_accumulation_steps=2 is not part"):
        optimizers("tf").read_optimizer(
            keras.optimizers.AdamW(gradient_accumulation_steps=2), backend("tf").load(HEAD, folder)
        )
    params = backend("flax").load(HEAD, folder).params
    with pytest.raises(ValueError, match="has 0 states of Adam"):
        optimizers("flax").read_optimizer(optax.sgd(0.1).init(params), groups=())
    with pytest.raises(ValueError, match="has 2 states of Adam, and one is carried; give adamw a mask"):
        optimizers("flax").read_optimizer(optax.chain(optax.adamw(0.1), optax.adamw(0.1)).init(params), groups=())
    averaged = optax.chain(optax.adamw(0.1), optax.ema(0.9)).init(params)
    with pytest.raises(ValueError, match=r"\.ema.*no other framework has a place for"):
        optimizers("flax").read_optimizer(averaged, groups=())


def test_parameters_of_pytorch_make_the_same_steps_or_none(trained: Any) -> None:
    have("pt")
    import torch

    model = backend("pt").load(HEAD, trained("pt")[0])
    optimizer = torch.optim.AdamW(model.parameters())
    bias, dense = model.lm_head.bias, model.lm_head.dense.bias
    bias.grad = torch.ones_like(bias)
    optimizer.step()
    state = optimizers("pt").read_optimizer(optimizer, model)
    assert state.step == 1
    assert not state.moments["exp_avg.lm_head.dense.bias"].any()  # this one never had a gradient
    dense.grad = torch.ones_like(dense)
    optimizer.step()
    with pytest.raises(ValueError, match=r"have made \[1, 2\] steps; Keras and optax count one for all"):
        optimizers("pt").read_optimizer(optimizer, model)


def test_a_schedule_of_optax_goes_on_where_it_was(trained: Any) -> None:
    have("flax")
    import optax

    params = backend("flax").load(HEAD, trained("pt")[0]).params
    chain = optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(optax.linear_schedule(0.1, 0.0, 10)))
    state = optimizers("flax").fill_optimizer(drawn_state(), chain.init(params))
    assert [int(count) for _, count in optax.tree_utils.tree_get_all_with_path(state, "count")] == [7, 7]


def test_frozen_parameters_have_no_state(trained: Any) -> None:
    have("pt", "tf")
    import keras
    import torch

    folder, _ = trained("pt")
    model, other = backend("pt").load(HEAD, folder), backend("tf").load(HEAD, folder)
    optimizer = torch.optim.AdamW(model.lm_head.dense.parameters())
    other.roberta.trainable = False
    names = ["lm_head.dense.weight", "lm_head.dense.bias"]
    state = optimizers("pt").read_optimizer(optimizer, model)
    assert state.parameters == names
    with pytest.raises(CheckpointError, match=r"missing: exp_avg\.lm_head\.layer_norm\.weight"):
        optimizers("tf").fill_optimizer(state, keras.optimizers.AdamW(), other)
    other.lm_head.layer_norm.trainable = False
    wanted = keras.optimizers.AdamW()
    wanted.build([variable for variable in other.trainable_variables if "dense" in variable.path])
    optimizers("tf").fill_optimizer(state, wanted, other)
    assert optimizers("tf").read_optimizer(wanted, other).parameters == names

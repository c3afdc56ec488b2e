"""Fixtures for all tests. Data in `shared`, which is not part of the project, is used if it exists."""

from __future__ import annotations

import gc
import os
import re
import signal
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from backends import Backend
from backends import backend as get_backend
from tqdm import tqdm

from roberta.common import padding_warning

SHARED = Path(os.environ.get("ROBERTA_SHARED", Path(__file__).parents[2] / "shared"))

# JAX compiles a program in a third of the time without most optimisations, and most tests run each of theirs once.
# `make test-all` runs the code that users run.
IS_COMPILED_AS_FOR_USERS = os.environ.get("ROBERTA_TESTS_OPTIMISED") == "1"


def pytest_configure(config: pytest.Config) -> None:
    """Set what holds for all tests and for the processes that they start.

    JAX compiles equal programs only once, for all processes. Ctrl-C works, although a shell makes background
    processes ignore it. tqdm's lock is not shared with forked children, because a killed child would keep it.
    """
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    tqdm.set_lock(threading.RLock())
    folder = tempfile.TemporaryDirectory(prefix="roberta-jax-")
    config.add_cleanup(folder.cleanup)
    os.environ["JAX_COMPILATION_CACHE_DIR"] = folder.name
    os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
    os.environ["JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES"] = "-1"
    if not IS_COMPILED_AS_FOR_USERS:
        os.environ["JAX_DISABLE_MOST_OPTIMIZATIONS"] = "1"
        os.environ["XLA_FLAGS"] = " ".join([os.environ.get("XLA_FLAGS", ""), "--xla_cpu_use_fusion_emitters=false"])


# Part of a test's name -> why `make test` leaves it to `make test-all`; a shorter or a similar test of each stays.
SLOW = {
    r"test_a_fault_at_any_system_call_leaves_one_version_whole\[three files": "one file stays",
    r"test_a_training_that_is_killed_ends_with_the_bytes_of_one_that_is_not\[in_(tf|flax)": "PyTorch stays",
    r"test_five_thousand_damaged_files_are_refused_or_read_right": "five hundred of each kind stay",
    r"test_every_case_in_float32\[.*in_flax": "float64 stays; JAX compiles each dtype by itself",
    r"test_named_gradients\[(?!a2|a4).*in_flax": "two stay; test_backends_agree has every head",
    r"setting\[in_flax-(cfg-eos|clm-mid|clm-untied|rel-key-clm-cross|rel-kq-clm)": "rel-key-clm has the same cases",
    r"setting\[in_tf-(cfg-eos|clm-untied|rel-key-clm-cross|rel-kq-clm\])": "other decoders stay",
    r"setting\[in_flax-(short-positions|chunked-ffn|pad3-types2|labels-)": "PyTorch and TensorFlow stay",
    r"setting\[in_(tf|flax)-cfg-(id2|int|label2|no-|null-[oq]|num|str|unk)": "PyTorch stays; one code reads them",
    r"test_every_head\[in_flax-.*-left": "the golden cases with padding on the left stay, and TensorFlow",
    r"test_every_(config|input)\[in_flax-ForMaskedLM-(?!gelu|pruned|head|embed|pad)": "the causal head stays",
    r"test_cached_steps\[in_flax-(absolute-\w+-left|relative_key-\w+-right)": "each position and each side stays once",
    r"test_the_loss_of_one_batch_falls\[in_(tf|flax)-(?!mlm|classes)": "two of the eight tasks stay",
    r"test_another_framework_goes_on_to_the_same_weights\[(pt-flax|tf-pt|flax-tf)": "each stays at either end",
    r"test_few_programs_are_compiled_whatever_the_lengths\[(float64|bfloat16)": "float32 stays",
    r"test_packs_of_every_size\[(31|97|321|1100)-ForMaskedLM": "the causal head stays, and 33 tokens",
    r"test_compiled_code_gives_the_same_losses\[inductor": "what torch traces stays, run without its compiler of C++",
    r"test_the_losses_of_a_training_are_those_of_pytorch\[in_\w+-(?!mlm)": "mlm stays of the eight tasks",
    r"test_micro_batches_of_an_update_add_up_to_the_whole\[in_(tf|flax)-(?!mlm)": "mlm stays, and all in PyTorch",
    r"test_masked_residues_are_recovered_as_by_the_reference\[in_(tf|flax)": "PyTorch stays; all three give its logits",
    r"of_every_setting\[in_(tf|flax)-(?!camembert-mlm|xlmr-seqcls).*(camembert|xlmr|one-head)": "two stay, and PyTorch's",
    r"test_every_case_in_float64\[(?!a1-|a2-|a4-).*in_flax": "three stay; test_backends_agree has every head",
    r"test_cached_steps_equal_the_full_pass\[in_flax-a3": "the decoder with an encoder stays",
    r"test_steps_of_any_size_over_any_ids_and_masks_equal_the_whole_pass\[in_flax": "the golden cached steps stay",
    r"test_each_pooling_is_that_of_the_folder\[in_(tf|flax)-(?!mean\])": "the mean stays, and PyTorch's; one code pools",
    r"test_several_poolings_are_put_together_\w+\[in_(tf|flax)": "PyTorch stays; one code pools",
    r"test_texts_are_cut_and_put_into_lower_case_as_the_folder_says\[in_(tf|flax)-(?!8)": "one stays, and PyTorch's",
    r"test_(gradient_checkpointing_computes|float16_scales)\w+\[in_(tf|flax)": "PyTorch stays; all options stay together",
    r"is_found_and_repeats\[hang": "a reader that hangs is waited for; the other faults stay",
    r"test_every_format_to_every_other_keeps_every_bit\[(?!ForMaskedLM).*float16": "float32 stays, and one head",
}

# Tests whose graphs TensorFlow traces longer than it runs them. In `make test` it runs the same code op by op.
OP_BY_OP = r"every_backend/test_training\.py::(?!test_the_loss_of_one|test_a_training_that|test_micro).*in_tf"


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the slow tests, before pytest applies `-m`."""
    for item in items:
        if any(re.search(pattern, item.nodeid) for pattern in SLOW):
            item.add_marker("slow")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """A test with the argument `backend` runs in each of the three."""
    if "backend" in metafunc.fixturenames:
        metafunc.parametrize("backend", ["pt", "tf", "flax"], ids="in_{}".format, indirect=True)


@pytest.fixture
def backend(request: pytest.FixtureRequest) -> Backend:
    return get_backend(request.param)


@pytest.fixture(autouse=True)
def op_by_op(request: pytest.FixtureRequest) -> Iterator[None]:
    """Run `tf.function`s without a graph in the tests that say so."""
    if IS_COMPILED_AS_FOR_USERS or not re.search(OP_BY_OP, request.node.nodeid):
        yield
        return
    tensorflow = pytest.importorskip("tensorflow")
    tensorflow.config.run_functions_eagerly(True)
    yield
    tensorflow.config.run_functions_eagerly(False)


@pytest.fixture(autouse=True)
def warns_of_padding(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Give the warning that appears once per process once per test, and only in tests that turn texts into ids.

    Most tests of models draw ids at random, which may begin or end with padding, and pass no mask.
    """
    makes_ids = any(word in request.path.name for word in ("padding", "pipeline", "text", "train", "generat", "demo"))
    monkeypatch.setattr(padding_warning, "_was_said", [] if makes_ids else [True])


@pytest.fixture(scope="session")
def golden() -> Path:
    """Reference outputs of other systems; not part of the project."""
    folder = SHARED / "golden"
    if not folder.is_dir():
        pytest.skip("the reference outputs (golden) are not beside the project")
    return folder


@pytest.fixture(scope="module", autouse=True)
def what_is_old_is_no_garbage() -> None:
    """Let later garbage collections pass over what is there before a file's tests, the frameworks above all.

    A collection that looks at all of it takes a second, and `verify` and Keras ask for some in every test.
    """
    gc.collect()
    gc.freeze()

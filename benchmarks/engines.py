"""Every system that `benchmarks.inference` measures: how it loads a folder, and maps ids and mask to hidden states.

Each system has one function: (folder, dtype) -> run; run: int64 ids and mask of (rows, seq) -> float32 hidden states of
the last layer, (rows, seq, hidden), or those of the real tokens only, (tokens, hidden). The function imports its system
when it is called, in a process whose path `ENGINES` defines. No system computes a pooler or a head.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

Run = Callable[[np.ndarray, np.ndarray], np.ndarray]
BUDGET = 1024  # tokens per batch of the sorted job, on every side: the default of `infer`
DEPTH = {"num_heads": 12, "hidden_size": 768}  # the base size, for ONNX Runtime's optimiser


def ours(framework: str, prefix: str) -> Callable[[Path, str], Run]:
    """This project's `infer`, or the forward pass of PyTorch if a class has no `infer`."""

    def load(folder: Path, dtype: str) -> Run:
        import roberta

        model = getattr(roberta, f"{prefix}RobertaModel").from_pretrained(folder, add_pooling_layer=False)
        if hasattr(model, "infer"):
            return lambda ids, mask: model.infer(
                {"input_ids": ids, "attention_mask": mask}, where=mask > 0, dtype=dtype, batch_tokens=BUDGET
            )["last_hidden_state"]
        if framework != "pt" or dtype != "float32":
            raise RuntimeError(f"{prefix}RobertaModel has no infer")
        return in_batches(torch_run(model.eval()))

    return load


def in_batches(run: Run, rows: int = 32) -> Run:
    """A run that computes a whole job, some rows at a time, and returns its real tokens."""

    def whole(ids: np.ndarray, mask: np.ndarray) -> np.ndarray:
        found = []
        for start in range(0, len(ids), rows):
            some = mask[start : start + rows]
            longest = int(some.sum(axis=1).max())
            found.append(run(ids[start : start + rows, :longest], some[:, :longest])[some[:, :longest] > 0])
        return np.concatenate(found)

    return whole


def torch_run(model: Any) -> Run:
    """The forward pass of any PyTorch model."""
    import torch

    def run(ids: np.ndarray, mask: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            output = model(input_ids=torch.from_numpy(ids), attention_mask=torch.from_numpy(mask))
        return np.asarray(output.last_hidden_state.float())

    return run


def transformers_torch(folder: Path, dtype: str) -> Run:
    """The PyTorch class with SDPA; int8 is PyTorch's dynamic quantization of the linear layers."""
    import torch
    from transformers import RobertaModel

    kind = torch.bfloat16 if dtype == "bfloat16" else torch.float32
    model = RobertaModel.from_pretrained(folder, add_pooling_layer=False, attn_implementation="sdpa", dtype=kind)
    model.eval()
    if dtype == "int8":
        model = torch.ao.quantization.quantize_dynamic(model, {torch.nn.Linear}, torch.qint8)
    return torch_run(model)


def transformers_tf(folder: Path, dtype: str) -> Run:
    """The TensorFlow class in one `tf.function` for all shapes."""
    import tensorflow as tf
    from transformers import TFRobertaModel

    model = TFRobertaModel.from_pretrained(folder, from_pt=True)  # it always has the pooler, which is one small product
    anything = tf.TensorSpec([None, None], tf.int64)

    @tf.function(input_signature=[anything, anything])
    def forward(ids: Any, mask: Any) -> Any:
        return model(input_ids=ids, attention_mask=mask).last_hidden_state

    return lambda ids, mask: forward(tf.constant(ids), tf.constant(mask)).numpy()


def transformers_flax(folder: Path, dtype: str) -> Run:
    """The Flax class in `jax.jit`, which compiles for every shape."""
    import jax
    from transformers import FlaxRobertaModel

    model = FlaxRobertaModel.from_pretrained(folder, from_pt=True, add_pooling_layer=False)
    forward = jax.jit(lambda params, ids, mask: model(ids, mask, params=params).last_hidden_state)
    return lambda ids, mask: np.asarray(forward(model.params, ids, mask))


def keras_hub(folder: Path, dtype: str) -> Run:
    """KerasHub's backbone with `predict_on_batch`, loaded from the preset that `roberta convert` writes."""
    import keras_hub as library

    preset = prepared(folder, "keras-hub")
    model = library.models.RobertaBackbone.from_preset(str(preset))
    return lambda ids, mask: np.asarray(model.predict_on_batch({"token_ids": ids, "padding_mask": mask}))


def onnx_file(folder: Path, dtype: str = "float32") -> Path:
    """Our model as PyTorch exports it, fused by ONNX Runtime's optimiser; int8 is its dynamic quantization."""
    plain, fused, small = (folder / f"onnx-{name}" / "model.onnx" for name in ("plain", "fused", "int8"))
    if not plain.exists():
        export(folder, plain)
    if not fused.exists():
        from onnxruntime.transformers import optimizer

        fused.parent.mkdir()
        optimizer.optimize_model(str(plain), model_type="bert", **DEPTH).save_model_to_file(str(fused))
    if dtype == "int8" and not small.exists():
        from onnx import TensorProto
        from onnxruntime.quantization import QuantType, quantize_dynamic

        small.parent.mkdir()
        types = {"DefaultTensorType": TensorProto.FLOAT}  # after a fused node the quantizer does not know the type
        quantize_dynamic(fused, small, weight_type=QuantType.QInt8, extra_options=types)
    return small if dtype == "int8" else fused


def export(folder: Path, file: Path) -> None:
    """Export our PyTorch model as ONNX, for any batch size and length."""
    import torch

    import roberta

    model: Any = roberta.RobertaModel.from_pretrained(folder, add_pooling_layer=False)

    class Plain(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
            return self.model(input_ids, attention_mask, return_dict=True).last_hidden_state

    ids = torch.full((2, 16), 5)
    axes = {name: {0: "rows", 1: "seq"} for name in ("input_ids", "attention_mask", "hidden")}
    file.parent.mkdir()
    torch.onnx.export(
        Plain().eval(), (ids, torch.ones_like(ids)), str(file), input_names=["input_ids", "attention_mask"],
        output_names=["hidden"], dynamic_axes=axes, opset_version=17, dynamo=False,
    )  # fmt: skip


def onnx_runtime(folder: Path, dtype: str) -> Run:
    """ONNX Runtime on the CPU, with all of its graph optimisations."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = int(os.environ["OMP_NUM_THREADS"])
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # idle threads wait, as on all sides
    file = onnx_file(folder, dtype)
    session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
    return lambda ids, mask: session.run(None, {"input_ids": ids, "attention_mask": mask})[0]


def openvino(folder: Path, dtype: str) -> Run:
    """OpenVINO on the CPU, from the ONNX file as PyTorch exports it; OpenVINO fuses nodes itself."""
    import openvino as ov

    onnx_file(folder)
    settings = {
        "INFERENCE_PRECISION_HINT": {"float32": "f32", "bfloat16": "bf16"}[dtype],
        "INFERENCE_NUM_THREADS": int(os.environ["OMP_NUM_THREADS"]),
        "PERFORMANCE_HINT": "LATENCY",
    }
    model = ov.compile_model(ov.convert_model(folder / "onnx-plain" / "model.onnx"), "CPU", settings)
    request = model.create_infer_request()
    return lambda ids, mask: request.infer({"input_ids": ids, "attention_mask": mask})[0]


def ctranslate2(folder: Path, dtype: str) -> Run:
    """CTranslate2's encoder, made by its own converter for transformers."""
    import ctranslate2 as library

    target = folder / "ctranslate2"
    if not target.exists():
        from ctranslate2.converters import TransformersConverter

        TransformersConverter(str(folder)).convert(str(target))
    threads = int(os.environ["OMP_NUM_THREADS"])
    encoder = library.Encoder(str(target), "cpu", compute_type=dtype, intra_threads=threads, inter_threads=1)

    def run(ids: np.ndarray, mask: np.ndarray) -> np.ndarray:
        lengths = library.StorageView.from_array(mask.sum(axis=1).astype(np.int32))
        result = encoder.forward_batch(library.StorageView.from_array(ids.astype(np.int32)), lengths)
        return np.array(result.last_hidden_state)

    return run


def prepared(folder: Path, format_: str) -> Path:
    """The folder in another format; converted if it does not exist yet."""
    target = folder / format_
    if not target.exists():
        from roberta.conversion import convert

        convert(folder / "model.safetensors", target, to=format_)  # type: ignore[arg-type]
    return target


@dataclass(frozen=True)
class Engine:
    """A side of the benchmark.

    Attributes:
        load: loads the model and returns its run.
        dtypes: the dtypes that it computes in.
        paths: the peers in `benchmarks.peers` whose folders go on its path.
        environment: settings in its environment.
        is_ours: whether it takes a whole job at once and sorts the rows itself.
    """

    load: Callable[[Path, str], Run]
    dtypes: tuple[str, ...] = ("float32",)
    paths: tuple[str, ...] = ()
    environment: tuple[tuple[str, str], ...] = ()
    is_ours: bool = False


TORCH_ONLY = (("USE_TF", "0"), ("USE_FLAX", "0"))
LOW = ("float32", "bfloat16", "int8")
ENGINES: dict[str, Engine] = {
    "ours, PyTorch": Engine(ours("pt", ""), LOW, is_ours=True),
    "ours, TensorFlow": Engine(ours("tf", "TF"), is_ours=True),
    "ours, Flax": Engine(ours("flax", "Flax"), is_ours=True),
    "transformers 4.57, PyTorch": Engine(transformers_torch, LOW, ("transformers4",), TORCH_ONLY),
    "transformers 5.23, PyTorch": Engine(transformers_torch, LOW, ("transformers5",), TORCH_ONLY),
    "transformers 4.57, TensorFlow": Engine(
        transformers_tf, paths=("transformers4",), environment=(("USE_FLAX", "0"), ("TF_USE_LEGACY_KERAS", "1"))
    ),
    "transformers 4.57, Flax": Engine(
        transformers_flax, paths=("transformers4-flax", "transformers4"), environment=(("USE_TF", "0"),)
    ),
    "ONNX Runtime": Engine(onnx_runtime, ("float32", "int8"), ("onnxruntime",)),
    "OpenVINO": Engine(openvino, ("float32", "bfloat16"), ("openvino", "onnxruntime")),
    "CTranslate2": Engine(ctranslate2, ("float32", "int8"), ("ctranslate2", "transformers4"), TORCH_ONLY),
    "KerasHub, TensorFlow": Engine(
        keras_hub, paths=("keras-hub",), environment=(("KERAS_BACKEND", "tensorflow"),)
    ),
    "KerasHub, JAX": Engine(keras_hub, paths=("keras-hub",), environment=(("KERAS_BACKEND", "jax"),)),
}  # fmt: skip

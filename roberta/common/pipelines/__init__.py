"""Pipelines: text in, results out, with a model of any framework; one file for each task, in numpy for all three."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from roberta.common.devices import dtype_on, move_to
from roberta.common.frameworks import installed, one_framework
from roberta.common.pipelines.answer import Answer, AnswerOptions
from roberta.common.pipelines.base import OnError, Pipeline
from roberta.common.pipelines.choose import Choose, ChooseOptions
from roberta.common.pipelines.classify import Classify, ClassifyOptions
from roberta.common.pipelines.embed import Embed, EmbedOptions, EmbedSentences, SentenceOptions
from roberta.common.pipelines.fill_mask import FillMask, FillMaskOptions
from roberta.common.pipelines.generate import Generate, GenerateOptions
from roberta.common.pipelines.inputs import PipelineOptions
from roberta.common.pipelines.model_loading import (
    DEFAULT_MODEL,
    check_vocabulary,
    dtypes,
    open_model,
    open_recipe,
    open_tokenizer,
)
from roberta.common.pipelines.tag import Tag, TagOptions
from roberta.common.pipelines.zero_shot import ZeroShot, ZeroShotOptions
from roberta.common.storage.hub import hub_options

# Task -> its pipeline and its options.
TASKS: dict[str, tuple[type[Pipeline[Any]], type[PipelineOptions]]] = {
    "fill-mask": (FillMask, FillMaskOptions),
    "text-classification": (Classify, ClassifyOptions),
    "zero-shot-classification": (ZeroShot, ZeroShotOptions),
    "token-classification": (Tag, TagOptions),
    "question-answering": (Answer, AnswerOptions),
    "multiple-choice": (Choose, ChooseOptions),
    "feature-extraction": (Embed, EmbedOptions),
    "embeddings": (EmbedSentences, SentenceOptions),
    "text-generation": (Generate, GenerateOptions),
}
OTHER_NAMES = {"sentiment-analysis": "text-classification", "ner": "token-classification"}


def pipeline(
    task: str,
    model: Any = None,
    tokenizer: Any = None,
    *,
    framework: str | None = None,
    device: object = None,
    dtype: str | None = None,
    batch_tokens: int = 1024,
    progress: bool = True,
    on_error: OnError = "stop",
    revision: str = "main",
    cache_dir: str | Path | None = None,
    local_files_only: bool = False,
    token: str | bool | None = None,
    **options: Any,
) -> Pipeline[Any]:
    """A pipeline for a task: call it with a text, a list of texts, or an iterator.

    Args:
        task: one of `TASKS`, or "sentiment-analysis" or "ner".
        model: a folder, a weights file, a name on the hub, or a loaded model of any framework; None for the
            bundled model, which was trained for masked tokens on Shakespeare.
        tokenizer: likewise; None for the one beside the model.
        framework: "pt", "tf" or "flax"; None for the first that is installed.
        device: "cpu", "cuda", "cuda:1", "mps", a number (-1 is the CPU, 0 the first accelerator) or a device of the
            framework; None for an accelerator if there is one, and where a loaded model is. docs/devices.md.
        dtype: "float32" (None), "float64"; in "bfloat16" and "int8", `infer` computes from weights in float32; "auto"
            for "bfloat16" where the device computes in it.
        batch_tokens: tokens that go through the model at once, at most; a longer text goes alone.
        progress: show a bar, on a terminal, for lists that take longer than two seconds.
        on_error: "stop" raises the error of an unusable input; "skip" returns it, a `ValueError`, instead of the
            result, in a list or a stream, and continues.
        revision, cache_dir, local_files_only, token: for hub names.
        options: the task's own, such as `top_k`; a call may replace them.

    Raises:
        ValueError: an unknown task; a model that was not trained for it; an invalid value of an option. In the call,
            also if the model's outputs are nan.
        TypeError: an option that the task does not have.
        CheckpointError: an unusable file or name.
    """
    name = OTHER_NAMES.get(task, task)
    if name not in TASKS:
        raise ValueError(f"task={task!r} must be one of {', '.join((*TASKS, *OTHER_NAMES))}")
    class_, options_class = TASKS[name]
    chosen = options_class().updated(options)  # before anything is read
    model = DEFAULT_MODEL if model is None else model
    is_loaded = not isinstance(model, str | Path)
    loaded_in, computed_in = dtypes(dtype, is_loaded=is_loaded)  # which raises for an unknown one
    source = hub_options(locals())
    opened = open_tokenizer(tokenizer, model, source)  # first: it is quick, and imports no framework
    if class_ is EmbedSentences and "recipe" not in options:
        chosen = chosen.updated(open_recipe(model, tokenizer, source, options))
    if dtype == "auto":  # a loaded model keeps its dtype; `generate` computes in that of the weights
        used = one_framework(framework, installed())
        best = None if is_loaded else dtype_on(dtype, device, used)
        loaded_in, computed_in = (best, None) if class_ is Generate else dtypes(best, is_loaded=is_loaded)
    loaded = open_model(
        model,
        class_.head,
        framework=framework,
        device="cpu" if device is None and computed_in == "int8" else device,
        dtype=loaded_in,
        has_pooler=getattr(chosen, "pooling", None) == "pooler",
        source=source,
    )
    if is_loaded:
        move_to(loaded, device)
    check_vocabulary(opened, loaded)
    return class_(
        loaded, opened, chosen, dtype=computed_in, batch_tokens=batch_tokens, progress=progress, on_error=on_error
    )

"""Small models with a tokenizer, and calls of pipelines on them, for our pipelines and for those of others.

No framework is imported here; a peer in a child process reads the same tables.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

TEXTS = [
    "The capital of France is Paris, and Anna Schmidt lives in New York City since 1999.",
    "Roberta reads long texts in windows; short ones she reads at once.",
    "Who wrote the book? Nobody knows who wrote the old book about the sea.",
    "In 1850 the railway reached the town. The mayor, Carl Jones, opened the station in May.",
    "A ship left the harbour of Lisbon in the morning and came back in the evening.",
    "naïve café, 日本 😀",
]
FRANCE = "The capital of France is Paris, and Anna Schmidt lives in New York City since 1999."
RAILWAY = "In 1850 the railway reached the town. The mayor, Carl Jones, opened the station in May."
LONG = " ".join(TEXTS[:5] * 2)
TAGS = ["O", "B-PER", "I-PER", "B-LOC", "I-LOC"]


class Model(NamedTuple):
    """A head and the fields of its config beside the small sizes."""

    head: str
    overrides: dict[str, Any]
    seed: int = 0


MODELS: dict[str, Model] = {
    "words": Model("ForMaskedLM", {}),
    "labels": Model("ForSequenceClassification", {"num_labels": 3, "id2label": {0: "no", 1: "yes", 2: "perhaps"}}),
    "nli": Model(
        "ForSequenceClassification",
        {"num_labels": 3, "id2label": {0: "contradiction", 1: "neutral", 2: "entailment"}},
    ),
    "several": Model("ForSequenceClassification", {"num_labels": 3, "problem_type": "multi_label_classification"}),
    "number": Model("ForSequenceClassification", {"num_labels": 1}),
    "regression": Model("ForSequenceClassification", {"num_labels": 2, "problem_type": "regression"}),
    "tags": Model(
        "ForTokenClassification", {"num_labels": 5, "id2label": dict(enumerate(TAGS))}, seed=15
    ),  # so that all tags occur
    "answers": Model("ForQuestionAnswering", {}),
    "plain": Model("Model", {}),
    "choices": Model("ForMultipleChoice", {}),
    "writes": Model("ForCausalLM", {"type_vocab_size": 1}),
}
LENGTH = 96  # the maximum number of tokens of a text


class Case(NamedTuple):
    """A pipeline's task, its model, the options of its constructor, and a call."""

    task: str
    model: str
    made: dict[str, Any]
    inputs: Any
    call: dict[str, Any] = {}  # noqa: RUF012


def make_models(folder: Path, names: tuple[str, ...] = tuple(MODELS), dtype: str = "float64") -> dict[str, Path]:
    """Write each model, with one tokenizer trained on the texts, into a separate folder."""
    from checkpoints import make

    from roberta import RobertaTokenizerFast

    tokenizer = RobertaTokenizerFast.train(iter(TEXTS * 4), 380, show_progress=False, model_max_length=LENGTH)
    found = {}
    for name in names:
        head, overrides, seed = MODELS[name]
        sizes = {"vocab_size": len(tokenizer), "max_position_embeddings": LENGTH + 2}
        make(folder / name, head, seed, dtype, **sizes, **overrides)
        tokenizer.save_pretrained(folder / name)
        found[name] = folder / name
    return found


def written(name: str, folder: Path) -> Path:
    """Write one of the models."""
    return make_models(folder, (name,))[name]

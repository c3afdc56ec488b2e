"""Small trainings of every task: a config, a tokenizer, files, and the matching arguments of `roberta train`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from checkpoints import small_config
from pipeline_cases import FRANCE, RAILWAY, TEXTS

from roberta import RobertaTokenizerFast
from roberta.common.training.data.tasks import HEADS, Task

LENGTH = 48  # tokens per row


def question(text: str, context: str, answer: str | None) -> dict[str, Any]:
    found = [] if answer is None else [{"text": answer, "answer_start": context.index(answer)}]
    return {"question": text, "context": context, "answers": found}


ROWS: dict[Task, list[dict[str, Any]]] = {
    "text-classification": [{"text": text, "label": ("no", "yes")["sea" in text or "ship" in text]} for text in TEXTS],
    "token-classification": [
        {"words": text.split(), "labels": ["B-NAME" if word.istitle() else "O" for word in text.split()]}
        for text in TEXTS
    ],
    "question-answering": [
        question("Where does Anna live?", FRANCE, "New York City"),
        question("Who opened the station?", RAILWAY, "Carl Jones"),
        question("Who is the king?", RAILWAY, None),
    ],
    "multiple-choice": [
        {"prompt": "A ship left", "choices": ["the harbour", "the book"], "label": 0},
        {"prompt": "Who wrote", "choices": ["the sea", "the book"], "label": 1},
        {"prompt": "The railway reached", "choices": ["the town", "the café"], "label": 0},
    ],
}


def make(folder: Path, task: Task, **config: Any) -> dict[str, Any]:
    """Write config, tokenizer and data; return the arguments of a `Training` on them, without `output` and framework."""
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = RobertaTokenizerFast.train(iter(TEXTS * 4), 380, show_progress=False, model_max_length=LENGTH)
    tokenizer.save_pretrained(folder / "model")
    sizes = {"vocab_size": len(tokenizer), "max_position_embeddings": LENGTH + 2, "architectures": None}
    values = small_config(HEADS[task], **sizes, **{"num_labels": None, "initializer_range": 0.2, **config})
    (folder / "model" / "config.json").write_text(values.to_json_string())
    if task in ("mlm", "clm"):
        data = folder / "data.txt"
        data.write_text("\n\n".join(text.replace("; ", ";\n") for text in TEXTS * 3))
    else:
        data = folder / "data.jsonl"
        data.write_text("".join(json.dumps(row) + "\n" for row in ROWS[task]))
    return {
        "task": task, "model": folder / "model", "train": [data], "validation": [data], "max_length": LENGTH,
        "progress": False,
    }  # fmt: skip


def flags(arguments: dict[str, Any]) -> list[str]:
    """The same arguments as words of the command line."""
    words = [arguments["task"]]
    for name, value in arguments.items():
        if name not in ("task", "progress"):
            values = value if isinstance(value, list) else [value]
            words += [f"--{name.replace('_', '-')}", *map(str, values)]
    return words

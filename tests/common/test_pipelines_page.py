"""The examples of docs/pipelines.md run."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from backends import backend as get_backend
from pipeline_cases import TEXTS, make_models
from standin import Loader

from roberta.common import frameworks

PAGE = Path(__file__).parents[2] / "docs" / "pipelines.md"
BLOCKS = re.findall(r"```python\n(.*?)```", PAGE.read_text(), flags=re.DOTALL)
NAMES = {  # folder on the page -> the model that replaces it
    "models/sentiment": "labels", "models/ner": "tags", "models/squad": "answers", "models/race": "choices",
    "models/writer": "writes", "models/nli": "nli",
}  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    get_backend("pt")
    made = tmp_path_factory.mktemp("page")
    models = make_models(made)
    (made / "models").mkdir()
    for name, model in NAMES.items():
        (made / name).symlink_to(models[model])
    (made / "texts.txt").write_text("\n".join(TEXTS))
    return made


@pytest.mark.filterwarnings("ignore:target ")  # the small vocabulary has no Paris
@pytest.mark.parametrize("block", BLOCKS)
def test_an_example_of_the_page_runs(block: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    monkeypatch.setattr(frameworks, "class_of", lambda framework, head, model_type: Loader(head))
    name = "words" if '"fill-mask"' in block else "plain"
    source = block.replace("FacebookAI/roberta-base", str(folder / name))
    assert "FacebookAI" not in source
    exec(compile(source, str(PAGE), "exec"), {"__name__": "page"})


def test_the_page_has_an_example_of_every_task() -> None:
    from roberta.common.pipelines import TASKS

    assert {task for task in TASKS if f'pipeline("{task}"' in PAGE.read_text()} == {*TASKS} - {"feature-extraction"}

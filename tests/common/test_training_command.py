"""`roberta train`: requests that it refuses at the start, with the way out, and the files that it leaves."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import training_cases
from backends import backend as get_backend
from training_standin import log

from roberta import RobertaConfig, Training
from roberta.cli import main, parser
from roberta.common.commands import training_options as command_line
from roberta.common.commands.train import training
from roberta.common.parameters import parameters
from roberta.common.training import plot
from roberta.common.training.data.tasks import HEADS
from roberta.common.training.initial_weights import initial_value, initial_weights
from roberta.common.training.recipes import Recipe, recipe_named
from roberta.common.training.session import training_lock

FEW = ["--updates", "3", "--batch-size", "4", "--warmup", "1"]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """A folder of a finished training of three updates, and its arguments."""
    get_backend("pt")
    folder = tmp_path_factory.mktemp("training")
    given = training_cases.make(folder, "multiple-choice")
    words = ["train", *training_cases.flags(given), "--framework", "pt", "--output", str(folder / "run"), *FEW]
    assert main(words) == 0
    return folder / "run", given


def again(trained: tuple[Path, dict[str, Any]], *more: str) -> int:
    output, given = trained
    words = [*training_cases.flags(given), "--framework", "pt", "--output", str(output)]
    return main(["train", *words, *FEW, *more])


def test_every_field_of_a_recipe_and_of_a_training_has_an_option() -> None:
    names = {flag.removeprefix("--").replace("-", "_") for flag in command_line.RECIPE_OPTIONS}
    assert names == {field.name for field in dataclasses.fields(Recipe)} - {"source"}
    options = {flag.removeprefix("--").replace("-", "_") for flag in command_line.OPTIONS}
    fields = {field.name for field in dataclasses.fields(Training)}
    assert options | names | {"task", "model", "train", "output", "recipe"} == fields - {"progress", "callbacks"}
    assert set(command_line.TRAINING_TASKS) == set(HEADS)


def test_options_override_a_recipe_and_epochs_take_the_place_of_updates() -> None:
    words = ["train", "mlm", "--model", "m", "--train", "t", "--output", "o", "--recipe", "roberta-base"]
    made = training(parser().parse_args([*words, "--epochs", "2", "--no-decays-all"]))
    assert made.chosen_recipe == dataclasses.replace(
        recipe_named("roberta-base"), epochs=2.0, updates=None, decays_all=False
    )


def test_a_folder_with_a_training_is_refused_without_resume(trained: Any, capsys: Any) -> None:
    before = {path: path.stat().st_mtime_ns for path in trained[0].rglob("*") if path.is_file()}
    assert again(trained) == 1
    assert "has a training already; resume it with --resume" in capsys.readouterr().err
    assert before == {path: path.stat().st_mtime_ns for path in trained[0].rglob("*") if path.is_file()}


def test_resume_with_other_settings_lists_each_of_them(trained: Any, capsys: Any) -> None:
    assert again(trained, "--resume", "--seed", "4", "--power", "2", "--dtype", "float64") == 1
    error = capsys.readouterr().err
    assert "step-000003 is of another training" in error
    assert "seed: 0 then, 4 now" in error
    assert "recipe.power: 1.0 then, 2.0 now" in error
    assert "dtype: float32 then, float64 now" in error
    assert "start a new training from its model: --model" in error


def test_resume_with_another_metric_is_refused_and_the_tasks_own_may_be_said_or_not(trained: Any, capsys: Any) -> None:
    output, _ = trained
    assert again(trained, "--resume", "--metric", "loss") == 1  # the best one has an accuracy, which is 0 at least
    assert "metric: accuracy then, loss now" in capsys.readouterr().err
    assert again(trained, "--resume", "--metric", "accuracy") == 0
    path = output / "checkpoints" / "step-000003" / "trainer.json"
    before = path.read_bytes()
    written = json.loads(before)
    for name, status in (("loss", 1), ("accuracy", 0)):
        path.write_text(json.dumps({**written, "agreement": {**written["agreement"], "metric": name}}))
        assert again(trained, "--resume") == status
    del written["agreement"]["metric"]  # as older versions wrote it
    path.write_text(json.dumps(written))
    assert again(trained, "--resume") == 0
    path.write_bytes(before)


def test_resume_with_other_data_or_another_config_says_so(trained: Any, tmp_path: Path, capsys: Any) -> None:
    output, given = trained
    other = tmp_path / "other.jsonl"
    other.write_text(given["train"][0].read_text() * 2)
    assert again((output, {**given, "train": [other]}), "--resume") == 1
    assert "data.train 1: " in capsys.readouterr().err
    training_cases.make(tmp_path, "multiple-choice", layer_norm_eps=1e-6)
    assert again((output, {**given, "model": tmp_path / "model"}), "--resume") == 1
    assert "config.layer_norm_eps: 1e-05 then, 1e-06 now" in capsys.readouterr().err


def test_resume_of_a_finished_training_changes_no_byte(trained: Any) -> None:
    names = ("metrics.jsonl", "model.safetensors", "config.json", "checkpoints/step-000003/trainer.json")
    before = {name: (trained[0] / name).read_bytes() for name in names}
    assert again(trained, "--resume") == 0
    assert before == {name: (trained[0] / name).read_bytes() for name in names}


def test_the_result_is_a_model_folder_with_the_labels_and_the_tokenizer(trained: Any) -> None:
    backend = get_backend("pt")
    model = backend.load("ForMultipleChoice", trained[0], dtype="float32")
    assert model.config.architectures == ["RobertaForMultipleChoice"]
    assert {"tokenizer.json", "metrics.jsonl", "timing.jsonl"} <= {path.name for path in trained[0].iterdir()}
    assert [entry["update"] for entry in log(trained[0])] == [1, 1, 2, 2, 3, 3]


def test_a_setting_of_another_task_is_refused(trained: Any, tmp_path: Path, capsys: Any) -> None:
    assert again((tmp_path / "new", trained[1]), "--masking", "exact") == 1
    assert "--masking exact is for mlm; omit it for multiple-choice" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--evaluate-every", "1"], "--evaluate-every 1 needs validation data to evaluate; omit it"),
        (["--metric", "accuracy"], "--metric accuracy needs validation data to evaluate; omit it"),
        (["--updates", "3", "--warmup", "4"], "--warmup 4 is more than the 3 updates of this training"),
        (["--epochs", "1", "--warmup", "40"], "--warmup 40 is more than the 1 updates of this training"),
    ],
)
def test_an_option_without_effect_is_refused(
    trained: Any, tmp_path: Path, capsys: Any, options: list[str], message: str
) -> None:
    given = {name: value for name, value in trained[1].items() if name != "validation"}
    words = [*training_cases.flags(given), "--framework", "pt", "--output", str(tmp_path / "run"), *options]
    assert main(["train", *words]) == 1
    assert message in capsys.readouterr().err


def test_the_best_needs_validation_data(trained: Any, tmp_path: Path, capsys: Any) -> None:
    without = {name: value for name, value in trained[1].items() if name != "validation"}
    assert again((tmp_path / "new", without), "--best") == 1
    assert "--best needs validation data" in capsys.readouterr().err


def test_a_file_in_the_place_of_the_output_folder_is_named(trained: Any, tmp_path: Path, capsys: Any) -> None:
    (tmp_path / "run").write_text("")
    assert again((tmp_path / "run", trained[1])) == 1
    assert f"--output {tmp_path / 'run'} cannot be a folder" in capsys.readouterr().err


def test_a_folder_in_which_a_process_trains_is_refused(trained: Any, tmp_path: Path, capsys: Any) -> None:
    with training_lock(tmp_path):
        assert again((tmp_path, trained[1])) == 1
    assert f"another process trains in {tmp_path}" in capsys.readouterr().err


def test_a_broken_line_is_an_error_with_its_place_and_nothing_is_begun(
    trained: Any, tmp_path: Path, capsys: Any
) -> None:
    broken = tmp_path / "broken.jsonl"
    broken.write_text(trained[1]["train"][0].read_text() + "{\n")
    assert again((tmp_path / "new", {**trained[1], "train": [broken]})) == 1
    assert f"{broken}:4" in capsys.readouterr().err
    assert not (tmp_path / "new" / "metrics.jsonl").exists()


def test_new_weights_follow_from_the_seed_and_their_name_and_padding_rows_are_zero() -> None:
    config = RobertaConfig(vocab_size=40, hidden_size=8, num_attention_heads=2, intermediate_size=12)
    table = parameters(config, "ForMaskedLM")
    words = table["roberta.embeddings.word_embeddings.weight"]
    values = initial_value(words, config, 3)
    assert (values[config.pad_token_id] == 0).all()
    assert values.std() == pytest.approx(config.initializer_range, rel=0.2)
    assert (values == initial_value(words, config, 3)).all()
    assert (values != initial_value(words, config, 4))[0].all()
    assert (initial_value(table["lm_head.layer_norm.weight"], config, 3) == 1).all()


def test_a_classifier_of_another_number_of_labels_is_new_and_the_encoder_is_not(tmp_path: Path) -> None:
    from checkpoints import make

    from roberta.common.formats import safetensors_file

    folder = make(tmp_path / "model", "ForSequenceClassification")  # 5 labels
    config = RobertaConfig.from_pretrained(folder)
    config.update({"num_labels": 3})
    with initial_weights(folder, "ForSequenceClassification", config, seed=0, dtype="float64", beside=tmp_path) as (
        place,
        new,
    ):
        assert new == ["classifier.out_proj.weight", "classifier.out_proj.bias"]
        found = {
            name: tensor.load()
            for name, tensor in safetensors_file.read_safetensors(Path(place) / "model.safetensors").items()
        }
        before = safetensors_file.read_safetensors(folder / "model.safetensors")
        assert found["classifier.out_proj.weight"].shape == (3, 24)
        assert all(np.array_equal(found[name], before[name].load()) for name in before if name not in new)
    assert list(tmp_path.iterdir()) == [folder]


def test_curves_are_read_from_the_log_and_a_strange_line_is_named(trained: Any, tmp_path: Path) -> None:
    losses, evaluations = plot.read_log(trained[0])
    assert losses["update"] == evaluations["update"] == [1, 2, 3]
    assert set(evaluations) == {"update", "loss", "accuracy"}
    (tmp_path / "metrics.jsonl").write_text(json.dumps({"update": 1, "loss": 2.0}) + "\nloss: 2\n")
    with pytest.raises(ValueError, match=r"metrics\.jsonl:2 is not a line of a roberta metrics\.jsonl"):
        plot.read_log(tmp_path)


def test_curves_of_two_runs_are_one_picture(trained: Any, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="matplotlib is not installed")
    picture = tmp_path / "both.svg"
    assert plot.draw_command([str(trained[0]), str(trained[0]), "--output", str(picture)]) == 0
    assert picture.read_text().count("validation accuracy") == 1

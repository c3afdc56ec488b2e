"""Stumbling blocks for newcomers: files as a training reads them, long and broken lines, errors that name a way out."""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import training_cases
from backends import backend as get_backend
from pipeline_cases import FRANCE, LENGTH, LONG, RAILWAY, make_models
from safetensors.numpy import load_file, save_file

from roberta import RobertaConfig, Training, pipeline
from roberta.cli import main, parser
from roberta.common.commands import quiet, threads
from roberta.common.training.data.readers import read_examples
from roberta.common.training.recipes import default_recipe

PAIRS = "sentence1\tsentence2\tlabel\tidx\nA ship left.\tIt came back.\tyes\t7\nWho wrote it?\tNobody.\tno\t8\n"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    get_backend("pt")
    made = tmp_path_factory.mktemp("models")
    make_models(made, ("labels", "tags", "answers", "choices", "plain", "words"), dtype="float32")
    return made


def ran(capsys: Any, *words: object) -> list[Any]:
    """The output of a command that must succeed."""
    status = main(list(map(str, words)))
    printed = capsys.readouterr()
    assert status == 0, printed.err
    return [rounded(json.loads(line)) for line in printed.out.splitlines()]


def rounded(result: Any) -> Any:
    """A result with scores rounded so that they do not depend on the batch."""
    if isinstance(result, dict):
        return {name: rounded(value) for name, value in result.items()}
    if isinstance(result, list):
        return [rounded(value) for value in result]
    return round(result, 5) if isinstance(result, float) else result


def refused(capsys: Any, *words: object) -> str:
    """The message of a command that must fail."""
    assert main(list(map(str, words))) == 1
    error: str = capsys.readouterr().err
    assert "Traceback" not in error
    return error


def file(folder: Path, name: str, text: str) -> Path:
    (folder / name).write_text(text)
    return folder / name


# -- files as a training reads them ------------------------------------------------------------------------------------

TEXTS_OF = {
    "a.tsv": PAIRS,
    "a.csv": PAIRS.replace("\t", ","),
    "b.tsv": PAIRS.partition("\n")[2].replace("\t7", "").replace("no\t8", "yes"),  # text, second text, label
    "a.jsonl": '{"sentence1": "A ship left.", "sentence2": "It came back.", "label": 1}\n'
    '{"sentence1": "Who wrote it?", "sentence2": "Nobody.", "label": 0}\n',
    "a.json": '[{"premise": "A ship left.", "hypothesis": "It came back.", "label": "yes"},\n'
    '{"premise": "Who wrote it?", "hypothesis": "Nobody.", "label": "no"}]',
    "c.tsv": "A ship left.\tyes\nWho wrote it?\tno\nWhere is it?\tyes\n",
    "c.csv": 'text,label\n"A ship left, then.",yes\n"Who\nwrote it?",no\n',
}


@pytest.mark.parametrize("name", TEXTS_OF)
def test_classify_reads_the_texts_of_a_file_as_a_training_does(
    folder: Path, tmp_path: Path, capsys: Any, name: str
) -> None:
    path = file(tmp_path, name, TEXTS_OF[name])
    examples: Any = list(read_examples(path, "text-classification"))
    texts = [{"text": one.text} | ({} if one.text2 is None else {"text_pair": one.text2}) for one in examples]
    found = ran(capsys, "classify", "--model", folder / "labels", "--file", path)
    wanted = pipeline("text-classification", folder / "labels")(texts)
    assert [{name: one[name] for name in ("label", "score")} for one in found] == rounded(wanted)


def test_columns_are_named_as_for_a_training(folder: Path, tmp_path: Path, capsys: Any) -> None:
    path = file(tmp_path, "a.csv", "nr,utterance,reply\n7,A ship left.,It came back.\n")
    model = ("classify", "--model", folder / "labels", "--file", path)
    pipe = pipeline("text-classification", folder / "labels")
    found = ran(capsys, *model, "--text-column", "utterance", "--columns", "id=nr", "text2=reply")
    wanted = pipe({"text_pair": "It came back.", "text": "A ship left."})
    assert found == [{"nr": "7", "utterance": "A ship left.", "reply": "It came back.", **rounded(wanted)}]
    assert rounded(wanted) == rounded(pipe({"text": "A ship left.", "text_pair": "It came back."}))
    found = ran(capsys, *model, "--no-header", "--text-column", "3")
    assert [one["text"] for one in found] == ["reply", "It came back."]


CHOICES = {
    "a.csv": "prompt,choice1,choice2,answer\nA ship left,the harbour,the book,1\n",
    "a.json": '[{"prompt": "A ship left", "choices": ["the harbour", "the book"], "label": 0}]',
    "a.jsonl": '{"sent1": "A ship", "sent2": "left", "ending0": "the harbour", "ending1": "the book", "label": 0}',
}


@pytest.mark.parametrize("name", CHOICES)
def test_choose_reads_the_choices_of_a_file_as_a_training_does(
    folder: Path, tmp_path: Path, capsys: Any, name: str
) -> None:
    path = file(tmp_path, name, CHOICES[name])
    [example] = map(vars_of, read_examples(path, "multiple-choice"))
    [found] = ran(capsys, "choose", "--model", folder / "choices", "--file", path, "--no-inputs")
    pipe = pipeline("multiple-choice", folder / "choices")
    assert found == rounded(pipe(prompt=example["prompt"], choices=list(example["choices"])))


def vars_of(example: Any) -> dict[str, Any]:
    return {name: getattr(example, name) for name in example.__slots__}


def test_answer_reads_squad_and_questions_about_one_context(folder: Path, tmp_path: Path, capsys: Any) -> None:
    model, pipe = ("answer", "--model", folder / "answers"), pipeline("question-answering", folder / "answers")
    who = rounded(pipe(question="Who opened it?", context=RAILWAY))
    squad = {"data": [{"paragraphs": [{"context": RAILWAY, "qas": [{"id": "q1", "question": "Who opened it?"}]}]}]}
    [found] = ran(capsys, *model, "--file", file(tmp_path, "squad.json", json.dumps(squad)))
    assert found == {"id": "q1", "question": "Who opened it?", "context": RAILWAY, **who}
    context = file(tmp_path, "town.txt", RAILWAY)
    for name, text in (("a.txt", "Who opened it?\nWhen?\n"), ("a.csv", "question\nWho opened it?\nWhen?\n")):
        found, second = ran(capsys, *model, "--file", file(tmp_path, name, text), "--context-file", context)
        assert {key: found[key] for key in who} == who
        assert second["answer"]


def test_tag_reads_words_and_labels_as_a_training_does(folder: Path, tmp_path: Path, capsys: Any) -> None:
    path = file(tmp_path, "a.conll", "Anna B-PER\nleft O\n\nLisbon B-LOC\n")
    found = ran(capsys, "tag", "--model", folder / "tags", "--file", path)
    pipe = pipeline("token-classification", folder / "tags", aggregation_strategy="first", is_split_into_words=True)
    assert found == rounded(pipe([["Anna", "left"], ["Lisbon"]]))


# -- batches of many lines ---------------------------------------------------------------------------------------------

LINES = f'{{"id": "a", "text": "A ship"}}\n{{"id": "b", "text": 7}}\n{{\n{{"id": "d", "body": ""}}\n"{LONG}"\n'


def test_a_line_that_cannot_be_used_is_an_error_record_in_its_place(folder: Path, tmp_path: Path, capsys: Any) -> None:
    path = file(tmp_path, "a.jsonl", LINES)
    found = ran(capsys, "classify", "--model", folder / "labels", "--file", path, "--on-error", "skip")
    pipe = pipeline("text-classification", folder / "labels", truncation=True)
    assert found[0] == {"id": "a", "text": "A ship", **rounded(pipe({"text": "A ship"}))}
    assert found[4] == rounded(pipe({"text": LONG}))
    assert [one["index"] for one in found[1:4]] == [1, 2, 3]
    for one, text in zip(
        found[1:4], ("is 7 (int), not a str", "line 3 is not valid JSON", "line 4 has no text"), strict=True
    ):
        assert text in one["error"]


def test_errors_that_tokens_show_are_skipped_in_lists_and_streams_and_vectors(
    folder: Path, tmp_path: Path, capsys: Any
) -> None:
    texts = [LONG, "A ship", LONG, "left"] * 5
    pipe = pipeline("embeddings", folder / "plain", on_error="skip")
    for results in (pipe(texts), list(pipe(iter(texts)))):
        assert all(f"has {len(pipe.tokenizer(LONG)['input_ids'])} tokens" in str(one) for one in results[::2])
        assert np.allclose(results[3::4], pipe("left"), atol=1e-5)
    path = file(tmp_path, "a.txt", "\n".join(texts))
    words = ("embed", "--model", folder / "plain", "--file", path, "--no-truncation", "--on-error", "skip")
    records = ran(capsys, *words, "--output", tmp_path / "a.npy")
    assert [one["index"] for one in records] == list(range(0, 20, 2))
    assert records[0]["error"].endswith("; --truncation cuts it")
    vectors = np.load(tmp_path / "a.npy")
    assert np.isnan(vectors[::2]).all()
    assert np.allclose(vectors[3::4], pipe("left"), atol=1e-5)


def test_long_texts_are_cut_as_in_the_training_unless_that_is_refused(
    folder: Path, tmp_path: Path, capsys: Any
) -> None:
    model = tmp_path / "model"
    model.mkdir()
    for name in (folder / "labels").iterdir():
        (model / name.name).symlink_to(name)
    words = ("classify", LONG, "--model", model)
    pipe = pipeline("text-classification", model)
    assert ran(capsys, *words) == [rounded(pipe({"text": LONG}, truncation=True))]
    main(list(map(str, words)))
    assert f"1 row has {LENGTH} tokens, the most there may be: longer texts were cut" in capsys.readouterr().err
    assert "--truncation cuts it" in refused(capsys, *words, "--no-truncation")
    config = json.loads((model / "config.json").read_text())
    (model / "config.json").unlink()
    for kept, options in ({"truncation": True, "max_tokens": 12}, {"max_length": 12}), ({"max_tokens": -1}, {}):
        config["task_specific_params"] = {"text-classification": kept}
        (model / "config.json").write_text(json.dumps(config))
        assert ran(capsys, *words) == [rounded(pipe({"text": LONG}, truncation=True, **options))]
    config["task_specific_params"] = {"text-classification": {"truncation": False, "max_tokens": 12}}
    (model / "config.json").write_text(json.dumps(config))
    assert "--truncation cuts it" in refused(capsys, *words)


# -- the task a model was trained for --------------------------------------------------------------------------------------


def test_words_are_tagged_as_the_model_was_trained(folder: Path, tmp_path: Path, capsys: Any) -> None:
    given = training_cases.make(tmp_path, "token-classification")
    words = ["train", *training_cases.flags(given), "--framework", "pt", "--output", str(tmp_path / "run")]
    assert main([*words, "--updates", "1", "--batch-size", "4", "--warmup", "0"]) == 0
    capsys.readouterr()
    kept = RobertaConfig.from_pretrained(tmp_path / "run").task_specific_params
    assert kept == {"token-classification": {"aggregation_strategy": "first"}}
    path = tmp_path / "run" / "config.json"
    for strategy in ("first", "max"):
        path.write_text(path.read_text().replace('"first"', f'"{strategy}"'))
        pipe = pipeline("token-classification", tmp_path / "run", aggregation_strategy=strategy)
        assert ran(capsys, "tag", FRANCE, "--model", tmp_path / "run") == [rounded(pipe(FRANCE))]
    pipe = pipeline("token-classification", tmp_path / "run", aggregation_strategy="simple")
    assert ran(capsys, "tag", FRANCE, "--model", tmp_path / "run", "--aggregation", "simple") == [rounded(pipe(FRANCE))]


def test_a_training_is_gone_on_with_whether_or_not_its_config_keeps_settings(tmp_path: Path) -> None:
    given = training_cases.make(tmp_path, "text-classification")
    words = ["train", *training_cases.flags(given), "--framework", "pt", "--output", str(tmp_path / "run")]
    words += ["--updates", "1", "--batch-size", "4", "--warmup", "0"]
    assert main(words) == 0
    path = tmp_path / "run" / "checkpoints" / "step-000001" / "trainer.json"
    written = json.loads(path.read_text())
    written["agreement"]["config"]["task_specific_params"] = None  # as older versions wrote it
    path.write_text(json.dumps(written))
    assert main([*words, "--resume"]) == 0


def test_a_training_takes_every_number_of_a_recipe() -> None:
    told: dict[str, Any] = {"learning_rate": 1e-4, "batch_size": 8, "epochs": 3.0, "beta2": 0.99, "decays_all": False}
    made = Training(task="mlm", model="m", train=["t"], output="o", recipe="roberta-base", **told)
    assert {name: getattr(made.chosen_recipe, name) for name in told} == told
    assert made.chosen_recipe.updates is None
    assert Training(task="mlm", model="m", train=["t"], output="o").chosen_recipe == default_recipe("mlm")
    with pytest.raises(ValueError, match="learning_rate=-1 must be a number of at least 0"):
        Training(task="mlm", model="m", train=["t"], output="o", learning_rate=-1)


# -- ways out that exist -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "text", "ways"),
    [
        (["classify", "--file", "a.tsv"], "a film\tgood\n", 
         ["--no-header --text-column 1", "--no-header --columns text=1 text2=2"]),
        (["classify", "--file", "a.tsv"], "utterance\treply\na film\tThe ship left.\n",
         ["--no-header", "--text-column utterance"]),
        (["embed", "--file", "a.csv"], "label,body\n1,a film\n", ["--text-column body", "--no-header --text-column 2"]),
        (["answer", "--file", "a.tsv"], "q\tc\nWho?\tNobody.\n", ["--columns question=q context=c", "--no-header"]),
        (["classify", "--file", "a.jsonl"], '{"body": "a"}', ["--text-column body"]),
        (["classify", "--file", "a.tsv", "--no-truncation"], f"text\n{LONG}\n", ["--truncation"]),
        (["fill-mask", "--file", "a.txt", "--top-k", "2", "--max-length", "9", "--no-truncation"], "a<mask>",
         ["--truncation"]),
        (["answer", "--file", "a.tsv", "--max-seq-len", "12", "--doc-stride", "9"],
         f"question\tcontext\nWho left the harbour?\t{RAILWAY}\n",
         ["--doc-stride 1 --max-question-len 1", "--max-question-len 1 --doc-stride 0", "--max-seq-len 60"]),
    ],
)  # fmt: skip
def test_every_way_out_of_an_error_is_one(
    folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: Any,
    words: list[str],
    text: str,
    ways: list[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    file(tmp_path, words[2], text)
    names = {"classify": "labels", "embed": "plain", "answer": "answers", "fill-mask": "words"}
    all_ = [*words, "--model", str(folder / names[words[0]])]
    error = refused(capsys, *all_)
    for named in re.findall(r"--[a-z][a-z-]+", error):  # each is an option of this command
        assert f"{named} " in parser_help(words[0])
    assert not re.search(r"\w=(True|False|None|\{)", error)
    for way in ways:
        assert {word for word in way.split() if word.startswith("--")} <= set(re.findall(r"--[a-z][a-z-]+", error))
        kept = [word for word in all_ if word not in ("--no-truncation",)]
        ran(capsys, *kept, *way.split())


def parser_help(command: str) -> str:
    text = io.StringIO()
    with contextlib.redirect_stdout(text), contextlib.suppress(SystemExit):
        parser().parse_args([command, "--help"])
    return re.sub(r"[\s,]+", " ", text.getvalue())


@pytest.mark.parametrize("command", ["classify", "tag", "answer", "choose", "generate"])
def test_a_command_without_a_model_that_fits_says_how_to_get_one(command: str, capsys: Any) -> None:
    error = refused(capsys, command, "Who?", "Nobody.")
    assert "--model" in error
    assert "docs/training.md" in error
    assert "bundled" not in parser_help(command)
    assert "the small bundled one" in parser_help("fill-mask")


def test_inputs_are_looked_at_before_a_model_is_loaded(tmp_path: Path, capsys: Any) -> None:
    assert "no-such.txt: there is no such file" in refused(capsys, "classify", "--file", "no-such.txt", "--model", "x")
    path = file(tmp_path, "a.tsv", "utterance\treply\na film\tThe ship left.\n")
    assert "may name the columns" in refused(capsys, "classify", "--file", path, "--model", "x")


# -- quiet, and in threads ---------------------------------------------------------------------------------------------


def test_a_warning_is_said_once(folder: Path, tmp_path: Path, capsys: Any) -> None:
    path = file(tmp_path, "a.txt", "\n".join([LONG] * 40))
    assert main(["tag", "--model", str(folder / "tags"), "--file", str(path)]) == 0
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2  # a window of 16, then one with the others
    assert "inputs[0] and 15 more have over" in lines[0]
    assert "pass --stride 32" in lines[0]
    assert lines[1].endswith("1 more warnings of this kind")


def test_greetings_of_libraries_are_left_out_and_all_else_is_said(capfd: pytest.CaptureFixture[str]) -> None:
    greeting = "WARNING: All log messages before absl::InitializeLog() is called are written to STDERR\n"
    with quiet.greetings_left_out():
        os.write(2, greeting.encode() + b"I0000 00:00:1795824952.636811   25985 cudart_stub.cc:31] Could not find\n")
        os.write(2, b"an error\n")
    assert capfd.readouterr().err == "an error\n"


@pytest.mark.parametrize("framework", ["tf", "flax"])
def test_a_command_is_quiet(folder: Path, framework: str) -> None:
    get_backend(framework)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("TF_")}
    words = ["classify", "A ship", "--model", str(folder / "labels"), "--framework", framework, "--threads", "1"]
    done = subprocess.run(
        [sys.executable, "-m", "roberta", *words], capture_output=True, text=True, check=False, env=environment
    )
    assert (done.returncode, done.stderr) == (0, "")


def groups(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


@pytest.mark.parametrize(
    ("files", "wanted"),
    [
        ({}, 8),
        ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "250000 100000\n"}, 3),
        ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "max 100000\n"}, 8),
        ({"proc/self/cgroup": "0::/a/b\n", "sys/fs/cgroup/a/cpu.max": "100000 100000\n"}, 1),
        (
            {"proc/self/cgroup": "4:cpu,cpuacct:/docker/x\n2:memory:/y\n",
             "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us": "50000\n",
             "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us": "100000\n"}, 1,
        ),
        (
            {"proc/self/cgroup": "1:cpu:/\n", "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1\n",
             "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n"}, 8,
        ),
    ],
)  # fmt: skip
def test_processors_are_those_that_a_container_may_use(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, files: dict[str, str], wanted: int
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    assert threads.usable(groups(tmp_path, files)) == wanted


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*threads.VARIABLES, "TF_NUM_INTEROP_THREADS"):
        monkeypatch.setenv(name, "x")  # put back at the end
        monkeypatch.delenv(name)


@pytest.mark.usefixtures("environment")
def test_threads_are_those_asked_for_or_what_a_container_has(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 8)
    monkeypatch.setattr(threads, "usable", lambda: 2)
    threads.set_threads(None)
    assert {os.environ[name] for name in threads.VARIABLES} == {"2"}
    threads.set_threads(3)
    assert {os.environ[name] for name in threads.VARIABLES} == {"3"}
    with pytest.raises(ValueError, match="--threads 0 must be at least 1"):
        threads.set_threads(0)


# -- checkpoints that are damaged, or of another kind -------------------------------------------------------------------


def damaged(source: Path, target: Path, change: Any) -> Path:
    """A copy of a model whose tensors a function changes."""
    target.mkdir()
    for path in source.iterdir():
        (target / path.name).write_bytes(path.read_bytes())
    tensors = load_file(source / "model.safetensors")
    change(tensors)
    save_file(tensors, target / "model.safetensors")
    return target


@pytest.mark.parametrize(("command", "model"), [("classify", "labels"), ("embed", "plain"), ("choose", "choices")])
def test_weights_that_are_nan_are_named_instead_of_answered(
    folder: Path, tmp_path: Path, capsys: Any, command: str, model: str
) -> None:
    name = "encoder.layer.1.output.dense.bias"

    def change(tensors: dict[str, np.ndarray]) -> None:
        tensors[name if name in tensors else f"roberta.{name}"][3] = np.nan

    texts = ["A ship", "left", "came"] if command == "choose" else ["A ship"]
    error = refused(capsys, command, *texts, "--model", damaged(folder / model, tmp_path / "nan", change))
    assert f"{name} (nan in 1 of 24 values)" in error
    assert "holds nan" in error


def test_numbers_that_overflow_are_no_weights_that_are_nan(folder: Path, tmp_path: Path, capsys: Any) -> None:
    def change(tensors: dict[str, np.ndarray]) -> None:
        tensors["classifier.out_proj.weight"][:] = 3e38

    model = damaged(folder / "labels", tmp_path / "large", change)
    assert "though all its weights are finite" in refused(capsys, "classify", "A ship", "--model", model)


def test_one_error_lists_all_that_does_not_fit(folder: Path, tmp_path: Path, capsys: Any) -> None:
    def change(tensors: dict[str, np.ndarray]) -> None:
        tensors["roberta.encoder.layer.0.output.dense.bias"] = np.zeros(7, np.float32)
        tensors["classifier.dense.bias"] = np.zeros(7, np.float32)
        del tensors["classifier.out_proj.bias"]
        del tensors["roberta.encoder.layer.1.output.dense.bias"]
        tensors["roberta.encoder.layer.9.output.dense.bias"] = np.zeros(24, np.float32)
        tensors["another.weight"] = np.zeros(24, np.float32)

    error = refused(capsys, "classify", "A ship", "--model", damaged(folder / "labels", tmp_path / "odd", change))
    assert "ignore_mismatched_sizes" not in error  # no command has this option
    for part in ("layer.0.output.dense.bias is [7]", "classifier.dense.bias is [7]",
                 "classifier.out_proj.bias", "missing: roberta.encoder.layer.1",
                 "encoder.layer.9.output", "another.weight"):  # fmt: skip
        assert part in error


def test_the_tokenizer_of_another_model_is_warned_of(folder: Path, tmp_path: Path, capsys: Any) -> None:
    def change(tensors: dict[str, np.ndarray]) -> None:
        words = tensors["roberta.embeddings.word_embeddings.weight"]
        tensors["roberta.embeddings.word_embeddings.weight"] = np.concatenate([words] * 2)

    model = damaged(folder / "labels", tmp_path / "wide", change)
    config = json.loads((model / "config.json").read_text())
    rows = config["vocab_size"]
    (model / "config.json").write_text(json.dumps({**config, "vocab_size": 2 * rows}))
    assert main(["classify", "A ship", "--model", str(model)]) == 0
    assert f"the tokenizer has {rows} tokens, and the model embeddings for {2 * rows}" in capsys.readouterr().err
    assert main(["classify", "A ship", "--model", str(model), "--tokenizer", str(folder / "labels")]) == 0
    assert "give the model's own as tokenizer" in capsys.readouterr().err

"""From names to files and from files to the hub, against a small server with the endpoints that the client uses."""

from __future__ import annotations

import base64
import hashlib
import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import numpy as np
import pytest
from checkpoints import draw, save, small_config
from huggingface_hub import constants, file_download

from roberta import CheckpointError, RobertaConfig
from roberta.common.checkpoint.checkpoint import open_checkpoint
from roberta.common.storage.hub import PushesToHub, local_checkpoint, local_folder, upload_folder

NAME = "some-team/some-model"
CONFIG = RobertaConfig().to_json_string().encode()
Files = dict[str, bytes]


class FakeHub:
    """Repositories in memory: name -> branch -> files; the name of a commit is a hash of its files."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.branches: dict[str, dict[str, Files]] = {}
        self.commits: dict[str, Files] = {}
        self.gated: set[str] = set()
        self.private: dict[str, Any] = {}
        self.read_only = False
        self.is_down = False
        self.requests: list[tuple[str, str]] = []
        self.tokens: set[str | None] = set()
        self.messages: list[str] = []

    def put(self, name: str, files: Files, branch: str = "main") -> str:
        self.branches.setdefault(name, {})[branch] = dict(files)
        return self.commit(name, branch)

    def commit(self, name: str, branch: str) -> str:
        files = self.branches[name][branch]
        sha = hashlib.sha1(repr(sorted(files.items())).encode()).hexdigest()
        self.commits[sha] = dict(files)
        return sha

    def files(self, method: str = "GET") -> list[str]:
        """The paths in the repository of files that were downloaded (GET) or looked up (HEAD)."""
        return [path.split("/", 5)[5] for m, path in self.requests if m == method and "/resolve/" in path]


class Handler(BaseHTTPRequestHandler):
    hub: FakeHub

    def log_message(self, *_: Any) -> None:
        pass

    def do_HEAD(self) -> None:
        self.answer()

    def do_GET(self) -> None:
        self.answer()

    def do_POST(self) -> None:
        self.answer()

    def answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        path = unquote(urlsplit(self.path).path)
        self.hub.requests.append((self.command, path))
        self.hub.tokens.add(self.headers.get("Authorization"))
        if self.hub.is_down:
            self.send(503, b"{}")
        elif self.command == "POST":
            self.post(path.split("/")[1:], body)
        else:
            self.get(path.split("/")[1:])

    def get(self, parts: list[str]) -> None:
        is_api = parts[:2] == ["api", "models"]
        team, model, verb, revision, *rest = (parts[2:] if is_api else parts) + ["main"] * 4
        name = f"{team}/{model}"
        branches = self.hub.branches.get(name)
        if branches is None:
            return self.send(404, b"{}", {"X-Error-Code": "RepoNotFound"})
        sha = self.hub.commit(name, revision) if revision in branches else revision
        files = self.hub.commits.get(sha)
        if files is None:
            return self.send(404, b"{}", {"X-Error-Code": "RevisionNotFound"})
        if verb == "revision":
            return self.json({"id": name, "sha": sha, "siblings": [{"rfilename": file} for file in files]})
        if verb == "tree":
            entries = [{"type": "file", "path": p, "size": len(c), "oid": "0" * 40} for p, c in files.items()]
            return self.json(entries)
        if name in self.hub.gated:
            return self.send(403, b"{}", {"X-Error-Code": "GatedRepo"})
        content = files.get("/".join(rest[: len(rest) - 4]))
        if content is None:
            return self.send(404, b"{}", {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": sha})
        self.send(200, content, {"X-Repo-Commit": sha, "ETag": f'"{hashlib.sha1(content).hexdigest()}"'})

    def post(self, parts: list[str], body: bytes) -> None:
        if self.hub.read_only:
            return self.send(403, b"{}", {"X-Error-Message": "no write access"})
        if parts == ["api", "repos", "create"]:
            asked = json.loads(body)
            name = f"{asked.get('organization') or 'me'}/{asked['name']}"
            self.hub.private[name] = asked.get("private") or asked.get("visibility") == "private"
            status = 409 if name in self.hub.branches else 200
            self.hub.branches.setdefault(name, {"main": {}})
            return self.json({"url": f"{self.hub.url}/{name}"}, status)
        if parts == ["api", "validate-yaml"]:  # requested for a model card
            return self.json({"warnings": [], "errors": []})
        name, verb, branch = "/".join(parts[2:4]), parts[4], "/".join(parts[5:])
        branches = self.hub.branches[name]
        if verb == "branch":
            branches.setdefault(branch, dict(branches["main"]))
            return self.json({})
        if verb == "preupload":
            asked = json.loads(body)["files"]
            return self.json(
                {"files": [{"path": f["path"], "uploadMode": "regular", "shouldIgnore": False} for f in asked]}
            )
        assert verb == "commit"
        self.commit(branches[branch], [json.loads(line) for line in body.splitlines()])
        return self.json(
            {"commitUrl": f"{self.hub.url}/{name}/commit/{'0' * 40}", "commitOid": "0" * 40,
             "pullRequestUrl": f"{self.hub.url}/{name}/discussions/1"}
        )  # fmt: skip

    def commit(self, files: Files, operations: list[dict[str, Any]]) -> None:
        for operation in operations:
            value = operation["value"]
            match operation["key"]:
                case "header":
                    self.hub.messages.append(value["summary"])
                case "file":
                    files[value["path"]] = base64.b64decode(value["content"])
                case "deletedFile":
                    del files[value["path"]]

    def json(self, value: Any, status: int = 200) -> None:
        self.send(status, json.dumps(value).encode(), {"Content-Type": "application/json"})

    def send(self, status: int, content: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for key, value in {"Content-Length": str(len(content)), **(headers or {})}.items():
            self.send_header(key, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    """A hub on this machine, with an empty cache, and without a login."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (Handler,), {}))
    url = f"http://127.0.0.1:{server.server_port}"
    server.RequestHandlerClass.hub = fake = FakeHub(url)  # type: ignore[attr-defined]
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(constants, "ENDPOINT", url)
    template = url + "/{repo_id}/resolve/{revision}/{filename}"
    for module in (constants, file_download):  # the second name was used before huggingface_hub 1.0
        monkeypatch.setattr(module, "HUGGINGFACE_CO_URL_TEMPLATE", template, raising=False)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "no-token"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_PROGRESS_BARS", True)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield fake
    reset_client()
    server.shutdown()
    thread.join()
    server.server_close()


def index(*shards: object) -> bytes:
    return json.dumps({"weight_map": {f"tensor.{i}": shard for i, shard in enumerate(shards)}}).encode()


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


# -- what is fetched -----------------------------------------------------------------------------------------

ALL_FORMATS = {
    "config.json": CONFIG,
    "flax_model.msgpack": b"flax",
    "model.fp16.safetensors": b"half",
    "model.safetensors": b"whole",
    "modeling_evil.py": b"raise SystemExit",
    "pytorch_model.bin": b"torch",
    "tf_model.h5": b"keras",
}


def test_a_name_fetches_config_and_the_best_weights_and_nothing_else(hub):
    hub.put(NAME, ALL_FORMATS)
    folder = local_checkpoint(NAME)
    assert names(folder) == ["config.json", "model.safetensors"]
    assert (folder / "model.safetensors").read_bytes() == b"whole"
    assert sorted(hub.files()) == ["config.json", "model.safetensors"]


@pytest.mark.parametrize(
    ("formats", "variant", "expected"),
    [
        (("pt",), None, "pytorch_model.bin"),
        (("tf", "safetensors"), None, "tf_model.h5"),
        (("flax", "safetensors"), None, "flax_model.msgpack"),
        (None, "fp16", "model.fp16.safetensors"),
    ],
)
def test_formats_and_variant_choose_the_weights(hub, formats, variant, expected):
    hub.put(NAME, ALL_FORMATS)
    assert names(local_checkpoint(NAME, formats=formats, variant=variant)) == ["config.json", expected]


@pytest.mark.parametrize(
    ("variant", "index_name", "shard"),
    [
        (None, "model.safetensors.index.json", "model-{}.safetensors"),
        ("fp16", "model.safetensors.index.fp16.json", "model.fp16-{}.safetensors"),
        (None, "pytorch_model.bin.index.json", "pytorch_model-{}.bin"),
        (None, "tf_model.h5.index.json", "tf_model-{}.h5"),
        (None, "flax_model.msgpack.index.json", "flax_model-{}.msgpack"),
    ],
)
def test_an_index_brings_its_shards(hub, variant, index_name, shard):
    shards = [shard.format(f"0000{i}-of-00002") for i in (1, 2)]
    hub.put(NAME, {"config.json": CONFIG, index_name: index(*shards, shards[0]), **dict.fromkeys(shards, b"x")})
    assert names(local_checkpoint(NAME, variant=variant)) == sorted(["config.json", index_name, *shards])


def test_an_adapter_is_fetched_alone_or_beside_the_weights(hub):
    adapter = {"adapter_config.json": b"{}", "adapter_model.safetensors": b"a"}
    hub.put(NAME, {**adapter, "README.md": b"", "training_args.bin": b""})
    assert names(local_checkpoint(NAME)) == sorted(adapter)
    hub.put("some-team/beside", {**adapter, "config.json": CONFIG, "model.safetensors": b"w"})
    assert names(local_checkpoint("some-team/beside")) == sorted([*adapter, "config.json", "model.safetensors"])


def test_an_adapter_is_uploaded(hub, tmp_path):
    folder = folder_with(tmp_path, "adapter_config.json", "adapter_model.safetensors", "notes.txt")
    upload_folder(folder, repo_id=NAME)
    assert {"adapter_config.json", "adapter_model.safetensors"} == hub.branches[NAME]["main"].keys()


def test_a_subfolder_is_looked_into_and_only_it(hub):
    hub.put(NAME, {f"{where}{name}": c for where in ("", "deep/er/") for name, c in ALL_FORMATS.items()})
    folder = local_checkpoint(NAME, subfolder="deep/er")
    assert names(folder) == ["config.json", "model.safetensors"]
    assert sorted(hub.files()) == ["deep/er/config.json", "deep/er/model.safetensors"]


def test_a_revision_is_a_branch_or_a_commit(hub):
    hub.put(NAME, {"config.json": CONFIG, "model.safetensors": b"main"})
    sha = hub.put(NAME, {"config.json": CONFIG, "model.safetensors": b"other"}, branch="other")
    for revision in ("other", sha):
        assert (local_checkpoint(NAME, revision=revision) / "model.safetensors").read_bytes() == b"other"


def test_config_and_weights_are_of_one_commit_though_the_branch_moves(hub, monkeypatch):
    hub.put(NAME, {"config.json": CONFIG, "model.safetensors": b"old"})
    send = Handler.send

    def move_then_send(self: Handler, status: int, content: bytes, *rest: Any) -> None:
        send(self, status, content, *rest)
        if content == CONFIG and self.command == "GET":
            self.hub.put(NAME, {"config.json": b"{}", "model.safetensors": b"new"})

    monkeypatch.setattr(Handler, "send", move_then_send)
    folder = local_checkpoint(NAME)
    assert (folder / "config.json").read_bytes() == CONFIG
    assert (folder / "model.safetensors").read_bytes() == b"old"


def test_local_folder_fetches_the_named_files_that_are_there(hub):
    hub.put(NAME, ALL_FORMATS)
    folder = local_folder(NAME, files=("config.json", "generation_config.json"))
    assert names(folder) == ["config.json"]
    assert hub.files() == ["config.json"]


def test_the_transformer_of_sentence_transformers_is_found_in_its_folder(hub):
    part = {"type": "sentence_transformers.models.Transformer", "path": "0_Transformer"}
    files = {"modules.json": json.dumps([part]).encode(), "README.md": b"about"}
    hub.put(NAME, {**files, **{f"0_Transformer/{name}": b"{}" for name in ("config.json", "model.safetensors", "x")}})
    folder = local_checkpoint(NAME)
    assert folder.name == "0_Transformer"
    assert names(folder) == ["config.json", "model.safetensors"]
    assert local_folder(NAME, files=("config.json",)) == folder
    assert local_folder(NAME, files=("config.json",), local_files_only=True) == folder
    assert names(local_folder(NAME, files=("README.md",), in_transformer=False)) == [
        "0_Transformer", "README.md", "modules.json"
    ]  # fmt: skip


def test_a_config_loads_by_name(hub):
    hub.put(NAME, {"config.json": RobertaConfig(hidden_size=24, num_attention_heads=3).to_json_string().encode()})
    assert RobertaConfig.from_pretrained(NAME).hidden_size == 24


def test_the_token_is_sent_and_only_when_there_is_one(hub):
    hub.put(NAME, ALL_FORMATS)
    local_checkpoint(NAME)
    assert hub.tokens == {None}
    hub.tokens.clear()
    local_checkpoint(NAME, token="hf_secret", force_download=True)
    assert hub.tokens == {"Bearer hf_secret"}


# -- the cache -----------------------------------------------------------------------------------------------


def test_the_second_load_downloads_nothing_and_force_download_does(hub):
    hub.put(NAME, ALL_FORMATS)
    first = local_checkpoint(NAME)
    hub.requests.clear()
    assert local_checkpoint(NAME) == first
    assert hub.files() == []
    local_checkpoint(NAME, force_download=True)
    assert sorted(hub.files()) == ["config.json", "model.safetensors"]


def test_cache_dir_is_where_the_files_go(hub, tmp_path):
    hub.put(NAME, ALL_FORMATS)
    assert local_checkpoint(NAME, cache_dir=tmp_path / "mine").is_relative_to(tmp_path / "mine")


def test_local_files_only_uses_the_cache_and_asks_nobody(hub):
    shards = {f"model-0000{i}-of-00002.safetensors": b"x" for i in (1, 2)}
    hub.put(NAME, {"config.json": CONFIG, "model.safetensors.index.json": index(*shards), **shards})
    first = local_checkpoint(NAME)
    hub.requests.clear()
    assert local_checkpoint(NAME, local_files_only=True) == first
    assert local_folder(NAME, files=("config.json",), local_files_only=True) == first
    assert hub.requests == []


@pytest.mark.parametrize("trouble", ["down", "offline"])
def test_a_hub_that_does_not_answer_leaves_the_cache(hub, monkeypatch, trouble):
    hub.put(NAME, ALL_FORMATS)
    first = local_checkpoint(NAME)
    make_trouble(trouble, hub, monkeypatch)
    hub.requests.clear()
    assert local_checkpoint(NAME) == first
    assert local_folder(NAME, files=("config.json",)) == first
    assert len(hub.requests) <= 2  # once per call: a hub that hangs costs one time-out, not one per file


def make_trouble(trouble: str, hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    if trouble == "down":
        hub.is_down = True
    elif trouble == "unreachable":
        monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")  # the discard port refuses connections at once
    else:
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
        reset_client()
        monkeypatch.setattr(hub, "requests", [])


def reset_client() -> None:
    """The client decides on offline mode when it opens a session."""
    import huggingface_hub

    close = getattr(huggingface_hub, "close_session", None)
    if close is None:
        from huggingface_hub.utils import reset_sessions as close
    close()


# -- folders -------------------------------------------------------------------------------------------------


def test_a_folder_is_itself_and_the_hub_is_not_asked(hub, tmp_path):
    (tmp_path / "model" / "inner").mkdir(parents=True)
    for path in (tmp_path / "model", str(tmp_path / "model")):
        assert local_folder(path, files=("config.json",)) == tmp_path / "model"
        assert local_checkpoint(path) == tmp_path / "model"
        assert local_checkpoint(path, subfolder="inner") == tmp_path / "model" / "inner"
    assert hub.requests == []


def test_a_folder_goes_before_a_name(hub, tmp_path, monkeypatch):
    hub.put(NAME, ALL_FORMATS)
    (tmp_path / NAME).mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    assert local_checkpoint(NAME) == Path(NAME)


@pytest.mark.parametrize(
    "name",
    [
        "./some/model",
        "/no/such/model",
        "~/model",
        "one/two/three",
        "..",
        Path("some-team/some-model"),
        "c:\\x",
    ],
)
def test_what_can_only_be_a_path_is_not_looked_for_on_the_hub(hub, tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    if name == "..":
        name = "./.."  # which exists; its subfolder does not
    with pytest.raises(CheckpointError, match=r"does not exist; give a folder|has no folder sub"):
        local_checkpoint(name, subfolder="sub")
    assert hub.requests == []


def test_a_file_is_no_folder(hub, tmp_path):
    (tmp_path / "model.safetensors").touch()
    with pytest.raises(CheckpointError, match=r"model\.safetensors is a file; give the folder"):
        local_checkpoint(tmp_path / "model.safetensors")


# -- errors --------------------------------------------------------------------------------------------------


def refused(match: str, name: str = NAME, **options: Any) -> None:
    """Both entry points raise the same error."""
    with pytest.raises(CheckpointError, match=match) as found:
        local_checkpoint(name, **options)
    assert name in str(found.value)
    with pytest.raises(CheckpointError, match=match):
        local_folder(name, files=("config.json",), **options)


def test_a_missing_name(hub):
    refused("neither a folder nor a model on the hub; check it, or if it is private log in", "no-team/no-model")


@pytest.mark.parametrize("name", ["", "a--b", "some team", "-x", "x" * 97, "some-team/model.git"])
def test_a_malformed_name(hub, name):
    refused('neither a folder nor a name on the hub, which is "name" or "organisation/name"', name)
    refused(
        'neither a folder nor a name on the hub, which is "name" or "organisation/name"',
        name,
        local_files_only=True,
    )
    assert hub.requests == []


def test_a_missing_revision(hub):
    hub.put(NAME, ALL_FORMATS)
    refused("has no revision 'v9'; give a branch, a tag or a commit", revision="v9")


def test_a_missing_subfolder(hub):
    hub.put(NAME, ALL_FORMATS)
    refused(r"revision main, subfolder nowhere\) has none of", subfolder="nowhere")


def test_a_gated_model(hub):
    hub.put(NAME, ALL_FORMATS)
    hub.gated.add(NAME)
    refused("is gated; ask for access on its page, then log in")


def test_a_token_of_nobody(hub):
    hub.put(NAME, ALL_FORMATS)
    refused("token=True, but nobody is logged in; log in", token=True)


@pytest.mark.parametrize("options", [{"local_files_only": True}, {}])
def test_offline_and_not_in_the_cache(hub, monkeypatch, options):
    hub.put(NAME, ALL_FORMATS)
    if not options:
        make_trouble("offline", hub, monkeypatch)
    refused("neither a folder nor in the hub's cache, and the hub is not asked .*fetch it once without", **options)
    assert hub.requests == []


@pytest.mark.parametrize("trouble", ["down", "unreachable"])
def test_out_of_reach_and_not_in_the_cache(hub, monkeypatch, trouble):
    make_trouble(trouble, hub, monkeypatch)
    refused("there is no file or folder .*, and the hub, .*, does not answer .*; check the path, or the connection")


def test_a_config_in_the_cache_is_not_yet_a_checkpoint(hub):
    hub.put(NAME, ALL_FORMATS)
    local_folder(NAME, files=("config.json",))
    with pytest.raises(CheckpointError, match="nor in the hub's cache"):
        local_checkpoint(NAME, local_files_only=True)


def test_a_shard_that_is_not_in_the_cache_is_named(hub):
    hub.put(NAME, {"config.json": CONFIG, "model.safetensors.index.json": index("a.safetensors")})
    with pytest.raises(CheckpointError, match=r"a\.safetensors of some-team/some-model .* was not found"):
        local_checkpoint(NAME)
    with pytest.raises(CheckpointError, match=r"a\.safetensors of .* nor in the hub's cache"):
        local_checkpoint(NAME, local_files_only=True)


def test_missing_weights_say_what_there_is(hub):
    hub.put(NAME, {"config.json": CONFIG, "tf_model.h5": b"x"})
    with pytest.raises(CheckpointError, match=r"none of model\.safetensors, .*; it has tf_model\.h5; check .*from_"):
        local_checkpoint(NAME, formats=("safetensors", "pt"))
    assert hub.files() == []


def test_no_weights_at_all(hub):
    hub.put(NAME, {"config.json": CONFIG})
    with pytest.raises(CheckpointError, match=r"flax_model\.msgpack\.index\.json; it has no weights"):
        local_checkpoint(NAME)


@pytest.mark.parametrize(
    "shard",
    ["../model.safetensors", "a/b.safetensors", "/etc/passwd.safetensors", "..\\x.safetensors", "..", "",
     "x.bin", 3, "https://example.org/x.safetensors"],
)  # fmt: skip
def test_an_index_that_names_no_file_beside_it_is_refused_before_any_shard(hub, shard):
    good = "model-00001-of-00002.safetensors"
    hub.put(NAME, {"config.json": CONFIG, "model.safetensors.index.json": index(good, shard), good: b"x"})
    with pytest.raises(CheckpointError, match=r"index\.json names .*; it is not opened"):
        local_checkpoint(NAME)
    assert sorted(hub.files("HEAD")) == ["config.json", "model.safetensors.index.json"]


@pytest.mark.parametrize(
    "text", [b"", b"[]", b"{}", b'{"weight_map": []}', b'{"weight_map": {}}', b"\xff", b"[" * 10**5]
)
def test_an_index_that_is_none(hub, text):
    hub.put(NAME, {"config.json": CONFIG, "model.safetensors.index.json": text})
    with pytest.raises(CheckpointError, match=r"index\.json is not an index of shards"):
        local_checkpoint(NAME)


# -- to the hub ----------------------------------------------------------------------------------------------


def folder_with(tmp_path: Path, *files: str) -> Path:
    folder = tmp_path / "folder"
    folder.mkdir()
    for file in files:
        (folder / file).parent.mkdir(exist_ok=True)
        (folder / file).write_bytes(file.encode())
    return folder


def test_upload_sends_the_model_in_one_commit_and_leaves_other_files_at_home(hub, tmp_path):
    folder = folder_with(
        tmp_path, "config.json", "model.safetensors", "README.txt", "secrets.env", "optimizer.pt",
        "logs/events", "vocab.json",
    )  # fmt: skip
    address = upload_folder(folder, repo_id="me/new", private=True, commit_message="first")
    assert address == f"{hub.url}/me/new/commit/{'0' * 40}"
    assert sorted(hub.branches["me/new"]["main"]) == ["config.json", "model.safetensors", "vocab.json"]
    assert hub.branches["me/new"]["main"]["model.safetensors"] == b"model.safetensors"
    assert hub.private["me/new"]
    assert hub.messages == ["first"]


def test_upload_removes_only_weights_that_the_new_ones_replace(hub, tmp_path):
    old = [
        "model-00001-of-00002.safetensors",
        "model-00002-of-00002.safetensors",
        "model.safetensors.index.json",
    ]
    kept = [
        "pytorch_model.bin",
        "model.fp16.safetensors",
        "model.fp16-00001-of-00001.safetensors",
        "notes.md",
    ]
    hub.put(NAME, dict.fromkeys([*old, *kept, "model.safetensors"], b"old"))
    upload_folder(folder_with(tmp_path, "model.safetensors"), repo_id=NAME)
    assert sorted(hub.branches[NAME]["main"]) == sorted([*kept, "model.safetensors"])
    assert hub.branches[NAME]["main"]["model.safetensors"] == b"model.safetensors"
    assert len(hub.messages) == 1


def test_upload_of_shards_removes_the_single_file(hub, tmp_path):
    hub.put(NAME, {"model.safetensors": b"old", "config.json": b"old"})
    new = ["model-00001-of-00001.safetensors", "model.safetensors.index.json"]
    upload_folder(folder_with(tmp_path, *new), repo_id=NAME)
    assert sorted(hub.branches[NAME]["main"]) == sorted(["config.json", *new])


def test_upload_to_a_branch_makes_it(hub, tmp_path):
    hub.put(NAME, {"config.json": b"old"})
    upload_folder(folder_with(tmp_path, "config.json"), repo_id=NAME, revision="try")
    assert hub.branches[NAME] == {"main": {"config.json": b"old"}, "try": {"config.json": b"config.json"}}


def test_upload_as_a_pull_request_returns_its_address(hub, tmp_path):
    hub.put(NAME, {"config.json": b"old"})
    address = upload_folder(folder_with(tmp_path, "config.json"), repo_id=NAME, create_pr=True)
    assert address == f"{hub.url}/{NAME}/discussions/1"


def test_an_upload_that_is_refused(hub, tmp_path):
    hub.read_only = True
    with pytest.raises(CheckpointError, match=r"could not upload to me/x: .*403.*; check .* that may write there"):
        upload_folder(folder_with(tmp_path, "config.json"), repo_id="me/x")


def test_an_upload_of_nothing(hub, tmp_path):
    with pytest.raises(CheckpointError, match="has nothing to upload; save_pretrained writes"):
        upload_folder(folder_with(tmp_path, "notes.txt"), repo_id=NAME)
    assert hub.requests == []


def test_an_uploaded_model_comes_back(hub):
    config = small_config("ForMaskedLM")
    tensors = draw(config, "ForMaskedLM")

    class Model(PushesToHub):
        def save_pretrained(
            self, folder: Path, max_shard_size: str, safe_serialization: bool, variant: str | None = None
        ) -> None:
            assert safe_serialization
            save(folder, config, tensors, max_shard_size=max_shard_size, variant=variant)

    Model().push_to_hub("me/mlm", max_shard_size="30KB", variant="v")
    folder = local_checkpoint("me/mlm", variant="v")
    assert len(list(folder.glob("model.v-*.safetensors"))) > 1
    found = open_checkpoint(folder, variant="v").tensors
    assert found.keys() == tensors.keys()
    for name, tensor in tensors.items():
        np.testing.assert_array_equal(found[name].load(), tensor)
    assert hub.messages == ["Upload model"]


CARDS = [
    (None, b"---\ntags:\n- one\n- two\n---\n# it\n"),
    (b"---\nlicense: mit\ntags:\n- old\n- one\n---\nText.\n",
     b"---\nlicense: mit\ntags:\n- old\n- one\n- two\n---\nText.\n"),
]  # fmt: skip


@pytest.mark.parametrize(("before", "after"), CARDS, ids=["a new card", "a card that is there"])
def test_a_config_is_pushed_in_the_words_of_transformers(hub, before, after):
    if before is not None:
        hub.put("me/it", {"README.md": before, "notes.md": b"stay"})
    config = RobertaConfig(vocab_size=7)
    address = config.push_to_hub(
        "me/it", use_temp_dir=True, private=True, token="key", max_shard_size="10GB", safe_serialization=True,
        tags=["one", "two"],
    )  # fmt: skip
    assert address == f"{hub.url}/me/it/commit/{'0' * 40}"
    files = hub.branches["me/it"]["main"]
    assert files["config.json"] == config.to_json_string().encode()
    assert files["README.md"] == after
    assert ("notes.md" in files) == (before is not None)
    assert hub.messages == ["Upload config"]
    assert hub.tokens == {"Bearer key"}
    assert RobertaConfig.from_pretrained("me/it")._commit_hash == hub.commit("me/it", "main")


def test_a_push_from_a_folder_of_the_name_leaves_the_folder(hub, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    RobertaConfig().push_to_hub("me/it", use_temp_dir=False, organization="team", use_auth_token="key")
    assert hub.branches["team/it"]["main"].keys() == {"config.json"}
    assert names(tmp_path / "it") == ["config.json"]
    assert hub.tokens == {"Bearer key"}


def test_an_argument_of_a_push_that_is_none_is_named(hub):
    with pytest.raises(
        TypeError, match=r"push_to_hub does not know \['commit_mesage'\] \(did you mean \"commit_message"
    ):
        RobertaConfig().push_to_hub("me/it", commit_mesage="x")
    with pytest.raises(TypeError, match="variant"):
        RobertaConfig().push_to_hub("me/it", variant="x")
    assert hub.requests == []


def test_importing_the_module_does_not_import_the_client():
    code = "import sys, roberta.common.storage.hub; assert 'huggingface_hub' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)

from __future__ import annotations

import hashlib
import json
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import huggingface_hub
import pytest
from huggingface_hub import constants
from huggingface_hub.utils import disable_progress_bars, enable_progress_bars

from sensorium.core.errors import CapabilityError, ConfigError
from sensorium.weights.hub import locate

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@dataclass
class Hub:
    """A hub of one commit per model; ``fetched`` are the files that were downloaded."""

    models: dict[str, dict[str, bytes]] = field(default_factory=dict)
    gated: set[str] = field(default_factory=set)
    fetched: list[str] = field(default_factory=list)
    broken: bool = False


def serve(hub: Hub) -> ThreadingHTTPServer:
    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

        def answer(self, status: int, body: bytes, **headers: str) -> None:
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name.replace("_", "-"), value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(body)

        def do_HEAD(self) -> None:
            self.do_GET()

        def do_GET(self) -> None:
            if hub.broken:
                return self.answer(500, b"")
            path = self.path.partition("?")[0].removeprefix("/").removeprefix("api/models/")
            if "/resolve/" in path:
                model, _, rest = path.partition("/resolve/")
                name = rest.partition("/")[2]
                if model in hub.gated:
                    return self.answer(403, b"", X_Error_Code="GatedRepo")
                content = hub.models[model][name]
                if self.command == "GET":
                    hub.fetched.append(name)
                etag = hashlib.sha256(content).hexdigest()
                return self.answer(200, content, ETag=f'"{etag}"', X_Repo_Commit=COMMIT)
            model, _, rest = path.partition("/revision/" if "/revision/" in path else "/tree/")
            if model not in hub.models:
                return self.answer(404, b"", X_Error_Code="RepoNotFound")
            if rest not in ("main", "v1", COMMIT):
                return self.answer(404, b"", X_Error_Code="RevisionNotFound")
            files = hub.models[model]
            if "/tree/" in path:
                listed = [
                    {"type": "file", "path": name, "size": len(content), "oid": "0" * 40}
                    for name, content in files.items()
                ]
                return self.answer(200, json.dumps(listed).encode(), Content_Type="application/json")
            about = {"id": model, "sha": COMMIT, "siblings": [{"rfilename": name} for name in files]}
            return self.answer(200, json.dumps(about).encode(), Content_Type="application/json")

    return ThreadingHTTPServer(("127.0.0.1", 0), Handler)


@pytest.fixture
def hub(tmp_path, monkeypatch) -> Iterator[Hub]:
    found = Hub()
    server = serve(found)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    address = f"http://127.0.0.1:{server.server_address[1]}"
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(constants, "ENDPOINT", address)
    monkeypatch.setattr(
        constants, "HUGGINGFACE_CO_URL_TEMPLATE", address + "/{repo_id}/resolve/{revision}/{filename}"
    )
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_IMPLICIT_TOKEN", True)
    monkeypatch.chdir(tmp_path)
    disable_progress_bars()
    yield found
    enable_progress_bars()
    server.shutdown()
    thread.join()
    server.server_close()


def files(*names: str) -> dict[str, bytes]:
    return {name: name.encode() for name in names}


DESCRIPTION = files(
    "config.json",
    "open_clip_config.json",
    "preprocessor_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "vocab.json",
    "merges.txt",
    "spiece.model",
    "README.md",
)
OTHER = files(
    "modeling_evil.py",
    "setup.py",
    "evil.so",
    "tf_model.h5",
    "flax_model.msgpack",
    "training_args.bin",
    "optimizer.pt",
    "onnx/model.safetensors",
    "unet/config.json",
    "model.onnx",
    ".gitattributes",
)


def names(directory: Path) -> set[str]:
    return {str(path.relative_to(directory)) for path in directory.rglob("*") if path.is_file()}


@pytest.mark.parametrize(
    ("weights", "unwanted"),
    [
        (
            ["model.safetensors"],
            ["open_clip_model.safetensors", "pytorch_model.bin", "model.fp16.safetensors"],
        ),
        (
            [
                "model.safetensors.index.json",
                "model-00001-of-00002.safetensors",
                "model-00002-of-00002.safetensors",
            ],
            ["pytorch_model.bin"],
        ),
        (["open_clip_model.safetensors"], ["pytorch_model.bin", "open_clip_pytorch_model.bin"]),
        (["pytorch_model.bin"], ["open_clip_pytorch_model.bin"]),
        (["pytorch_model.bin.index.json", "pytorch_model-00001-of-00001.bin"], []),
        (["open_clip_pytorch_model.bin"], []),
    ],
)
def test_what_is_fetched(hub: Hub, weights: list[str], unwanted: list[str]) -> None:
    hub.models["org/model"] = DESCRIPTION | OTHER | files(*weights, *unwanted)
    directory = locate("org/model")
    assert names(directory) == set(hub.fetched) == {*DESCRIPTION, *weights}
    assert (directory / "config.json").read_text() == "config.json"
    assert locate("org/model", revision="v1") == directory


def test_offline_comes_from_the_cache(hub: Hub, monkeypatch) -> None:
    hub.models["model"] = DESCRIPTION | OTHER | files("pytorch_model.bin")
    directory = locate("model")
    hub.fetched.clear()
    assert locate("model") == directory
    assert hub.fetched == []
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert locate("model") == directory
    assert locate("model", revision=COMMIT) == directory
    with pytest.raises(
        CapabilityError, match="'org/other': no such directory, not in the cache, and the hub cannot"
    ):
        locate("org/other")
    with pytest.raises(CapabilityError, match="not in the cache"):
        locate("model", revision="v1")


def test_offline_from_a_cache_that_others_filled(hub: Hub, monkeypatch) -> None:
    hub.models["org/model"] = DESCRIPTION | files("model.safetensors")
    for name in ("config.json", "model.safetensors"):
        huggingface_hub.hf_hub_download("org/model", name)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert names(locate("org/model")) == {"config.json", "model.safetensors"}


def test_an_interrupted_download(hub: Hub, monkeypatch) -> None:
    """What is missing is said by whoever needs it; a download without weights is none."""
    hub.models["org/model"] = DESCRIPTION | files("model.safetensors")
    directory = locate("org/model")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    (directory / "merges.txt").unlink()
    assert locate("org/model") == directory
    (directory / "model.safetensors").unlink()
    with pytest.raises(ConfigError, match="org/model: it has no weights that can be read"):
        locate("org/model")


def test_what_the_hub_refuses(hub: Hub) -> None:
    with pytest.raises(ConfigError, match="'runs/mine': no such directory, and no such model on the hub"):
        locate("runs/mine")
    hub.models["org/model"] = files("config.json", "model.onnx")
    with pytest.raises(ConfigError, match=r"org/model: it has no weights.*looked for model\.safetensors"):
        locate("org/model")
    with pytest.raises(ConfigError, match="org/model: the hub has no revision 'v9' of it"):
        locate("org/model", revision="v9")
    hub.models["org/gated"] = DESCRIPTION
    hub.gated.add("org/gated")
    with pytest.raises(CapabilityError, match=r"accept conditions: see https://huggingface\.co/org/gated"):
        locate("org/gated")
    hub.broken = True
    with pytest.raises(CapabilityError, match=r"'org/new': .*the hub cannot be reached"):
        locate("org/new")


def test_no_network(hub: Hub, monkeypatch) -> None:
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(CapabilityError, match=r"'org/model': .*the hub cannot be reached"):
        locate("org/model")


def test_a_full_disk(hub: Hub, monkeypatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", full)
    with pytest.raises(CapabilityError, match=r"org/model: cannot be downloaded: .*No space left on device"):
        locate("org/model")


def test_directories(tmp_path, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    assert locate(tmp_path) == tmp_path
    assert locate(str(tmp_path)) == tmp_path
    monkeypatch.setenv("HOME", str(tmp_path))
    assert locate("~") == tmp_path
    with pytest.raises(ConfigError, match="is a directory, which has no revision 'v1'"):
        locate(tmp_path, revision="v1")


@pytest.mark.parametrize(
    "typed", ["./mine", "/absent", "a/b/c", "", "a b", "../x", "a--b/c", "x/.y", "é/x", "a/b\n"]
)
def test_neither(typed: str) -> None:
    with pytest.raises(ConfigError, match=r"expected a directory \(it does not exist\) or a hub id"):
        locate(typed)


def test_a_file(tmp_path) -> None:
    (tmp_path / "model.safetensors").write_bytes(b"")
    with pytest.raises(ConfigError, match=r"expected a directory \(it is a file\)"):
        locate(tmp_path / "model.safetensors")


def test_without_the_extra(monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(
        CapabilityError, match=r"'org/model' is no directory; .*pip install 'sensorium\[hub\]'"
    ):
        locate("org/model")

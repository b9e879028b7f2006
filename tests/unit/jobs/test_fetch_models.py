"""The job against a small server that speaks the hub's HTTP."""

import hashlib
import http.server
import importlib.util
import io
import json
import sys
import threading
import urllib.parse
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType

import pytest
import torch
from rich.console import Console
from safetensors.torch import load_file  # pyright: ignore[reportUnknownVariableType]  # an open PathLike
from safetensors.torch import save as safetensors_bytes

from twominds.backbones import BACKBONES, BackboneStore, read_manifest
from twominds.backbones.hub import fetch_role
from twominds.errors import BackboneError, ConfigError

MINILM = "text.all_minilm"
COMMIT, OTHER = "a" * 40, "b" * 40


def load_job() -> ModuleType:
    path = Path(__file__).resolve().parents[3] / "jobs" / "fetch_models.py"
    spec = importlib.util.spec_from_file_location("fetch_models_job", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


job = load_job()


@dataclass
class Hub:
    """What the server holds, and what it was asked for."""

    url: str = ""
    repositories: dict[str, dict[str, dict[str, bytes]]] = field(default_factory=dict[str, dict[str, dict[str, bytes]]])
    """Repository -> commit -> file -> content."""
    branches: dict[str, str] = field(default_factory=lambda: {"main": COMMIT})
    downloads: list[str] = field(default_factory=list[str])
    break_after: int | None = None
    """Serve this many downloads, then only errors."""


def make_handler(hub: Hub) -> type[http.server.BaseHTTPRequestHandler]:
    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, format: str, *args: object) -> None:
            del format, args

        def reply(self, status: int, body: bytes, **headers: str) -> None:
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name.replace("_", "-"), value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        def do_HEAD(self) -> None:
            self.do_GET()

        def do_GET(self) -> None:
            parts = urllib.parse.unquote(urllib.parse.urlsplit(self.path).path).strip("/").split("/")
            api = parts[:2] == ["api", "models"]
            repository, rest = "/".join(parts[2:4] if api else parts[:2]), parts[4:] if api else parts[2:]
            revision = rest[1] if len(rest) > 1 else "main"
            commits = hub.repositories.get(repository, {})
            commit = hub.branches.get(revision, revision)
            if not commits:
                return self.reply(404, b"{}", X_Error_Code="RepoNotFound")
            if commit not in commits:
                return self.reply(404, b"{}", X_Error_Code="RevisionNotFound")
            files = commits[commit]
            if api:
                siblings = [{"rfilename": name} for name in files]
                info = {"id": repository, "modelId": repository, "sha": commit, "siblings": siblings}
                return self.reply(200, json.dumps(info).encode(), Content_Type="application/json")
            name = "/".join(rest[2:])
            if name not in files:
                return self.reply(404, b"", X_Error_Code="EntryNotFound", X_Repo_Commit=commit)
            if self.command == "GET":
                if hub.break_after is not None and len(hub.downloads) >= hub.break_after:
                    return self.reply(403, b"")
                hub.downloads.append(f"{commit}/{name}")
            etag = f'"{hashlib.sha256(files[name]).hexdigest()}"'
            return self.reply(200, files[name], ETag=etag, X_Repo_Commit=commit)

    return Handler


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    monkeypatch.setenv("TWOMINDS_CACHE", str(tmp_path / "cache"))
    hub = Hub()
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), make_handler(hub))
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    hub.url = f"http://127.0.0.1:{server.server_address[1]}"
    yield hub
    server.shutdown()
    thread.join()
    server.server_close()


def publish(hub: Hub, role: str, commit: str = COMMIT, **files: bytes) -> dict[str, bytes]:
    repository = BACKBONES[role].hub_id
    assert repository is not None
    content = {
        "config.json": json.dumps({"made_for": commit}).encode(),
        "model.safetensors": safetensors_bytes({"weight": torch.arange(6.0)}),
        "README.md": b"not wanted",
        **{name.replace("__", "."): data for name, data in files.items()},
    }
    hub.repositories.setdefault(repository, {})[commit] = content
    return content


def run(hub: Hub, bundle: Path, *, roles: tuple[str, ...] = (MINILM,), **settings: object) -> tuple[list[str], str]:
    stream = io.StringIO()
    config = job.FetchConfig(models=str(bundle), roles=roles, endpoint=hub.url, **settings)
    failed = job.fetch_models(config, Console(file=stream, width=400))
    job.show_bundle(str(bundle), Console(file=stream, width=400))
    return failed, stream.getvalue()


def test_a_role_is_fetched_with_its_exact_commit(hub: Hub, tmp_path: Path) -> None:
    content = publish(hub, MINILM, tokenizer__json=b"{}", onnx__model=b"not wanted")
    bundle = tmp_path / "bundle"
    failed, printed = run(hub, bundle)
    assert failed == []
    entry = read_manifest(str(bundle))[MINILM]
    assert (entry.revision, entry.weights, entry.licence) == (COMMIT, "published", "Apache-2.0")
    assert entry.hub_id == BACKBONES[MINILM].hub_id
    wanted = ("config.json", "model.safetensors", "tokenizer.json")
    assert dict(entry.sha256) == {name: hashlib.sha256(content[name]).hexdigest() for name in wanted}
    store = BackboneStore(uri=str(bundle))
    store.verify(MINILM)
    assert sorted(path.name for path in store.folder(MINILM).rglob("*")) == sorted(wanted)
    assert all(name.startswith(COMMIT) for name in hub.downloads)
    assert f"commit {COMMIT[:12]}, 3 files" in printed
    assert "published" in printed


def test_pickled_weights_are_rewritten_as_safetensors(hub: Hub, tmp_path: Path) -> None:
    content = publish(hub, MINILM)
    del content["model.safetensors"]
    stream = io.BytesIO()
    tensor = torch.arange(4.0)
    torch.save({"a": tensor, "tied": tensor}, stream)
    content["pytorch_model.bin"] = stream.getvalue()
    assert run(hub, tmp_path / "bundle")[0] == []
    folder = BackboneStore(uri=str(tmp_path / "bundle")).folder(MINILM)
    assert sorted(path.name for path in folder.iterdir()) == ["config.json", "model.safetensors"]
    assert torch.equal(load_file(folder / "model.safetensors")["tied"], tensor)


def test_another_revision_may_be_named(hub: Hub, tmp_path: Path) -> None:
    publish(hub, MINILM)
    publish(hub, MINILM, commit=OTHER)
    assert run(hub, tmp_path / "bundle", revision=(f"{MINILM}={OTHER}",))[0] == []
    assert read_manifest(str(tmp_path / "bundle"))[MINILM].revision == OTHER


def test_what_is_there_is_not_fetched_again_unless_it_is_damaged(hub: Hub, tmp_path: Path) -> None:
    publish(hub, MINILM)
    bundle = tmp_path / "bundle"
    run(hub, bundle)
    count = len(hub.downloads)
    assert "already there" in run(hub, bundle)[1]
    assert len(hub.downloads) == count
    (bundle / MINILM / "config.json").write_text("damaged")
    run(hub, bundle)
    assert len(hub.downloads) == 2 * count
    run(hub, bundle, again=True)
    assert len(hub.downloads) == 3 * count


def test_an_interrupted_fetch_goes_on_with_the_files_it_lacks(hub: Hub, tmp_path: Path) -> None:
    publish(hub, MINILM, vocab__txt=b"words")
    hub.break_after = 2
    bundle = tmp_path / "bundle"
    failed, printed = run(hub, bundle)
    assert failed == [MINILM]
    assert "Run the same command again" in printed
    assert read_manifest(str(bundle)) == {}
    first, hub.break_after, hub.downloads = list(hub.downloads), None, []
    assert run(hub, bundle)[0] == []
    assert len(first) == 2
    assert set(first).isdisjoint(hub.downloads)
    assert len(first) + len(hub.downloads) == 3
    assert not (bundle / ".partial" / MINILM).exists()


def test_one_failure_does_not_keep_the_others_back(hub: Hub, tmp_path: Path) -> None:
    publish(hub, MINILM)
    failed, printed = run(hub, tmp_path / "bundle", roles=("speech.whisper", MINILM))
    assert failed == ["speech.whisper"]
    assert "has no openai/whisper-base" in printed
    assert set(read_manifest(str(tmp_path / "bundle"))) == {MINILM}


def test_what_is_wrong_is_said_in_a_sentence(hub: Hub, tmp_path: Path) -> None:
    content = publish(hub, MINILM)

    def fetch(role: str = MINILM, revision: str = "", endpoint: str = hub.url) -> None:
        fetch_role(str(tmp_path / "bundle"), role, staging=tmp_path / "s", revision=revision, endpoint=endpoint)

    with pytest.raises(BackboneError, match="has no revision 'nowhere'"):
        fetch(revision="nowhere")
    with pytest.raises(BackboneError, match=r"is on no hub .* --import-file detect\.yolo_face=FILE"):
        fetch(role="detect.yolo_face")
    with pytest.raises(BackboneError, match=r"from the hub at http://127\.0\.0\.1:9 .*Without internet"):
        fetch(endpoint="http://127.0.0.1:9")
    del content["model.safetensors"]
    with pytest.raises(BackboneError, match=r"no config\.json with model\.safetensors"):
        fetch()


def test_a_store_may_take_from_the_hub_what_its_bundle_lacks(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = publish(hub, MINILM)
    monkeypatch.setenv("HF_ENDPOINT", hub.url)
    store = BackboneStore(uri=str(tmp_path / "empty"), allow_hub=True)
    assert store.has(MINILM)
    assert not store.has("detect.yunet")
    assert store.weights(MINILM) == "published"
    assert (store.folder(MINILM) / "config.json").read_bytes() == content["config.json"]
    count = len(hub.downloads)
    store.folder(MINILM)
    assert len(hub.downloads) == count
    with pytest.raises(BackboneError, match="No weights for"):
        BackboneStore(uri=str(tmp_path / "empty")).folder(MINILM)


def test_settings_are_checked() -> None:
    with pytest.raises(ConfigError, match="--revision wants ROLE=VALUE"):
        job.FetchConfig(revision=("text.all_minilm",))
    with pytest.raises(BackboneError, match="No backbone is called"):
        job.FetchConfig(roles=("nothing",))


def test_a_local_file_is_imported_by_the_job(hub: Hub, tmp_path: Path, shared_media: Path) -> None:
    onnx = shared_media / "models" / "yunet_n_dynamic.onnx"
    failed, printed = run(hub, tmp_path / "bundle", roles=(), import_file=(f"detect.yunet={onnx}",))
    assert failed == []
    assert "imported yunet_n_dynamic.onnx" in printed
    assert set(read_manifest(str(tmp_path / "bundle"))) == {"detect.yunet"}
    assert hub.downloads == []


def test_a_recipe_says_what_is_fetched(hub: Hub, tmp_path: Path) -> None:
    """Each model once that a row of the table rests on; vectors that the user brings rest on none."""
    roles = job.needed_roles("hsemotion/ah-video/all")
    assert set(roles) == {
        "detect.yolo_face",
        "speech.whisper",
        "face.emotimobilefacenet_mtl",
        "audio.wav2vec2_base",
        "audio.hubert_large",
        "text.roberta_go_emotions",
    }
    assert len(roles) == len(set(roles))
    failed, _ = run(hub, tmp_path, roles=(), recipe="hsemotion/ah-video/all")
    assert set(failed) == {"audio.wav2vec2_base", "audio.hubert_large", "text.roberta_go_emotions", "speech.whisper"}
    with pytest.raises(ConfigError, match="no study and no recipe 'hsemotion/nothing'"):
        job.FetchConfig(recipe="hsemotion/nothing")

"""Bundles: what is in them is found, copied once, checked, and missed with a useful sentence."""

import dataclasses
import hashlib
import json
import os
import uuid
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import load_file, save_file  # pyright: ignore[reportUnknownVariableType]  # an open PathLike
from torch import Tensor
from upath import UPath

from twominds.backbones import (
    BACKBONES,
    BackboneStore,
    BundleEntry,
    add_to_bundle,
    bundle,
    cache_folder,
    read_manifest,
)
from twominds.backbones.descriptors import DESCRIPTORS
from twominds.backbones.local_files import import_file
from twominds.backbones.state_dicts import read_state_dict, write_state_dict
from twominds.errors import BackboneError

ROLE = "text.all_minilm"
ENTRY = BundleEntry(weights="published", hub_id="a/b", revision="c0ffee", licence="Apache-2.0")


def fill(uri: str, scratch: Path, files: dict[str, bytes], role: str = ROLE, entry: BundleEntry = ENTRY) -> BundleEntry:
    folder = scratch / uuid.uuid4().hex
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return add_to_bundle(uri, role, folder, entry)


@pytest.fixture
def remote() -> str:
    """A prefix in fsspec's object store in memory."""
    return f"memory://bundle-{uuid.uuid4().hex}"


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TWOMINDS_CACHE", str(tmp_path / "cache"))
    return cache_folder()


def test_the_catalogue_names_every_role_after_its_key_and_states_a_licence() -> None:
    assert set(BACKBONES) == {
        "scene.videomae_base",
        "face.videomae_base",
        "face.emotion_efficientnet_b0",
        "face.vit_base",
        "face.clip_vit_b32",
        "audio.wav2vec2_emotion",
        "audio.wav2vec2_base",
        "audio.hubert_large",
        "audio.hubert_base",
        "text.emotion_distilroberta",
        "text.emotion_text_classifier",
        "text.roberta_go_emotions",
        "text.sentence_distilroberta",
        "text.e5_base",
        "text.deberta_base",
        "text.all_minilm",
        "text.all_minilm_v1",
        "detect.yolo_face",
        "detect.yunet",
        "speech.whisper",
        *DESCRIPTORS,
    }
    for role, backbone in BACKBONES.items():
        assert backbone.role == role
        assert backbone.licence
        assert backbone.files
        assert (backbone.hub_id is None) == (backbone.revision == "")
    assert {role for role, b in BACKBONES.items() if b.non_commercial} == {
        "scene.videomae_base",
        "face.videomae_base",
        "audio.wav2vec2_emotion",
        *DESCRIPTORS,
    }


def test_a_local_bundle_is_used_in_place(tmp_path: Path) -> None:
    uri = str(tmp_path / "bundle")
    fill(uri, tmp_path, {"config.json": b"{}", "sub/vocab.txt": b"a b"})
    store = BackboneStore(uri=uri)
    assert store.folder(ROLE) == tmp_path / "bundle" / ROLE
    assert (store.folder(ROLE) / "sub" / "vocab.txt").read_bytes() == b"a b"
    assert store.weights(ROLE) == "published"
    assert store.has(ROLE)
    assert not store.has("speech.whisper")
    store.verify(ROLE)


def test_the_manifest_holds_source_licence_and_the_digest_of_every_file(tmp_path: Path) -> None:
    uri = str(tmp_path / "bundle")
    fill(uri, tmp_path, {"config.json": b"{}", "model.safetensors": b"123"})
    manifest = json.loads((tmp_path / "bundle" / "manifest.json").read_text())
    assert manifest["roles"][ROLE] == {
        "weights": "published",
        "hub_id": "a/b",
        "revision": "c0ffee",
        "licence": "Apache-2.0",
        "sha256": {
            "config.json": hashlib.sha256(b"{}").hexdigest(),
            "model.safetensors": hashlib.sha256(b"123").hexdigest(),
        },
    }


def test_a_second_role_joins_the_first_and_a_role_is_replaced_whole(tmp_path: Path) -> None:
    uri = str(tmp_path / "bundle")
    fill(uri, tmp_path, {"old.txt": b"old", "config.json": b"{}"})
    fill(uri, tmp_path, {"model.onnx": b"x"}, role="detect.yunet")
    fill(uri, tmp_path, {"config.json": b"{1}"}, entry=dataclasses.replace(ENTRY, weights="debug"))
    assert set(read_manifest(uri)) == {ROLE, "detect.yunet"}
    store = BackboneStore(uri=uri)
    assert [path.name for path in store.folder(ROLE).iterdir()] == ["config.json"]
    assert store.weights(ROLE) == "debug"


def test_a_role_that_is_not_there_says_which_job_provides_it(tmp_path: Path) -> None:
    store = BackboneStore(uri=str(tmp_path))
    with pytest.raises(BackboneError, match=r"scene\.videomae_base .*fetch_models\.py --roles scene\.videomae_base"):
        store.folder("scene.videomae_base")
    with pytest.raises(BackboneError, match=r"--import-file face\.emotion_efficientnet_b0=FILE"):
        store.weights("face.emotion_efficientnet_b0")
    with pytest.raises(BackboneError, match=r"No backbone is called 'scene\.nothing'"):
        store.folder("scene.nothing")


def test_a_missing_altered_or_unknown_file_is_named(tmp_path: Path) -> None:
    uri, folder = str(tmp_path / "bundle"), tmp_path / "bundle" / ROLE
    fill(uri, tmp_path, {"config.json": b"{}", "model.safetensors": b"123"})
    store = BackboneStore(uri=uri)
    for look in (store.folder, store.check):
        look(ROLE)
    (folder / "model.safetensors").write_bytes(b"124")
    for look in (store.folder, store.check, store.verify):
        with pytest.raises(BackboneError, match=r"model\.safetensors is not the file that was fetched"):
            look(ROLE)
    (folder / "model.safetensors").write_bytes(b"123")
    (folder / "pytorch_model.bin").write_bytes(b"a pickle")
    (folder / ".DS_Store").write_bytes(b"of a desktop")
    with pytest.raises(BackboneError, match=rf"{ROLE} holds pytorch_model\.bin, which"):
        store.folder(ROLE)
    (folder / "pytorch_model.bin").unlink()
    assert store.folder(ROLE) == folder
    (folder / "model.safetensors").unlink()
    for look in (store.folder, store.check):
        with pytest.raises(BackboneError, match=r"lacks model\.safetensors"):
            look(ROLE)


def test_a_file_is_read_once_as_long_as_it_stays_what_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    uri, store = str(tmp_path / "bundle"), BackboneStore(uri=str(tmp_path / "bundle"))
    fill(uri, tmp_path, {"config.json": b"{}", "model.safetensors": b"123"})
    path = tmp_path / "bundle" / ROLE / "model.safetensors"
    read: list[str] = []

    def counted(path: Path) -> str:
        read.append(path.name)
        return hashlib.sha256(path.read_bytes()).hexdigest()

    monkeypatch.setattr(bundle, "file_sha256", counted)
    monkeypatch.setattr(bundle.time, "time_ns", lambda: path.stat().st_ctime_ns + 10**10)  # long after it was written
    for _ in range(3):
        store.folder(ROLE)
    assert read == ["config.json", "model.safetensors"]
    times = path.stat()
    path.write_bytes(b"124")
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))  # as a copying tool that keeps times would
    with pytest.raises(BackboneError, match="is not the file that was fetched"):
        store.folder(ROLE)


def test_a_broken_manifest_is_no_bundle(tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_text("[]")
    with pytest.raises(BackboneError, match=r"is not the manifest of a bundle"):
        read_manifest(str(tmp_path))


def test_a_remote_bundle_is_copied_once_and_again_when_it_changes(tmp_path: Path, remote: str, cache: Path) -> None:
    fill(remote, tmp_path, {"config.json": b"{}", "sub/vocab.txt": b"a b"})
    store = BackboneStore(uri=remote)
    first = store.folder(ROLE)
    assert first.is_relative_to(cache)
    assert (first / "sub" / "vocab.txt").read_bytes() == b"a b"
    (UPath(remote) / ROLE / "config.json").unlink()
    assert store.folder(ROLE) == first  # not read again
    fill(remote, tmp_path, {"config.json": b"{2}"})
    second = store.folder(ROLE)
    assert second != first
    assert (second / "config.json").read_bytes() == b"{2}"


def test_a_copy_of_a_remote_file_that_was_changed_is_refused(tmp_path: Path, remote: str, cache: Path) -> None:
    fill(remote, tmp_path, {"config.json": b"{}"})
    folder = BackboneStore(uri=remote).folder(ROLE)
    (folder / "config.json").write_bytes(b"{1}")
    with pytest.raises(BackboneError, match=rf"config\.json is not the file that was fetched\. Remove {folder}"):
        BackboneStore(uri=remote).folder(ROLE)


def test_roles_that_are_added_at_once_are_all_in_the_manifest(tmp_path: Path) -> None:
    uri, roles = str(tmp_path / "bundle"), list(BACKBONES)
    with ThreadPoolExecutor(len(roles)) as threads:
        for added in [threads.submit(fill, uri, tmp_path, {"config.json": b"{}"}, role) for role in roles]:
            added.result()
    assert set(read_manifest(uri)) == set(roles)
    for role in roles:
        BackboneStore(uri=uri).folder(role)


def test_a_damaged_remote_file_leaves_no_copy_behind(tmp_path: Path, remote: str, cache: Path) -> None:
    fill(remote, tmp_path, {"config.json": b"{}"})
    (UPath(remote) / ROLE / "config.json").write_bytes(b"{x")
    with pytest.raises(BackboneError, match="is not the file that was fetched"):
        BackboneStore(uri=remote).folder(ROLE)
    (UPath(remote) / ROLE / "config.json").unlink()
    with pytest.raises(BackboneError, match="lacks a file of its manifest"):
        BackboneStore(uri=remote).folder(ROLE)
    assert list((cache / "backbones").iterdir()) == []


def efficientnet_state(num_classes: int = 8) -> dict[str, Tensor]:
    torch.manual_seed(0)
    return timm.create_model("efficientnet_b0", num_classes=num_classes).state_dict()


def test_an_efficientnet_is_imported_without_its_classifier(tmp_path: Path) -> None:
    state = efficientnet_state()
    torch.save(
        {"epoch": 3, "state_dict": {f"module.{name}": tensor for name, tensor in state.items()}}, tmp_path / "b0.pt"
    )
    uri, role = str(tmp_path / "bundle"), "face.emotion_efficientnet_b0"
    entry = import_file(uri, role, tmp_path / "b0.pt", staging=tmp_path / "staging")
    stored = load_file(BackboneStore(uri=uri).folder(role) / "model.safetensors")
    assert set(stored) == {name for name in state if not name.startswith("classifier.")}
    assert torch.equal(stored["conv_stem.weight"], state["conv_stem.weight"])
    assert entry.weights == "published"
    assert entry.revision == "b0.pt"


def test_an_efficientnet_of_other_names_or_shapes_is_refused(tmp_path: Path) -> None:
    state = efficientnet_state()
    role, uri = "face.emotion_efficientnet_b0", str(tmp_path / "bundle")
    write_state_dict({f"features.{name}": tensor for name, tensor in state.items()}, tmp_path / "names.safetensors")
    with pytest.raises(BackboneError, match=r"lacks \d+ tensors \(such as conv_stem\.weight\)"):
        import_file(uri, role, tmp_path / "names.safetensors", staging=tmp_path / "staging")
    state["conv_head.weight"] = torch.zeros(16, 320, 1, 1)
    write_state_dict(state, tmp_path / "shapes.safetensors")
    with pytest.raises(BackboneError, match=r"conv_head\.weight has shape \(16, 320, 1, 1\)"):
        import_file(uri, role, tmp_path / "shapes.safetensors", staging=tmp_path / "staging")
    assert read_manifest(uri) == {}


class Intruder:
    """Anything that a pickle would have to import."""


def test_a_file_with_python_objects_is_never_unpickled(tmp_path: Path) -> None:
    torch.save({"weight": torch.zeros(1), "model": Intruder()}, tmp_path / "model.pt")
    with pytest.raises(BackboneError, match="can't be read as weights alone"):
        read_state_dict(tmp_path / "model.pt")
    (tmp_path / "text.pt").write_text("no weights")
    with pytest.raises(BackboneError, match="can't be read as weights alone"):
        read_state_dict(tmp_path / "text.pt")
    torch.save({"epoch": 1}, tmp_path / "empty.pt")
    with pytest.raises(BackboneError, match="holds no state dict"):
        read_state_dict(tmp_path / "empty.pt")
    (tmp_path / "text.safetensors").write_text("no weights")
    with pytest.raises(BackboneError, match="is no safetensors file"):
        read_state_dict(tmp_path / "text.safetensors")


def test_tied_tensors_are_stored_each_for_itself(tmp_path: Path) -> None:
    shared = torch.arange(4.0)
    write_state_dict({"a": shared, "b": shared, "c": shared[::2]}, tmp_path / "tied.safetensors")
    stored = read_state_dict(tmp_path / "tied.safetensors")
    np.testing.assert_array_equal(stored["b"].numpy(), [0, 1, 2, 3])
    np.testing.assert_array_equal(stored["c"].numpy(), [0, 2])
    save_file({"plain": shared}, tmp_path / "plain.safetensors")
    assert set(read_state_dict(tmp_path / "plain.safetensors")) == {"plain"}


def test_a_detector_is_imported_when_opencv_can_read_it(tmp_path: Path, shared_media: Path) -> None:
    uri = str(tmp_path / "bundle")
    onnx = shared_media / "models" / "yunet_n_dynamic.onnx"
    import_file(uri, "detect.yunet", onnx, staging=tmp_path / "staging")
    assert (BackboneStore(uri=uri).folder("detect.yunet") / "model.onnx").read_bytes() == onnx.read_bytes()


def test_what_is_no_model_is_not_imported(tmp_path: Path) -> None:
    (tmp_path / "no.onnx").write_text("hello")
    with pytest.raises(BackboneError, match="no ONNX model"):
        import_file(str(tmp_path), "detect.yunet", tmp_path / "no.onnx", staging=tmp_path / "staging")
    with pytest.raises(BackboneError, match="No file at"):
        import_file(str(tmp_path), "detect.yunet", tmp_path / "nowhere", staging=tmp_path / "staging")
    with pytest.raises(BackboneError, match="can't be imported from one file"):
        import_file(str(tmp_path), "speech.whisper", tmp_path / "no.onnx", staging=tmp_path / "staging")

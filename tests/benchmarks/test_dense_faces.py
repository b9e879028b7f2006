"""The face in every frame of a minute of video, against a plain loop: every frame decoded, one image a call."""

import json
import resource
import shutil
import time
from fractions import Fraction
from pathlib import Path
from typing import Any, cast

import av
import numpy as np
import pytest
import torch
from PIL import Image

from twominds.backbones import BackboneStore, BundleEntry, add_to_bundle
from twominds.backbones.descriptors import DESCRIPTORS, NETWORKS, DescriptorNetwork, image_config
from twominds.backbones.state_dicts import write_state_dict
from twominds.features.face_track import FaceTrackFeatures, FaceTrackFeaturesConfig
from twominds.media.faces import YoloFaceDetector, crop_faces, yolo_network
from twominds.media.reader import MediaConfig
from twominds.records import PRESENT, ClipMedia, Modality, View
from twominds.synthetic.corpus.config import SyntheticCorpusConfig
from twominds.synthetic.corpus.corpus import make_corpus

SECONDS, FPS = 60, 24
ROLE = "face.emotieffnet_b0"


@pytest.fixture(scope="module")
def bundle(tiny_bundle: str, tmp_path_factory: pytest.TempPathFactory) -> BackboneStore:
    """The tiny detector, and an EmotiEffNet-B0 of the published size with random weights."""
    folder = tmp_path_factory.mktemp("bundle")
    uri = str(folder / "models")
    detector = BackboneStore(uri=tiny_bundle)
    copy = shutil.copytree(detector.folder("detect.yolo_face"), folder / "detector")  # a bundle takes the folder itself
    add_to_bundle(uri, "detect.yolo_face", copy, detector.entry("detect.yolo_face"))
    published, model = DESCRIPTORS[ROLE], folder / "b0"
    model.mkdir()
    torch.manual_seed(0)
    network = DescriptorNetwork(NETWORKS[published.architecture](), dim=published.dim, scores=8)
    write_state_dict(network.state_dict(), model / "model.safetensors")
    config = {"architecture": published.architecture, "dim": published.dim, "scores": 8} | image_config(published)
    (model / "config.json").write_text(json.dumps(config))
    add_to_bundle(uri, ROLE, model, BundleEntry(weights="debug", hub_id=None, revision="", licence="Apache-2.0"))
    return BackboneStore(uri=uri)


@pytest.fixture(scope="module")
def minute(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Drawn clips of twelve people, one after another."""
    folder = tmp_path_factory.mktemp("minute")
    drawn = SyntheticCorpusConfig(clips=12, clip_s=1.2 * SECONDS / 12, width=640, height=480, fps=FPS, clean=True)
    make_corpus(drawn, folder / "corpus")
    path, shown = folder / "minute.mp4", 0
    with av.open(str(path), "w") as output:
        stream = output.add_stream("libx264", rate=FPS)
        stream.width, stream.height, stream.pix_fmt = 640, 480, "yuv420p"
        for clip in sorted((folder / "corpus" / "Videos").rglob("*.mp4")):
            with av.open(str(clip)) as container:
                for frame in container.decode(video=0):
                    if shown < SECONDS * FPS:
                        frame.pts, frame.time_base, shown = shown, Fraction(1, FPS), shown + 1
                        output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    return path


def plain_loop(video: Path, store: BackboneStore) -> np.ndarray[Any, Any]:
    """As one would write it today: PyAV, ultralytics' network, PIL, timm's network."""
    published = DESCRIPTORS[ROLE]
    folder = store.folder("detect.yolo_face")
    detector = YoloFaceDetector(folder, confidence=MediaConfig().yolo_confidence)
    network = yolo_network(folder)
    vars(detector)["_network"] = lambda pixels: network(pixels)[0]  # pyright: ignore[reportUnknownLambdaType]
    model = DescriptorNetwork(NETWORKS[published.architecture](), dim=published.dim, scores=8).eval()
    from safetensors.torch import load_file  # pyright: ignore[reportUnknownVariableType]

    model.load_state_dict(load_file(store.folder(ROLE) / "model.safetensors"))
    mean, std = (torch.tensor(of).reshape(3, 1, 1) for of in published.statistics)
    rows: list[np.ndarray[Any, Any]] = []
    with av.open(str(video)) as container, torch.inference_mode():
        for frame in container.decode(video=0):
            image = cast("np.ndarray[Any, Any]", frame.to_ndarray(format="rgb24"))
            crop = crop_faces([image], detector.detect([image]), image.shape[0]).crops[0]
            square = Image.fromarray(crop).resize((224, 224), Image.Resampling.BILINEAR)
            pixels = torch.from_numpy(np.array(square)).movedim(-1, 0) / 255
            rows.append(model(((pixels - mean) / std)[None])[0].numpy())
    return np.stack(rows)


@pytest.mark.benchmark
def test_dense_faces_against_a_plain_loop(minute: Path, bundle: BackboneStore) -> None:
    extractor = FaceTrackFeatures(FaceTrackFeaturesConfig(backbone=ROLE), bundle, media=MediaConfig())
    clip = ClipMedia(
        clip_id="minute",
        duration_s=SECONDS,
        scene_frames=None,
        face_crops=None,
        face_detected=None,
        audio=None,
        transcript=None,
        transcript_source="",
        presence=dict[View, Any].fromkeys(Modality, PRESENT),
        video=str(minute),
    )
    started = time.perf_counter()
    (found,) = extractor.extract([clip])
    ours_s = time.perf_counter() - started
    peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    started = time.perf_counter()
    rows = plain_loop(minute, bundle)
    plain_s = time.perf_counter() - started
    assert found.values is not None
    assert len(found.values) == len(rows)
    print(
        f"\n{len(rows)} frames: plain loop {plain_s:.1f} s, ours {ours_s:.1f} s: {plain_s / ours_s:.1f} times as fast; "
        f"peak of the process {peak_mb:.0f} MB"
    )

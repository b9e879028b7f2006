"""The service as it is deployed, over small real artifacts: its scores are the `Scorer`'s, and it keeps nothing."""

import io
import os
import tempfile
import wave
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
import httpx
import numpy as np
import pytest
import ray
import torch
from ray import serve

from twominds import artifacts
from twominds.artifacts import Card, UsedBackbone
from twominds.backbones import BackboneStore
from twominds.corpus.manifest import read_corpus
from twominds.encoders.artifact import save_encoder
from twominds.encoders.catalog import ENCODERS
from twominds.encoders.embedding import embed
from twominds.features.catalog import backbones_of, build_extractor
from twominds.fusion.catalog import build_fusion
from twominds.fusion.transformer import TransformerFusionConfig
from twominds.media.reader import MediaConfig, MediaReader
from twominds.recipes.leya import leya
from twominds.records import Clip, ClipMedia, Modality, Score, View
from twominds.scoring.ensemble import EnsembleConfig, save_ensemble
from twominds.scoring.members import seed_name
from twominds.scoring.scorer import Scorer
from twominds.serving.app import ServeArgs, build
from twominds.tasks import AH_VIDEO

pytestmark = pytest.mark.ray

MAX_MIB = 2
WORDS = "Perhaps I will, but honestly I do not know"


@dataclass(frozen=True, kw_only=True)
class Served:
    """The running service, and what it must answer."""

    url: str
    args: ServeArgs
    clips: tuple[Clip, ...]
    expected: tuple[Score, ...]


def remux(source: Path, target: Path, *, sound: bool, until_s: float) -> None:
    """A copy of a video without its sound, or shorter, nothing encoded anew."""
    with av.open(str(source)) as old, av.open(str(target), "w") as new:
        streams: dict[int, Any] = {
            s.index: new.add_stream_from_template(s) for s in old.streams if s.type == "video" or sound
        }
        for packet in old.demux():
            if packet.dts is not None and packet.stream.index in streams and packet.dts * packet.time_base < until_s:
                packet.stream = streams[packet.stream.index]
                new.mux(packet)


@pytest.fixture(scope="module")
def clips(small_corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Clip, ...]:
    """Eight clips of mixed lengths: with and without sound, with and without words."""
    folder = tmp_path_factory.mktemp("clips")
    drawn = [clip for clip in read_corpus(str(small_corpus)).clips if clip.transcript][:5]
    short = folder / "somebody's short clip.mp4"
    silent = folder / "silent.mp4"
    remux(Path(drawn[0].video_uri), short, sound=True, until_s=1.0)
    remux(Path(drawn[1].video_uri), silent, sound=False, until_s=9.0)
    return (
        *drawn,
        Clip(clip_id="short", video_uri=str(short), transcript=WORDS),
        Clip(clip_id="silent", video_uri=str(silent), transcript=WORDS),
        Clip(clip_id="nothing said", video_uri=str(silent), transcript=""),
    )


@pytest.fixture(scope="module")
def ensemble(tiny_bundle: str, clips: tuple[Clip, ...], tmp_path_factory: pytest.TempPathFactory) -> str:
    """An ensemble of untrained models whose answers differ from clip to clip."""
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("artifacts")
    store, features, encoders = BackboneStore(uri=tiny_bundle), leya().features, leya().encoders
    media_config = MediaConfig(face_frames=8, min_face_frames=0, recognise_speech=False)
    media = [item for item in MediaReader(media_config, store).read_many(clips[:5]) if isinstance(item, ClipMedia)]
    dims: dict[View, int] = {}
    for view in Modality:
        extracted = build_extractor(view, features[view], store, with_pooled=False).extract(media)
        example = next(item for item in extracted if item.presence.present)
        settings = encoders[view]
        encoder = ENCODERS[type(settings)].pretrained(
            settings, num_outputs=AH_VIDEO.num_outputs, store=store, example=example
        )
        dims[view] = encoder.embedding_dim
        assert len(embed(encoder, extracted)) == len(media)
        (role,) = backbones_of(features[view])
        entry = store.entry(role)
        used = UsedBackbone(
            role=role, hub_id=entry.hub_id, revision=entry.revision, licence=entry.licence, weights=entry.weights
        )
        config = {"features": artifacts.to_json(features)}
        card = Card(kind="encoder", task=AH_VIDEO, recipe="test", config=config, backbones=(used,))
        save_encoder(str(folder / "encoders" / view), encoder, encoders, card)
    fusion = TransformerFusionConfig(hidden_dim=16, num_layers=1, num_heads=2, prototypes_per_class=0)
    states: dict[str, dict[str, torch.Tensor]] = {}
    for seed in (42, 2025, 7777):
        model = build_fusion(fusion, dims=dims, num_outputs=AH_VIDEO.num_outputs, seed=seed)
        states[seed_name(seed)] = {
            name: value * 3 if value.dim() > 1 else value for name, value in model.state_dict().items()
        }
    uri = str(folder / "ensemble")
    save_ensemble(
        uri,
        states,
        EnsembleConfig(fusion=fusion, media=media_config),
        dims=dims,
        encoders={view: str(folder / "encoders" / view) for view in Modality},
        card=Card(kind="ensemble", task=AH_VIDEO, recipe="test", config={}),
    )
    return uri


@pytest.fixture(scope="module")
def served(
    ray_session: None, serve_url: str, ensemble: str, tiny_bundle: str, clips: tuple[Clip, ...]
) -> Iterator[Served]:
    args = ServeArgs(ensemble=ensemble, models=tiny_bundle, max_upload_mib=MAX_MIB, batch_wait_s=0.1)
    serve.run(build(args), name="ah", route_prefix="/")
    scores = Scorer.load(ensemble, BackboneStore(uri=tiny_bundle)).score(clips)
    expected = tuple(score for score in scores if isinstance(score, Score))
    assert len(expected) == len(clips)
    yield Served(url=serve_url, args=args, clips=clips, expected=expected)
    serve.delete("ah")


def post(served: Served, content: bytes, name: str = "clip.mp4", words: str | None = None) -> httpx.Response:
    form = {} if words is None else {"transcript": words}
    return httpx.post(f"{served.url}/v1/score", files={"video": (name, content)}, data=form, timeout=120)


def post_clip(served: Served, clip: Clip) -> httpx.Response:
    path = Path(clip.video_uri)
    return post(served, path.read_bytes(), path.name, clip.transcript)


def check_equal(answer: httpx.Response, score: Score) -> None:
    assert answer.status_code == 200, answer.text
    body = answer.json()
    assert body["probability"] == pytest.approx(score.probabilities[-1], abs=1e-5)
    assert list(body["seeds"]["probabilities"].values()) == pytest.approx(score.seed_probabilities, abs=1e-5)
    assert (body["label_index"], body["threshold"]) == (score.label, score.threshold)
    assert score.label is not None
    assert body["label"] == AH_VIDEO.names[score.label]
    assert set(body["modalities"]) == {str(part.view) for part in score.views}
    for part in score.views:
        shown = body["modalities"][part.view]
        assert (shown["present"], shown["reason"] or "") == (part.presence.present, part.presence.reason)
        assert shown["probability"] == pytest.approx(part.probability, abs=1e-5)
    assert (body["artifact_id"], body["weights"]) == (score.artifact_id, score.weights)


def test_the_expected_scores_are_worth_comparing(served: Served) -> None:
    probabilities = [score.probabilities[-1] for score in served.expected]
    assert np.ptp(probabilities) > 0.01
    assert all(np.ptp(score.seed_probabilities) > 0.001 for score in served.expected)
    absent = [{p.view for p in score.views if not p.presence.present} for score in served.expected]
    assert Modality.AUDIO in absent[6]
    assert {Modality.AUDIO, Modality.TEXT} <= absent[7]


@pytest.mark.parametrize("index", [0, 5, 6, 7])
def test_a_clip_alone_scores_as_in_the_scorer(served: Served, index: int) -> None:
    check_equal(post_clip(served, served.clips[index]), served.expected[index])


def test_clips_together_score_as_in_the_scorer(served: Served) -> None:
    """Eight requests at once, of mixed lengths, some without sound or words: they share batches."""
    with ThreadPoolExecutor(8) as pool:
        running = [pool.submit(post_clip, served, clip) for clip in served.clips]
        answers = [request.result() for request in running]
    for answer, score in zip(answers, served.expected, strict=True):
        check_equal(answer, score)


def test_the_answer_tells_how_it_came_about(served: Served) -> None:
    body = post_clip(served, served.clips[0]).json()
    durations = body["durations_s"]
    assert set(durations) == {"upload", "decode", "encoders", "fusion", "total"}
    assert set(durations["encoders"]) == set(Modality)
    assert durations["total"] >= durations["decode"] + max(durations["encoders"].values()) + durations["fusion"]
    with av.open(served.clips[0].video_uri) as container:
        stated_s = float((container.streams.video[0].duration or 0) * (container.streams.video[0].time_base or 0))
    assert body["duration_s"] == pytest.approx(stated_s, abs=0.1)
    assert body["transcript_source"] == "caller"
    assert body["weights"] == "debug"
    assert "mean" in body["warnings"][0]


def silence() -> bytes:
    content = io.BytesIO()
    with wave.open(content, "wb") as sound:
        sound.setparams((1, 2, 16_000, 0, "NONE", ""))
        sound.writeframes(bytes(32_000))
    return content.getvalue()


@pytest.mark.parametrize(
    ("content", "status", "stage", "words"),
    [
        (b"This is a text file. " * 500, 422, "decode", "not a video"),
        (b"", 400, "upload", "empty"),
        (bytes(MAX_MIB << 20) + b"x", 413, "upload", "2 MiB"),
        (bytes((MAX_MIB + 6) << 20), 413, "upload", "2 MiB"),
        (silence(), 422, "fusion", "silent"),
    ],
)
def test_bad_uploads(served: Served, content: bytes, status: int, stage: str, words: str) -> None:
    answer = post(served, content, "somebody's holiday.mp4", "")
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    problem = answer.json()
    assert words in problem["detail"]
    assert problem["stage"] == stage
    assert "holiday" not in answer.text


def test_a_file_that_breaks_off(served: Served) -> None:
    whole = Path(served.clips[0].video_uri).read_bytes()
    answer = post(served, whole[: len(whole) // 3])
    assert answer.status_code == 422, answer.text


def test_it_keeps_nothing_of_an_upload(served: Served) -> None:
    whole = Path(served.clips[0].video_uri).read_bytes()
    payload = os.urandom((3 << 19) - 8)  # a 'free' box, past the size that is kept in memory
    content = whole + (len(payload) + 8).to_bytes(4, "big") + b"free" + payload
    name, words = "mrs-somebody-4711.mp4", "xylophone hesitation quartz"
    assert post(served, content, name, words).status_code == 200
    assert post(served, content[: len(whole) // 3] + payload, name, words).status_code == 422
    for path in Path(tempfile.gettempdir()).iterdir():
        if path.is_file() and path.stat().st_size >= len(payload):
            assert payload[:64] not in path.read_bytes()
    logs = Path("/tmp/ray") / ray.get_runtime_context().get_session_name() / "logs"
    texts = [path.read_bytes() for path in logs.rglob("*") if path.is_file()]
    assert any(b" scored in " in text for text in texts), "these are not the logs"
    for text in texts:
        assert name.encode() not in text
        assert b"xylophone" not in text


def test_health_card_and_documents(served: Served) -> None:
    assert httpx.get(f"{served.url}/healthz", timeout=30).json() == {"status": "ok"}
    model = httpx.get(f"{served.url}/v1/model").json()
    assert model["artifact_id"] == artifacts.read_card(served.args.ensemble).artifact_id
    assert model["seeds"] == [42, 2025, 7777]
    assert all(backbone["licence"] for backbone in model["backbones"])
    assert "/v1/score" in httpx.get(f"{served.url}/openapi.json").json()["paths"]
    assert httpx.get(f"{served.url}/docs").status_code == 200

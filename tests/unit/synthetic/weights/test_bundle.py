"""Debug bundles: honest about what they are, the same for a seed, of the published shapes, with signals alive."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import cv2
import numpy as np
import pytest
import torch
from torch import nn
from transformers import AutoTokenizer

from twominds.backbones import BackboneStore, BundleEntry, add_to_bundle, read_manifest
from twominds.errors import ConfigError
from twominds.features.audio import AudioFeatures, AudioFeaturesConfig
from twominds.features.face import CropFeatures, FaceFeatures, FaceFeaturesConfig
from twominds.features.face_frames import FaceFramesFeatures, FaceFramesFeaturesConfig
from twominds.features.scene import SceneFeatures, SceneFeaturesConfig
from twominds.records import ByteArray, ClipMedia, FloatArray
from twominds.synthetic.corpus.anatomy import Expression
from twominds.synthetic.corpus.casting import random_appearance, random_backdrop
from twominds.synthetic.corpus.drawing import Person, Pose, Scene, draw_frame
from twominds.synthetic.weights import DebugTraining, make_debug_models
from twominds.synthetic.weights.random_models import (
    BASE,
    BERT_TOKENS,
    DEBUG_DESCRIPTORS,
    MINILM,
    TOKENS,
    bert,
    clip,
    deberta,
    efficientnet,
    hubert,
    roberta,
    videomae,
    vit,
    wav2vec2,
    wav2vec2_base,
    whisper,
)
from twominds.synthetic.weights.tokenizer import train_deberta_tokenizer, train_tokenizer, write_bert_tokenizer

MakeClip = Callable[..., ClipMedia]


def test_a_bundle_says_what_is_random_and_what_is_real(store: BackboneStore) -> None:
    entries = read_manifest(store.uri)
    debug = {
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
        "text.sentence_distilroberta",
        "text.roberta_go_emotions",
        "text.deberta_base",
        "text.e5_base",
        "text.all_minilm_v1",
        *DEBUG_DESCRIPTORS,
        "face.ddamfn",
        "face.ddamfn_mtl",
    }
    assert {role for role, entry in entries.items() if entry.weights == "debug"} == debug
    assert {entries[role].revision for role in debug} == {"tiny, seed 3"}
    assert set(entries) - debug <= {"text.all_minilm"}
    for role in entries:
        store.verify(role)
        assert not [path for path in store.folder(role).rglob("*") if path.suffix in (".bin", ".pt", ".pkl")]


def test_the_same_seed_makes_the_same_bundle_and_another_seed_another(store: BackboneStore, tmp_path: Path) -> None:
    torch.manual_seed(1)
    expected = torch.rand(3)
    torch.manual_seed(1)
    make_debug_models(str(tmp_path / "again"), seed=3, detector=False)
    assert torch.equal(torch.rand(3), expected)  # torch's own random numbers go on as if nothing was
    make_debug_models(str(tmp_path / "other"), seed=4, detector=False)
    first, again, other = (read_manifest(uri) for uri in (store.uri, str(tmp_path / "again"), str(tmp_path / "other")))
    assert first == again
    for role, entry in first.items():
        if entry.weights == "debug":
            (weights,) = {"model.safetensors", "model.onnx"} & entry.sha256.keys()
            assert entry.sha256[weights] != other[role].sha256[weights]


def test_the_number_of_threads_makes_no_other_bundle(store: BackboneStore, tmp_path: Path) -> None:
    threads = torch.get_num_threads()
    try:
        for count in (1, 2):
            torch.set_num_threads(count)
            make_debug_models(str(tmp_path / str(count)), seed=3, detector=False)
            assert torch.get_num_threads() == count
            assert read_manifest(str(tmp_path / str(count))) == read_manifest(store.uri)
    finally:
        torch.set_num_threads(threads)


def test_random_weights_do_not_replace_published_ones(tmp_path: Path) -> None:
    (tmp_path / "files").mkdir()
    (tmp_path / "files" / "model.safetensors").write_bytes(b"real")
    entry = BundleEntry(weights="published", hub_id="a/b", revision="c", licence="x")
    add_to_bundle(str(tmp_path / "bundle"), "audio.wav2vec2_emotion", tmp_path / "files", entry)
    with pytest.raises(ConfigError, match=r"has published weights of audio\.wav2vec2_emotion"):
        make_debug_models(str(tmp_path / "bundle"), detector=False)


def test_settings_are_checked(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="size must be tiny or full"):
        make_debug_models(str(tmp_path), cast(Any, "medium"), detector=False)
    with pytest.raises(ConfigError, match=r"training\.detector_steps must be at least 1"):
        DebugTraining(detector_steps=0)


def parameters(model: nn.Module) -> float:
    """Millions of parameters."""
    return sum(p.numel() for p in model.parameters()) / 1e6


def test_full_is_of_the_published_sizes() -> None:
    with torch.device("meta"):
        assert parameters(videomae("full")) == pytest.approx(86.2, abs=0.1)  # VideoMAE, table 13: ViT-B
        assert parameters(efficientnet("full")) == pytest.approx(
            5.29 - 1.28, abs=0.01
        )  # EfficientNet, table 2, headless
        assert parameters(roberta("full", TOKENS["full"])) == pytest.approx(
            81.5, abs=0.1
        )  # the card of distilroberta-base: 82 M
        assert parameters(deberta("full", TOKENS["full"])) == pytest.approx(
            138.6, abs=0.1
        )  # its repository: base, 140 M
        # Devlin et al. 2019: BERT-base, 110 M; RoBERTa's repository: base, 125 M; each has a pooler of 0.59 M.
        assert parameters(bert("full", BERT_TOKENS["full"], BASE)) == pytest.approx(109.5 - 0.6, abs=0.1)
        assert parameters(roberta("full", TOKENS["full"], BASE)) == pytest.approx(124.6 - 0.6, abs=0.1)
        assert parameters(bert("full", BERT_TOKENS["full"], MINILM)) == pytest.approx(22.7 - 0.15, abs=0.1)
        assert parameters(vit("full")) == pytest.approx(86.6 - 0.77, abs=0.1)  # timm's ViT-B/16, headless
        both_towers = clip("full")
        assert parameters(both_towers) == pytest.approx(151.3, abs=0.1)  # OpenCLIP's table of models: ViT-B/32
        assert parameters(cast(Any, both_towers).vision_model) == pytest.approx(87.5, abs=0.1)
        assert parameters(whisper("full")) == pytest.approx(72.6, abs=2.0)  # Whisper, table 1: 74 M
        audio, base, large = wav2vec2("full"), wav2vec2_base("full"), hubert("full")
    # wav2vec2-large-robust has 24 layers of 12.6 M and 315 M parameters; half of the layers are left.
    assert parameters(audio) == pytest.approx(315.4 - 12 * 12.6, abs=1.5)
    assert parameters(base) == pytest.approx(95.0, abs=1.0)  # wav2vec 2.0, section 4.2: 95 M
    assert parameters(large) == pytest.approx(317.0, abs=2.0)  # HuBERT, table 1: 317 M
    assert {cast(Any, model).config.inputs_to_logits_ratio for model in (audio, base, large)} == {320}
    assert len(cast(Any, audio).encoder.layers) == 12


def test_a_full_bert_tokenizer_has_the_published_numbers_and_cuts_text_as_a_tiny_one(tmp_path: Path) -> None:
    vocabularies: list[list[str]] = []
    for size in ("tiny", "full"):
        (tmp_path / size).mkdir()
        count = write_bert_tokenizer(tmp_path / size, filled_to=BERT_TOKENS[size])
        vocabularies.append((tmp_path / size / "vocab.txt").read_text().splitlines())
        assert count == len(set(vocabularies[-1]))
    small, full = vocabularies
    assert (len(full), full[: len(small)]) == (30_522, small)
    numbers = [full.index(token) for token in ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")]
    assert numbers == [0, 100, 101, 102, 103]
    tokenizers = [cast(Any, AutoTokenizer).from_pretrained(tmp_path / size) for size in ("tiny", "full")]
    for tokenizer in tokenizers:
        assert " ".join(tokenizer.tokenize("I'm not SURE; zebra")) == "i ' m not sure ; z ##e ##b ##r ##a"
        assert tokenizer("I")["input_ids"] == [101, full.index("i"), 102]
        assert tokenizer.is_fast


@pytest.mark.parametrize("train", [train_tokenizer, train_deberta_tokenizer])
def test_a_full_tokenizer_has_the_published_number_of_tokens_and_cuts_text_as_a_tiny_one(
    train: Callable[..., int], tmp_path: Path
) -> None:
    sizes = [train(tmp_path / size, filled_to=TOKENS[size]) for size in ("tiny", "full")]
    small, full = (json.loads((tmp_path / size / "vocab.json").read_text()) for size in ("tiny", "full"))
    assert sizes == [len(small), len(full)]
    assert sorted(full.values()) == list(range(50_265))
    assert full.items() >= small.items()
    assert (tmp_path / "tiny" / "merges.txt").read_text() == (tmp_path / "full" / "merges.txt").read_text()


def test_random_face_features_tell_a_flushed_face_on_new_people(store: BackboneStore) -> None:
    """Sixteen random blocks let colours through: a probe fitted on twelve people is right on twelve others."""
    extractor = FaceFeatures(FaceFeaturesConfig(), store)
    assert told_apart(faces(extractor, Expression()), faces(extractor, Expression(flush=1.0))) > 0.9


@pytest.mark.parametrize("role", ["face.vit_base", "face.clip_vit_b32"])
def test_random_frame_embeddings_tell_flushed_and_smiling_faces_on_new_people(store: BackboneStore, role: str) -> None:
    extractor = FaceFramesFeatures(FaceFramesFeaturesConfig(backbone=role), store)
    neutral = faces(extractor, Expression())
    assert told_apart(neutral, faces(extractor, Expression(flush=1.0))) > 0.9
    assert told_apart(neutral, faces(extractor, Expression(smile=1.0))) > 0.9


def told_apart(before: FloatArray, after: FloatArray) -> float:
    """A probe on pairs of features [24, D] of the same people, fitted on twelve: how many others it is right on."""
    change = after - before
    direction = change[:12].mean(axis=0) / (change[:12].std(axis=0) + 1e-3) ** 2
    return float((change[12:] @ direction > 0).mean())


def faces(extractor: CropFeatures, expression: Expression, people: int = 24) -> FloatArray:
    """Features of the same people with one expression: [people, D]."""
    rng = np.random.default_rng(0)
    crops: list[ByteArray] = []
    for _ in range(people):
        person = Person(appearance=random_appearance(rng), expression=expression, pose=Pose(head_height=0.6))
        image, boxes = draw_frame(Scene(people=(person,)))
        left, top, right, bottom = np.rint(boxes[0]).astype(int).tolist()
        crops.append(np.asarray(cv2.resize(image[top:bottom, left:right], (224, 224)), np.uint8))
    return extractor.frame_features(np.stack(crops))


def test_random_scene_features_tell_a_rocking_body_on_new_people(store: BackboneStore, make_clip: MakeClip) -> None:
    """The average over the tokens, all that the encoder sees, holds how much was moved, not only what is where."""
    extractor = SceneFeatures(SceneFeaturesConfig(), store, with_pooled=True)
    still, rocking = (movement(extractor, make_clip, amplitude) for amplitude in (0.02, 0.2))
    direction = (rocking[:10] - still[:10]).mean(axis=0)
    scale = (rocking[:10] - still[:10]).std(axis=0) + 1e-3
    assert ((rocking[10:] - still[10:]) @ (direction / scale**2) > 0).mean() > 0.9


def movement(extractor: SceneFeatures, make_clip: MakeClip, amplitude: float, people: int = 20) -> FloatArray:
    """Averaged tokens [people, D] of the same people in the same rooms, whose heads rock by `amplitude` of a head."""
    rng = np.random.default_rng(0)
    clips: list[ClipMedia] = []
    for _ in range(people):
        appearance, backdrop, phase = random_appearance(rng), random_backdrop(rng), float(rng.uniform(0.0, 6.0))
        poses = [Pose(head_height=0.5, sway=amplitude * math.sin(1.5 * frame + phase)) for frame in range(16)]
        scenes = [Scene(backdrop=backdrop, people=(Person(appearance=appearance, pose=pose),)) for pose in poses]
        frames = [cv2.resize(draw_frame(scene)[0], (224, 224)) for scene in scenes]
        clips.append(make_clip(scene_frames=np.stack(frames).astype(np.uint8)))
    pooled = [features.pooled for features in extractor.extract(clips)]
    tokens = np.stack([row for row in pooled if row is not None])
    return tokens[:, : tokens.shape[1] // 2]


@pytest.mark.parametrize(
    ("role", "hidden_state"),
    [("audio.wav2vec2_emotion", 10), ("audio.wav2vec2_base", None), ("audio.hubert_large", None)],
)
def test_random_audio_features_tell_silence_from_voice(
    store: BackboneStore, role: str, hidden_state: int | None
) -> None:
    """After all random layers (ten of the first) the rows still differ over time, and by what is heard."""
    extractor = AudioFeatures(AudioFeaturesConfig(backbone=role, hidden_state=hidden_state), store)
    times = np.arange(16_000) / 16_000
    voice = np.where(times < 0.5, np.sign(np.sin(2 * np.pi * 100 * times)), 0.0)
    noise = 0.01 * np.random.default_rng(0).normal(size=len(times))
    (rows,) = extractor.hidden_states([(voice + noise).astype(np.float32)])
    assert rows.std(axis=0).mean() > 0.1
    voiced, silent = rows[:23], rows[26:]
    means = np.stack([part[::2].mean(axis=0) for part in (voiced, silent)])  # fitted on every other row
    for kind, part in enumerate((voiced, silent)):
        distances = np.linalg.norm(part[1::2, None] - means[None], axis=2)
        assert (distances.argmin(axis=1) == kind).mean() > 0.9

from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file  # pyright: ignore[reportUnknownVariableType] open PathLike
from transformers import (
    HubertConfig,
    HubertForCTC,
    HubertModel,
    Wav2Vec2Config,
    Wav2Vec2FeatureExtractor,
    Wav2Vec2ForCTC,
    Wav2Vec2ForSequenceClassification,
    Wav2Vec2Model,
)

from twominds.backbones import BackboneStore, BundleEntry, add_to_bundle
from twominds.errors import BackboneError, ConfigError
from twominds.features.audio import AudioFeatures, AudioFeaturesConfig
from twominds.records import ClipMedia, FloatArray, Modality

MakeClip = Callable[..., ClipMedia]
ROLE = "audio.wav2vec2_emotion"


def sound(seed: int, seconds: float) -> FloatArray:
    """A tone that comes and goes in noise, off zero, at 16 kHz."""
    rng = np.random.default_rng(seed)
    times = np.arange(int(seconds * 16_000)) / 16_000
    tone = np.sin(2 * np.pi * rng.uniform(90, 300) * times) * (np.sin(2 * np.pi * 1.5 * times) > 0)
    return (0.1 + 0.3 * tone + 0.01 * rng.normal(size=len(times))).astype(np.float32)


@pytest.fixture(scope="module")
def extractor(store: BackboneStore) -> AudioFeatures:
    return AudioFeatures(AudioFeaturesConfig(), store, with_pooled=True)


def huggingface_rows(store: BackboneStore, audio: FloatArray, hidden_state: int = 10) -> FloatArray:
    """Hugging Face's own feature extractor and whole model on one clip, without padding."""
    prepare = cast(Any, Wav2Vec2FeatureExtractor)(do_normalize=True, return_attention_mask=True)
    inputs = prepare(audio, sampling_rate=16_000, return_tensors="pt")
    model = cast(Any, Wav2Vec2Model).from_pretrained(store.folder(ROLE)).eval()
    with torch.no_grad():
        return model(**inputs, output_hidden_states=True).hidden_states[hidden_state][0].numpy()


@pytest.mark.parametrize("hidden_state", [0, 10, 11])
def test_the_rows_are_hugging_faces_hidden_state(store: BackboneStore, make_clip: MakeClip, hidden_state: int) -> None:
    extractor = AudioFeatures(AudioFeaturesConfig(hidden_state=hidden_state), store, with_pooled=True)
    (features,) = extractor.extract([make_clip(audio=sound(0, 1.3))])
    expected = huggingface_rows(store, sound(0, 1.3), hidden_state)
    assert features.values is not None
    assert features.pooled is not None
    assert features.values.shape == (64, 64)  # 50 rows a second, less the first receptive field
    assert features.values.dtype == np.float32
    np.testing.assert_allclose(features.values, expected, atol=2e-5)
    np.testing.assert_allclose(features.pooled, [*expected.mean(axis=0), *expected.std(axis=0)], atol=2e-5)


@pytest.mark.parametrize("samples", [32_080, 32_400, 64_080, 80_003])
def test_two_seconds_at_a_time_are_the_whole(
    store: BackboneStore, extractor: AudioFeatures, make_clip: MakeClip, samples: int
) -> None:
    """100 rows are one piece, 101 two; and so on."""
    audio = sound(5, 6.0)[:samples]
    (features,) = extractor.extract([make_clip(audio=audio)])
    assert features.values is not None
    np.testing.assert_allclose(features.values, huggingface_rows(store, audio), atol=2e-5)


def test_padding_changes_nothing(store: BackboneStore, extractor: AudioFeatures, make_clip: MakeClip) -> None:
    lengths = (2.0, 0.7, 1.31, 0.05)
    media = [make_clip(str(i), audio=sound(i, seconds)) for i, seconds in enumerate(lengths)]
    media.insert(2, make_clip("absent", missing=Modality.AUDIO, audio=sound(9, 1.0)))
    together = extractor.extract(media)
    assert [features.clip_id for features in together] == ["0", "1", "absent", "2", "3"]
    assert together[2].values is None
    for features, clip in zip(together, media, strict=True):
        if features.values is not None and clip.audio is not None:
            np.testing.assert_allclose(features.values, huggingface_rows(store, clip.audio), atol=5e-5)
            alone = extractor.extract([clip])[0].values
            assert alone is not None
            np.testing.assert_allclose(features.values, alone, atol=5e-5)


def test_small_batches_give_the_same(store: BackboneStore, extractor: AudioFeatures, make_clip: MakeClip) -> None:
    media = [make_clip(str(i), audio=sound(i, 0.5 + 0.2 * i)) for i in range(4)]
    small = AudioFeatures(AudioFeaturesConfig(window_s=1.0, max_batch_s=1.0), store)
    for one, other in zip(extractor.extract(media[:3]), small.extract(media[:3]), strict=True):
        assert one.values is not None
        assert other.values is not None
        np.testing.assert_allclose(one.values, other.values, atol=5e-5)


def test_long_sound_goes_through_in_windows(store: BackboneStore, make_clip: MakeClip) -> None:
    extractor = AudioFeatures(AudioFeaturesConfig(window_s=1.0, max_batch_s=2.5), store)
    audio = sound(0, 2.51)  # the last 10 ms are too short for a row
    (features,) = extractor.extract([make_clip(audio=audio)])
    level = (audio.astype(np.float64) - audio.mean(dtype=np.float64)) / audio.std(dtype=np.float64)
    pieces = [level[start : start + 16_000].astype(np.float32) for start in (0, 16_000, 32_000)]
    assert features.values is not None
    assert features.values.shape[0] == 49 + 49 + 25
    expected = np.concatenate([extractor.hidden_states([piece])[0] for piece in pieces])
    np.testing.assert_allclose(features.values, expected, atol=5e-5)


def test_sound_that_cannot_be_used_is_absent_with_a_reason(extractor: AudioFeatures, make_clip: MakeClip) -> None:
    broken = sound(0, 1.0)
    broken[5] = np.nan
    media = [
        make_clip("none"),
        make_clip("short", audio=np.zeros(399, np.float32)),
        make_clip("nan", audio=broken),
        make_clip("rate", audio=sound(0, 1.0), sample_rate_hz=8_000),
        make_clip("shortest", audio=np.zeros(400, np.float32)),
    ]
    features = extractor.extract(media)
    assert [one.presence.reason for one in features] == [
        "no sound was decoded",
        "the sound is shorter than 25 ms",
        "the sound has samples that are no numbers",
        "the sound is at 8000 Hz, the audio model takes 16000 Hz",
        "",
    ]
    assert features[4].values is not None
    assert features[4].values.shape[0] == 1
    assert np.isfinite(features[4].values).all()


def repacked(store: BackboneStore, folder: Path, drop: str = "") -> BackboneStore:
    """The same weights under the names of a published classifier: `wav2vec2.` before each, and a head of its own."""
    files = folder / "files"
    model = cast(Any, Wav2Vec2Model).from_pretrained(store.folder(ROLE))
    Wav2Vec2ForSequenceClassification(model.config).save_pretrained(files)
    tensors = {
        f"wav2vec2.{name}": tensor for name, tensor in load_file(store.folder(ROLE) / "model.safetensors").items()
    }
    for name, shape in (("classifier.dense.weight", (64, 64)), ("classifier.out_proj.weight", (3, 64))):
        tensors[name] = torch.zeros(shape)
    kept = {name: tensor for name, tensor in tensors.items() if not drop or drop not in name}
    save_file(kept, files / "model.safetensors", {"format": "pt"})
    entry = BundleEntry(weights="published", hub_id=None, revision="x", licence="x")
    add_to_bundle(str(folder / "bundle"), ROLE, files, entry)
    return BackboneStore(uri=str(folder / "bundle"))


def test_a_published_classifier_loads_as_its_backbone(
    store: BackboneStore, extractor: AudioFeatures, make_clip: MakeClip, tmp_path: Path
) -> None:
    clip = make_clip(audio=sound(0, 0.5))
    values = AudioFeatures(AudioFeaturesConfig(), repacked(store, tmp_path)).extract([clip])[0].values
    expected = extractor.extract([clip])[0].values
    assert values is not None
    assert expected is not None
    np.testing.assert_array_equal(values, expected)


def tiny(kind: str) -> Any:
    """Settings of wav2vec2-base and of HuBERT-large, small: group norm and post-norm, layer norm and pre-norm."""
    small: dict[str, Any] = {
        "conv_dim": (8,) * 7,
        "conv_kernel": (10, 3, 3, 3, 3, 2, 2),
        "conv_stride": (5, 2, 2, 2, 2, 2, 2),
        "hidden_size": 16,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 24,
        "vocab_size": 8,
        "num_conv_pos_embedding_groups": 4,
    }
    if kind == "hubert":
        return HubertConfig(**small, conv_bias=True, feat_extract_norm="layer", do_stable_layer_norm=True)
    return Wav2Vec2Config(**small, conv_bias=False, feat_extract_norm="group", do_stable_layer_norm=False)


@pytest.mark.parametrize(
    ("role", "kind", "model", "base"),
    [
        ("audio.wav2vec2_base", "wav2vec2", Wav2Vec2ForCTC, Wav2Vec2Model),
        ("audio.hubert_large", "hubert", HubertForCTC, HubertModel),
    ],
)
def test_speech_recognisers_give_what_they_give_in_hugging_face(
    role: str, kind: str, model: Any, base: Any, make_clip: MakeClip, tmp_path: Path
) -> None:
    """The published files are recognisers'; their last hidden state, alone and beside a longer clip."""
    torch.manual_seed(0)
    model(tiny(kind)).eval().save_pretrained(tmp_path / "model")
    entry = BundleEntry(weights="debug", hub_id=None, revision="x", licence="x")
    add_to_bundle(str(tmp_path / "bundle"), role, tmp_path / "model", entry)
    bundle = BackboneStore(uri=str(tmp_path / "bundle"))
    extractor = AudioFeatures(AudioFeaturesConfig(backbone=role, hidden_state=None), bundle)
    media = [make_clip(str(i), audio=sound(i, seconds)) for i, seconds in enumerate((0.9, 2.3, 1.4))]
    together = extractor.extract(media)
    whole = base.from_pretrained(bundle.folder(role)).eval()
    prepare = cast(Any, Wav2Vec2FeatureExtractor)(do_normalize=True)
    for features, clip in zip(together, media, strict=True):
        inputs = prepare(clip.audio, sampling_rate=16_000, return_tensors="pt")
        with torch.no_grad():
            expected = whole(inputs["input_values"]).last_hidden_state[0].numpy()
        assert features.values is not None
        np.testing.assert_allclose(features.values, expected, atol=5e-5)


def test_weights_that_lack_a_tensor_are_refused(store: BackboneStore, tmp_path: Path) -> None:
    with pytest.raises(BackboneError, match=r"lack 1 tensors of Wav2Vec2Model \(such as feature_projection"):
        AudioFeatures(AudioFeaturesConfig(), repacked(store, tmp_path, drop="feature_projection.projection.bias"))


def test_bfloat16_is_within_five_percent_of_float32(
    store: BackboneStore, extractor: AudioFeatures, make_clip: MakeClip
) -> None:
    clip = make_clip(audio=sound(0, 1.0))
    exact = extractor.extract([clip])[0].values
    rough = AudioFeatures(AudioFeaturesConfig(precision="bfloat16"), store).extract([clip])[0].values
    assert exact is not None
    assert rough is not None
    assert np.linalg.norm(rough - exact) < 0.05 * np.linalg.norm(exact)


def test_a_hidden_state_beyond_the_layers_is_a_wrong_setting(store: BackboneStore) -> None:
    with pytest.raises(ConfigError, match=r"hidden_state is 12, audio\.wav2vec2_emotion has 12 layers"):
        AudioFeatures(AudioFeaturesConfig(hidden_state=12), store)


@pytest.mark.parametrize("setting", [{"window_s": 0.5}, {"max_batch_s": 30.0}, {"hidden_state": -1}])
def test_settings_are_checked(setting: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=f"audio.{next(iter(setting))}"):
        AudioFeaturesConfig(**setting)


@pytest.mark.parametrize("window_s", [60.0, 1.0])
def test_rows_are_timed_by_the_middle_of_what_they_saw(
    store: BackboneStore, make_clip: MakeClip, window_s: float
) -> None:
    """A pulse moves the convolutions' rows around it, and no others (state 0 is still mixed over time, a little)."""
    extractor = AudioFeatures(AudioFeaturesConfig(hidden_state=0, window_s=window_s), store)
    quiet = np.random.default_rng(0).normal(0, 1e-3, 40_000).astype(np.float32)
    loud = quiet.copy()
    loud[28_000:28_040] += 0.5  # at 1.75 s
    clips = [make_clip(audio=quiet, audio_start_s=-0.5), make_clip(audio=loud, audio_start_s=-0.5)]
    before, after = extractor.extract(clips)
    assert before.values is not None
    assert after.values is not None
    assert after.times_s is not None
    assert after.times_s.shape == (len(after.values),)
    seen = convolved(extractor, loud, window_s) - convolved(extractor, quiet, window_s)
    moved = after.times_s[np.abs(seen).max(axis=1) > 1e-3 * np.abs(seen).max()]
    assert moved.tolist() == pytest.approx([1.25] * len(moved), abs=0.0125 + 0.0025)  # half a field, and the pulse
    assert after.times_s[:2].tolist() == pytest.approx([0.0125 - 0.5, 0.0325 - 0.5])


def convolved(extractor: AudioFeatures, audio: FloatArray, window_s: float) -> FloatArray:
    """[T, D]: what the convolutions make of each window, before anything is mixed over time."""
    size, model = int(window_s * 16_000), cast(Any, extractor)._model
    pieces = [torch.from_numpy(audio[start : start + size])[None] for start in range(0, len(audio), size)]
    with torch.no_grad():
        return np.concatenate([model.feature_extractor(piece)[0].T.numpy() for piece in pieces])

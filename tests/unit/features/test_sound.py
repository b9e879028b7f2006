from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

from twominds.artifacts import to_json
from twominds.backbones import BackboneStore
from twominds.errors import ConfigError
from twominds.features.catalog import backbones_of, build_extractor, features_from_json, streams
from twominds.features.sound import SoundFeatures, SoundFeaturesConfig
from twominds.media.dense import regular_times
from twominds.records import ClipMedia, Features, FloatArray

MakeClip = Callable[..., ClipMedia]


def rows_of(store: BackboneStore, clip: ClipMedia, **settings: Any) -> Features:
    (found,) = SoundFeatures(SoundFeaturesConfig(**settings), store).extract([clip])
    return found


def ramp(count: int) -> FloatArray:
    return np.linspace(0.1, 0.9, count, dtype=np.float32)


def test_a_row_is_the_sound_of_a_25th_of_a_second(store: BackboneStore, make_clip: MakeClip) -> None:
    sound = ramp(1_500)
    found = rows_of(store, make_clip(audio=sound, duration_s=1_500 / 16_000))
    assert found.values is not None
    assert found.times_s is not None
    assert found.values.shape == (3, 640)
    np.testing.assert_array_equal(found.values.ravel(), np.concatenate([sound, np.zeros(420, np.float32)]))
    np.testing.assert_allclose(found.times_s, [0.02, 0.06, 0.1])


@pytest.mark.parametrize("start_s", [0.05, -0.05])
def test_time_zero_is_the_pictures(start_s: float, store: BackboneStore, make_clip: MakeClip) -> None:
    """Before a track that begins late there is silence; of one that begins early, or lasts longer, the rest is cut."""
    sound = ramp(3_200)
    found = rows_of(store, make_clip(audio=sound, audio_start_s=start_s, duration_s=0.2))
    assert found.values is not None
    heard = found.values.ravel()
    expected = np.concatenate([np.zeros(800, np.float32), sound]) if start_s > 0 else sound[800:]
    assert len(heard) == 3_200
    np.testing.assert_array_equal(heard[: len(expected)], expected[: len(heard)])
    assert not heard[len(expected) :].any()


def test_silence_lasts_as_long_as_the_picture(store: BackboneStore, make_clip: MakeClip) -> None:
    found = rows_of(store, make_clip(audio=ramp(1_600), duration_s=2.0))
    assert found.values is not None
    assert len(found.values) == 50


@pytest.mark.parametrize("start_s", [-3.0, -0.5, 0.0, 0.3, 2.5])
@pytest.mark.parametrize("duration", ["1/5", "1", "3/10", "29/30", "1001/1000", "10010/999"])
def test_there_are_as_many_rows_as_frames(
    duration: str, start_s: float, store: BackboneStore, make_clip: MakeClip
) -> None:
    """However long the sound is: a stretch of rows is the same stretch of both."""
    duration_s = float(Fraction(duration))
    frames = regular_times(Fraction(duration), 25.0)
    found = rows_of(store, make_clip(audio=ramp(32_000), audio_start_s=start_s, duration_s=duration_s))
    assert found.values is not None
    assert found.values.shape == (len(frames), 640)
    heard, begin = found.values.ravel(), round(start_s * 16_000)
    for place in (0, len(heard) // 2, len(heard) - 1):
        there = 0 <= place - begin < 32_000
        assert heard[place] == (ramp(32_000)[place - begin] if there else 0)


def test_sound_that_is_none_is_absent(store: BackboneStore, make_clip: MakeClip) -> None:
    assert rows_of(store, make_clip(audio=ramp(100))).presence.reason == "the sound is shorter than 25 ms"


def test_settings_and_the_catalog(store: BackboneStore) -> None:
    with pytest.raises(ConfigError, match="must divide 16000"):
        SoundFeaturesConfig(rate_hz=30.0)
    with pytest.raises(ConfigError, match="no pooled features"):
        SoundFeatures(SoundFeaturesConfig(), store, with_pooled=True)
    config = SoundFeaturesConfig(rate_hz=50.0)
    assert features_from_json({"audio": to_json(config)}) == {"audio": config}
    assert backbones_of(config) == ("audio.hubert_base",)
    assert not streams(config)
    assert isinstance(build_extractor("audio", config, store, with_pooled=False), SoundFeatures)

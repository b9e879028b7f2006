"""Sound in its place: pauses, stamps that are wrong, channels and tracks."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import cast

import numpy as np
import pytest
from av.stream import Disposition

from twominds.media.container import MediaFile
from twominds.media.decode import sample_pictures
from twominds.media.sound import Sound, read_sound
from twominds.records import FloatArray

Write = Callable[..., Path]
Stamp = Callable[[int, float], float]
"""A packet's new seconds, from its number and its own."""
DAY_S = 86_400.0
WRONG: dict[str, Stamp] = {
    "one a day later": lambda number, s: s + DAY_S * (number == 50),
    "a day later from there on": lambda number, s: s + DAY_S * (number >= 50),
    "one three seconds later, and taken back": lambda number, s: s + 3 * (number == 50),
    "the last one a day later": lambda number, s: s + DAY_S * (number == 199),
    "the first one a day later": lambda number, s: s + DAY_S * (number == 0),
    "all a day later": lambda number, s: s + DAY_S,
    "all zero": lambda number, s: 0.0,
    "from zero again each second": lambda number, s: s % 1,
}


def voice(seconds: float, seed: int = 0) -> FloatArray:
    """[1, N] of noise: no two pieces of it are alike."""
    return np.random.default_rng(seed).uniform(-0.5, 0.5, (1, round(seconds * 16_000))).astype(np.float32)


def silence(seconds: float) -> FloatArray:
    return np.zeros((1, round(seconds * 16_000)), np.float32)


def heard(path: Path, *, max_s: float = 600.0, audible: float = 0.0) -> Sound:
    with MediaFile(path) as file:
        sound = read_sound(file, pictures=sample_pictures(file, face_frames=1), max_s=max_s, audible=audible)
    assert sound is not None
    return sound


def assert_same(sound: Sound, *parts: FloatArray) -> None:
    """The samples, but for the rounding to 16 bits."""
    expected = np.concatenate([part[0] for part in parts])
    assert len(sound.samples) == len(expected)
    np.testing.assert_allclose(sound.samples, expected, atol=2e-4)


def test_a_pause_without_packets_is_as_long_as_it_was(write_sounds: Write) -> None:
    before, after = voice(1.5), voice(1.5, 1)
    sound = heard(write_sounds([(0, before), (3.5, after)], picture_s=5))
    assert_same(sound, before, silence(2), after)
    assert sound.heard_s == pytest.approx(3.0)


def test_each_of_many_pauses_is_kept_also_between_single_packets(write_sounds: Write) -> None:
    parts = [voice(0.02, seed) for seed in range(6)]
    sound = heard(write_sounds([(0.5 * i, part) for i, part in enumerate(parts)], picture_s=2.5))
    expected = [piece for part in parts for piece in (part, silence(0.48))][:-1]
    assert_same(sound, *expected)


def test_sound_that_begins_after_the_picture_or_ends_before_it_is_silent_there(write_sounds: Write) -> None:
    said = voice(1)
    assert_same(heard(write_sounds([(1, said)], picture_s=4)), silence(1), said, silence(2))


def test_sound_that_begins_before_the_picture_is_not_cut(write_sounds: Write) -> None:
    said = voice(3)
    assert_same(heard(write_sounds([(0, said)], picture_s=1, picture_start_s=2)), said)


def test_lost_packets_that_are_short_by_themselves_add_up(write_sounds: Write) -> None:
    """Of every 100 ms the last 20 were lost: after a minute the sound is still where the picture is."""
    pieces = [(0.1 * i, voice(0.08, i)) for i in range(60)]
    sound = heard(write_sounds(pieces, picture_s=6))
    assert len(sound.samples) / 16_000 == pytest.approx(6.0, abs=0.11)
    last = sound.samples[-1600 - 1280 :]
    found = int(cast(FloatArray, np.correlate(last, pieces[-1][1][0], "valid")).argmax())
    assert abs((len(sound.samples) - len(last) + found) / 16_000 - 5.9) <= 0.11


def shaken(number: int, s: float) -> float:
    return s + 0.05 + 0.045 * math.sin(number)


def test_delays_and_jitter_below_a_tenth_of_a_second_change_nothing(write_sounds: Write, restamp: Write) -> None:
    said = voice(4)
    path = write_sounds([(0, said)], picture_s=4)
    assert_same(heard(restamp(path, "audio", shaken)), said)


@pytest.mark.parametrize("stamp", WRONG.values(), ids=WRONG)
def test_samples_go_straight_on_where_stamps_cannot_be_true(write_sounds: Write, restamp: Write, stamp: Stamp) -> None:
    said = voice(4)
    path = write_sounds([(0, said)], picture_s=4)
    assert_same(heard(restamp(path, "audio", stamp)), said)


def a_day_later_from_the_20th_on(number: int, s: float) -> float:
    return s + DAY_S * (number >= 20)


def test_a_pause_after_a_wrong_stamp_is_still_a_pause(write_sounds: Write, restamp: Write) -> None:
    before, after = voice(1), voice(1, 1)
    path = write_sounds([(0, before), (2, after)], picture_s=3)
    assert_same(heard(restamp(path, "audio", a_day_later_from_the_20th_on)), before, silence(1), after)


def test_a_long_silence_is_kept_where_the_picture_goes_on_and_only_there(write_sounds: Write) -> None:
    before, after = voice(1), voice(1, 1)
    muted = [(0.0, before), (15.0, after)]
    assert_same(heard(write_sounds(muted, picture_s=16)), before, silence(14), after)
    assert_same(heard(write_sounds(muted, picture_s=1)), before, after)


def test_sound_is_bounded_whatever_the_stamps_say(write_sounds: Write) -> None:
    before, after = voice(1), voice(1, 1)
    path = write_sounds([(0, before), (9, after)], picture_s=10)
    short = heard(path, max_s=5)
    assert_same(short, before, silence(4))
    assert short.truncated
    assert not heard(path, max_s=10).truncated
    ended = heard(write_sounds([(0, before)], picture_s=4), max_s=2)
    assert_same(ended, before, silence(1))
    assert not ended.truncated  # of what was recorded nothing was cut


def test_channels_in_opposite_phase_are_no_silence(write_sounds: Write) -> None:
    said = voice(1)
    assert_same(heard(write_sounds([(0, np.concatenate([said, -said]))], picture_s=1)), said)
    louder = heard(write_sounds([(0, np.concatenate([-0.9 * said, said]))], picture_s=1))
    assert_same(louder, said)


def test_channels_that_do_not_cancel_are_averaged(write_sounds: Write) -> None:
    said, other = voice(1), voice(1, 1)
    for channels in ([said, other], [said, 0 * said], [0 * said, said], [said, said], [said, -0.3 * other]):
        path = write_sounds([(0, np.concatenate(channels))], picture_s=1)
        assert_same(heard(path), np.mean(channels, axis=0))


@pytest.mark.parametrize(("layout", "count"), [("3.0", 3), ("quad", 4), ("5.1", 6), ("7.1", 8)])
def test_speech_in_the_centre_of_many_channels_is_heard(write_sounds: Write, layout: str, count: int) -> None:
    channels = np.zeros((count, 16_000), np.float32)
    channels[2] = said = voice(1)[0]
    path = write_sounds([(0, channels)], picture_s=1, layouts=[layout], name="surround.mov")
    assert_same(heard(path), said[None] / count)


def test_of_several_tracks_the_person_s_own_is_heard(write_sounds: Write) -> None:
    tracks = [voice(1, seed) for seed in range(3)]
    pieces = [[(0.0, track)] for track in tracks]
    first = heard(write_sounds(*pieces, picture_s=1))
    assert_same(first, tracks[0])
    assert first.warnings == ("The file has 3 sound tracks; number 1 was used, the rest was left out.",)
    default = [Disposition(0), Disposition.default, Disposition.default]
    second = heard(write_sounds(*pieces, picture_s=1, dispositions=default, languages=["fre", "eng", "ger"]))
    assert_same(second, tracks[1])
    assert second.warnings == ("The file has 3 sound tracks; number 2 (eng) was used, the rest was left out.",)
    for other in (Disposition.comment, Disposition.visual_impaired, Disposition.dub):
        flags = [other | Disposition.default, other, Disposition(0)]
        assert_same(heard(write_sounds(*pieces, picture_s=1, dispositions=flags)), tracks[2])
    assert heard(write_sounds(pieces[0], picture_s=1)).warnings == ()


def test_a_silent_track_gives_way_to_one_that_can_be_heard(write_sounds: Write) -> None:
    said = voice(1)
    path = write_sounds([(0, silence(1))], [(0, said)], picture_s=1)
    assert_same(heard(path, audible=1e-3), said)
    neither = write_sounds([(0, 1e-3 * said)], [(0, silence(1))], picture_s=1)
    assert_same(heard(neither, audible=0.1), 1e-3 * said)


def test_stereo_at_44100_becomes_mono_at_16000(write_video: Write) -> None:
    path = write_video(range(0, 3000, 40), rate=25, tone=(1000, 3, 0.8))
    with MediaFile(path) as file:
        sound = read_sound(file)
    assert sound is not None
    assert not sound.truncated
    assert sound.samples.dtype == np.float32
    assert len(sound.samples) / 16_000 == pytest.approx(3.0, abs=0.08)  # AAC pads to whole packets
    inside = sound.samples[8000:40_000]
    spectrum = np.abs(np.fft.rfft(inside * np.hanning(len(inside))))
    assert np.argmax(spectrum) * 16_000 / len(inside) == pytest.approx(1000, abs=1)
    assert np.abs(inside).max() == pytest.approx(0.8, abs=0.05)  # neither halved nor doubled by the downmix


def test_the_rest_of_a_long_sound_is_left_out(write_video: Write) -> None:
    path = write_video(range(0, 3000, 40), rate=25, tone=(440, 3, 0.3))
    with MediaFile(path) as file:
        sound = read_sound(file, max_s=1.0)
    assert sound is not None
    assert len(sound.samples) == 16_000
    assert sound.truncated

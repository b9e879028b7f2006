import numpy as np
import pytest

from twominds.synthetic.corpus.voice import CONTROL_RATE_HZ, SAMPLE_RATE_HZ, Speaker, Speech, smooth_noise, speak

CLAUSES = ["about the gym", "I will do it", "there is no doubt"]
SPEAKER = Speaker(pitch_hz=120.0, formant_scale=1.0)


def _say(hesitation: float, seed: int = 0, clauses: list[str] = CLAUSES) -> Speech:
    return speak(np.random.default_rng(seed), clauses, SPEAKER, duration_s=4.0, hesitation=hesitation)


def _quiet_share(speech: Speech) -> float:
    frames = speech.samples.reshape(-1, SAMPLE_RATE_HZ // 50)
    return float((np.sqrt(np.square(frames).mean(axis=1)) < 0.02).mean())


def test_sound_has_the_length_and_range_it_should() -> None:
    speech = _say(0.3)
    assert speech.samples.shape == (4 * SAMPLE_RATE_HZ,)
    assert speech.mouth.shape == (4 * CONTROL_RATE_HZ,)
    assert speech.samples.dtype == np.float32
    assert 0.1 < np.abs(speech.samples).max() <= 1.0


def test_clauses_are_said_in_order_within_the_clip() -> None:
    speech = _say(0.5)
    assert [clause.text for clause in speech.clauses] == CLAUSES
    times = [time for clause in speech.clauses for time in (clause.start_s, clause.end_s)]
    assert times == sorted(times)
    assert 0.0 <= times[0] < times[-1] <= 4.0


def test_hesitation_is_heard_as_pauses() -> None:
    calm, torn = (np.mean([_quiet_share(_say(h, seed)) for seed in range(5)]) for h in (0.0, 1.0))
    assert torn > calm + 0.15
    assert _say(0.0).pause_share == pytest.approx(0.05)
    assert _say(1.0).pause_share == pytest.approx(0.5)


def test_voice_has_the_speakers_pitch() -> None:
    samples = _say(0.0).samples.astype(np.float64)
    spectrum = np.abs(np.fft.rfft(samples * np.hanning(len(samples))))
    frequency = np.fft.rfftfreq(len(samples), 1.0 / SAMPLE_RATE_HZ)
    band = (frequency > 60) & (frequency < 180)
    centre = np.average(frequency[band], weights=np.square(spectrum[band]))
    assert centre == pytest.approx(120.0, rel=0.12)


def test_mouth_is_shut_while_nothing_is_said() -> None:
    speech = _say(0.8)
    first = round(speech.clauses[0].start_s * CONTROL_RATE_HZ)
    assert speech.mouth.max() > 0.3
    said = speech.mouth[first : round(speech.clauses[0].end_s * CONTROL_RATE_HZ)]
    assert said.mean() > 0.1
    assert speech.mouth[: max(first - 2, 1)].max() <= 0.3  # silence, or a filler


def test_without_words_only_fillers() -> None:
    speech = _say(0.5, clauses=[])
    assert speech.clauses == ()
    assert len(speech.samples) == 4 * SAMPLE_RATE_HZ


def test_smooth_noise_is_smooth_and_of_unit_size() -> None:
    noise = smooth_noise(np.random.default_rng(0), np.arange(0, 500, 0.05), 1.0)
    assert abs(noise.mean()) < 0.15
    assert 0.6 < noise.std() < 1.1
    assert np.abs(np.diff(noise)).max() < 0.6

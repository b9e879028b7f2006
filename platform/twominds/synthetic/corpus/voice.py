"""A voice for the drawn people: source-filter speech that follows the words, with pauses, fillers and pitch.

Voiced sound is a sum of harmonics of the pitch, each as loud as the formants of the vowel let it be (the source-filter
model, Fant 1960, computed in the frequency domain); consonants are bursts of noise. It is no speech anyone would
take for human, but its pauses, fillers and pitch are what the annotators of BAH listen to.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from twominds.records import FloatArray

SAMPLE_RATE_HZ = 16_000
CONTROL_RATE_HZ = 200
"""Rate of the articulation: formants, loudness, pitch and mouth."""
_HOP = SAMPLE_RATE_HZ // CONTROL_RATE_HZ
_HARMONICS = 28
_LEAD_S = 0.08

_VOWELS: dict[str, tuple[float, float, float, float]] = {
    "a": (760.0, 1300.0, 2550.0, 1.0),
    "e": (520.0, 1850.0, 2500.0, 0.65),
    "i": (310.0, 2250.0, 2950.0, 0.4),
    "o": (480.0, 900.0, 2450.0, 0.7),
    "u": (340.0, 950.0, 2300.0, 0.35),
    "y": (320.0, 2100.0, 2700.0, 0.4),
}
"""First three formants in Hz (Peterson and Barney 1952, rounded) and how far the mouth opens."""
_FILLER = (600.0, 1200.0, 2450.0, 0.45)
_SYLLABLE = re.compile(r"([^aeiouy]*)([aeiouy]+)([^aeiouy]*$)?")
_HISSING, _STOPPING = frozenset("scfxzhvjt"), frozenset("pbtdkgq")

_Curve = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Speaker:
    """The voice of one person."""

    pitch_hz: float
    formant_scale: float
    """1 for a long vocal tract, up to 1.2 for a short one."""
    loudness: float = 0.5


@dataclass(frozen=True, kw_only=True)
class SpokenClause:
    """A clause and when it is said."""

    text: str
    start_s: float
    end_s: float


@dataclass(frozen=True, kw_only=True)
class Speech:
    """What is heard in a clip."""

    samples: FloatArray
    """[duration * SAMPLE_RATE_HZ], in [-1, 1]."""
    mouth: FloatArray
    """[duration * CONTROL_RATE_HZ] how far the mouth is open, 0..1."""
    clauses: tuple[SpokenClause, ...]
    pause_share: float
    """The part of the clip that is pause or filler."""


@dataclass
class _Articulation:
    """The controls of the synthesis, one value per control frame."""

    voiced: _Curve
    noise: _Curve
    hiss: _Curve
    formants: _Curve
    mouth: _Curve
    melody: _Curve

    @classmethod
    def silent(cls, frames: int) -> "_Articulation":
        zeros = [np.zeros(frames) for _ in range(5)]
        return cls(zeros[0], zeros[1], zeros[2], np.tile(np.array(_FILLER[:3]), (frames, 1)), zeros[3], zeros[4])


def random_speaker(rng: np.random.Generator) -> Speaker:
    """A voice nobody has heard before."""
    high = rng.random() < 0.5
    return Speaker(
        pitch_hz=float(rng.uniform(170.0, 230.0) if high else rng.uniform(95.0, 140.0)),
        formant_scale=float(rng.uniform(1.08, 1.2) if high else rng.uniform(0.97, 1.06)),
        loudness=float(rng.uniform(0.35, 0.65)),
    )


def speak(
    rng: np.random.Generator,
    clauses: Sequence[str],
    speaker: Speaker,
    *,
    duration_s: float,
    hesitation: float,
) -> Speech:
    """Says the clauses in exactly `duration_s`.

    Args:
        rng: Where the chance comes from.
        clauses: What is said; without any, only fillers are heard.
        speaker: The voice that says them.
        duration_s: Length of the sound; the more of it is pause, the faster the words between.
        hesitation: 0..1: the share of pauses and fillers rises from 5 to 50 %, and the pitch grows unsteady.
    """
    frames = round(duration_s * CONTROL_RATE_HZ)
    say = _Articulation.silent(frames)
    words = [(number, word) for number, clause in enumerate(clauses) for word in _words(clause)]
    pause_share = 0.05 + 0.45 * hesitation if words else 0.85
    gaps = _pauses(rng, words, pause_share * duration_s, hesitation)
    syllables = [_syllables(word) for _, word in words]
    units = sum(map(len, syllables))
    unit_s = (duration_s - 2 * _LEAD_S - sum(gaps)) / units if units else 0.0
    at_s, starts, ends = _LEAD_S, dict[int, float](), dict[int, float]()
    for place, gap in enumerate(gaps):
        if gap > 0:
            _hesitate(rng, say, at_s, gap, filled=gap > 0.2 and rng.random() < (0.4 if words else 0.7))
            at_s += gap
        if place < len(words):
            number = words[place][0]
            starts.setdefault(number, at_s)
            for onset, vowel in syllables[place]:
                _utter(rng, say, at_s, unit_s, onset, vowel)
                at_s += unit_s
            ends[number] = at_s
    samples = _synthesise(rng, say, speaker, hesitation)
    return Speech(
        samples=samples,
        mouth=say.mouth.astype(np.float32),
        clauses=tuple(
            SpokenClause(text=clauses[number], start_s=starts[number], end_s=ends[number]) for number in starts
        ),
        pause_share=pause_share,
    )


def smooth_noise(rng: np.random.Generator, times_s: npt.NDArray[np.floating], rate_hz: float) -> _Curve:
    """Noise that wanders: values around N(0, 1) about `rate_hz` times a second, joined smoothly.

    The mean over time is near 0 for clips much longer than 1 / `rate_hz`.
    """
    position = np.asarray(times_s, dtype=np.float64) * rate_hz + float(rng.random())
    knots = rng.normal(size=int(position.max(initial=0.0)) + 2)
    left = position.astype(np.int64)
    part = 0.5 - 0.5 * np.cos(np.pi * (position - left))
    return knots[left] * (1.0 - part) + knots[left + 1] * part


def _words(clause: str) -> list[str]:
    return re.findall(r"[a-z']+", clause.lower())


def _syllables(word: str) -> list[tuple[str, str]]:
    """(onset consonants, vowel) of each syllable, by the letters: near enough for a picture of speech."""
    letters = word.replace("'", "")
    if (
        len(letters) > 2
        and letters.endswith("e")
        and letters[-2] not in "aeiouy"
        and re.search("[aeiouy]", letters[:-2])
    ):
        letters = letters[:-1]
    found = [(match.group(1), match.group(2)[0]) for match in _SYLLABLE.finditer(letters)]
    return found or [(letters, "e")]


def _pauses(rng: np.random.Generator, words: list[tuple[int, str]], total_s: float, hesitation: float) -> list[float]:
    """Seconds of pause before each word and after the last: mostly between clauses, more anywhere when hesitant."""
    places = len(words) + 1
    if not words:
        return (total_s * rng.dirichlet(np.full(max(1, round(total_s / 0.7)), 3.0))).tolist()
    weights = np.full(places, 0.15 + 0.6 * hesitation)
    for place in range(1, len(words)):
        if words[place][0] != words[place - 1][0]:
            weights[place] = 1.6
    weights[0] = weights[-1] = 0.5
    count = min(places, max(1, round(total_s / 0.4)))
    chosen = rng.choice(places, size=count, replace=False, p=weights / weights.sum())
    gaps = np.zeros(places)
    gaps[chosen] = total_s * rng.dirichlet(np.full(count, 3.0))
    return gaps.tolist()


def _frames(say: _Articulation, start_s: float, length_s: float) -> slice:
    start = round(start_s * CONTROL_RATE_HZ)
    stop = max(round((start_s + length_s) * CONTROL_RATE_HZ), start)
    return slice(min(start, len(say.voiced)), min(stop, len(say.voiced)))


def _bump(length: int, edge: float) -> _Curve:
    """Rises from 0, stays at 1, falls to 0; `edge` is the share of each slope."""
    position = (np.arange(length) + 0.5) / max(length, 1)
    return np.clip(np.minimum(position, 1.0 - position) / edge, 0.0, 1.0)


def _hesitate(rng: np.random.Generator, say: _Articulation, start_s: float, length_s: float, *, filled: bool) -> None:
    if not filled:
        return
    span = _frames(say, start_s + 0.1 * length_s, 0.8 * length_s)
    length = span.stop - span.start
    say.voiced[span] = 0.75 * _bump(length, 0.12)
    say.mouth[span] = _FILLER[3] * 0.6 * _bump(length, 0.2)
    say.formants[span] = _FILLER[:3]
    say.melody[span] = -0.12 - float(rng.uniform(0.0, 0.05))


def _utter(
    rng: np.random.Generator, say: _Articulation, start_s: float, length_s: float, onset: str, vowel: str
) -> None:
    span = _frames(say, start_s, length_s)
    length = span.stop - span.start
    if not length:
        return
    *formants, opening = _VOWELS[vowel]
    say.formants[span] = formants
    stress = float(rng.uniform(0.75, 1.0))
    say.melody[span] = 0.15 * (stress - 0.85) + float(rng.normal(0.0, 0.03))
    say.voiced[span] = stress * _bump(length, 0.25)
    say.mouth[span] = opening * stress * _bump(length, 0.4)
    lead = round(min(0.35 * length, 0.09 * CONTROL_RATE_HZ))
    if onset and lead:
        head = slice(span.start, span.start + lead)
        say.voiced[head] *= 0.35 if onset[-1] not in _STOPPING else 0.0
        if onset[0] in _HISSING:
            say.noise[head] = 0.5 * _bump(lead, 0.3)
            say.hiss[head] = 1.0 if onset[0] in "sxzc" else 0.5
        elif onset[-1] in _STOPPING:
            say.noise[span.start + lead - 1 : span.start + lead + 1] = 0.7


def _synthesise(rng: np.random.Generator, say: _Articulation, speaker: Speaker, hesitation: float) -> FloatArray:
    frames = len(say.voiced)
    times = np.arange(frames) / CONTROL_RATE_HZ
    unsteady = (0.015 + 0.17 * hesitation) * smooth_noise(rng, times, 5.0) + 0.04 * smooth_noise(rng, times, 0.7)
    fall = 0.06 - 0.12 * times / max(times[-1], 1e-6)
    pitch_hz = speaker.pitch_hz * np.exp2(np.clip(say.melody + unsteady + fall, -0.9, 0.9))
    width = 9
    kernel = np.hanning(width + 2)[1:-1] / np.hanning(width + 2)[1:-1].sum()

    def glide(curve: _Curve) -> _Curve:
        return np.asarray(np.convolve(np.pad(curve, width // 2, mode="edge"), kernel, mode="valid"), dtype=np.float64)

    tremble = 1.0 + 0.35 * hesitation * smooth_noise(rng, times, 8.0)
    loudness = glide(say.voiced) * np.clip(tremble, 0.2, 2.0)
    formants = np.stack([glide(say.formants[:, index]) for index in range(3)]) * speaker.formant_scale
    harmonic = np.arange(1, _HARMONICS + 1)[:, None]
    gains = _resonance(harmonic * pitch_hz, formants) * harmonic**-0.9 * loudness
    gains[harmonic * pitch_hz > 0.45 * SAMPLE_RATE_HZ] = 0.0
    ramp = np.arange(_HOP, dtype=np.float32) / _HOP

    def smoothly(curve: _Curve) -> FloatArray:
        """Control rate to sample rate, by straight lines."""
        now = curve.astype(np.float32)
        rise = np.diff(now, append=now[-1:])
        return np.asarray(now[:, None] + rise[:, None] * ramp, dtype=np.float32).reshape(-1)

    phase = 2.0 * np.pi * np.cumsum(smoothly(pitch_hz), dtype=np.float64) / SAMPLE_RATE_HZ
    turn = np.exp(1j * phase).astype(np.complex64)
    power, voiced = turn.copy(), np.zeros(frames * _HOP, dtype=np.float32)
    for gain in gains:
        voiced += smoothly(gain) * power.imag
        power *= turn
    white = rng.standard_normal(frames * _HOP, dtype=np.float32)
    bright = np.diff(white, prepend=np.float32(0.0)) * 0.7
    hiss = smoothly(say.hiss)
    noise = smoothly(glide(say.noise)) * (hiss * bright + (1.0 - hiss) * white)
    mixed = voiced * 0.55 + noise * 0.12
    peak = float(np.abs(mixed).max(initial=1e-6))
    room = rng.standard_normal(frames * _HOP, dtype=np.float32) * 0.0015
    return np.clip(mixed * (speaker.loudness / max(peak, 0.05)) + room, -1.0, 1.0).astype(np.float32)


def _resonance(frequency_hz: _Curve, formants: _Curve) -> _Curve:
    """How loud the vocal tract lets each frequency through: a peak per formant. [harmonics, frames]."""
    total = np.zeros_like(frequency_hz)
    for formant, bandwidth_hz, strength in zip(formants, (90.0, 120.0, 180.0), (1.0, 0.55, 0.3), strict=True):
        total += strength / (1.0 + np.square((frequency_hz - formant) / bandwidth_hz))
    return total + 0.02

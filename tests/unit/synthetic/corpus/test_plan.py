from collections import Counter
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from twominds.errors import ConfigError
from twominds.records import Split
from twominds.synthetic.corpus.config import CueStrengths, NuisanceRates, PresetName, SyntheticCorpusConfig
from twominds.synthetic.corpus.plan import NUISANCES, ClipPlan, plan_corpus

MODALITIES = ("text", "audio", "face", "scene")


def _clips(preset: PresetName = "default", clips: int = 2000, seed: int = 0) -> tuple[ClipPlan, ...]:
    return plan_corpus(SyntheticCorpusConfig(preset=preset, clips=clips, seed=seed)).clips


def test_splits_are_participant_wise_in_bahs_proportion() -> None:
    plan = plan_corpus(SyntheticCorpusConfig(clips=1427))
    people = {split: {clip.participant for clip in plan.clips if clip.split is split} for split in Split}
    assert not people[Split.TRAIN] & people[Split.VALIDATION]
    assert not people[Split.TRAIN] & people[Split.TEST]
    assert not people[Split.VALIDATION] & people[Split.TEST]
    assert [len(people[split]) for split in (Split.TRAIN, Split.VALIDATION, Split.TEST)] == [195, 30, 75]
    videos = Counter(clip.split for clip in plan.clips)
    assert [videos[split] for split in (Split.TRAIN, Split.VALIDATION, Split.TEST)] == [778, 124, 525]
    assert all(plan.participants[clip.participant].split is clip.split for clip in plan.clips)


def test_nobody_answers_a_question_twice() -> None:
    answers = Counter((clip.participant, clip.question) for clip in _clips())
    assert max(answers.values()) == 1
    assert {question for _, question in answers} == set(range(1, 8))


def test_clip_ids_are_unique_paths_of_bah() -> None:
    clips = _clips()
    assert len({clip.clip_id for clip in clips}) == len(clips)
    assert all(clip.clip_id.startswith("Videos/") and clip.clip_id.endswith(".mp4") for clip in clips)


def test_default_latents_are_as_far_apart_as_the_strengths_say() -> None:
    config = SyntheticCorpusConfig(clips=8000, strengths=CueStrengths(text=2.0, audio=0.0, face=1.6, scene=1.6))
    clips = plan_corpus(config).clips
    labels = np.array([clip.label for clip in clips], dtype=bool)
    for modality, strength in {"text": 2.0, "audio": 0.0, "face": 1.6, "scene": 1.6}.items():
        latent = np.array([getattr(clip.latents, modality) for clip in clips])
        assert latent[labels].mean() - latent[~labels].mean() == pytest.approx(strength, abs=0.08)
        assert latent[labels].std() == pytest.approx(1.0, abs=0.05)
    disagree = np.array([clip.face_valence != clip.word_valence for clip in clips])
    assert disagree[labels].mean() - disagree[~labels].mean() == pytest.approx(0.311, abs=0.04)  # 2 Phi(0.4) - 1


def test_default_questions_tell_something_of_the_label() -> None:
    clips = _clips(clips=6000)
    rates = [np.mean([clip.label for clip in clips if clip.question == question]) for question in range(1, 8)]
    assert rates == pytest.approx([0.30, 0.35, 0.45, 0.70, 0.40, 0.60, 0.70], abs=0.06)


@pytest.mark.parametrize("preset", ["conflict", "none"])
def test_no_latent_tells_of_the_label(preset: str) -> None:
    assert preset == "conflict" or preset == "none"
    clips = _clips(preset, clips=4000)
    labels = np.array([clip.label for clip in clips])
    for modality in MODALITIES:
        latent = np.array([getattr(clip.latents, modality) for clip in clips])
        assert abs(np.corrcoef(latent, labels)[0, 1]) < 0.06
    for question in range(1, 8):
        assert np.mean([clip.label for clip in clips if clip.question == question]) == pytest.approx(0.5, abs=0.09)


@pytest.mark.parametrize("seed", range(3))
def test_conflict_is_balanced_exactly_in_every_split(seed: int) -> None:
    for split in (Split.TRAIN, Split.VALIDATION, Split.TEST):
        clips = [clip for clip in _clips("conflict", 400, seed) if clip.split is split]
        combinations = Counter((clip.word_valence, clip.face_valence, clip.label) for clip in clips)
        assert combinations == {
            (-1, -1, 0): len(clips) // 4,
            (1, 1, 0): len(clips) // 4,
            (-1, 1, 1): len(clips) // 4,
            (1, -1, 1): len(clips) // 4,
        }


def test_nothing_tells_in_preset_none() -> None:
    clips = _clips("none", clips=4000)
    agree = np.array([clip.face_valence == clip.word_valence for clip in clips])
    assert abs(np.corrcoef(agree, [clip.label for clip in clips])[0, 1]) < 0.06


def test_nuisances_come_at_their_rates_whatever_the_label() -> None:
    rates = NuisanceRates(no_audio=0.1, two_faces=0.2, rotated=0.5, not_video=0.0)
    clips = plan_corpus(SyntheticCorpusConfig(clips=1000, nuisances=rates)).clips
    counts = Counter(nuisance for clip in clips for nuisance in clip.nuisances)
    assert counts == {name: round(1000 * getattr(rates, name)) for name in NUISANCES if name != "not_video"}
    rotated = [clip.label for clip in clips if "rotated" in clip.nuisances]
    assert np.mean(rotated) == pytest.approx(np.mean([clip.label for clip in clips]), abs=0.07)


def test_small_corpus_has_one_of_each_and_a_clean_one_none() -> None:
    config = SyntheticCorpusConfig(clips=40)
    assert {nuisance for clip in plan_corpus(config).clips for nuisance in clip.nuisances} == set(NUISANCES)
    assert not any(clip.nuisances for clip in plan_corpus(replace(config, clean=True)).clips)


def test_plan_follows_from_the_seed() -> None:
    assert _clips(seed=1, clips=50) == _clips(seed=1, clips=50)
    assert _clips(seed=1, clips=50) != _clips(seed=2, clips=50)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"clips": 5}, "clips must be at least 12"),
        ({"clips": 42, "preset": "conflict"}, "multiple of 4"),
        ({"clip_s": 0.1}, "clip_s"),
        ({"width": 321}, "width"),
        ({"fps": 0.0}, "fps"),
        ({"seed": -1}, "seed"),
        ({"face_crop_px": 1}, "face_crop_px"),
        ({"preset": "easy"}, "preset must be one of"),
    ],
)
def test_wrong_settings_are_named(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        SyntheticCorpusConfig(**settings)


def test_wrong_rates_are_named() -> None:
    with pytest.raises(ConfigError, match=r"nuisances\.silence"):
        NuisanceRates(silence=1.5)
    with pytest.raises(ConfigError, match=r"strengths\.face"):
        CueStrengths(face=-1.0)

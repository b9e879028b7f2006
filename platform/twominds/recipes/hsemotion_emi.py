"""HSEmotion's Table 2: six intensities of mimicry per video of Hume-Vidmimic2, from face, voice and words.

The paper prints Pearson's correlation on validation, on which weights and epochs were chosen. Its rows called "early"
were trained on validation and scored on training, which is not repeated here: their recipes learn from training.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

from twominds.encoders.statistics import Pooling, StatisticsEncoderConfig
from twominds.features.catalog import AnyFeaturesConfig
from twominds.features.face_descriptor import FaceDescriptorFeaturesConfig
from twominds.features.given import GivenVectorsConfig
from twominds.features.sentence import SentenceFeaturesConfig
from twominds.recipes.hsemotion import (
    CHOSEN_ON_WHAT_IS_PRINTED,
    FACES,
    SOUNDS,
    Part,
    Way,
    What,
    blended,
    early,
    ending,
    head_fit,
    head_searches,
    linear_fit,
    row_recipe,
    sound,
    told,
    view_of,
)
from twominds.recipes.hsemotion_ah_frame import words
from twominds.recipes.recipe import PublishedScores, Recipe
from twominds.recipes.stages import BlendViews, TrainFusion
from twominds.scoring.members import Weight
from twominds.scoring.post_processing import Grids
from twominds.tasks import MIMICRY
from twominds.training.fit import FitConfig

FACE_FRAMES = 39
"""Every fifth frame of a clip: about so many."""

OUTPUT_WEIGHTS = (1.0, 1 / 8, 1 / 4, 1 / 2, 1 / 8, 1 / 8)
"""What each emotion counts in the loss, of their sum (public code; the paper calls them inverse class counts)."""

_LINEAR = ("mfn", "wav2vec2", "hubert", "gigachat")
"""Heads without a hidden layer (comments of the public code); of wav2vec 2.0 nothing is said."""


@dataclass(frozen=True, kw_only=True)
class EmiRow:
    """A row as the paper prints it."""

    parts: tuple[str, ...]
    """What it looks at: `mvt-scores-stat`, `hubert-mean`, `roberta-mean`, `openai`, ..."""
    published: tuple[float, ...]
    """Mean Pearson correlation times 100 on validation, and that of each emotion."""
    fused: Literal["blend", "early"] = "blend"
    weights: tuple[Weight, ...] = ()
    """Of a blend, where they are known; else they are chosen on validation, which is how they were found."""


def _row(parts: str, numbers: str, *, early: bool = False, weights: tuple[Weight, ...] = ()) -> EmiRow:
    """Numbers are the paper's, times ten thousand; it has no column for Joy, which is 6 * mean - the others."""
    mean, *others = (int(number) / 100 for number in numbers.split())
    joy = round(6 * mean - sum(others), 2)
    fused: Literal["blend", "early"] = "early" if early else "blend"
    return EmiRow(parts=tuple(parts.split()), published=(mean, *others, joy), fused=fused, weights=weights)


def _weights(face: str, voice: str) -> tuple[Weight, ...]:
    """The rest of each emotion is the words'."""
    faces, voices = (tuple(float(weight) for weight in said.split()) for said in (face, voice))
    words_ = tuple(round(1 - one - other, 2) for one, other in zip(faces, voices, strict=True))
    return faces, voices, words_


_HOW = (
    f"{CHOSEN_ON_WHAT_IS_PRINTED} Its rows of early fusion were trained on the validation split and scored on the "
    "training split; here they learn from training as all others do."
)
_MVT, _MFN = "mvt-scores-stat", "mfn-scores-stat"

ROWS: Mapping[str, EmiRow] = {
    "mvt-features-mean": _row("mvt-features-mean", "1644 0379 2314 1387 0781 2334"),
    "mvt-features-stat": _row("mvt-features-stat", "1683 0433 2459 1347 0779 2382"),
    "mvt-scores-mean": _row("mvt-scores-mean", "1642 0321 2484 1490 0674 2399"),
    "mvt-scores-stat": _row("mvt-scores-stat", "1776 0619 2623 1247 0773 2544"),
    "mfn-features-mean": _row("mfn-features-mean", "1518 0215 2288 1140 0692 2299"),
    "mfn-features-stat": _row("mfn-features-stat", "1646 0557 2380 1303 0703 2325"),
    "mfn-scores-mean": _row("mfn-scores-mean", "1667 0276 2367 1336 0807 2516"),
    "mfn-scores-stat": _row("mfn-scores-stat", "1732 0285 2498 1318 0970 2543"),
    "wav2vec2-mean": _row("wav2vec2-mean", "1514 2153 1176 1834 1426 1275"),
    "wav2vec2-stat": _row("wav2vec2-stat", "2311 3006 1659 2559 3198 1844"),
    "hubert-mean": _row("hubert-mean", "3045 3644 3179 2987 3111 2848"),
    "hubert-stat": _row("hubert-stat", "2729 3585 2454 2432 3065 2566"),
    "roberta-mean": _row("roberta-mean", "3763 4558 3328 3427 4964 3201"),
    "roberta-stat": _row("roberta-stat", "3697 4501 3326 3173 4843 3331"),
    "sentence-bert": _row("sentence_bert", "3756 4710 3585 3589 4347 3186"),
    "minilm": _row("minilm", "3537 4552 3076 3371 4111 3093"),
    "e5": _row("e5", "3777 4719 3497 3417 4553 3293"),
    "openai": _row("openai", "4011 5113 3825 3687 4847 3363"),
    "gigachat": _row("gigachat", "4001 4888 3648 3732 4862 3726"),
    "wav2vec2-mvt": _row(f"{_MVT} wav2vec2-stat", "2829 3011 2968 2595 3074 3171", weights=(0.1, 0.9)),
    "wav2vec2-mfn": _row(f"{_MFN} wav2vec2-stat", "2898 3041 3004 2584 3148 3160", weights=(0.1, 0.9)),
    "roberta-hubert": _row("hubert-mean roberta-mean", "3974 4644 3727 3814 4755 3477"),
    "roberta-mvt": _row(f"{_MVT} roberta-mean", "4028 4379 3911 3580 4802 3656"),
    "roberta-mfn": _row(f"{_MFN} roberta-mean", "4074 4408 3877 3632 5064 3650"),
    "roberta-mvt-hubert": _row(
        f"{_MVT} hubert-mean roberta-mean",
        "4192 4603 4104 3844 4935 3802",
        weights=_weights("0 .05 .05 .05 .05 .1", ".8 .9 .7 .4 .85 .8"),
    ),
    "roberta-mfn-hubert": _row(
        f"{_MFN} hubert-mean roberta-mean",
        "4223 4620 4095 3848 4936 3876",
        weights=_weights(".05 .05 .05 .05 .05 .1", ".75 .85 .75 .5 .8 .75"),
    ),
    "openai-hubert": _row("hubert-mean openai", "4125 5114 4006 3776 4863 3645"),
    "openai-mvt": _row(f"{_MVT} openai", "4103 4932 4090 3327 4571 3771"),
    "openai-mfn": _row(f"{_MFN} openai", "3887 4779 3593 3369 4373 3452"),
    "openai-mvt-hubert": _row(
        f"{_MVT} hubert-mean openai",
        "4451 5203 4461 3938 5054 4015",
        weights=_weights("0 .05 0 0 .05 .05", ".2 .2 .35 .3 .35 .35"),
    ),
    "openai-mfn-hubert": _row(
        f"{_MFN} hubert-mean openai",
        "4225 5073 4044 3696 4801 3822",
        weights=_weights("0 .05 0 0 .05 .05", ".2 .05 .35 .3 .2 .25"),
    ),
    "gigachat-hubert-early": _row("hubert-mean gigachat", "4011 4794 3733 4182 4449 3516", early=True),
    "gigachat-hubert": _row("hubert-mean gigachat", "4106 4955 3912 3881 4619 3922"),
    "gigachat-mvt": _row(f"{_MVT} gigachat", "4103 4932 4090 3327 4571 3771"),
    "gigachat-mfn-early": _row(f"{_MFN} gigachat", "4199 4906 3988 4121 4420 3876", early=True),
    "gigachat-mfn": _row(f"{_MFN} gigachat", "4231 4897 4107 3806 4824 4131"),
    "gigachat-mvt-hubert": _row(
        f"{_MVT} hubert-mean gigachat",
        "4460 5197 4491 3916 4981 4192",
        weights=_weights(".05 .05 .05 0 .1 .1", ".75 .8 .65 .4 .6 .7"),
    ),
    "gigachat-mfn-hubert-early": _row(f"{_MFN} hubert-mean gigachat", "4204 4823 4013 4267 4496 3765", early=True),
    "gigachat-mfn-hubert": _row(
        f"{_MFN} hubert-mean gigachat",
        "4338 4955 4332 3923 4640 4282",
        weights=_weights(".05 .05 .05 .05 .05 .1", ".75 .75 .7 .3 .7 .65"),
    ),
}
"""Table 2. The numbers of `gigachat-mvt` are printed for `openai-mvt`, too, and some blends differ from the public
code's outputs."""


def emi_row(name: str, way: Way = "mended") -> Recipe:
    """A row of Table 2."""
    row, faithful = ROWS[name], way == "faithful"
    early_fusion = row.fused == "early"
    parts = {view_of(part): _part(part, way, raw=early_fusion) for part in row.parts}
    views = tuple(parts)
    fusion = early(views, _fit(way), hidden_dim=64, way=way) if early_fusion else blended(views)
    all_linear = all(part.partition("-")[0] in _LINEAR for part in row.parts) and not early_fusion
    chosen = Grids(weight_step=0.05 if len(views) > 1 and not early_fusion else None, per_output=True)
    weights = dict(zip(views, row.weights, strict=False)) if faithful else {}
    made = row_recipe(
        "emi",
        name,
        way,
        number=2,
        description=_described(row, way),
        task=MIMICRY,
        parts=parts,
        fusion=fusion,
        last=TrainFusion() if early_fusion else BlendViews(weights=weights),
        published=PublishedScores(
            validation=row.published[0],
            how=_HOW,
            others={f"pearson of {name}": value for name, value in zip(MIMICRY.names, row.published[1:], strict=True)},
        ),
        face_frames=FACE_FRAMES if way != "demo" else 12,
        searches={} if early_fusion else head_searches(parts),
        grids=Grids() if chosen.weight_step is None or (faithful and row.weights) else chosen,
    )
    # As published, linear heads had the loss without weights.
    weighted = None if faithful and all_linear else OUTPUT_WEIGHTS
    return replace(made, criterion="pearson", output_weights=weighted)


def _fit(way: Way) -> FitConfig:
    return head_fit(way, epochs=20, batch_size=512, learning_rate=1e-3)


def _part(part: str, way: Way, *, raw: bool) -> Part:
    """A view of a row; `raw`: its embedding is what it sees, for early fusion."""
    name, *told = part.split("-")
    linear = name in _LINEAR
    pooling: Pooling = "stat" if told[-1:] == ["stat"] else "mean"
    head = StatisticsEncoderConfig(
        pooling=pooling, hidden_dim=0 if raw or linear else 64, standardize=way == "demo" and not raw
    )
    settings = linear_fit(_fit(way), epochs=100) if linear else _fit(way)
    if name in FACES:
        shown: What = "scores" if told[0] == "scores" else "features"
        features: AnyFeaturesConfig = FaceDescriptorFeaturesConfig(backbone=FACES[name].role)
        return Part(features=features, encoder=replace(head, columns=FACES[name].columns(shown)), fit=settings)
    if name in SOUNDS:
        return Part(features=sound(name), encoder=head, fit=settings)
    return Part(features=_text(name, way), encoder=head, fit=settings)


def _text(name: str, way: Way) -> AnyFeaturesConfig:
    if name == "roberta":
        return words(way, timed=False)
    if way == "demo":
        return SentenceFeaturesConfig(backbone="text.all_minilm", normalize=True)
    if name in _SENTENCES:
        return _SENTENCES[name]
    return GivenVectorsConfig(name=name)


_SENTENCES: Mapping[str, SentenceFeaturesConfig] = {
    "sentence_bert": SentenceFeaturesConfig(backbone="text.sentence_distilroberta"),
    "minilm": SentenceFeaturesConfig(backbone="text.all_minilm_v1", max_tokens=128, normalize=True),
    "e5": SentenceFeaturesConfig(backbone="text.e5_base", normalize=True),
}
"""As sentence-transformers has them."""


def _described(row: EmiRow, way: Way) -> str:
    how = f"{'early fusion' if row.fused == 'early' else 'blend'} of " if len(row.parts) > 1 else ""
    way_of = ending(way, ", on the corpus's crops, with its weights")
    return f"six intensities per video: {how}{', '.join(map(told, row.parts))}{way_of}"

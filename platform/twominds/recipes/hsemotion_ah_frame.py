"""HSEmotion's Table 4: A/H per frame of BAH: descriptors, blends, early fusion, smoothing and the video filter.

The paper's number is weighted F1 on validation, where answering "no A/H" everywhere has .674; the thresholds, radii and
weights behind it were chosen on the same rows. `mended` chooses them on validation, and test tells what they are worth.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

from twominds.encoders.points import PointEncoderConfig
from twominds.encoders.vector_classifier import VectorClassifierConfig
from twominds.features.face_track import FaceTrackFeaturesConfig
from twominds.features.text_rows import TextRowsFeaturesConfig
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
from twominds.recipes.recipe import PublishedScores, Recipe
from twominds.recipes.stages import BlendViews, TrainFusion
from twominds.records import View
from twominds.scoring.decision import Decision, Overrule, Smooth, Step, Threshold
from twominds.scoring.post_processing import Grids
from twominds.tasks import AH_FRAME
from twominds.training.fit import FitConfig

VIDEO_FILTER: View = "text.video_filter"
"""The view whose classifier of whole videos sets all frames of a video to 0 that it says no of."""

FRAMES_PER_S = 24.0
"""Of BAH's videos: the published radii are in frames."""
RADII = (0, 5, 10, 20, 30, 40, 50, 60, 70, 80, 100, 150)
THRESHOLDS = tuple(sorted((round(0.2 + 0.05 * i, 2) for i in range(11)), key=lambda value: abs(value - 0.5)))
"""The values that were tried, in frames and in probabilities, those nearest to .5 first."""


@dataclass(frozen=True, kw_only=True)
class FrameRow:
    """A row as the paper prints it."""

    parts: tuple[str, ...]
    """What it looks at: `mfn-scores`, `mfn-features`, `hubert`, `roberta`, ..."""
    published: float
    """Weighted F1 on validation, in percent."""
    threshold: float = 0.5
    """Probability from which A/H is the answer, as the paper chose it."""
    fused: Literal["blend", "early"] = "blend"
    weights: tuple[float, ...] = ()
    """Weights of a blend as the paper prints them."""
    radius: int | None = None
    """Radius of the smoothing, in frames; None: there is none."""
    filtered: bool = False
    """Whether the classifier of whole videos has its say."""
    linear: bool = False
    """Whether the head has no hidden layer."""


_HOW = (
    f"{CHOSEN_ON_WHAT_IS_PRINTED} They are weighted F1, of which the answer that there is no A/H anywhere has 67.4 on "
    "the published validation split; macro F1 and the F1 of the positive class tell more."
)
_MFN_TEXT = ("mfn-scores", "roberta")
_ALL = ("mfn-scores", "hubert", "roberta")

ROWS: Mapping[str, FrameRow] = {
    "ddamfn-scores": FrameRow(parts=("ddamfn-scores",), published=67.97, threshold=0.3),
    "ddamfn-features": FrameRow(parts=("ddamfn-features",), published=68.36, threshold=0.4),
    "b0-scores": FrameRow(parts=("b0-scores",), published=69.75, threshold=0.3),
    "b0-features": FrameRow(parts=("b0-features",), published=67.66, threshold=0.6),
    "mvt-scores": FrameRow(parts=("mvt-scores",), published=69.81, threshold=0.3),
    "mvt-features": FrameRow(parts=("mvt-features",), published=67.69, threshold=0.5),
    "mtddamfn-scores": FrameRow(parts=("mtddamfn-scores",), published=68.76, threshold=0.3),
    "mtddamfn-features": FrameRow(parts=("mtddamfn-features",), published=68.02, threshold=0.7),
    "mtb0-scores": FrameRow(parts=("mtb0-scores",), published=68.32, threshold=0.3),
    "mtb0-features": FrameRow(parts=("mtb0-features",), published=68.46, threshold=0.5),
    "mfn-scores": FrameRow(parts=("mfn-scores",), published=70.59, threshold=0.6, linear=True),
    "mfn-features": FrameRow(parts=("mfn-features",), published=68.36, threshold=0.5),
    "wav2vec2": FrameRow(parts=("wav2vec2",), published=67.66),
    "hubert": FrameRow(parts=("hubert",), published=68.57),
    "roberta": FrameRow(parts=("roberta",), published=70.70),
    "mfn-smooth": FrameRow(parts=("mfn-scores",), published=72.01, threshold=0.3, radius=20),
    "mfn-smooth-filter": FrameRow(parts=("mfn-scores",), published=72.11, threshold=0.3, radius=10, filtered=True),
    "hubert-mfn-blend": FrameRow(parts=("mfn-scores", "hubert"), published=71.51, threshold=0.3, weights=(0.9, 0.1)),
    "roberta-mfn-blend": FrameRow(parts=_MFN_TEXT, published=71.45, threshold=0.4, weights=(0.7, 0.3)),
    "all-blend": FrameRow(parts=_ALL, published=72.12, threshold=0.3, weights=(0.6, 0.15, 0.25)),
    "all-fusion": FrameRow(parts=_ALL, published=72.01, fused="early"),
    "roberta-mfn-fusion": FrameRow(parts=_MFN_TEXT, published=72.26, fused="early"),
    "roberta-mfn-smooth": FrameRow(parts=_MFN_TEXT, published=73.31, fused="early", radius=10),
    "roberta-mfn-smooth-filter": FrameRow(parts=_MFN_TEXT, published=73.73, fused="early", radius=10, filtered=True),
}
"""Table 4, without its baseline of another paper (70.0). Of the last two rows no radius is known: it is that of the
smoothed blend of all three (public code)."""


def frame_row(name: str, way: Way = "mended") -> Recipe:
    """A row of Table 4."""
    row = ROWS[name]
    early_fusion = row.fused == "early"
    parts = {view_of(part): _part(part, row, way, raw=early_fusion) for part in row.parts}
    views = tuple(parts)
    if early_fusion:
        fusion = early(views, _fit(way), hidden_dim=32 if len(views) == 2 else 64, way=way)
    else:
        fusion = blended(views)
    if row.filtered:
        parts[VIDEO_FILTER] = _video_filter(way)
    weights = dict(zip(views, row.weights, strict=False)) if way == "faithful" else {}
    made = row_recipe(
        "ah-frame",
        name,
        way,
        number=4,
        description=_described(row, way),
        task=AH_FRAME,
        parts=parts,
        fusion=fusion,
        last=TrainFusion() if early_fusion else BlendViews(weights=weights),
        published=PublishedScores(validation=row.published, how=_HOW),
        searches={} if early_fusion else head_searches(parts),
        decision=Decision(steps=_steps(row, way)),
        grids=Grids() if way == "faithful" else _grids(row),
    )
    return replace(made, chosen_by="positive_f1") if way == "faithful" else made


def _steps(row: FrameRow, way: Way) -> tuple[Step, ...]:
    steps: list[Step] = []
    if row.radius is not None:
        faithful = way == "faithful"
        steps.append(Smooth(radius=row.radius, unit="points") if faithful else Smooth(radius=0.0, unit="s"))
    if row.filtered:
        steps.append(Overrule(member=VIDEO_FILTER, when="negative"))
    if way == "faithful":
        steps.append(Threshold(value=row.threshold))
    return tuple(steps)


def _grids(row: FrameRow) -> Grids:
    return Grids(
        weight_step=0.05 if row.fused == "blend" and len(row.parts) > 1 else None,
        radii=() if row.radius is None else tuple(round(radius / FRAMES_PER_S, 3) for radius in RADII),
        thresholds=THRESHOLDS,
    )


def _fit(way: Way) -> FitConfig:
    return head_fit(way, epochs=20, batch_size=512, learning_rate=5e-4)


def _part(part: str, row: FrameRow, way: Way, *, raw: bool) -> Part:
    """A view of a row; `raw`: its embedding is what it sees, for early fusion."""
    name, _, what = part.partition("-")
    head = PointEncoderConfig(
        hidden_dim=0 if raw or row.linear else 64, standardize=way == "demo" and not raw, one_logit=True
    )
    settings = _fit(way)
    if row.linear:
        settings = linear_fit(replace(settings, class_weights=True), epochs=20)
    if name in FACES:
        shown: What = "scores" if what == "scores" else "features"
        encoder = replace(head, columns=FACES[name].columns(shown), between="answers" if not raw else "rows")
        return Part(features=face_track(name, way), encoder=encoder, fit=settings)
    if name in SOUNDS:
        return Part(features=sound(name), encoder=_spread(head, way), fit=settings)
    # In early fusion the words are there as their mean over the clip.
    of_words = replace(head, alignment="mean", step_s=WHOLE_CLIP_S) if raw else _spread(head, way)
    return Part(features=words(way, timed=True), encoder=of_words, fit=settings)


WHOLE_CLIP_S = 1e6
"""A window that is longer than any clip: what is averaged in it is the clip."""


def _spread(head: PointEncoderConfig, way: Way) -> PointEncoderConfig:
    """Rows between which a frame falls: by time, or as published spread evenly over the frames."""
    return replace(head, alignment="linear", by="position" if way == "faithful" else "time")


def face_track(name: str, way: Way) -> FaceTrackFeaturesConfig:
    """A descriptor of the face in every frame; frames without one have no row."""
    return FaceTrackFeaturesConfig(
        backbone=FACES[name].role, rate_hz=5.0 if way == "demo" else None, without_face="drop"
    )


def words(way: Way, *, timed: bool) -> TextRowsFeaturesConfig:
    """RoBERTa-GoEmotions token by token; at its 512th it cuts."""
    backbone = "text.all_minilm" if way == "demo" else "text.roberta_go_emotions"
    return TextRowsFeaturesConfig(backbone=backbone, timed=timed and way != "faithful")


def _video_filter(way: Way) -> Part:
    """The published classifier of whole videos: an RBF SVC over the mean of the tokens."""
    encoder = VectorClassifierConfig(pooling="mean", classifier="rbf_svc", c=1.1, balanced=True, whole_clip=True)
    return Part(features=words(way, timed=False), encoder=encoder, fit=_fit(way))


def _described(row: FrameRow, way: Way) -> str:
    how = f"{'early fusion' if row.fused == 'early' else 'blend'} of " if len(row.parts) > 1 else ""
    after = [
        *(["linear"] if row.linear else []),
        *(["smoothing"] if row.radius is not None else []),
        *(["video filter"] if row.filtered else []),
    ]
    seen = ", ".join([*map(told, row.parts), *after])
    way_of = ending(way, ": its threshold, radius and weights, sound and words spread over the frames")
    return f"A/H per frame: {how}{seen}{way_of}"

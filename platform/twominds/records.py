"""The shapes that flow through the platform: clip, media, features, embedding, score.

Frozen dataclasses over NumPy arrays, free of torch and Ray, so that every layer (and every process) can speak
them. A missing modality is a value here, never a zero: see `Presence`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float32]
ByteArray = npt.NDArray[np.uint8]
BoolArray = npt.NDArray[np.bool_]
Times = npt.NDArray[np.float64]
"""Seconds since the clip's first frame (or, without a picture, since its first sound)."""


class Modality(StrEnum):
    """The four views of a clip, in the order in which the fusion stacks their tokens (LEYA, section 3.5)."""

    SCENE = "scene"
    FACE = "face"
    AUDIO = "audio"
    TEXT = "text"


class Split(StrEnum):
    """The parts of a corpus, participant-wise. `PRIVATE` has no labels."""

    TRAIN = "train"
    VALIDATION = "val"
    TEST = "test"
    PRIVATE = "private"


View = str
"""One way to look at a modality, such as `face.effnet` or `text.gte`; the modality's bare name is its only or main one.
Features, encoders and tokens of the fusion are by view; whether it is there, and why not, is the modality's."""


def modality_of(view: View) -> Modality:
    """The modality that a view looks at: what stands before the first dot.

    Raises:
        ValueError: there is no such modality.
    """
    return Modality(view.partition(".")[0])


@dataclass(frozen=True, kw_only=True, eq=False)
class Labels:
    """What people said of a clip's P points. What nobody annotated is unknown, never 0."""

    values: FloatArray
    """[P, 1] indices into the classes, or [P, K] intensities. What stands where nothing is known means nothing."""
    known: BoolArray
    """[P]: which points somebody annotated."""
    times_s: Times | None = None
    """[P]; None for the one point of a clip, and for frames in the video's own order, until the video is looked at."""
    ends_s: Times | None = None
    """[P]: of segments, which are known from `times_s` until then rather than at a moment; None: they are no segments.
    `corpus.labels.labels_at` says what is known at the points of a video."""

    def __post_init__(self) -> None:
        points = len(self.values)
        if self.values.ndim != 2 or self.known.shape != (points,):
            raise ValueError(f"{points} points have values of shape {self.values.shape}, known {self.known.shape}")
        if self.times_s is not None and self.times_s.shape != (points,):
            raise ValueError(f"{points} points have times of shape {self.times_s.shape}")
        if self.ends_s is not None and (self.times_s is None or self.ends_s.shape != (points,)):
            raise ValueError(f"{points} segments have as many starts and ends, not ends of shape {self.ends_s.shape}")

    @classmethod
    def of_clip(cls, *values: float) -> "Labels":
        """The label of a whole clip: the index of its class, or its intensities."""
        return cls(values=np.array([values], np.float32), known=np.ones(1, np.bool_))

    @property
    def classes(self) -> npt.NDArray[np.int64]:
        """[P] indices into the classes; -1 where nothing is known."""
        return np.where(self.known, self.values[:, 0], -1).astype(np.int64)

    def __len__(self) -> int:
        """P, the number of points."""
        return len(self.values)

    def __eq__(self, other: object) -> bool:
        """Whether the same is known of the same points."""
        if not isinstance(other, Labels) or len(self) != len(other) or not np.array_equal(self.known, other.known):
            return False
        if not np.array_equal(self.values[self.known], other.values[other.known]):
            return False
        return _same_times(self.times_s, other.times_s) and _same_times(self.ends_s, other.ends_s)

    __hash__ = None  # type: ignore[assignment]  # arrays have none


def _same_times(one: Times | None, other: Times | None) -> bool:
    return one is other if one is None or other is None else np.array_equal(one, other)


def clip_labels(label: int | None) -> Labels | None:
    """The labels of a clip that is of one class as a whole; None where nobody said which."""
    return None if label is None else Labels.of_clip(label)


@dataclass(frozen=True, kw_only=True)
class Word:
    """A word (or a few that were said together), and when it was said."""

    text: str
    start_s: float
    """Seconds since the clip's first frame."""
    end_s: float


@dataclass(frozen=True, kw_only=True)
class Clip:
    """One video of one person and what the corpus says of it.

    `clip_id` is unique in its corpus and names the clip everywhere (for BAH the `Videos/...mp4` path).
    Fields that the corpus does not have are None.
    """

    clip_id: str
    video_uri: str
    split: Split | None = None
    labels: Labels | None = None
    """What the corpus says of the clip's points, for the task it was read for; None where it says nothing."""
    transcript: str | None = None
    """None: the corpus has none (look elsewhere); "": the person says nothing."""
    words: tuple[Word, ...] | None = None
    """The transcript's words in time; None where the corpus does not know when they were said."""
    participant_id: str | None = None
    question: int | None = None
    """BAH's question 1-7."""
    attributes: Mapping[str, str] = field(default_factory=dict[str, str])
    """Participant metadata used in reports alone (gender, age range, ethnicity), never as a model's input."""
    vectors: Mapping[str, FloatArray] = field(default_factory=dict[str, FloatArray], compare=False)
    """What the user's own models made of it, each float32 [D] by its name; only `source` tells whether they changed."""
    face_crops_uri: str | None = None
    """Folder of the corpus's own face crops (BAH's `frame-<n>.jpg` from 0, Aff-Wild2's `00001.jpg`), if it has any."""
    source: "Source | None" = None
    """Tells whether what is made of the clip is still that of its file and words; None where nobody has looked."""

    @property
    def label(self) -> int | None:
        """Index of the whole clip's class; None where nobody knows it, or where the task is not one class per clip."""
        labels = self.labels
        if labels is None or labels.values.shape != (1, 1) or labels.times_s is not None or not labels.known[0]:
            return None
        return int(labels.values[0, 0])


@dataclass(frozen=True, kw_only=True)
class Source:
    """What a clip's features were made of. Where it is another, they have to be made again."""

    video: str
    """The file's size and time of change, or its digest in an object store, with the face crops and the given vectors
    where they are used. Empty where the file is not there."""
    words: str
    """A digest of the corpus's transcript. Empty where the corpus has none."""


@dataclass(frozen=True, kw_only=True)
class Presence:
    """Whether a modality is there, and if not why not, in words that the user reads."""

    present: bool
    reason: str = ""
    """Empty when present."""

    def __post_init__(self) -> None:
        if self.present == bool(self.reason):
            raise ValueError("a present modality has no reason; an absent one must have one")


PRESENT = Presence(present=True)


def absent(reason: str) -> Presence:
    """The presence of a modality that is not there because of `reason`."""
    return Presence(present=False, reason=reason)


@dataclass(frozen=True, kw_only=True)
class ClipMedia:
    """A decoded clip: what the feature extractors need, and nothing of the file beyond it."""

    clip_id: str
    duration_s: float
    scene_frames: ByteArray | None
    """[T, 224, 224, 3] RGB, uniform over the clip by presentation time; None without a picture."""
    scene_times_s: Times | None = None
    """[T]: when each of them is shown."""
    face_crops: ByteArray | None
    """[F, 224, 224, 3] RGB; a frame without a detected face holds the full frame. None without any face."""
    face_detected: BoolArray | None
    """[F]: which crops are a detected face; None without a picture."""
    face_times_s: Times | None = None
    """[F]: when each crop's frame is shown."""
    audio: FloatArray | None
    """[N] mono at `sample_rate_hz`, in [-1, 1]; None without sound. A gap in its time stamps is silence."""
    audio_start_s: float = 0.0
    """When its first sample is heard."""
    transcript: str | None
    """The words; None where there are none to be had."""
    transcript_source: str
    """`caller`, `corpus`, `subtitles`, `whisper`, or "" where there is no transcript."""
    words: tuple[Word, ...] | None = None
    """The transcript's words in time; None where nobody knows when they were said."""
    vectors: Mapping[str, FloatArray] = field(default_factory=dict[str, FloatArray])
    """What came with the clip, each float32 [D] by its name (`Clip.vectors`)."""
    presence: Mapping[Modality, Presence]
    """One entry for each modality."""
    points_s: Times | None = None
    """[P]: when the task wants an answer; None where it wants one for the whole clip."""
    video: "str | ByteArray | None" = None
    """Where the file is, or its bytes where it has no place: for features that stream it. None: there are none such."""
    face_crops_uri: str | None = None
    """Folder of the corpus's own face crops, for features that stream them; None: there are none."""
    warnings: tuple[str, ...] = ()
    """What of the file was left out or chosen among several, in sentences that the user reads."""
    sample_rate_hz: int = 16_000


@dataclass(frozen=True, kw_only=True)
class Features:
    """What a frozen backbone sees of one view of one clip: the input of the trained encoder.

    Absent: `values` and `pooled` are None and `presence.reason` says why.
    """

    clip_id: str
    view: View
    presence: Presence
    values: npt.NDArray[Any] | None = None
    """scene: uint8 [T, 224, 224, 3] frames; face: float32 [F, 1280]; audio: float32 [T_a, 1024]; text: int64 [L]
    token ids, or the words as uint8 [N] UTF-8 bytes. (Last dimensions are those of the published backbones.)"""
    times_s: Times | None = None
    """One time per row of `values`: the middle of what the row saw. None where rows have no times (a transcript of
    which nobody knows when it was said)."""
    points_s: Times | None = None
    """[P]: when the task wants an answer; None where it wants one for the whole clip."""
    pooled: FloatArray | None = None
    """[mean; population std] over time (or tokens) of the frozen backbone's output: float32 [2 * D]. The fusion's
    input kind `pooled`, which needs no trained encoder; None where it was not asked for, or no backbone is (words)."""
    participant_id: str | None = None
    """Who is seen, where a training must know: a vocabulary of words is published, and no one person's words are."""
    warnings: tuple[str, ...] = ()
    """What of the clip was left out or chosen among several on the way here, in sentences that the user reads."""

    @property
    def modality(self) -> Modality:
        """The modality that the view looks at."""
        return modality_of(self.view)


@dataclass(frozen=True, kw_only=True)
class Embedding:
    """What the trained encoder of one view says of the P points of one clip. Absent: the arrays are None."""

    clip_id: str
    view: View
    presence: Presence
    vectors: FloatArray | None = None
    """float32 [P, D_m], the tokens that the fusion takes (input kind `emb`). Where the one point is the whole clip, an
    encoder may have looked at W stretches of it: then this, and the other arrays, have W rows."""
    logits: FloatArray | None = None
    """float32 [P, K]: the outputs before the task's activation."""
    probabilities: FloatArray | None = None
    """float32 [P, K]: the outputs after it, class probabilities or intensities."""
    points_s: Times | None = None
    """[P]: the points' times; None where the one point is the whole clip."""
    pooled: FloatArray | None = None
    """The features' own, carried along for the input kind `pooled`; None where they have none."""
    warnings: tuple[str, ...] = ()
    """Those of the features behind it."""

    @property
    def modality(self) -> Modality:
        """The modality that the view looks at."""
        return modality_of(self.view)

    @property
    def stretches(self) -> int:
        """W: of how many stretches of the clip there is a row for its one point; 1 of points that have times."""
        return 1 if self.points_s is not None or self.vectors is None else len(self.vectors)


@dataclass(frozen=True, kw_only=True)
class ViewScore:
    """One view's part in a score."""

    view: View
    presence: Presence
    probability: float | None
    """The unimodal encoder's own probability of the last of two classes (per frame: its mean); None when absent, and of
    other tasks."""


@dataclass(frozen=True, kw_only=True)
class Contributions:
    """What a score is made of: it is the sum of what the training's prior says and of each modality's contribution.

    In log-odds of the class that is asked about; of intensities in their own numbers, one contribution per output.
    """

    prior: tuple[float, ...]
    """What is said without any modality [K']: K' is 1 of classes."""
    by_modality: Mapping[Modality, tuple[float, ...]]
    """Exact Shapley value of each modality that is present [K']."""
    opposed: tuple[Modality, Modality] | None
    """The two modalities that pull in opposite directions and depend on each other most, the one that pulls up first;
    None where all pull the same way."""
    interaction: float = 0.0
    """Their Shapley interaction index: how much both together say beyond what each does alone."""


@dataclass(frozen=True, kw_only=True)
class ScoredSegment:
    """A stretch of a clip that has one class."""

    start_s: float
    end_s: float
    label: int
    """Index of the class."""
    probability: float
    """Mean probability of the class in it."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Timeline:
    """What is said of each point of a clip."""

    points_s: Times
    """[P]."""
    outputs: npt.NDArray[np.float64]
    """[P, K]: class probabilities or intensities, after smoothing."""
    labels: npt.NDArray[np.int64] | None
    """[P]: index of the decided class; None of intensities."""
    segments: tuple[ScoredSegment, ...] = ()
    """Stretches of one class, in the order of time; of two classes only those of the last."""


@dataclass(frozen=True, kw_only=True)
class Score:
    """The platform's answer for one clip."""

    clip_id: str
    probabilities: tuple[float, ...]
    """[K]: the members' weighted mean of the class probabilities, which sum to 1, or of the intensities. Of a task per
    frame: their mean over the points."""
    label: int | None
    """Index of the decided class; None of intensities, and of a task per frame, whose timeline has the labels."""
    threshold: float
    """The probability of the last of two classes from which it is the answer."""
    abstains: bool = False
    """Whether the probability is within the ensemble's abstention band, where a person should decide."""
    seed_probabilities: tuple[float, ...]
    """What each member gives the last class (or the first intensity), in the order of the members."""
    views: tuple[ViewScore, ...]
    artifact_id: str
    weights: str
    """`published`, or `debug` when any weight in the path is seeded random: then the score means nothing."""
    timeline: Timeline | None = None
    """The answers over time, where the task asks per frame."""
    contributions: Contributions | None = None
    """What each modality adds; None where it was not asked for."""
    warnings: tuple[str, ...] = ()
    """What of the clip was left out on the way, in sentences that the user reads."""


@dataclass(frozen=True, kw_only=True)
class Failure:
    """A clip that could not be processed, kept with its reason instead of its result."""

    clip_id: str
    stage: str
    """Where it failed: `decode`, `faces`, `speech`, `features["scene"]`, ..."""
    reason: str
    """The error's sentence."""


@dataclass(frozen=True, kw_only=True)
class Corpus:
    """A corpus as it was read: its clips, which of them cannot be used, and what a person should know of the rest."""

    clips: tuple[Clip, ...]
    """All of them, in the corpus's own order; those that fail, too, since their labels and ids count all the same."""
    failures: tuple[Failure, ...] = ()
    """Those of the clips that are of no use, as is known before any file is opened (stage `corpus`)."""
    notes: tuple[str, ...] = ()
    """What was passed over, or looks wrong and is used all the same: sentences for the job's summary."""

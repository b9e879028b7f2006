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


@dataclass(frozen=True, kw_only=True)
class Task:
    """What is recognised: the names of the classes, in the order of the logits."""

    name: str
    """Identifier that artifacts carry, such as `ah-video`."""
    classes: tuple[str, ...]
    """One name per logit."""

    @property
    def num_classes(self) -> int:
        """Number of logits of a model of this task."""
        return len(self.classes)


AH_VIDEO = Task(name="ah-video", classes=("no_ah", "ah"))
"""Ambivalence/hesitancy per video: class 1 is 'present' (BAH's `global_ah`)."""


@dataclass(frozen=True, kw_only=True)
class Clip:
    """One video of one person and what the corpus says of it.

    `clip_id` is unique in its corpus and names the clip everywhere (for BAH the `Videos/...mp4` path).
    Fields that the corpus does not have are None.
    """

    clip_id: str
    video_uri: str
    split: Split | None = None
    label: int | None = None
    """Index into `Task.classes`."""
    transcript: str | None = None
    """None: the corpus has none (look elsewhere); "": the person says nothing."""
    participant_id: str | None = None
    question: int | None = None
    """BAH's question 1-7."""
    attributes: Mapping[str, str] = field(default_factory=dict[str, str])
    """Participant metadata used in reports alone (gender, age range, ethnicity), never as a model's input."""
    face_crops_uri: str | None = None
    """Folder of the corpus's own face crops (`frame-<n>.jpg`), when it has them."""
    source: "Source | None" = None
    """Tells whether what is made of the clip is still that of its file and words; None where nobody has looked."""


@dataclass(frozen=True, kw_only=True)
class Source:
    """What a clip's features were made of. Where it is another, they have to be made again."""

    video: str
    """The file's size and time of change, or its digest in an object store. Empty where the file is not there."""
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
    face_crops: ByteArray | None
    """[F, 224, 224, 3] RGB; a frame without a detected face holds the full frame. None without any face."""
    face_detected: BoolArray | None
    """[F]: which crops are a detected face; None without a picture."""
    audio: FloatArray | None
    """[N] mono at `sample_rate_hz`, in [-1, 1]; None without sound."""
    transcript: str | None
    """The words; None where there are none to be had."""
    transcript_source: str
    """`caller`, `corpus`, `subtitles`, `whisper`, or "" where there is no transcript."""
    presence: Mapping[Modality, Presence]
    """One entry for each modality."""
    warnings: tuple[str, ...] = ()
    """What of the file was left out or chosen among several, in sentences that the user reads."""
    sample_rate_hz: int = 16_000


@dataclass(frozen=True, kw_only=True)
class Features:
    """What a frozen backbone sees of one modality of one clip: the input of the trained encoder.

    Absent: `values` and `pooled` are None and `presence.reason` says why.
    """

    clip_id: str
    modality: Modality
    presence: Presence
    values: npt.NDArray[Any] | None = None
    """scene: uint8 [T, 224, 224, 3] frames; face: float32 [F, 1280]; audio: float32 [T_a, 1024]; text: int64 [L]
    token ids, or the words as uint8 [N] UTF-8 bytes. (Last dimensions are those of the published backbones.)"""
    pooled: FloatArray | None = None
    """[mean; population std] over time (or tokens) of the frozen backbone's output: float32 [2 * D]. The fusion's
    input kind `pooled`, which needs no trained encoder; None where it was not asked for, or no backbone is (words)."""
    participant_id: str | None = None
    """Who is seen, where a training must know: a vocabulary of words is published, and no one person's words are."""
    warnings: tuple[str, ...] = ()
    """What of the clip was left out or chosen among several on the way here, in sentences that the user reads."""


@dataclass(frozen=True, kw_only=True)
class Embedding:
    """What the trained encoder of one modality says of one clip. Absent: the arrays are None."""

    clip_id: str
    modality: Modality
    presence: Presence
    vector: FloatArray | None = None
    """float32 [D_m], the token that the fusion takes (input kind `emb`)."""
    logits: FloatArray | None = None
    """float32 [num_classes]."""
    probabilities: FloatArray | None = None
    """float32 [num_classes], softmax of the logits."""
    pooled: FloatArray | None = None
    """The features' own, carried along for the input kind `pooled`; None where they have none."""
    warnings: tuple[str, ...] = ()
    """Those of the features behind it."""


@dataclass(frozen=True, kw_only=True)
class ModalityScore:
    """One modality's part in a score."""

    modality: Modality
    presence: Presence
    probability: float | None
    """The unimodal encoder's own probability of the positive class; None when absent."""


@dataclass(frozen=True, kw_only=True)
class Score:
    """The platform's answer for one clip."""

    clip_id: str
    probabilities: tuple[float, ...]
    """Mean over the ensemble's seeds of the class probabilities; sums to 1."""
    label: int
    """Index of the decided class."""
    threshold: float
    """The probability of the last class from which the label is 1."""
    abstains: bool = False
    """Whether the probability is within the ensemble's abstention band, where a person should decide."""
    seed_probabilities: tuple[float, ...]
    """The positive-class probability of each seed model, in the order of the artifact's seeds."""
    modalities: tuple[ModalityScore, ...]
    artifact_id: str
    weights: str
    """`published`, or `debug` when any weight in the path is seeded random: then the score means nothing."""
    warnings: tuple[str, ...] = ()
    """What of the clip was left out on the way, in sentences that the user reads."""


@dataclass(frozen=True, kw_only=True)
class Failure:
    """A clip that could not be processed, kept with its reason instead of its result."""

    clip_id: str
    stage: str
    """Where it failed: `decode`, `faces`, `speech`, `features.scene`, ..."""
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

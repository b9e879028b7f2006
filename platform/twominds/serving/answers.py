"""What the service answers: the JSON of a score and of the model's card. Free of torch, as is all of the ingress."""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from twominds.records import Modality, View


class Answer(BaseModel):
    """Base of the answers: the literal under a field is its description in the OpenAPI document."""

    model_config = ConfigDict(use_attribute_docstrings=True, frozen=True)


class ModalityAnswer(Answer):
    """One modality's part in a score."""

    present: bool
    """Whether the fusion saw this modality."""
    reason: str | None = None
    """Why it is absent."""
    probability: float | None = None
    """What its own encoder, alone, makes of the clip."""


class SeedAnswer(Answer):
    """How far the models of the ensemble agree."""

    probabilities: dict[str, float]
    """Probability of the positive (last) of two classes by the seed or the name of each model that sees anything of the
    clip."""
    std: float
    """Their population standard deviation."""
    min: float
    """The least of the probabilities."""
    max: float
    """The greatest of the probabilities."""


class DurationsAnswer(Answer):
    """Seconds that the stages took as the request saw them: waiting for a replica and for its batch included."""

    upload: float
    """Receiving the file."""
    decode: float
    """Frames, faces, sound and words."""
    encoders: dict[View, float]
    """Features and encoder, side by side."""
    fusion: float
    """What the ensemble says of the embeddings."""
    total: float
    """From the first byte to the answer."""


class ContributionsAnswer(Answer):
    """What the score is made of: what the training labels say, and what each modality adds to it (Shapley values).

    They add up to the score. Of two classes in log-odds of the last one, `ln(p / (1 - p))`; of several in those of each
    class; of intensities in their own numbers.
    """

    prior: dict[str, float]
    """What is said without looking at the clip, by class or intensity."""
    modalities: dict[Modality, dict[str, float]]
    """What each modality that is there adds, by class or intensity. Minus: it speaks against."""
    opposed: list[Modality] | None
    """The two that pull in opposite directions and depend on each other most, the one that speaks for it first; null
    where all agree."""
    interaction: float
    """Of these two: what both together say beyond what each says alone."""


class SegmentAnswer(Answer):
    """A stretch of the clip that has one class."""

    start_s: float
    """Where it begins."""
    end_s: float
    """Where it ends."""
    label: str
    """The class that the segment has."""
    probability: float
    """Mean probability of the class in it."""


class TimelineAnswer(Answer):
    """What is said of each moment of the clip."""

    times_s: list[float]
    """Seconds since the first frame."""
    outputs: dict[str, list[float]]
    """At each of these times, the probability of each class or each intensity."""
    segments: list[SegmentAnswer]
    """Stretches of one class; of two classes only those of the last one."""


class ScoreAnswer(Answer):
    """The score of one clip.

    `classes` or `intensities` say what is recognised. Where it is one of two classes, `probability` and `threshold`
    are there; where each moment has an answer of its own, `timeline` is, and no `label`.
    """

    clip_id: str
    """Made for this request; the file's name is not kept."""
    task: str
    """What was recognised."""
    label: str | None
    """The decided class; null of intensities, and where there is a timeline."""
    label_index: int | None
    """Its index among the classes."""
    probability: float | None
    """Probability of the positive (last) of two classes: the mean over the seeds, and over the timeline."""
    threshold: float | None
    """The probability from which the label is positive."""
    classes: dict[str, float] | None
    """Probability of each class; null of intensities."""
    intensities: dict[str, float] | None = None
    """Each intensity; null of classes."""
    contributions: ContributionsAnswer | None
    """What the score is made of."""
    timeline: TimelineAnswer | None = None
    """Where the task asks about each moment."""
    abstains: bool
    """The probability is too near to the threshold to act upon: the clip is better left to a person."""
    seeds: SeedAnswer | None
    """The ensemble's models one by one; null where the answer is more than one probability."""
    modalities: dict[View, ModalityAnswer]
    """What was used, and what was not there."""
    transcript_source: str | None
    """`caller`, `subtitles` or `whisper`; null where there are no words."""
    duration_s: float
    """How long the clip is."""
    durations_s: DurationsAnswer
    """How long each stage of this request took."""
    artifact_id: str
    """The ensemble that answered; `/v1/model` describes it."""
    recipe: str
    """The published system that it follows."""
    weights: str
    """`published`, or `debug`: random weights, whose scores mean nothing."""
    warnings: list[str]
    """What to know before using this score."""


class BackboneAnswer(Answer):
    """A pre-trained model behind the ensemble."""

    role: str
    """Its place in the system."""
    hub_id: str | None
    """Where it was published."""
    revision: str
    """The commit that was taken."""
    licence: str
    """Its licence; some forbid commercial use."""
    weights: str
    """`published` or `debug`."""


class ModelAnswer(Answer):
    """The card of the ensemble that answers, and the service's limits."""

    artifact_id: str
    """Digest of the tensors and configs."""
    task: str
    """What is recognised."""
    output: Literal["classes", "intensities"]
    """Whether it is one of several classes, or a number for each of several things."""
    unit: Literal["clip", "frame"]
    """Whether there is one answer for a clip, or one for each of its moments."""
    classes: list[str]
    """Names of the classes, in the order of the label index, or of the intensities."""
    recipe: str
    """The published system that it follows."""
    weights: str
    """`published` or `debug`."""
    seeds: list[int]
    """One fusion model each."""
    members: list[str]
    """The models of the ensemble: those seeds, or other names."""
    modalities: list[View]
    """What the fusion takes."""
    threshold: float
    """The probability from which the label is positive."""
    decision: list[dict[str, Any]]
    """The steps from the models' outputs to the answer: calibration, smoothing, threshold and the like."""
    selected_on: str
    """The labels that chose this model."""
    metrics: dict[str, Any]
    """What was measured when the model was made."""
    data: dict[str, Any]
    """The training data's fingerprint and size."""
    backbones: list[BackboneAnswer]
    """Pre-trained models, with their licences."""
    versions: dict[str, str]
    """Packages that made it."""
    created: str
    """When, in UTC."""
    limits: dict[str, float]
    """`max_upload_mib`, `max_audio_s`, `max_requests` and `timeout_s` of this service."""


class HealthAnswer(Answer):
    """The service can score."""

    status: str = "ok"
    """Always `ok`: otherwise the answer is a problem document with status 503."""


EXAMPLE: dict[str, Any] = {
    "clip_id": "0f8fad5bd9cb469fa16570867728950e",
    "task": "ah-video",
    "label": "ah",
    "label_index": 1,
    "probability": 0.61,
    "threshold": 0.5,
    "classes": {"no_ah": 0.39, "ah": 0.61},
    "intensities": None,
    "contributions": {
        "prior": {"ah": -0.02},
        "modalities": {"scene": {"ah": 0.1}, "face": {"ah": -0.21}, "text": {"ah": 0.58}},
        "opposed": ["text", "face"],
        "interaction": 0.07,
    },
    "timeline": None,
    "abstains": False,
    "seeds": {"probabilities": {"42": 0.58, "2025": 0.64}, "std": 0.03, "min": 0.58, "max": 0.64},
    "modalities": {
        "scene": {"present": True, "probability": 0.55},
        "face": {"present": True, "probability": 0.6},
        "audio": {"present": False, "reason": "the file has no sound track"},
        "text": {"present": True, "probability": 0.66},
    },
    "transcript_source": "caller",
    "duration_s": 12.4,
    "durations_s": {
        "upload": 0.02,
        "decode": 0.9,
        "encoders": {"scene": 0.8, "face": 0.3, "audio": 0.01, "text": 0.1},
        "fusion": 0.02,
        "total": 1.8,
    },
    "artifact_id": "3f2a9c51b7d0",
    "recipe": "leya",
    "weights": "published",
    "warnings": [],
}

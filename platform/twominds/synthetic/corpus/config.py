"""What a drawn corpus is to be: its size, its planted truth and its nuisances."""

from dataclasses import asdict, dataclass, field, fields
from typing import Any, Literal

from twominds.errors import ConfigError

PresetName = Literal["default", "conflict", "none"]
Layout = Literal["bah", "bah-v1", "abaw8", "expr", "emi", "table"]
PlantedTask = Literal["ah-video", "ah-frame", "expression", "mimicry"]

QUESTIONS = ("neutral", "positive", "negative", "ambivalent", "willing", "resistant", "hesitant")
"""What BAH's questions 1-7 elicit."""


@dataclass(frozen=True, kw_only=True)
class CueStrengths:
    """How much each cue tells of the label.

    In d': the distance between the two classes' means of the clip's latent, in standard deviations. A cue alone can
    be right at most Phi(d'/2) of the time: 0.74 at 1.3, 0.5 at 0. The defaults differ because encoders see some
    cues better than others: what is left in frozen random features tells about as much in each modality.
    """

    text: float = 1.3
    """Hedging against decided wording."""
    audio: float = 1.7
    """Pauses, fillers, an unsteady pitch."""
    face: float = 1.7
    """Furrowed brows, pressed lips, narrowed eyes, a flush, a gaze that avoids the camera."""
    scene: float = 1.8
    """Sway, shrugs, a raised hand, leaning away."""
    disagreement: float = 0.8
    """What the face shows against what the words say: only both together tell."""

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            if not 0.0 <= value <= 10.0:
                raise ConfigError(f"strengths.{name} must be between 0 and 10, found {value}.")


@dataclass(frozen=True, kw_only=True)
class NuisanceRates:
    """The share of clips with each defect that real corpora have; rounded up, so a small corpus has one of each."""

    no_audio: float = 0.02
    """No audio track."""
    silence: float = 0.02
    """An audio track of zeros."""
    no_face: float = 0.02
    """An empty room."""
    face_leaves: float = 0.03
    """The person is out of the picture for part of the clip."""
    two_faces: float = 0.03
    """Somebody smaller in the background."""
    empty_transcript: float = 0.02
    """Nothing is said but fillers."""
    variable_frame_rate: float = 0.05
    """Uneven time stamps."""
    rotated: float = 0.03
    """Stored lying on its side, with the flag that turns it upright."""
    space_in_path: float = 0.05
    """A file name with spaces."""
    odd_suffix: float = 0.05
    """A file name with a machine's name after `_Video`."""
    truncated: float = 0.01
    """The file ends too early to be read."""
    not_video: float = 0.01
    """Text in a file named .mp4."""

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            if not 0.0 <= value <= 1.0:
                raise ConfigError(f"nuisances.{name} must be between 0 and 1, found {value}.")

    @classmethod
    def none(cls) -> "NuisanceRates":
        """No defects at all."""
        return cls(**{rate.name: 0.0 for rate in fields(cls)})


@dataclass(frozen=True, kw_only=True)
class SplitShares:
    """The share of the videos in each split; training has the rest. The defaults are BAH's."""

    validation: float = 124 / 1427
    """Clips on which epochs and candidates are chosen."""
    test: float = 525 / 1427
    """Clips on which results are reported."""

    def __post_init__(self) -> None:
        if min(self.validation, self.test) <= 0 or self.validation + self.test > 0.9:
            raise ConfigError(
                "shares.validation and shares.test must be above 0 and leave at least a tenth for training, found "
                f"{self.validation:g} and {self.test:g}."
            )


@dataclass(frozen=True, kw_only=True)
class Preset:
    """Where a corpus's labels come from."""

    labels: Literal["cues", "disagreement", "coin"]
    """`cues`: each modality carries some of it. `disagreement`: 1 where the face's valence is not the words', each
    of the four combinations equally often in every split, and nothing else tells. `coin`: nothing tells."""
    question_priors: tuple[float, ...] = (0.5,) * 7
    """P(label 1) for questions 1-7."""


PRESETS: dict[PresetName, Preset] = {
    "default": Preset(labels="cues", question_priors=(0.30, 0.35, 0.45, 0.70, 0.40, 0.60, 0.70)),
    "conflict": Preset(labels="disagreement"),
    "none": Preset(labels="coin"),
}


LAYOUT_TASKS: dict[Layout, tuple[PlantedTask, ...]] = {
    "bah": ("ah-video", "ah-frame"),
    "bah-v1": ("ah-video", "ah-frame"),
    "abaw8": ("ah-video", "ah-frame"),
    "expr": ("expression",),
    "emi": ("mimicry",),
    "table": ("ah-video", "ah-frame", "expression", "mimicry"),
}
"""What a layout can hold labels for."""
_SHORTEST_S: dict[PlantedTask, float] = {"ah-video": 1.0, "ah-frame": 8.0, "expression": 6.0, "mimicry": 3.0}
"""Clips in which what is planted can be seen: segments of a few seconds need some, and a word for each feeling, too."""
_V1_SHARES = SplitShares(validation=110 / 1118, test=392 / 1118)


@dataclass(frozen=True, kw_only=True)
class SyntheticCorpusConfig:
    """A drawn corpus. The same config makes the same clips, whatever the number of workers.

    What is planted, by task, in preset `default`; in preset `none` the same is acted, and labels of another such clip
    are written down:

    - `ah-video`: each modality tells a little of whether a clip has A/H (see `CueStrengths`), anywhere in it.
    - `ah-frame`: clips with A/H have segments of a few seconds in which face, body, voice and words are hesitant; in
      the rest, and in the other clips, they are not. All four tell of each moment.
    - `expression`: the face goes through spans of 1.5 to 3.5 s, each of one of the eight expressions (brows, eyes,
      mouth, gaze, colour and how the head is held). A twentieth of the spans nobody annotated. Voice and words tell
      nothing.
    - `mimicry`: of the six intensities, the words tell Admiration and Empathic Pain, the face Amusement (a smile, a
      flush), face and body Determination (furrowed brows, pressed lips, a lowered head, a raised hand), the voice Joy
      (a higher pitch), and the voice (fewer pauses) and the body (more movement) Excitement.
    """

    preset: PresetName = "default"
    """Where the labels come from: `default` cues that can be seen and heard, `conflict` only the disagreement of
    modalities (task `ah-video`), `none` nowhere."""
    layout: Layout = "bah"
    """How the corpus lies on disk: BAH's version 2, version 1 or ABAW-8 variant, Aff-Wild2's expressions,
    Hume-Vidmimic2, or a table of clips, beside which is one of segments for tasks with labels in time."""
    task: PlantedTask | None = None
    """What is planted; by default the first that the layout has labels for (`expr`: expression, `emi`: mimicry, else
    ah-video)."""
    clips: int = 160
    """Number of videos, split by participant."""
    shares: SplitShares = field(default_factory=SplitShares)
    """Share of the videos in each split."""
    clips_per_person: float | None = None
    """Mean number of videos of each person, at most 7: a person is asked each question once. By default BAH's, 4 in
    training and validation and 7 in test."""
    clip_s: float = 4.0
    """Mean length of a clip; clips are within 15 % of it."""
    width: int = 320
    """Width of a frame in pixels."""
    height: int = 240
    """Height of a frame in pixels."""
    fps: float = 24.0
    """Frames a second."""
    seed: int = 0
    """Everything random follows from it."""
    strengths: CueStrengths = field(default_factory=CueStrengths)
    """How much each cue tells; of preset `default` alone."""
    nuisances: NuisanceRates = field(default_factory=NuisanceRates)
    """How often clips have which defect."""
    clean: bool = False
    """No defects, whatever `nuisances` says."""
    face_crops: bool = False
    """Also write `cropped-aligned-faces/`, one JPEG a frame."""
    face_crop_px: int = 112
    """Side of those JPEGs."""

    def __post_init__(self) -> None:
        if self.preset not in PRESETS:
            raise ConfigError(f"preset must be one of {', '.join(PRESETS)}, found {self.preset!r}.")
        if self.clips < 12:
            raise ConfigError(f"clips must be at least 12 (some in every split, of both classes), found {self.clips}.")
        tasks = LAYOUT_TASKS.get(self.layout)
        if tasks is None:
            raise ConfigError(f"layout must be one of {', '.join(LAYOUT_TASKS)}, found {self.layout!r}.")
        if self.planted not in tasks:
            raise ConfigError(f"layout {self.layout} has labels for {' and '.join(tasks)}, not for {self.planted}.")
        if self.preset == "conflict" and self.planted != "ah-video":
            raise ConfigError(f"preset conflict is of task ah-video; of {self.planted} there are default and none.")
        if self.preset == "conflict" and self.clips % 4:
            raise ConfigError(f"clips must be a multiple of 4 in preset conflict, found {self.clips}.")
        if self.clips_per_person is not None and not 1.0 <= self.clips_per_person <= 7.0:
            raise ConfigError(f"clips_per_person must be between 1 and 7, found {self.clips_per_person}.")
        if not (shortest := _SHORTEST_S[self.planted]) <= self.clip_s <= 600.0:
            raise ConfigError(
                f"clip_s must be between {shortest:g} and 600 seconds for task {self.planted}, found {self.clip_s}."
            )
        for name, value in (("width", self.width), ("height", self.height)):
            if not 64 <= value <= 4096 or value % 2:
                raise ConfigError(f"{name} must be an even number of pixels between 64 and 4096, found {value}.")
        if not 1.0 <= self.fps <= 120.0:
            raise ConfigError(f"fps must be between 1 and 120, found {self.fps}.")
        if self.seed < 0:
            raise ConfigError(f"seed must not be negative, found {self.seed}.")
        if not 16 <= self.face_crop_px <= 1024:
            raise ConfigError(f"face_crop_px must be between 16 and 1024, found {self.face_crop_px}.")

    @property
    def defects(self) -> NuisanceRates:
        """The rates that apply: `nuisances`, or none when `clean`."""
        return NuisanceRates.none() if self.clean else self.nuisances

    @property
    def planted(self) -> PlantedTask:
        """What is planted."""
        return self.task or LAYOUT_TASKS[self.layout][0]

    @property
    def split_shares(self) -> SplitShares:
        """The shares that apply: `shares`, of which the default is that of the release."""
        return _V1_SHARES if self.layout == "bah-v1" and self.shares == SplitShares() else self.shares

    def written(self) -> dict[str, Any]:
        """The config as it is kept beside the corpus; what came later is left out where it is as it always was."""
        later = {"layout", "task"} if (self.layout, self.planted) == ("bah", "ah-video") else set[str]()
        later |= {"clips_per_person"} if self.clips_per_person is None else set[str]()
        return {name: value for name, value in asdict(self).items() if name not in later}

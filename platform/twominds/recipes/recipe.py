"""A recipe is a published system as one typed value: every number of it in one place."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from twominds.artifacts import to_json
from twominds.encoders.attended import AttendedEncoderConfig
from twominds.encoders.catalog import ENCODERS, EncodersConfig
from twominds.encoders.classical import ClassicalTextConfig
from twominds.encoders.encoder import LearnsAtOnce
from twominds.encoders.text import TextEncoderConfig
from twominds.errors import ConfigError
from twominds.features.catalog import FeaturesConfig, backbones_of, is_given
from twominds.fusion.batch import InputKind
from twominds.fusion.catalog import FusionConfig
from twominds.media.reader import MediaConfig
from twominds.recipes.space import (
    Candidate,
    Dimension,
    Sampler,
    SearchSpace,
    Value,
    apply,
    brought_into,
    check_space,
)
from twominds.recipes.space_words import change_space
from twominds.recipes.stages import (
    BlendViews,
    Stage,
    TrainFusion,
    TrainJointly,
    TrainViews,
    check_stages,
    learning_views,
)
from twominds.records import Modality, View, modality_of
from twominds.scoring.decision import Decision, Overrule
from twominds.scoring.post_processing import Grids
from twominds.tasks import AH_VIDEO, Task
from twominds.training.fit import FitConfig
from twominds.training.losses import FusionLoss
from twominds.training.objective import CriterionName, Objective

WHISPER = "speech.whisper"
"""Role of what hears the words of clips that come without; a bundle may lack it."""

STABILITY_SEEDS = (42, 2025, 7777, 12345, 31415)
"""The five seeds of LEYA's stability search (section 4.2)."""


@dataclass(frozen=True, kw_only=True)
class FusionRecipe:
    """How the fusion is built, trained and searched."""

    model: FusionConfig
    """The paper's selected configuration: the first point of the search."""
    fit: FitConfig
    """How the fusion is trained."""
    loss: FusionLoss
    """The loss that the fusion is trained by."""
    inputs: InputKind = "emb"
    """What of each embedding the fusion takes."""
    views: tuple[View, ...] = tuple(Modality)
    """What the fusion takes, in the order of its tokens."""
    seeds: tuple[int, ...] = STABILITY_SEEDS
    """Every candidate is trained once per seed."""
    space: SearchSpace = field(default_factory=dict[str, Dimension])
    """Where the search looks."""
    trials: int = 40
    """Candidates that a search tries unless it is told another number."""
    first_points: tuple[Mapping[str, Value], ...] = ()
    """Candidates that are tried before the sampler's own."""

    @property
    def takes_pooled(self) -> bool:
        """Whether the fusion takes `pooled` features, which nothing else needs."""
        return self.inputs == "pooled"

    def with_candidate(self, candidate: Candidate) -> "FusionRecipe":
        """This recipe with the searched settings replaced.

        Raises:
            ConfigError: a key that is no setting, or a value that a config refuses.
        """
        model, of_model = apply(candidate, self.model)
        fit, of_fit = apply(candidate, self.fit)
        loss, of_loss = apply(candidate, self.loss)
        _check_each_once(candidate, [*of_model, *of_fit, *of_loss], "model, fit or loss")
        return replace(self, model=model, fit=fit, loss=loss)

    def searched_in(self, words: Sequence[str]) -> "FusionRecipe":
        """This recipe with other dimensions in its space, which its first points are brought into.

        Args:
            words: Dimensions as `change_space` reads them.

        Raises:
            ConfigError: a word is wrong, or the space has candidates that a config refuses.
        """
        if not words:
            return self
        configs = self.model, self.fit, self.loss
        space, fixed = change_space(self.space, words, configs)
        own = {name: value for config in configs for name, value in vars(config).items()}
        points = [brought_into(space, {**own, **point}) for point in self.first_points]
        distinct = tuple(point for i, point in enumerate(points) if point not in points[:i])
        changed = replace(self.with_candidate(fixed), space=space, first_points=distinct)
        check_space(space, changed.with_candidate)
        return changed


@dataclass(frozen=True, kw_only=True)
class EncoderSearch:
    """Where the settings of one unimodal encoder, and of its training, are looked for."""

    space: SearchSpace
    """Where the search looks."""
    sampler: Sampler = "hyperopt"
    """What draws the candidates."""
    trials: int = 40
    """Candidates, the recipe's own first, unless the search is told another number."""


def _check_each_once(candidate: Candidate, settings: Sequence[str], where: str) -> None:
    """Refuses a candidate with a name that none of the settings has, or several."""
    counts = Counter(settings)
    if unclear := [name for name in candidate if counts[name] != 1]:
        raise ConfigError(f"Each search parameter must be one setting of {where}, unlike {unclear}.")


Reports = Literal["encoder", "single", "ensemble"]
"""What a row of a results table says: the one encoder's score, the mean over the fusion's seeds, or their ensemble."""


@dataclass(frozen=True, kw_only=True)
class PublishedScores:
    """Scores in percent (of a correlation: times 100), as the paper prints them."""

    validation: float | None = None
    """On its validation split, where there is a number."""
    test: float | None = None
    """On its public test split, where there is a number."""
    private: float | None = None
    """On the challenge's private test split, where it was submitted."""
    metric: str = ""
    """What the number is, where it is not the metric that the row is chosen and printed by."""
    others: Mapping[str, float] = field(default_factory=dict[str, float])
    """On validation, by other metrics (`accuracy`, `pearson of Joy`)."""
    how: str = ""
    """What a reader must know of how the paper came by them, in sentences."""


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """A whole system: from the video file to the ensemble."""

    name: str
    """What `--recipe` calls it."""
    description: str
    """One line for the table in `recipes/README.md`."""
    source: str
    """Paper and row."""
    media: MediaConfig
    """How videos are read."""
    features: FeaturesConfig
    """The frozen backbones by view."""
    encoders: EncodersConfig
    """The unimodal models by view."""
    encoder_fits: Mapping[View, FitConfig]
    """Their training, of those that are trained by themselves."""
    encoder_seed: int
    """Seed of the unimodal training (one model each)."""
    fusion: FusionRecipe
    """The fusion and its search."""
    encoder_searches: Mapping[View, EncoderSearch] = field(default_factory=dict[View, EncoderSearch])
    """The searches of single encoders, of those that have one."""
    stages: tuple[Stage, ...] = (TrainViews(), TrainFusion())
    """In which order its parts are trained."""
    task: Task = AH_VIDEO
    """What is recognised."""
    criterion: CriterionName | None = None
    """The loss; None: cross entropy of classes, mean squared error of intensities."""
    output_weights: tuple[float, ...] | None = None
    """How much each intensity counts in the loss; None: all the same."""
    decision: Decision = field(default_factory=Decision)
    """Steps that are given, such as the smoothing of a timeline. A member that overrules is called after a view, which
    need not be among those that are fused."""
    grids: Grids = field(default_factory=Grids)
    """From which values weights and steps are chosen on validation."""
    chosen_by: str = ""
    """Metric that chooses epochs and candidates, where it is not the task's."""
    reports: Reports = "ensemble"
    """Which score of it a results table shows."""
    published: PublishedScores | None = None
    """What the paper got."""
    also: tuple["Recipe", ...] = ()
    """Other systems, whose models are members of the ensemble with the same weight as its own, where all are trained
    jointly (ConflictAwareAH's two checkpoints)."""

    def __post_init__(self) -> None:
        """Raise ConfigError where the text encoder starts from a model that other token ids were made for.

        Or where the stages are in no order that trains everything, a joint one can't be carried out, or what overrules
        is fused as well.
        """
        check_stages(self.stages, self.views)
        if self.joint is not None:
            self._check_joint(self.joint)
        if self.judge in self.fusion.views and self.blend is None:
            raise ConfigError(f"{self.name} fuses {self.judge}, which can't overrule as well: name a view of its own.")
        for view, config in self.encoders.items():
            if not isinstance(config, TextEncoderConfig | ClassicalTextConfig | AttendedEncoderConfig):
                continue
            if modality_of(view) is not Modality.TEXT:
                continue
            made_for = backbones_of(self.features[view])
            if config.backbone and made_for and made_for != (config.backbone,):
                raise ConfigError(
                    f"{view}.backbone of the encoder ({config.backbone}) must be the one whose tokenizer makes the "
                    f"features ({made_for[0]}): to the other its token ids are other words."
                )

    def _check_joint(self, stage: TrainJointly) -> None:
        fusion = self.fusion
        if apart := [other.name for other in self.also if other.joint is None]:
            raise ConfigError(f"{self.name} takes the models of {', '.join(apart)}, which is not trained jointly.")
        if fusion.inputs != "emb" or fusion.model.standardize != "none":
            raise ConfigError(
                f"{self.name} is trained jointly: its fusion takes embeddings as they are (inputs `emb`, standardize "
                f"`none`), not `{fusion.inputs}` and `{fusion.model.standardize}`."
            )
        learning = learning_views(stage, self.views)
        at_once = [view for view in learning if issubclass(ENCODERS[type(self.encoders[view])], LearnsAtOnce)]
        if at_once:
            raise ConfigError(
                f"The encoder of {', '.join(at_once)} learns by no gradient: it can't be trained jointly."
            )

    @property
    def joint(self) -> TrainJointly | None:
        """The stage that trains encoders and fusion in one model, if it has one."""
        return next((stage for stage in self.stages if isinstance(stage, TrainJointly)), None)

    @property
    def runs(self) -> tuple["Recipe", ...]:
        """The trainings of a system that is trained jointly: one of each seed, of itself and of `also`."""
        return tuple(recipe.with_seed(seed) for recipe in (self, *self.also) for seed in recipe.fusion.seeds)

    def with_seed(self, seed: int) -> "Recipe":
        """The system by itself with this seed and no other, of its encoders and its fusion."""
        return replace(self, encoder_seed=seed, fusion=replace(self.fusion, seeds=(seed,)), also=())

    @property
    def joint_training(self) -> list[Any]:
        """What of it bears on the weights of its joint training, but for the features: for fingerprints.

        How many windows are looked at where a clip is scored, and what is chosen when the weights are there, do not.
        """
        encoders = {
            view: replace(encoder, windows=1) if isinstance(encoder, AttendedEncoderConfig) else encoder
            for view, encoder in self.encoders.items()
        }
        configs = self.joint, encoders, self.fusion.model
        settings = [to_json(config) for config in configs]
        chosen = self.grids.thresholds, self.encoder_seed, self.fusion.seeds
        return [self.views, *settings, *chosen, *self.objective.chosen]

    @property
    def alone(self) -> tuple[View, ...]:
        """Views whose encoders are trained by themselves, in the order of that."""
        stages = [stage for stage in self.stages if isinstance(stage, TrainViews)]
        return tuple(view for stage in stages for view in learning_views(stage, self.views))

    @property
    def objective(self) -> Objective:
        """What its models are trained for and judged by."""
        return Objective(
            task=self.task,
            criterion=self.criterion,
            output_weights=self.output_weights,
            chosen_by=self.chosen_by,
        )

    @property
    def views(self) -> tuple[View, ...]:
        """What it looks at: in the order of the tokens, and after them a view that only overrules."""
        judge = self.judge
        return self.fusion.views if judge is None or judge in self.fusion.views else (*self.fusion.views, judge)

    @property
    def judge(self) -> View | None:
        """The view whose encoder overrules; None: nobody does."""
        return self.decision.step(Overrule).member or None

    @property
    def blend(self) -> BlendViews | None:
        """The stage that blends what the views say, if it has one."""
        return next((stage for stage in self.stages if isinstance(stage, BlendViews)), None)

    def encoder_search(self, view: View) -> EncoderSearch:
        """The search of one view's encoder.

        Raises:
            ConfigError: it has none; the message says which have.
        """
        if view not in self.encoder_searches:
            there_are = ", ".join(self.encoder_searches) or "no view"
            raise ConfigError(f"{self.name} has a search space for the encoder of {there_are}, not of {view}.")
        return self.encoder_searches[view]

    def encoder_candidate(self, view: View) -> Candidate:
        """The recipe's own settings of what its search looks for, or the nearest that the search may find."""
        own = {**vars(self.encoder_fits[view]), **vars(self.encoders[view])}
        return brought_into(self.encoder_search(view).space, own)

    def with_encoder_search(self, view: View, words: Sequence[str]) -> "Recipe":
        """This recipe with other dimensions in the space of one encoder's search.

        Args:
            view: The view whose encoder is searched.
            words: Dimensions as `change_space` reads them.

        Raises:
            ConfigError: it has no search, a word is wrong, or the space has candidates that a config refuses.
        """
        search = self.encoder_search(view)
        if not words:
            return self
        space, fixed = change_space(search.space, words, (self.encoders[view], self.encoder_fits[view]))
        searches = {**self.encoder_searches, view: replace(search, space=space)}
        changed = replace(self.with_encoder_candidate(view, fixed), encoder_searches=searches)
        check_space(space, lambda candidate: changed.with_encoder_candidate(view, candidate))
        return changed

    def with_encoder_candidate(self, view: View, candidate: Candidate) -> "Recipe":
        """This recipe with the searched settings of one encoder replaced.

        Raises:
            ConfigError: a key that is no setting, or a value that a config refuses.
        """
        encoder, of_encoder = apply(candidate, self.encoders[view])
        fit, of_fit = apply(candidate, self.encoder_fits[view])
        _check_each_once(candidate, [*of_encoder, *of_fit], f"the {view} encoder or its fit")
        return replace(
            self,
            encoders={**self.encoders, view: encoder},
            encoder_fits={**self.encoder_fits, view: fit},
        )

    @property
    def detector_roles(self) -> tuple[str, ...]:
        """Role of the face detector; none where the corpus brings its crops."""
        detectors = {"yolo": ("detect.yolo_face",), "yunet": ("detect.yunet",), "corpus": ()}
        return detectors[self.media.detector]

    def frozen_roles(self, views: Sequence[View] | None = None) -> tuple[str, ...]:
        """Roles of all that the features of these views (None: of its own) depend on; a bundle may lack Whisper."""
        helpers = {Modality.FACE: self.detector_roles, Modality.TEXT: (WHISPER,)}
        return tuple(
            role
            for view in (self.views if views is None else views)
            if not is_given(self.features[view])
            for role in (*backbones_of(self.features[view]), *helpers.get(modality_of(view), ()))
        )

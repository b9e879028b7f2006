"""The parts that the rows of a results table are made of, each made once and found again by its hash.

    features/<hash>/               one pass over the videos: the views that it made, as `jobs/preprocess.py`
    encoders/<view>-<hash>/        one trained encoder, as `jobs/train_encoders.py`
    embeddings/<view>-<hash>/      what that encoder says of every clip, as `jobs/embed.py`

The hash of a part is that of what bears on it: the corpus's place, settings, weights, and for what is trained the
clips, splits, labels and sources. So a corpus that grew or changed, another bundle or another recipe make what is
theirs beside what is there.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from rich.console import Console
from upath import UPath

from twominds import artifacts
from twominds.artifacts import fingerprint, to_json
from twominds.backbones import BackboneStore
from twominds.corpus.bah import Purpose
from twominds.errors import ConfigError, MissingInputError, TrainingError
from twominds.pipelines.embed import EmbedConfig, embed_features
from twominds.pipelines.preprocess import PreprocessConfig, check_backbones, features_fingerprint, preprocess
from twominds.pipelines.stages import StageResources
from twominds.pipelines.train import TrainConfig, train_encoders
from twominds.recipes.catalog import RECIPES, find_recipe
from twominds.recipes.recipe import Recipe
from twominds.records import Failure, Modality, View, modality_of
from twominds.reports.study.rows import StudyPart
from twominds.results.about import ABOUT, absolute, read_about
from twominds.results.labelled import labels_fingerprint
from twominds.results.quarantine import read_quarantine
from twominds.training.selection import SelectionProtocol
from twominds.workspace import Workspace


@dataclass(frozen=True, kw_only=True)
class StudyConfig:
    """Where the rows of a results table come from (with `--recipe`), and what trains them."""

    corpus: str = field(default_factory=lambda: Workspace.default().corpus)
    """A BAH tree, a table of clips (CSV, Parquet, JSON lines), or a folder of videos; local or s3://."""
    models: str = field(default_factory=lambda: Workspace.default().models)
    """The bundle of pre-trained weights."""
    folder: str = field(default_factory=lambda: Workspace.default().study)
    """Where the parts are kept that rows share; local or s3://."""
    detector: Literal["yolo", "yunet", "corpus"] | None = None
    """Who finds faces; by default the recipe says."""
    purpose: Purpose = "research"
    """What BAH's clips are for; participants who did not consent to a challenge or a publication are left out."""
    retry_quarantined: bool = False
    """Try the clips in quarantine again."""
    protocol: SelectionProtocol = "validation"
    """What chooses epochs and the row that is submitted. `validation+test` is the paper's: it brands all it makes."""
    use_gpu: bool = False
    """Train the encoders on GPUs."""
    workers: int = 1
    """Processes that train one encoder together."""
    gpus_per_fusion: float = 0.0
    """GPU share of each fusion's training."""
    resources: StageResources = field(default_factory=StageResources)
    """Actors and GPUs of preprocessing and embedding."""


@dataclass(frozen=True, kw_only=True)
class Unmade:
    """What could not be made of a study, where the rest could: the rows that need it are reported without numbers."""

    reason: str
    """The error's sentence."""


class PartsMaker:
    """Makes the parts of recipes, those that are missing."""

    def __init__(self, config: StudyConfig, console: Console) -> None:
        """Takes the places and settings, and where progress is printed."""
        self._config, self._console = config, console
        self._store = BackboneStore(uri=config.models)
        self._fingerprints: dict[tuple[str, View], str] = {}

    def make(self, recipes: Sequence[Recipe]) -> dict[tuple[str, View], StudyPart | Unmade]:
        """The parts of every recipe, by its name and view, or why there is none.

        Raises:
            BackboneError: the bundle lacks a backbone of a recipe; said before anything is made.
            ConfigError: a recipe is trained as one model, which has no parts.
        """
        if whole := [recipe.name for recipe in recipes if recipe.joint is not None]:
            raise ConfigError(
                f"{', '.join(whole)} is trained as one model, of which a study can't make the parts: train it by "
                "jobs/train_encoders.py, and evaluate its ensemble."
            )
        recipes = [self._with_detector(recipe) for recipe in recipes]
        for recipe in recipes:
            check_backbones(recipe, self._store, recipe.views)
        self._fingerprints.clear()  # the bundle may have changed
        features = self._features(recipes, with_pooled=any(recipe.fusion.takes_pooled for recipe in recipes))
        # Of each folder once: dozens of rows share it, and it may be thousands of files on an object store.
        labels = {
            (folder, words): labels_fingerprint(folder, self._config.protocol, words=words)
            for folder in set(features.values())
            for words in (False, True)
        }
        parts: dict[str, StudyPart | Unmade] = {}
        found: dict[tuple[str, View], StudyPart | Unmade] = {}
        for recipe in recipes:
            for view in recipe.views:
                folder = features[view, self._features_fingerprint(recipe, view)]
                data = labels[folder, modality_of(view) is Modality.TEXT]
                name = f"{view}-{self._encoder_fingerprint(recipe, view, data)}"
                if name not in parts:
                    try:
                        parts[name] = self._trained(recipe, view, folder, name)
                    except (TrainingError, MissingInputError) as error:  # other rows can do without it
                        parts[name] = Unmade(reason=str(error))
                        self._say(f"no {view} of {recipe.name}: {error}")
                found[recipe.name, view] = parts[name]
        return found

    def quarantined(self, parts: Iterable[StudyPart]) -> list[Failure]:
        """The clips that could not be read, or not be embedded, each once."""
        folders = sorted({folder for part in parts for folder in (part.features, part.embeddings)})
        return list({failure.clip_id: failure for folder in folders for failure in read_quarantine(folder)}.values())

    def _features_fingerprint(self, recipe: Recipe, view: View) -> str:
        """`features_fingerprint`, which reads the bundle's manifest, once for each recipe and view."""
        key = recipe.name, view
        if key not in self._fingerprints:
            self._fingerprints[key] = features_fingerprint(recipe, self._store, view)
        return self._fingerprints[key]

    def _with_detector(self, recipe: Recipe) -> Recipe:
        if self._config.detector is None:
            return recipe
        return replace(recipe, media=replace(recipe.media, detector=self._config.detector))

    def _features(self, recipes: Sequence[Recipe], *, with_pooled: bool) -> dict[tuple[View, str], str]:
        """Folder of each view's features, by their fingerprint. As few passes over the videos as can be."""
        wanted = {(view, self._features_fingerprint(recipe, view)) for recipe in recipes for view in recipe.views}
        folders: dict[tuple[View, str], str] = {}
        for folder, recipe, parts in self._passes_before(with_pooled):
            if any(part in wanted and part not in folders for part in parts):
                self._preprocess(recipe, [view for view, _ in parts], folder, with_pooled)
                folders |= dict.fromkeys(parts, folder)
        while missing := wanted - folders.keys():
            # The recipe with the most of what is missing: its views are made in one pass.
            candidates = ((recipe.name, self._missing(recipe, missing)) for recipe in recipes)
            name, parts = max(candidates, key=lambda candidate: len(candidate[1]))
            made_of = fingerprint(absolute(self._config.corpus), self._config.purpose, parts, with_pooled)
            folder = f"{self._config.folder}/features/{made_of}"
            self._preprocess(name, [view for view, _ in parts], folder, with_pooled)
            folders |= dict.fromkeys(parts, folder)
        return folders

    def _missing(self, recipe: Recipe, missing: set[tuple[View, str]]) -> list[tuple[View, str]]:
        own = ((view, self._features_fingerprint(recipe, view)) for view in recipe.views)
        return [part for part in own if part in missing]

    def _passes_before(self, with_pooled: bool) -> list[tuple[str, str, list[tuple[View, str]]]]:
        """Folders of features of this corpus that could be made like this today, their recipes, and what they hold.

        Where pooled features are needed, those that have them.
        """
        root = UPath(f"{self._config.folder}/features")
        found: list[tuple[str, str, list[tuple[View, str]]]] = []
        for about in sorted(root.glob(f"*/{ABOUT}"), key=str) if root.exists() else []:
            folder = f"{self._config.folder}/features/{about.parent.name}"
            made = read_about(folder)
            if (made.corpus, made.purpose) != (absolute(self._config.corpus), self._config.purpose):
                continue
            if made.recipe not in RECIPES or (with_pooled and not made.pooled):
                continue
            now = self._with_detector(find_recipe(made.recipe))
            if all(self._features_fingerprint(now, m) == made_of for m, made_of in made.parts.items()):
                found.append((folder, made.recipe, list(made.parts.items())))
        return found

    def _preprocess(self, recipe: str, views: Sequence[View], folder: str, with_pooled: bool) -> None:
        config = self._config
        self._say(f"features: {', '.join(views)}")
        preprocess(
            PreprocessConfig(
                corpus=config.corpus,
                output=folder,
                models=config.models,
                recipe=recipe,
                detector=config.detector,
                views=tuple(views),
                pooled=with_pooled,
                purpose=config.purpose,
                retry_quarantined=config.retry_quarantined,
                resources=config.resources,
            )
        )

    def _encoder_fingerprint(self, recipe: Recipe, view: View, labels: str) -> str:
        return fingerprint(
            absolute(self._config.corpus),
            self._config.purpose,
            self._features_fingerprint(recipe, view),
            labels,
            to_json(recipe.encoders[view]),
            to_json(recipe.encoder_fits[view]),
            recipe.encoder_seed,
            self._config.protocol,
        )

    def _trained(self, recipe: Recipe, view: View, features: str, name: str) -> StudyPart:
        config, encoders = self._config, f"{self._config.folder}/encoders/{name}"
        self._say(f"encoder: {view} of {recipe.name}")
        train_encoders(
            TrainConfig(
                features=features,
                output=encoders,
                models=config.models,
                recipe=recipe.name,
                views=(view,),
                use_gpu=config.use_gpu,
                workers=config.workers,
                protocol=config.protocol,
            )
        )
        card = artifacts.read_card(f"{encoders}/{view}")
        embeddings = f"{config.folder}/embeddings/{view}-{fingerprint(card.artifact_id, UPath(features).name)}"
        self._say(f"embeddings: {view} of {recipe.name}")
        embed_features(
            EmbedConfig(
                features=features,
                encoders=encoders,
                output=embeddings,
                views=(view,),
                resources=config.resources,
            )
        )
        encoder = f"{encoders}/{view}"
        return StudyPart(recipe=recipe, view=view, features=features, encoder=encoder, embeddings=embeddings)

    def _say(self, text: str) -> None:
        self._console.print(f"[bold]{text}[/bold]", highlight=False)

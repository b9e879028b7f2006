"""The parts that the rows of a results table are made of, each made once and found again by its hash.

    features/<hash>/               one pass over the videos: the views that it made, as `jobs/preprocess.py`
    encoders/<view>-<hash>/        one trained encoder, as `jobs/train_encoders.py`
    encoders/jointly-<hash>/       all encoders of a joint training, with their ensemble
    embeddings/<view>-<hash>/      what that encoder says of every clip, as `jobs/embed.py`

The hash of a part is that of what bears on it: the corpus's place, settings, weights, and for what is trained the
clips, splits, labels and sources. So a corpus that grew or changed, another bundle or another recipe make what is
theirs beside what is there.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from rich.console import Console
from upath import UPath

from twominds import artifacts
from twominds.artifacts import fingerprint, to_json
from twominds.backbones import BackboneStore
from twominds.corpus.bah import Purpose
from twominds.pipelines.embed import EmbedConfig, embed_features
from twominds.pipelines.preprocess import PreprocessConfig, check_backbones, features_fingerprint, preprocess
from twominds.pipelines.stages import StageResources
from twominds.pipelines.train import TrainConfig, train_several
from twominds.recipes.catalog import RECIPES, find_recipe
from twominds.recipes.recipe import Recipe
from twominds.records import Failure, Modality, View, modality_of
from twominds.reports.study.rows import StudyPart, StudyRun
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


@dataclass(frozen=True, kw_only=True)
class Made:
    """What recipes are made of, or why there is none."""

    parts: Mapping[tuple[str, View], StudyPart | Unmade]
    """By the recipe's name and view, of those whose encoders are trained by themselves."""
    runs: Mapping[str, tuple[StudyRun | Unmade, ...]]
    """By the recipe's name, of those that are trained jointly: each of their trainings."""

    @property
    def unique(self) -> list[StudyPart]:
        """The parts that there are, each once."""
        alone = [part for part in self.parts.values() if isinstance(part, StudyPart)]
        jointly = [
            part for runs in self.runs.values() for run in runs if isinstance(run, StudyRun) for part in run.parts
        ]
        return list({part.encoder: part for part in (*alone, *jointly)}.values())

    @property
    def unmade(self) -> dict[str, str]:
        """Why a recipe can't be made, by its name, of those that lack a part, or came to nothing with every seed."""
        reasons: dict[str, list[str]] = {}
        for (recipe, _), part in self.parts.items():
            if isinstance(part, Unmade):
                reasons.setdefault(recipe, []).append(part.reason)
        for recipe, runs in self.runs.items():
            lost = [run.reason for run in runs if isinstance(run, Unmade)]
            if len(lost) == len(runs):
                reasons[recipe] = list(dict.fromkeys(lost))
        return {recipe: " ".join(found) for recipe, found in reasons.items()}


class PartsMaker:
    """Makes the parts of recipes, those that are missing."""

    def __init__(self, config: StudyConfig, console: Console) -> None:
        """Takes the places and settings, and where progress is printed."""
        self._config, self._console = config, console
        self._store = BackboneStore(uri=config.models)
        self._fingerprints: dict[tuple[str, View], str] = {}

    def make(self, recipes: Sequence[Recipe]) -> Made:
        """What every recipe is made of.

        Raises:
            BackboneError: the bundle lacks a backbone of a recipe; said before anything is made.
        """
        for recipe in recipes:
            for one in (recipe, *recipe.also):
                check_backbones(self._with_detector(one), self._store, one.views)
        self._fingerprints.clear()  # the bundle may have changed
        runs = self._runs([recipe for recipe in recipes if recipe.joint is not None])
        return Made(parts=self._parts([recipe for recipe in recipes if recipe.joint is None]), runs=runs)

    def _parts(self, recipes: Sequence[Recipe]) -> dict[tuple[str, View], StudyPart | Unmade]:
        """The parts of recipes whose encoders are trained by themselves."""
        recipes = [self._with_detector(recipe) for recipe in recipes]
        features = self._features(recipes, with_pooled=any(recipe.fusion.takes_pooled for recipe in recipes))
        # Of each folder once: dozens of rows share it, and it may be thousands of files on an object store.
        labels = {
            (folder, words): labels_fingerprint(folder, self._config.protocol, words=words)
            for folder in set(features.values())
            for words in (False, True)
        }
        asked: dict[tuple[str, View], str] = {}
        wanted: dict[str, tuple[Recipe, View, str]] = {}
        for recipe in recipes:
            for view in recipe.views:
                folder = features[view, self._features_fingerprint(recipe, view)]
                data = labels[folder, modality_of(view) is Modality.TEXT]
                name = f"{view}-{self._encoder_fingerprint(recipe, view, data)}"
                asked[recipe.name, view] = name
                wanted.setdefault(name, (recipe, view, folder))
        configs = {
            name: replace(self._training(recipe, folder, name), views=(view,))
            for name, (recipe, view, folder) in wanted.items()
        }
        lost = self._train(configs, {})
        parts: dict[str, StudyPart | Unmade] = {}
        for name, (recipe, view, folder) in wanted.items():
            parts[name] = lost.get(name) or self._embedded(recipe, (view,), folder, name, view)[0]
        return {key: parts[name] for key, name in asked.items()}

    def _runs(self, recipes: Sequence[Recipe]) -> dict[str, tuple[StudyRun | Unmade, ...]]:
        """The trainings of recipes that are trained jointly; those that are the same are done once.

        Those that give the same weights, too: what else differs is made of those of the first.
        """
        runs = [(recipe.name, self._with_detector(run)) for recipe in recipes for run in recipe.runs]
        folders: dict[frozenset[tuple[View, str]], str] = {}
        for _, run in sorted(runs, key=lambda item: -len(item[1].views)):  # who has fewer views finds them there
            made_of = self._made_of(run)
            if made_of not in folders:
                folders[made_of] = self._features_of_all(run)
        labels = {
            folder: labels_fingerprint(folder, self._config.protocol, words=True) for folder in set(folders.values())
        }
        asked: list[tuple[str, str]] = []
        wanted: dict[str, tuple[Recipe, str]] = {}
        for name, run in runs:
            folder = folders[self._made_of(run)]
            asked.append((name, f"jointly-{self._run_fingerprint(run, labels[folder])}"))
            wanted.setdefault(asked[-1][1], (run, folder))
        configs = {
            place: replace(
                self._training(run, folder, place),
                ensemble=f"{self._config.folder}/encoders/{place}/ensemble",
                seed=run.encoder_seed,
            )
            for place, (run, folder) in wanted.items()
        }
        lost = self._train(configs, self._first_of_their_weights(wanted, labels))
        found: dict[str, StudyRun | Unmade] = {}
        for place, (run, folder) in wanted.items():
            found[place] = lost.get(place) or StudyRun(
                recipe=run,
                parts=self._embedded(run, run.views, folder, place, "jointly"),
                ensemble=configs[place].ensemble,
            )
        return {recipe.name: tuple(found[place] for name, place in asked if name == recipe.name) for recipe in recipes}

    def _first_of_their_weights(
        self, wanted: Mapping[str, tuple[Recipe, str]], labels: Mapping[str, str]
    ) -> dict[str, str]:
        """By the name of a joint training, the place of another that comes before it and ends with the same weights."""
        first: dict[str, str] = {}
        found: dict[str, str] = {}
        for name, (run, folder) in wanted.items():
            source = first.setdefault(fingerprint(sorted(self._made_of(run)), labels[folder], run.joint_training), name)
            if source != name:
                found[name] = f"{self._config.folder}/encoders/{source}"
        return found

    def _made_of(self, recipe: Recipe) -> frozenset[tuple[View, str]]:
        return frozenset((view, self._features_fingerprint(recipe, view)) for view in recipe.views)

    def _features_of_all(self, recipe: Recipe) -> str:
        """One folder with the features of all views: a joint training reads them side by side."""
        wanted = self._made_of(recipe)
        for folder, name, parts in self._passes_before(with_pooled=False):
            if wanted <= set(parts):
                self._preprocess(name, [view for view, _ in parts], folder, with_pooled=False)
                return folder
        parts = [(view, self._features_fingerprint(recipe, view)) for view in recipe.views]
        return self._new_pass(recipe.name, parts, with_pooled=False)

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
        for folder, recipe, parts in self._passes_before(with_pooled=with_pooled):
            if any(part in wanted and part not in folders for part in parts):
                self._preprocess(recipe, [view for view, _ in parts], folder, with_pooled=with_pooled)
                folders |= dict.fromkeys(parts, folder)
        while missing := wanted - folders.keys():
            # The recipe with the most of what is missing: its views are made in one pass.
            candidates = ((recipe.name, self._missing(recipe, missing)) for recipe in recipes)
            name, parts = max(candidates, key=lambda candidate: len(candidate[1]))
            folders |= dict.fromkeys(parts, self._new_pass(name, parts, with_pooled=with_pooled))
        return folders

    def _new_pass(self, recipe: str, parts: Sequence[tuple[View, str]], *, with_pooled: bool) -> str:
        """The folder of features that a recipe makes of some of its views."""
        made_of = fingerprint(absolute(self._config.corpus), self._config.purpose, parts, with_pooled)
        folder = f"{self._config.folder}/features/{made_of}"
        self._preprocess(recipe, [view for view, _ in parts], folder, with_pooled=with_pooled)
        return folder

    def _missing(self, recipe: Recipe, missing: set[tuple[View, str]]) -> list[tuple[View, str]]:
        own = ((view, self._features_fingerprint(recipe, view)) for view in recipe.views)
        return [part for part in own if part in missing]

    def _passes_before(self, *, with_pooled: bool) -> list[tuple[str, str, list[tuple[View, str]]]]:
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

    def _preprocess(self, recipe: str, views: Sequence[View], folder: str, *, with_pooled: bool) -> None:
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
            *recipe.objective.chosen,
        )

    def _training(self, recipe: Recipe, features: str, name: str) -> TrainConfig:
        """The command that trains the part called `name`."""
        config = self._config
        return TrainConfig(
            features=features,
            output=f"{config.folder}/encoders/{name}",
            models=config.models,
            recipe=recipe.name,
            use_gpu=config.use_gpu,
            workers=config.workers,
            protocol=config.protocol,
        )

    def _train(self, configs: Mapping[str, TrainConfig], weights_from: Mapping[str, str]) -> dict[str, Unmade]:
        """Trains what is missing; what comes to nothing, by its name: other rows, and seeds, can do without it.

        Args:
            configs: What trains each part, by its name.
            weights_from: Where a joint training may find its weights, by the name of the part.
        """
        if not configs:
            return {}
        self._say(f"training: {len(configs)} encoders or joint models, but for those that are there")
        places = [weights_from.get(name, "") for name in configs]
        reasons = dict(zip(configs, train_several([*configs.values()], places), strict=True))
        lost = {name: Unmade(reason=reason) for name, reason in reasons.items() if reason}
        for name, unmade in lost.items():
            self._say(f"no {name} of {configs[name].recipe}: {unmade.reason}")
        return lost

    def _embedded(
        self, recipe: Recipe, views: tuple[View, ...], features: str, name: str, what: str
    ) -> tuple[StudyPart, ...]:
        """What the trained encoders of some views say of every clip."""
        config, encoders = self._config, f"{self._config.folder}/encoders/{name}"
        ids = [artifacts.read_card(f"{encoders}/{view}").artifact_id for view in views]
        embeddings = f"{config.folder}/embeddings/{what}-{fingerprint(*ids, UPath(features).name)}"
        self._say(f"embeddings: {', '.join(views)} of {recipe.name}")
        embed_features(
            EmbedConfig(
                features=features, encoders=encoders, output=embeddings, views=views, resources=config.resources
            )
        )
        return tuple(
            StudyPart(recipe=recipe, view=view, features=features, encoder=f"{encoders}/{view}", embeddings=embeddings)
            for view in views
        )

    def _run_fingerprint(self, run: Recipe, labels: str) -> str:
        after = run.encoders, run.decision, run.grids
        return fingerprint(
            absolute(self._config.corpus),
            self._config.purpose,
            sorted(self._made_of(run)),
            labels,
            run.joint_training,
            [to_json(settings) for settings in after],
            self._config.protocol,
        )

    def _say(self, text: str) -> None:
        self._console.print(f"[bold]{text}[/bold]", highlight=False)

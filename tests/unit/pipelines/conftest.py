"""A study without videos and without Ray: made-up embeddings, stand-ins for their encoders, fusions that train fast."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from twominds import artifacts
from twominds.artifacts import Card, UsedBackbone
from twominds.fusion.transformer import TransformerFusionConfig
from twominds.media.reader import MediaConfig
from twominds.pipelines.study import rows as study_rows
from twominds.pipelines.study.parts import Made
from twominds.pipelines.study.rows import models_of, train_rows
from twominds.recipes.leya import leya_demo
from twominds.recipes.recipe import FusionRecipe, Recipe, Reports
from twominds.records import PRESENT, Clip, Embedding, Modality, Split, View, absent, clip_labels
from twominds.reports.study.rows import ClipEmbeddings, RowModels, StudyPart
from twominds.results.about import About, claim_folder
from twominds.tasks import AH_VIDEO
from twominds.training.fit import FitConfig
from twominds.training.losses import FusionLoss
from twominds.training.selection import SelectionProtocol

DIMS: dict[View, int] = {Modality.FACE: 4, Modality.AUDIO: 3}
SPLITS = (Split.TRAIN,) * 20 + (Split.VALIDATION,) * 12 + (Split.TEST,) * 12 + (Split.PRIVATE,) * 4
MEDIA = MediaConfig(face_frames=7)
FUSION = FusionRecipe(
    model=TransformerFusionConfig(
        hidden_dim=8, num_layers=1, num_heads=2, feedforward_factor=1, dropout=0.2, prototypes_per_class=2
    ),
    fit=FitConfig(epochs=5, batch_size=8, learning_rate=1e-2, patience=5),
    loss=FusionLoss(),
    views=tuple(DIMS),
    seeds=(11, 22, 33),
)


def recipe(name: str, *views: View, reports: Reports = "single", **fusion: Any) -> Recipe:
    """One of a study over these modalities."""
    return replace(
        leya_demo(), name=name, fusion=replace(FUSION, views=views, **fusion), reports=reports, encoder_seed=5
    )


def clip(index: int, split: Split, *, flipped: bool) -> Clip:
    label = None if split == Split.PRIVATE else (index + flipped) % 2
    return Clip(
        clip_id=f"{split}-{index:02}", video_uri="", split=split, labels=clip_labels(label), question=1 + index % 3
    )


def embedding(made: Clip, index: int, view: View) -> Embedding:
    """Its first value leans to the parity of the index, which is the label. Audio is absent in every fourth clip."""
    if view == Modality.AUDIO and index % 4 == 3:
        return Embedding(clip_id=made.clip_id, view=view, presence=absent("no sound"))
    rng = np.random.default_rng([index, DIMS[view]])
    vector = rng.standard_normal(DIMS[view]).astype(np.float32)
    vector[0] += 1.5 * (2 * (index % 2) - 1)
    logits = rng.standard_normal(2).astype(np.float32)
    probabilities = (np.exp(logits) / np.exp(logits).sum()).astype(np.float32)
    return Embedding(
        clip_id=made.clip_id, view=view, presence=PRESENT, vectors=np.atleast_2d(vector), logits=np.atleast_2d(logits),
        probabilities=np.atleast_2d(probabilities),
    )  # fmt: skip


@dataclass(frozen=True)
class MadeUpStudy:
    """Face and audio of 48 clips; see the functions above for what is planted."""

    root: Path
    made: dict[View, StudyPart] = field(default_factory=dict[View, StudyPart])

    def encoder(self, view: View, value: float = 0.0) -> str:
        """A stand-in for an encoder: of another value another artifact."""
        card = Card(
            kind="encoder",
            task=AH_VIDEO,
            recipe="tiny/encoder",
            config={},
            data={"clips": {"train": 20, "val": 12}, "train_labels": {"no_ah": 10, "ah": 10}},
            architecture={"parameters": 17},
            metrics={"validation_score": 0.625, "best_epoch": 3},
            backbones=(UsedBackbone(role=f"{view}.x", hub_id=None, revision="x", licence="x", weights="debug"),),
        )
        uri = str(self.root / "encoders" / f"{view}-{value}")
        artifacts.save(uri, {"weight": torch.tensor([value, float([str(m) for m in Modality].index(view))])}, card)
        return uri

    def part(self, view: View) -> StudyPart:
        """Of the modality, with the usual encoder."""
        if view not in self.made:
            features, encoder = str(self.root / "features"), self.encoder(view)
            claim_folder(features, About(recipe="tiny", corpus="/c", fingerprint="0", models="m", media=MEDIA))
            self.made[view] = StudyPart(
                recipe=recipe("tiny/encoder", view),
                view=view,
                features=features,
                encoder=encoder,
                embeddings=str(self.root / "embeddings" / view),
            )
        return self.made[view]

    def parts(self, *recipes: Recipe) -> dict[tuple[str, View], StudyPart]:
        """Those of the recipes, each modality's the same for all."""
        return {(each.name, view): self.part(view) for each in recipes for view in each.views}

    def clips(self, *, flipped: Sequence[Split] = (), silent: Sequence[str] = ()) -> list[ClipEmbeddings]:
        """All of them; labels of the splits in `flipped` are told wrong, and of clips in `silent` nothing is there."""
        found: list[ClipEmbeddings] = []
        for index, split in enumerate(SPLITS):
            made = clip(index, split, flipped=split in flipped)
            by_encoder: dict[str, Embedding] = {}
            for view in DIMS:
                answer = embedding(made, index, view)
                if made.clip_id in silent:
                    answer = Embedding(clip_id=made.clip_id, view=view, presence=absent("nothing there"))
                by_encoder[self.part(view).encoder] = answer
            found.append(ClipEmbeddings(clip=made, by_encoder=by_encoder))
        return sorted(found, key=lambda item: item.clip.clip_id)

    def models(
        self,
        *recipes: Recipe,
        clips: Sequence[ClipEmbeddings] | None = None,
        folder: str = "study",
        protocol: SelectionProtocol = "validation",
    ) -> dict[str, RowModels]:
        """What is to be trained, by the recipe's name."""
        found = self.clips() if clips is None else clips
        return models_of(recipes, Made(parts=self.parts(*recipes), runs={}), found, str(self.root / folder), protocol)

    def trained(
        self, *recipes: Recipe, clips: Sequence[ClipEmbeddings] | None = None, folder: str = "study", **places: Any
    ) -> dict[str, RowModels]:
        """The same, trained (with the fixture `ray_here`)."""
        found = self.clips() if clips is None else clips
        models = self.models(*recipes, clips=found, folder=folder, **places)
        train_rows(list(models.values()), found, 0.0, lambda: None)
        return models


class Task:
    """A task that is done."""

    def __init__(self, value: object) -> None:
        self.value = value


class RayHere:
    """What `train_rows` asks of Ray, in this process. Of the tasks in flight the last one is done first."""

    def __init__(self) -> None:
        self.started: list[tuple[Any, ...]] = []

    def remote(self, **_: object) -> Callable[[Callable[..., object]], Any]:
        class Remote:
            def __init__(self, function: Callable[..., object], started: list[tuple[Any, ...]]) -> None:
                self._function, self._started = function, started

            def remote(self, *arguments: Any) -> Task:
                self._started.append(arguments)
                return Task(self._function(*arguments))

        return lambda function: Remote(function, self.started)

    def put(self, value: object) -> object:
        return value

    def wait(self, tasks: list[Task], *, num_returns: int) -> tuple[list[Task], list[Task]]:
        return tasks[-num_returns:], tasks[:-num_returns]

    def get(self, task: Task) -> object:
        return task.value


@pytest.fixture
def made_up(tmp_path: Path) -> MadeUpStudy:
    return MadeUpStudy(root=tmp_path)


@pytest.fixture
def tiny() -> Callable[..., Recipe]:
    """`tiny(name, *modalities, reports=..., **fusion)`: a recipe of such a study."""
    return recipe


@pytest.fixture
def ray_here(monkeypatch: pytest.MonkeyPatch) -> Iterator[RayHere]:
    """Tasks run here and now, as they would on a cluster: on one thread."""
    here, threads = RayHere(), torch.get_num_threads()
    monkeypatch.setattr(study_rows, "ray", here)
    yield here
    torch.set_num_threads(threads)

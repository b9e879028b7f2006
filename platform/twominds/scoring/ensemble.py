"""The ensemble: the mean of the class probabilities of the seed models (LEYA, section 4.2), as one artifact.

The artifact is self-contained but for the frozen backbones: the seed models are its tensors (`seed-42.<name>`), and
the encoders that make its inputs lie beside them as artifacts of their own in `encoders/<modality>/`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from upath import UPath

from twominds import artifacts, model_card
from twominds.artifacts import Card
from twominds.errors import ArtifactError
from twominds.fusion.batch import FusionInputs, InputKind, fusion_inputs
from twominds.fusion.catalog import Fusion, FusionConfig, build_fusion
from twominds.media.reader import MediaConfig
from twominds.records import Embedding, Failure, Modality, Score, View, ViewScore
from twominds.scoring.decision import Decision

EmbeddingsOfClip = Mapping[View, Embedding]


@dataclass(frozen=True, kw_only=True)
class EnsembleConfig:
    """What the ensemble's card holds: how a clip is read and how its embeddings become a decision."""

    fusion: FusionConfig
    """The fusion model that each seed trained."""
    inputs: InputKind = "emb"
    """What of each modality's embedding the fusion takes."""
    views: tuple[View, ...] = tuple(Modality)
    """In the order of the tokens."""
    media: MediaConfig = field(default_factory=MediaConfig)
    """How the encoders' training media were read."""
    decision: Decision = field(default_factory=Decision)
    """Threshold and calibration."""

    @property
    def takes_pooled(self) -> bool:
        """Whether the fusion takes `pooled` features, which nothing else needs."""
        return self.inputs == "pooled"


class Ensemble:
    """Seed models of one fusion, and the decision on their mean probability."""

    def __init__(
        self, models: Mapping[int, Fusion], config: EnsembleConfig, dims: Mapping[View, int], card: Card
    ) -> None:
        """Takes trained models by their seed; `card` names the artifact that they are."""
        self.models = dict(models)
        self.config = config
        self.card = card
        self._dims = dict(dims)

    @classmethod
    def load(cls, uri: str) -> "Ensemble":
        """The ensemble at `uri`.

        Raises:
            ArtifactError: nothing complete is there, it was changed since it was saved, or it is not an ensemble.
        """
        card = artifacts.read_card(uri)
        if card.kind != "ensemble":
            raise ArtifactError(f"The artifact at {uri} is an {card.kind}, not an ensemble.")
        config = artifacts.from_json(EnsembleConfig, card.config)
        dims = {str(name): int(size) for name, size in card.architecture["dims"].items()}
        tensors = artifacts.load_tensors(uri)
        states: dict[int, dict[str, Tensor]] = {}
        for seed in card.seeds:
            prefix = f"seed-{seed}."
            states[seed] = {name.removeprefix(prefix): t for name, t in tensors.items() if name.startswith(prefix)}
        try:
            models = seed_models(states, config.fusion, dims, card.task.num_outputs)
        except RuntimeError as error:
            raise ArtifactError(f"The tensors at {uri} do not fit its card: {error}") from error
        return cls(models, config, dims, card)

    def encoder_id(self, view: View) -> str:
        """Artifact id of the encoder that the seed models were trained on."""
        return self.card.architecture["encoders"][str(view)]

    def probabilities(self, clips: Sequence[EmbeddingsOfClip]) -> npt.NDArray[np.float64]:
        """Calibrated class probabilities of each seed model.

        Args:
            clips: Each with at least one modality present.

        Returns:
            [seeds, clips, classes].
        """
        inputs = fusion_inputs(clips, self.config.views, self.config.inputs, self._dims)
        return self.config.decision.probabilities(ensemble_logits(self.models, inputs))

    def score(self, clips: Sequence[EmbeddingsOfClip]) -> list[Score | Failure]:
        """One score per clip, in order; a clip without any modality is a failure, not a guess."""
        scorable = [i for i, clip in enumerate(clips) if any(clip[m].presence.present for m in self.config.views)]
        by_seed = self.probabilities([clips[i] for i in scorable]) if scorable else np.zeros((0, 0, 0))
        results: list[Score | Failure] = [self._nothing_present(clip) for clip in clips]
        for column, i in enumerate(scorable):
            results[i] = self._decide(clips[i], by_seed[:, column])
        return results

    def _decide(self, clip: EmbeddingsOfClip, by_seed: npt.NDArray[np.float64]) -> Score:
        mean = by_seed.mean(axis=0)
        decision = self.config.decision
        return Score(
            clip_id=next(iter(clip.values())).clip_id,
            probabilities=tuple(float(p) for p in mean),
            label=decision.label(float(mean[-1])),
            threshold=decision.threshold,
            abstains=decision.abstains(float(mean[-1])),
            seed_probabilities=tuple(float(p) for p in by_seed[:, -1]),
            views=tuple(view_score(clip[m]) for m in self.config.views),
            artifact_id=self.card.artifact_id,
            weights=self.card.weights,
            # Each modality's encoder tells what was left out of the clip itself, too.
            warnings=tuple(dict.fromkeys(text for m in self.config.views for text in clip[m].warnings)),
        )

    def _nothing_present(self, clip: EmbeddingsOfClip) -> Failure:
        reasons = "; ".join(f"{m}: {clip[m].presence.reason}" for m in self.config.views)
        return Failure(
            clip_id=next(iter(clip.values())).clip_id,
            stage="fusion",
            reason=f"No modality of the clip can be used, so there is nothing to score ({reasons}).",
        )


def class_shares(card: Card) -> list[float]:
    """What is said of a clip that can't be scored, where it must have a line: the classes' shares in training.

    Equal ones where the card does not know them, as that of an imported ensemble.
    """
    counts = [card.data.get("train_labels", {}).get(name, 0) for name in card.task.names]
    total = sum(counts)
    return [count / total if total else 1 / len(counts) for count in counts]


def seed_models(
    states: Mapping[int, Mapping[str, Tensor]], config: FusionConfig, dims: Mapping[View, int], num_outputs: int
) -> dict[int, Fusion]:
    """The trained model of each seed, ready to predict.

    Raises:
        RuntimeError: a state dict is not that of such a model.
    """
    models: dict[int, Fusion] = {}
    for seed, state in states.items():
        models[seed] = build_fusion(config, dims=dims, num_outputs=num_outputs).eval()
        models[seed].load_state_dict(state)
    return models


@torch.inference_mode()
def ensemble_logits(models: Mapping[int, Fusion], inputs: FusionInputs) -> npt.NDArray[np.float64]:
    """Logits of every seed model: [seeds, clips, classes]."""
    return torch.stack([model(inputs).logits.double() for model in models.values()]).numpy()


def view_score(embedding: Embedding) -> ViewScore:
    """The unimodal encoder's own opinion, or its absence with the reason."""
    probabilities = embedding.probabilities
    return ViewScore(
        view=embedding.view,
        presence=embedding.presence,
        probability=None if probabilities is None else float(probabilities[0, -1]),
    )


def save_ensemble(
    uri: str,
    states: Mapping[int, Mapping[str, Tensor]],
    config: EnsembleConfig,
    *,
    dims: Mapping[View, int],
    encoders: Mapping[View, str],
    card: Card,
    whole: bool = True,
) -> Card:
    """Writes the seed models and copies the encoders beside them; returns the completed card.

    Args:
        uri: Folder of the ensemble.
        states: State dict of the fusion model by seed.
        config: What the models were built from.
        dims: Input dimension per modality.
        encoders: Where the encoder of each modality is; their cards lend their backbones to this one.
        card: What is known of the search; config, architecture, seeds and backbones are filled in here.
        whole: False: leave the encoders where they are; such an ensemble scores embeddings, but can't be served.
    """
    (UPath(uri) / artifacts.CARD).unlink(missing_ok=True)  # its encoders are about to be replaced
    cards: list[Card] = []
    for view in config.views:
        cards.append(artifacts.read_card(encoders[view]))
        if whole:
            model_card.copy_artifact(encoders[view], f"{uri.rstrip('/')}/{model_card.ENCODERS}/{view}")
    tensors = {f"seed-{seed}.{name}": t for seed, state in states.items() for name, t in state.items()}
    architecture = {
        "dims": {str(m): size for m, size in dims.items()},
        "encoders": {str(m): c.artifact_id for m, c in zip(config.views, cards, strict=True)},
    }
    complete = replace(
        card,
        config=artifacts.to_json(config),
        architecture=architecture,
        seeds=tuple(states),
        backbones=artifacts.merge_backbones(cards),
    )
    return model_card.save(uri, tensors, complete)

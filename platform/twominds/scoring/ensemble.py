"""The ensemble: the weighted mean of what its members say (LEYA, section 4.2: five seeds alike), as one artifact.

The artifact is self-contained but for the frozen backbones: its members are its tensors (`seed-42.<name>`), and the
encoders that make its inputs lie beside them as artifacts of their own in `encoders/<view>/`.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from upath import UPath

from twominds import artifacts, model_card
from twominds.artifacts import Card
from twominds.encoders.encoder import activated
from twominds.errors import ArtifactError
from twominds.fusion.batch import FusionInputs, InputKind, count_points, count_rows, fusion_inputs
from twominds.fusion.catalog import Fusion
from twominds.records import Contributions, Embedding, Failure, Score, View, ViewScore, modality_of
from twominds.scoring.contributions import contributions, log_odds, subsets
from twominds.scoring.members import EnsembleConfig, blended, member_models, seeds_of, token_dims
from twominds.scoring.timeline import timeline
from twominds.tasks import Classes, Task

EmbeddingsOfClip = Mapping[View, Embedding]

POINTS_OF_CONTRIBUTIONS = 256
"""Of a task per frame, contributions are means over so many points, evenly over the clip: each costs 2^M passes."""


@dataclass(frozen=True, kw_only=True)
class Said:
    """What the members say of the points of some clips."""

    by_member: npt.NDArray[np.float64]
    """[S, N, K]: calibrated class probabilities, or intensities; NaN where a member sees nothing of a point."""
    mean: npt.NDArray[np.float64]
    """[N, K]: their weighted mean."""


class Ensemble:
    """Weighted models, and the decision on their mean."""

    def __init__(
        self, models: Mapping[str, Fusion], config: EnsembleConfig, dims: Mapping[View, int], card: Card
    ) -> None:
        """Takes trained models by the names of the members; `card` names the artifact that they are."""
        self.models = dict(models)
        self.config = config
        self.card = card
        self.members = config.members_of(card.seeds)
        self.dims = dict(dims)
        """Length of each view's token."""

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
        members = config.members_of(card.seeds)
        states: dict[str, dict[str, Tensor]] = {member.name: {} for member in members}
        for name, tensor in tensors.items():
            # Of members `face` and `face.effnet` the longer name is the one that a tensor is called after.
            if owners := [member for member in states if name.startswith(f"{member}.")]:
                owner = max(owners, key=len)
                states[owner][name.removeprefix(f"{owner}.")] = tensor
        try:
            models = member_models(states, members, dims, card.task.num_outputs)
        except RuntimeError as error:
            raise ArtifactError(f"The tensors at {uri} do not fit its card: {error}") from error
        return cls(models, config, dims, card)

    def encoder_id(self, view: View) -> str:
        """Artifact id of the encoder that the members were trained on."""
        return self.card.architecture["encoders"][str(view)]

    def probabilities(self, clips: Sequence[EmbeddingsOfClip]) -> npt.NDArray[np.float64]:
        """Calibrated class probabilities (or the intensities) of each member.

        Args:
            clips: Each with at least one modality present.

        Returns:
            [members, points of all clips, outputs].
        """
        return self._said(clips).by_member

    def score(self, clips: Sequence[EmbeddingsOfClip], *, explain: bool = False) -> list[Score | Failure]:
        """One score per clip, in order; a clip without any modality is a failure, not a guess.

        Args:
            clips: Embeddings of each by view.
            explain: Whether scores say what each modality contributes: 2^M more passes for M modalities.
        """
        results: list[Score | Failure] = [self._nothing_present(clip) for clip in clips]
        scorable = [i for i, clip in enumerate(clips) if self._sees(clip)]
        if not scorable:
            return results
        said, counts = self._said([clips[i] for i in scorable]), [count_points(clips[i]) for i in scorable]
        end = 0
        for i, count in zip(scorable, counts, strict=True):
            points = slice(end, end := end + count)
            if np.isnan(said.mean[points]).any():  # what is there is seen by members without weight alone
                continue
            score = self._decide(clips[i], said.by_member[:, points], said.mean[points])
            results[i] = score
            if explain:
                results[i] = replace(score, contributions=self._contributions(clips[i], said.mean[points]))
        return results

    def _sees(self, clip: EmbeddingsOfClip) -> bool:
        return any(clip[view].presence.present for view in self.config.views)

    def _said(self, clips: Sequence[EmbeddingsOfClip]) -> Said:
        """What is said of the clips' points; of one of which several stretches were looked at, the mean over them."""
        said = self._said_of(self._for_each_member(lambda views, kind: self._inputs(clips, views, kind)))
        points, rows = [count_points(clip) for clip in clips], [count_rows(clip) for clip in clips]
        if points == rows:
            return said
        first = np.concatenate([np.arange(0, r, r // p) for p, r in zip(points, rows, strict=True)])
        first += np.repeat(np.cumsum([0, *rows[:-1]]), points)
        each = np.concatenate([np.full(p, r // p) for p, r in zip(points, rows, strict=True)])
        return Said(
            by_member=np.add.reduceat(said.by_member, first, axis=1) / each[None, :, None],
            mean=np.add.reduceat(said.mean, first, axis=0) / each[:, None],
        )

    def _inputs(self, clips: Sequence[EmbeddingsOfClip], views: tuple[View, ...], kind: InputKind) -> FusionInputs:
        return fusion_inputs(clips, views, kind, token_dims(kind, self.dims, self.card.task.num_outputs))

    def _for_each_member(self, make: Callable[[tuple[View, ...], InputKind], FusionInputs]) -> list[FusionInputs]:
        """The inputs that each member takes; those of the same views and kind are made once."""
        taken: list[tuple[tuple[View, ...], InputKind]] = [
            (member.views, member.inputs or self.config.inputs) for member in self.members
        ]
        made = {views_and_kind: make(*views_and_kind) for views_and_kind in dict.fromkeys(taken)}
        return [made[views_and_kind] for views_and_kind in taken]

    @torch.inference_mode()
    def _said_of(self, inputs: Sequence[FusionInputs]) -> Said:
        """What each member says of its inputs, all of the same N points."""
        by_member: list[npt.NDArray[np.float64]] = []
        for member, of_member in zip(self.members, inputs, strict=True):
            logits = self.models[member.name](of_member).logits.double()
            outputs = self.outputs(logits.numpy())
            outputs[~of_member.any_present().numpy()] = np.nan
            by_member.append(outputs)
        stacked, weights = np.stack(by_member), [member.weight for member in self.members]
        of_classes = isinstance(self.card.task.output, Classes)
        return Said(by_member=stacked, mean=blended(stacked, weights, of_classes=of_classes))

    def outputs(self, logits: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """What logits [..., K] say: calibrated class probabilities, or intensities."""
        if isinstance(self.card.task.output, Classes):
            return self.config.decision.probabilities(logits)
        return activated(torch.from_numpy(logits), self.card.task.output).numpy()

    def _decide(
        self, clip: EmbeddingsOfClip, by_member: npt.NDArray[np.float64], mean: npt.NDArray[np.float64]
    ) -> Score:
        decision, task = self.config.decision, self.card.task
        points_s = next((found.points_s for found in clip.values() if found.points_s is not None), None)
        mean = decision.over_time(mean, points_s, self.by_name(by_member))
        whole, of_classes = mean.mean(axis=0), isinstance(task.output, Classes)
        label = int(decision.classes(mean)[0]) if of_classes and points_s is None else None
        return Score(
            clip_id=next(iter(clip.values())).clip_id,
            probabilities=tuple(float(p) for p in whole),
            label=label,
            threshold=decision.threshold,
            abstains=label is not None and task.is_binary and decision.abstains(float(whole[-1])),
            seed_probabilities=tuple(float(p) for p in by_member[..., -1 if of_classes else 0].mean(axis=1)),
            views=tuple(view_score(clip[view], task) for view in self.config.views),
            artifact_id=self.card.artifact_id,
            weights=self.card.weights,
            timeline=None if points_s is None else timeline(points_s, mean, decision, task),
            # Each view's encoder tells what was left out of the clip itself, too.
            warnings=tuple(dict.fromkeys(text for view in self.config.views for text in clip[view].warnings)),
        )

    def by_name(self, by_member: npt.NDArray[np.float64]) -> dict[str, npt.NDArray[np.float64]]:
        """What each member says of a clip's points [S, P, K], by the member's name."""
        return {member.name: said for member, said in zip(self.members, by_member, strict=True)}

    def _contributions(self, clip: EmbeddingsOfClip, said: npt.NDArray[np.float64]) -> Contributions:
        """What each modality adds to what is `said` [P, K] of the clip; of many points to its mean over some."""
        modalities = tuple(dict.fromkeys(modality_of(view) for view in self.config.views))
        coalitions = subsets(len(modalities))
        stretches = count_rows(clip) // count_points(clip)  # whose mean the clip's one point is
        chosen = torch.from_numpy(uniform_points(count_rows(clip), POINTS_OF_CONTRIBUTIONS))
        each = np.repeat(coalitions, len(chosen), axis=0)  # [2^M * P, M]

        def of_coalitions(views: tuple[View, ...], kind: InputKind) -> FusionInputs:
            own = self._inputs([clip], views, kind).select(chosen)
            allowed = torch.from_numpy(each[:, [modalities.index(modality_of(view)) for view in views]])
            again = own.select(torch.arange(len(chosen)).repeat(len(coalitions)))
            return FusionInputs(tokens=again.tokens, mask=again.mask & allowed)

        mean = self._said_of(self._for_each_member(of_coalitions)).mean
        if stretches > 1:
            mean, chosen = mean.reshape(len(coalitions), stretches, -1).mean(axis=1), chosen[:1]
        prior = np.asarray(training_prior(self.card))
        mean = np.where(np.isnan(mean), prior, mean)
        values, of_nothing = self._asked_about(mean), self._asked_about(prior[None])
        values = values.reshape(len(coalitions), len(chosen), -1).mean(axis=1)
        present = [any(clip[v].presence.present for v in self.config.views if modality_of(v) == m) for m in modalities]
        # An absent modality changes nothing, and all together say what is said: to the bit, whatever rows were beside.
        there = coalitions & np.array(present)
        values = values[there @ (1 << np.arange(len(modalities)))]
        values[~there.any(axis=1)] = of_nothing
        values[(there == np.array(present)).all(axis=1)] = self._asked_about(said[chosen.numpy()]).mean(axis=0)
        return contributions(values, modalities, present)

    def _asked_about(self, outputs: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """v(S) of outputs [N, K]: log-odds [N, 1] of the last of two classes, of each class [N, C], or intensities."""
        if self.card.task.is_binary:
            return log_odds(outputs[:, -1:])
        return log_odds(outputs) if isinstance(self.card.task.output, Classes) else outputs

    def _nothing_present(self, clip: EmbeddingsOfClip) -> Failure:
        reasons = "; ".join(
            f"{view}: {clip[view].presence.reason or 'no model counts that sees it'}" for view in self.config.views
        )
        return Failure(
            clip_id=next(iter(clip.values())).clip_id,
            stage="fusion",
            reason=f"No modality of the clip can be used, so there is nothing to score ({reasons}).",
        )


def uniform_points(count: int, most: int) -> npt.NDArray[np.int64]:
    """At most `most` of `count` points, evenly over them."""
    return np.unique(np.linspace(0, count - 1, min(count, most)).round().astype(np.int64))


def training_prior(card: Card) -> list[float]:
    """What is said without looking: the classes' shares in training, or the mean intensities."""
    means: Mapping[str, float] = card.data.get("train_means", {})
    if isinstance(card.task.output, Classes):
        return class_shares(card)
    middle = (card.task.output.low + card.task.output.high) / 2
    return [means.get(name, middle) for name in card.task.names]


def class_shares(card: Card) -> list[float]:
    """What is said of a clip that can't be scored, where it must have a line: the classes' shares in training.

    Equal ones where the card does not know them, as that of an imported ensemble.
    """
    counts = [card.data.get("train_labels", {}).get(name, 0) for name in card.task.names]
    total = sum(counts)
    return [count / total if total else 1 / len(counts) for count in counts]


def view_score(embedding: Embedding, task: Task) -> ViewScore:
    """The unimodal encoder's own opinion, or its absence with the reason."""
    said = embedding.probabilities if task.is_binary else None
    return ViewScore(
        view=embedding.view,
        presence=embedding.presence,
        probability=None if said is None else float(said[:, -1].mean()) if len(said) > 1 else float(said[0, -1]),
    )


def save_ensemble(
    uri: str,
    states: Mapping[str, Mapping[str, Tensor]],
    config: EnsembleConfig,
    *,
    dims: Mapping[View, int],
    encoders: Mapping[View, str],
    card: Card,
    whole: bool = True,
) -> Card:
    """Writes the members and copies the encoders beside them; returns the completed card.

    Args:
        uri: Folder of the ensemble.
        states: State dict of each member's model by its name.
        config: What the models were built from.
        dims: Input dimension per modality.
        encoders: Where the encoder of each modality is; their cards lend their backbones to this one.
        card: What is known of the search; config, architecture, seeds (of members called after one) and backbones are
            filled in here.
        whole: False: leave the encoders where they are; such an ensemble scores embeddings, but can't be served.
    """
    (UPath(uri) / artifacts.CARD).unlink(missing_ok=True)  # its encoders are about to be replaced
    cards: list[Card] = []
    for view in config.views:
        cards.append(artifacts.read_card(encoders[view]))
        if whole:
            model_card.copy_artifact(encoders[view], f"{uri.rstrip('/')}/{model_card.ENCODERS}/{view}")
    tensors = {f"{member}.{name}": t for member, state in states.items() for name, t in state.items()}
    architecture = {
        "dims": {str(m): size for m, size in dims.items()},
        "encoders": {str(m): c.artifact_id for m, c in zip(config.views, cards, strict=True)},
    }
    complete = replace(
        card,
        config=artifacts.to_json(config),
        architecture=architecture,
        seeds=seeds_of(states),
        backbones=artifacts.merge_backbones(cards),
    )
    return model_card.save(uri, tensors, complete)

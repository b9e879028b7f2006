"""Training of an encoder that learns all at once, and measuring one that learns nothing."""

import statistics
from typing import cast

import torch

from twominds.encoders.encoder import Encoder, LearnsAtOnce
from twominds.errors import ConfigError
from twominds.records import Features
from twominds.tasks import Classes
from twominds.training.examples import FeatureExamples, Targets
from twominds.training.objective import Objective
from twominds.training.progress import FitResult, split_scores, training_constant
from twominds.training.selection import SelectionView


def fit_classical(
    encoder: LearnsAtOnce,
    clips: SelectionView[tuple[list[Features], Targets]],
    objective: Objective,
    *,
    seed: int,
    device: str | torch.device = "cpu",
) -> FitResult:
    """What `fit` is for other encoders. There are no epochs (the best one is 0), and what selects is only measured on.

    Where the task asks per point, an encoder of whole clips (`Encoder.whole_clip`) learns from clips and is measured on
    clips: one with any point of the last class is of that class.

    Args:
        encoder: Learns in place.
        clips: Features and what is known of each split that may be seen; a point a clip unless it is one of those.
        objective: The task's; it must be one of classes.
        seed: Of the encoder's random choices.
        device: Where the encoder computes.

    Raises:
        TrainingError: a class or all words are missing in training, or no clip that is measured on has the view.
        ConfigError: the task is not one of classes.
    """
    if not isinstance(objective.task.output, Classes):
        raise ConfigError(f"The {encoder.view} encoder tells classes apart, which {objective.task.name} is not about.")
    if encoder.whole_clip:
        clips = clips.map(lambda split: (split[0], split[1].of_whole_clips()))
    examples = clips.map(lambda split: FeatureExamples(encoder, *split, device))
    features, targets = clips.train
    owners = cast("list[int]", targets.owners.tolist())
    encoder.learn([features[i] for i in owners], targets.values, seed=seed, device=device)
    return measure(encoder, examples, objective)


def measure(encoder: Encoder, examples: SelectionView[FeatureExamples], objective: Objective) -> FitResult:
    """How good an encoder is as it is, in the form of a training without epochs."""
    guess = training_constant(examples.train, objective)
    encoder.eval()

    @torch.inference_mode()
    def scores(split: FeatureExamples) -> tuple[float, float]:
        logits = encoder(split.batch(torch.arange(len(split)))).logits
        return split_scores(logits, split.labels, split.left_out, guess, objective)

    loss, score = scores(examples.validation)
    others = [(loss, score) if split is examples.validation else scores(split) for split in examples.scored_on]
    return FitResult(
        best_epoch=0,
        validation_score=score,
        validation_loss=loss,
        selection_score=statistics.fmean(of_split for _, of_split in others),
        selection_loss=statistics.fmean(loss for loss, _ in others),
        history=(),
    )

"""Training of an encoder that learns all at once."""

import statistics

import torch
from torch import Tensor

from twominds.encoders.classical import ClassicalTextEncoder
from twominds.records import Features
from twominds.training.examples import FeatureExamples
from twominds.training.progress import FitResult, split_scores, training_majority
from twominds.training.selection import SelectionView


def fit_classical(
    encoder: ClassicalTextEncoder,
    clips: SelectionView[tuple[list[Features], Tensor]],
    *,
    seed: int,
    device: str | torch.device = "cpu",
) -> FitResult:
    """What `fit` is for other encoders. There are no epochs (the best one is 0), and what selects is only measured on.

    Args:
        encoder: Learns in place.
        clips: Features and labels of each split that may be seen.
        seed: Of the encoder's random choices.
        device: Where the encoder computes.

    Raises:
        TrainingError: a class or all words are missing in training, or no clip that is measured on has text.
    """
    examples = clips.map(lambda split: FeatureExamples(encoder, *split, device))
    encoder.learn(*clips.train, seed=seed, device=device)
    guess = training_majority(examples.train, encoder.num_outputs)

    @torch.inference_mode()
    def scores(split: FeatureExamples) -> tuple[float, float]:
        logits = encoder(split.batch(torch.arange(len(split)))).logits
        return split_scores(logits, split.labels, split.left_out, guess)

    loss, mf1 = scores(examples.validation)
    others = [(loss, mf1) if split is examples.validation else scores(split) for split in examples.scored_on]
    return FitResult(
        best_epoch=0,
        validation_score=mf1,
        validation_loss=loss,
        selection_score=statistics.fmean(mf1 for _, mf1 in others),
        selection_loss=statistics.fmean(loss for loss, _ in others),
        history=(),
    )

"""Training of an encoder that learns all at once."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from twominds.encoders.classical import ClassicalTextEncoder
from twominds.records import Features
from twominds.training.examples import FeatureExamples
from twominds.training.fit import FitResult
from twominds.training.metrics import macro_f1


def fit_classical(
    encoder: ClassicalTextEncoder,
    train: Sequence[Features],
    train_labels: Tensor,
    validation: Sequence[Features],
    validation_labels: Tensor,
    *,
    seed: int,
    device: str | torch.device = "cpu",
) -> FitResult:
    """What `fit` is for other encoders. There are no epochs (the best one is 0), and validation is only measured on.

    Raises:
        TrainingError: a class or all words are missing in training, or no validation clip has text.
    """
    examples = FeatureExamples(encoder, validation, validation_labels, device)
    encoder.learn(train, train_labels, seed=seed, device=device)
    with torch.inference_mode():
        logits = encoder(examples.batch(torch.arange(len(examples)))).logits
    predicted = logits.argmax(dim=1).cpu().numpy()
    return FitResult(
        best_epoch=0,
        validation_mf1=macro_f1(examples.labels.cpu().numpy(), predicted, encoder.num_classes),
        validation_loss=float(F.cross_entropy(logits, examples.labels)),
        history=(),
    )

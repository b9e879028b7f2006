from collections.abc import Sequence
from typing import ClassVar, cast

import numpy as np
import pytest
import torch
from torch import Tensor

from twominds.encoders.encoder import Encoder
from twominds.errors import TrainingError
from twominds.fusion.batch import FusionInputs
from twominds.records import PRESENT, Features, Modality, absent
from twominds.training.examples import FeatureExamples, FusionExamples, Targets


def test_clips_without_any_modality_are_left_out_with_their_labels() -> None:
    inputs = FusionInputs(
        tokens={Modality.FACE: torch.arange(6.0).reshape(3, 2)}, mask=torch.tensor([[True], [False], [True]])
    )
    examples = FusionExamples(inputs, torch.tensor([0, 1, 1]))
    assert (len(examples), examples.left_out.tolist(), examples.in_memory) == (2, [1], True)
    assert examples.labels.tolist() == [0, 1]
    assert examples.batch(torch.tensor([1])).tokens[Modality.FACE].tolist() == [[4.0, 5.0]]
    inputs.mask[:] = False
    with pytest.raises(TrainingError, match="No clip"):
        FusionExamples(inputs, torch.tensor([0, 1, 1]))
    with pytest.raises(ValueError, match="2 labels"):
        FusionExamples(inputs, torch.tensor([0, 1]))


class Stack:
    modality: ClassVar[Modality] = Modality.FACE

    def collate(self, features: Sequence[Features], device: torch.device) -> dict[str, Tensor]:
        return {"x": torch.tensor([[0.0 if f.values is None else float(f.values[0])] for f in features], device=device)}


STACK = cast("Encoder", Stack())


def test_features_are_collated_by_the_encoder_batch_by_batch() -> None:
    features = [Features(clip_id=str(i), view=Modality.FACE, presence=PRESENT, values=np.array([i])) for i in range(3)]
    features[1] = Features(clip_id="1", view=Modality.FACE, presence=absent("no face"))
    examples = FeatureExamples(STACK, features, Targets.of_clips(torch.tensor([0, 1, 1])))
    assert (len(examples), examples.left_out.tolist(), examples.in_memory) == (2, [1], False)
    assert examples.labels.tolist() == [0, 1]
    assert examples.batch(torch.tensor([1, 0]))["x"].tolist() == [[2.0], [0.0]]
    with pytest.raises(TrainingError, match="face"):
        FeatureExamples(STACK, features[1:2], Targets.of_clips(torch.tensor([1])))
    with pytest.raises(ValueError, match="1 clips but targets of 2"):
        FeatureExamples(STACK, features[:1], Targets.of_clips(torch.tensor([0, 1])))

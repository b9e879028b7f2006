from typing import Any, cast

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from sklearn import metrics

from twominds.backbones import BackboneStore
from twominds.encoders.classical import ClassicalTextConfig, ClassicalTextEncoder
from twominds.encoders.embedding import embed
from twominds.errors import TrainingError
from twominds.records import PRESENT, Features, Modality, absent
from twominds.training.classical import fit_classical

ABSENT = Features(clip_id="none", modality=Modality.TEXT, presence=absent("no transcript"))


def said(text: str) -> Features:
    values = np.frombuffer(text.encode(), dtype=np.uint8)
    return Features(clip_id=text, modality=Modality.TEXT, presence=PRESENT, values=values)


TRAIN = [said(text) for text in ("maybe so", "surely not", "maybe yes", "surely yes", "maybe not", "surely so")]
LABELS = torch.tensor([1, 0, 1, 0, 1, 0])


def encoder() -> ClassicalTextEncoder:
    store = BackboneStore(uri="/nowhere")
    return ClassicalTextEncoder.pretrained(ClassicalTextConfig(), num_classes=2, store=store, example=TRAIN[0])


def test_validation_is_measured_on_its_present_clips_and_changes_nothing() -> None:
    learned, other = encoder(), encoder()
    validation = [said("maybe"), ABSENT, said("surely"), said("surely, maybe"), said("surely")]
    labels = torch.tensor([1, 1, 0, 0, 1])
    result = fit_classical(learned, TRAIN, LABELS, validation, labels, seed=0)
    fit_classical(other, TRAIN, LABELS, validation, 1 - labels, seed=0)
    assert all(
        torch.equal(a, b) for a, b in zip(learned.state_dict().values(), other.state_dict().values(), strict=True)
    )
    present = [0, 2, 3, 4]
    embeddings = embed(learned, [validation[i] for i in present])
    logits = torch.tensor(np.array([embedding.logits for embedding in embeddings]))
    assert logits[:2].argmax(dim=1).tolist() == [1, 0]
    f1_score = cast(Any, metrics).f1_score
    expected = f1_score(labels[present], logits.argmax(dim=1), average="macro", labels=[0, 1], zero_division=0)
    assert result.validation_mf1 == pytest.approx(expected)
    assert result.validation_loss == pytest.approx(float(F.cross_entropy(logits, labels[present])))
    assert (result.best_epoch, result.history) == (0, ())


def test_without_a_validation_clip_there_is_nothing_to_measure() -> None:
    with pytest.raises(TrainingError, match="modality text"):
        fit_classical(encoder(), TRAIN, LABELS, [ABSENT], torch.tensor([0]), seed=0)

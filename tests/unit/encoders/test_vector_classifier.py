"""Classifiers of one vector per clip: scikit-learn's own decisions, and what of a clip the vector is made of."""

import json
import warnings
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import pytest
import torch
from scipy.optimize import minimize  # pyright: ignore[reportUnknownVariableType]
from sklearn.base import clone  # pyright: ignore[reportUnknownVariableType]
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedGroupKFold
from sklearn.preprocessing import Normalizer, StandardScaler
from sklearn.svm import SVC, LinearSVC

from twominds.artifacts import Card, to_json
from twominds.backbones import BackboneStore
from twominds.encoders.artifact import load_encoder, save_encoder
from twominds.encoders.catalog import ENCODERS, EncodersConfig, encoders_from_json
from twominds.encoders.embedding import embed
from twominds.encoders.statistics import statistics
from twominds.encoders.vector_classifier import VectorClassifier, VectorClassifierConfig
from twominds.errors import ConfigError, TrainingError
from twominds.fusion.batch import fusion_inputs
from twominds.model_card import readme
from twominds.records import PRESENT, Features, FloatArray, Modality, absent
from twominds.tasks import AH_FRAME, AH_VIDEO

FACE, STORE = Modality.FACE, BackboneStore(uri="/nowhere")
ABSENT = Features(clip_id="none", view=FACE, presence=absent("no face"))
SETTINGS: list[dict[str, Any]] = [
    {"classifier": "rbf_svc", "c": 1.1},
    {"classifier": "rbf_svc", "c": 0.7, "normalize": "standardize", "pooling": "stat", "balanced": False},
    {"classifier": "linear_svc", "normalize": "l2"},
    {"classifier": "logistic_regression", "c": 0.3, "normalize": "standardize"},
    {"classifier": "logistic_regression", "columns": (-2, None), "balanced": False},
]


def clips_of(labels: Sequence[int], seed: int) -> list[Features]:
    """Rows of five columns on scales of their own; the class shifts the mean of each row a little."""
    rng = np.random.default_rng(seed)
    clips: list[Features] = []
    for i, label in enumerate(labels):
        rows = (rng.standard_normal((int(rng.integers(3, 9)), 5)) + 0.8 * label) * [1, 2, 5, 0.1, 3] + 4
        values = rows.astype(np.float32)
        clips.append(Features(clip_id=str(i), view=FACE, presence=PRESENT, values=values))
    return clips


LABELS = [int(i % 3 == 0) for i in range(60)]
TRAIN, TEST = clips_of(LABELS, 1), clips_of([0, 1] * 10, 2)


def learned(
    clips: Sequence[Features] = TRAIN, labels: Sequence[int] = LABELS, *, classes: int = 2, **settings: Any
) -> VectorClassifier:
    config = VectorClassifierConfig(**settings)
    encoder = VectorClassifier.pretrained(config, num_outputs=classes, store=STORE, example=TRAIN[0])
    encoder.learn(clips, torch.tensor(labels), seed=3)
    return encoder


def logits_of(encoder: VectorClassifier, clips: Sequence[Features] = TEST) -> npt.NDArray[np.float64]:
    with torch.no_grad():
        return encoder(encoder.collate(clips)).logits.numpy()


def pooled(clips: Sequence[Features], config: VectorClassifierConfig) -> npt.NDArray[np.float64]:
    rows = [cast(FloatArray, clip.values)[:, slice(*config.columns)] for clip in clips]
    return np.stack([statistics(item, config.pooling) for item in rows]).astype(np.float64)


def by_scikit_learn(config: VectorClassifierConfig, labels: Sequence[int]) -> tuple[Any, npt.NDArray[np.float64]]:
    """scikit-learn's model of the training clips, and the vectors of the others."""
    train, test = pooled(TRAIN, config), pooled(TEST, config)
    if config.normalize == "l2":
        train, test = (cast(Any, Normalizer()).transform(vectors) for vectors in (train, test))
    if config.normalize == "standardize":
        scaler = cast(Any, StandardScaler()).fit(train)
        train, test = scaler.transform(train), scaler.transform(test)
    settings: dict[str, Any] = {"C": config.c, "class_weight": "balanced" if config.balanced else None}
    models: dict[str, Any] = {
        "rbf_svc": SVC(**settings),
        "linear_svc": LinearSVC(**settings, random_state=3, max_iter=10_000),
        "logistic_regression": LogisticRegression(**settings, max_iter=10_000),
    }
    return models[config.classifier].fit(train, labels), test


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_decides_as_scikit_learn_does(settings: dict[str, Any]) -> None:
    encoder = learned(**settings)
    model, test = by_scikit_learn(encoder.config, LABELS)
    logits = logits_of(encoder)
    decision = model.decision_function(test)
    np.testing.assert_allclose(logits[:, 1] - logits[:, 0], decision, atol=1e-6)
    np.testing.assert_allclose(logits.sum(axis=1), 0, atol=1e-12)
    assert logits.argmax(axis=1).tolist() == model.predict(test).tolist()
    assert 0 < logits.argmax(axis=1).sum() < len(TEST)  # the agreement is not that of a constant
    if settings["classifier"] == "logistic_regression":
        probabilities = torch.from_numpy(logits).softmax(dim=1)
        np.testing.assert_allclose(probabilities, model.predict_proba(test), atol=1e-6)


@pytest.mark.parametrize("classifier", ["logistic_regression", "linear_svc"])
def test_calibrated_it_is_platts_sigmoid_of_decisions_on_other_people(classifier: str) -> None:
    """By hand: decisions of models of the other folds, and scikit-learn's logistic regression of labels on them."""
    people = [f"p{i // 2}" for i in range(60)]  # two clips each
    clips = [replace(clip, participant_id=who) for clip, who in zip(TRAIN, people, strict=True)]
    encoder = learned(clips, classifier=classifier, normalize="standardize", pooling="mean_std", calibrated=True)
    config = encoder.config
    model, test = by_scikit_learn(config, LABELS)
    train = pooled(clips, config)
    train = cast(Any, StandardScaler()).fit_transform(train)
    decisions, labels = np.zeros(60), np.array(LABELS)
    for others, own in StratifiedGroupKFold(5).split(train, labels, people):
        assert not {people[i] for i in others} & {people[i] for i in own}
        of_others = cast(Any, clone)(model).fit(train[others], labels[others])
        decisions[own] = of_others.decision_function(train[own])
    # Platt's targets keep probabilities off 0 and 1: (n + 1) / (n + 2) of one class, 1 / (n + 2) of the other.
    positive = sum(LABELS)
    targets = np.where(labels == 1, (positive + 1) / (positive + 2), 1 / (60 - positive + 2))

    def loss(ab: npt.NDArray[np.float64]) -> float:
        said = ab[0] * decisions + ab[1]
        return float(np.sum(np.logaddexp(0, said) - targets * said))

    slope, offset = cast("list[float]", cast(Any, minimize)(loss, np.zeros(2), options={"gtol": 1e-9}).x.tolist())
    expected = slope * model.decision_function(test) + offset
    logits = logits_of(encoder)
    np.testing.assert_allclose(logits[:, 1] - logits[:, 0], expected, rtol=1e-3, atol=1e-3)


def test_what_can_not_be_calibrated_is_refused() -> None:
    with pytest.raises(ConfigError, match="linear classifiers"):
        VectorClassifierConfig(classifier="rbf_svc", calibrated=True)
    with pytest.raises(ConfigError, match="two classes, not for 3"):
        learned(classes=3, classifier="logistic_regression", calibrated=True)
    alone = [replace(clip, participant_id="p") for clip in TRAIN]
    with pytest.raises(TrainingError, match="two or more of each class"):
        learned(alone, classifier="logistic_regression", calibrated=True)


def test_more_classes_are_for_multinomial_logistic_regression() -> None:
    labels = [i % 3 for i in range(60)]
    encoder = learned(clips_of(labels, 1), labels, classes=3, classifier="logistic_regression")
    train = pooled(clips_of(labels, 1), encoder.config)
    model = cast(Any, LogisticRegression(class_weight="balanced", max_iter=10_000)).fit(train, labels)
    test = pooled(TEST, encoder.config)
    np.testing.assert_allclose(logits_of(encoder), model.decision_function(test), atol=1e-6)
    found = torch.from_numpy(logits_of(encoder)).softmax(dim=1)
    np.testing.assert_allclose(found, model.predict_proba(test), atol=1e-6)
    for classifier in ("rbf_svc", "linear_svc"):
        with pytest.raises(ConfigError, match=r"tells two classes apart, not 3: take logistic_regression\."):
            learned(classes=3, classifier=classifier)
    with pytest.raises(ConfigError, match="whole_clip is for tasks of two classes, not of 3"):
        learned(classes=3, classifier="logistic_regression", whole_clip=True)


def test_finds_a_class_that_lies_around_the_other() -> None:
    """No line parts a ring from what is inside: the kernel does."""
    angles = np.linspace(0, 2 * np.pi, 40, endpoint=False)
    radius = np.where(np.arange(40) % 2, 3.0, 0.5)
    values = np.stack([radius * np.cos(angles), radius * np.sin(angles), *np.zeros((3, 40))], axis=1)
    clips = [replace(TRAIN[0], values=row[None].astype(np.float32)) for row in values]
    labels = [i % 2 for i in range(40)]
    assert logits_of(learned(clips, labels), clips).argmax(axis=1).tolist() == labels
    straight = logits_of(learned(clips, labels, classifier="logistic_regression"), clips)
    assert straight.argmax(axis=1).tolist() != labels


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_saved_and_loaded_it_is_the_same_to_the_bit(settings: dict[str, Any], tmp_path: Path) -> None:
    encoder = learned(**settings)
    config: EncodersConfig = {FACE: encoder.config}
    save_encoder(str(tmp_path), encoder, config, Card(kind="encoder", task=AH_VIDEO, recipe="test", config={}))
    loaded, card = load_encoder(str(tmp_path))
    assert isinstance(loaded, VectorClassifier)
    assert loaded.embedding_dim == encoder.embedding_dim
    assert all(tensor.dtype == torch.float64 for tensor in loaded.state_dict().values())
    np.testing.assert_array_equal(logits_of(loaded), logits_of(encoder))
    kept = card.architecture["encoder"]["support_vectors"]
    assert (kept > 0) == (settings["classifier"] == "rbf_svc")
    assert ("holds data of its training clips" in readme(card)) == (kept > 0)


def test_support_vectors_are_training_vectors_and_a_linear_classifier_keeps_none() -> None:
    encoder = learned()
    rows = {row.tobytes() for row in pooled(TRAIN, encoder.config)}
    kept = encoder.support_vectors.numpy()
    assert len(kept) == encoder.architecture["support_vectors"] > 0
    assert {row.tobytes() for row in kept} <= rows
    assert learned(classifier="linear_svc").support_vectors.shape == (0, 5)


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_alone_it_says_what_it_says_in_a_batch(settings: dict[str, Any]) -> None:
    encoder = learned(**settings)
    together = logits_of(encoder)
    for i, clip in enumerate(TEST):
        np.testing.assert_allclose(logits_of(encoder, [clip])[0], together[i], atol=1e-12)


def test_the_embedding_is_the_normalised_vector_and_an_absent_clip_stays_absent() -> None:
    encoder = learned(normalize="l2", classifier="linear_svc")
    clip, missing = embed(encoder, [TEST[0], ABSENT])
    mean = pooled(TEST[:1], encoder.config)[0]
    np.testing.assert_allclose(cast(FloatArray, clip.vectors), [mean / np.linalg.norm(mean)], rtol=1e-6)
    np.testing.assert_allclose(cast(FloatArray, clip.logits), logits_of(encoder, TEST[:1]), rtol=1e-6)
    assert (missing.vectors, missing.logits, missing.presence.reason) == (None, None, "no face")


def test_a_column_that_never_changes_is_no_trouble() -> None:
    def flat(clips: Sequence[Features]) -> list[Features]:
        changed = [cast(FloatArray, clip.values).copy() for clip in clips]
        for values in changed:
            values[:, 2] = 0.1
        return [replace(clip, values=values) for clip, values in zip(clips, changed, strict=True)]

    encoder = learned(flat(TRAIN), normalize="standardize")
    vectors = cast(FloatArray, embed(encoder, flat(TEST)[:1])[0].vectors)
    assert vectors[0, 2] == pytest.approx(0, abs=1e-6)
    assert not learned(normalize="l2").normalized(torch.zeros(1, 5)).any()


@pytest.mark.parametrize(
    ("rows", "share", "seen"), [(10, 1.0, 10), (10, 0.48, 4), (10, 0.3, 3), (1, 0.48, 1), (2, 0.48, 1), (100, 0.29, 29)]
)
def test_the_first_part_of_the_rows_by_hand(rows: int, share: float, seen: int) -> None:
    """The mean of 0, 1, ..., n - 1 is (n - 1) / 2."""
    values = np.repeat(np.arange(rows, dtype=np.float32)[:, None], 5, axis=1)
    config = VectorClassifierConfig(first_share=share, columns=(0, 1))
    encoder = VectorClassifier(config, num_outputs=2, architecture={"input_dim": 5, "support_vectors": 0})
    assert encoder.stack([values])["rows"].tolist() == [[(seen - 1) / 2]]


def test_learns_from_present_training_clips_alone() -> None:
    encoder = learned([ABSENT, *TRAIN, ABSENT], [1, *LABELS, 0])
    np.testing.assert_array_equal(logits_of(encoder), logits_of(learned()))
    with pytest.raises(TrainingError, match="clips with face are of 1 of the 2 classes: there is nothing to tell"):
        learned([*TRAIN[:3], ABSENT], [0, 0, 0, 1])
    with pytest.raises(ValueError, match="60 clips but 1 labels"):
        learned(labels=[1])


def test_the_same_seed_gives_the_same_artifact(tmp_path: Path) -> None:
    ids: set[str] = set()
    for run in range(2):
        encoder = learned(classifier="linear_svc", normalize="l2")
        card = Card(kind="encoder", task=AH_VIDEO, recipe="test", config={})
        ids.add(save_encoder(str(tmp_path / str(run)), encoder, {FACE: encoder.config}, card).artifact_id)
    assert len(ids) == 1


def test_of_whole_clips_the_answer_stands_at_each_point(tmp_path: Path) -> None:
    encoder = learned(whole_clip=True)
    save_encoder(
        str(tmp_path), encoder, {FACE: encoder.config}, Card(kind="encoder", task=AH_FRAME, recipe="test", config={})
    )
    loaded, _ = load_encoder(str(tmp_path))
    assert loaded.whole_clip
    points = [np.array([0.0, 0.5, 1.0]), np.array([0.25, 0.75])]
    clips = [replace(clip, points_s=points_s) for clip, points_s in zip(TEST, points, strict=False)]
    missing = replace(ABSENT, points_s=points[0])
    embeddings = embed(loaded, [*clips, missing])
    expected = logits_of(encoder, clips)
    for embedding, row, points_s in zip(embeddings, expected, points, strict=False):
        np.testing.assert_allclose(cast(FloatArray, embedding.logits), [row] * len(points_s), rtol=1e-6)
        np.testing.assert_array_equal(cast(FloatArray, embedding.vectors), cast(FloatArray, embedding.logits))
        assert embedding.points_s is points_s
        assert cast(FloatArray, embedding.probabilities).shape == (len(points_s), 2)
    inputs = fusion_inputs([{FACE: item} for item in embeddings], [FACE], "emb", {FACE: loaded.embedding_dim})
    assert inputs.mask[:, 0].tolist() == [True] * 5 + [False] * 3
    np.testing.assert_allclose(inputs.tokens[FACE][:5], expected[[0, 0, 0, 1, 1]], rtol=1e-6)


@pytest.mark.parametrize("view", ["scene", "face.effnet", "audio", "text.gte"])
def test_classifies_any_modality_and_survives_json(view: str) -> None:
    config: EncodersConfig = {view: VectorClassifierConfig(columns=(0, 3), pooling="stat", first_share=0.48)}
    assert encoders_from_json(json.loads(json.dumps(to_json(config)))) == config
    example = replace(TRAIN[0], view=view)
    encoder = ENCODERS[type(config[view])].pretrained(config[view], num_outputs=2, store=STORE, example=example)
    encoder.view = view
    assert encoder.embedding_dim == 12
    assert encoder.collate([example])["rows"].shape == (1, 12)
    assert encoder.parameter_groups(1e-3) == []


def test_settings_that_do_not_fit_are_named() -> None:
    for share in (0.0, 1.1):
        with pytest.raises(ConfigError, match="first_share must be above 0 and at most 1"):
            VectorClassifierConfig(first_share=share)
    with pytest.raises(ConfigError, match="c must be above 0"):
        VectorClassifierConfig(c=0.0)
    with pytest.raises(ConfigError, match="leave nothing of rows of 5"):
        learned(columns=(9, None))
    tokens = Features(clip_id="a", view="text", presence=PRESENT, values=np.arange(4))
    with pytest.raises(ConfigError, match="takes statistics of rows"):
        VectorClassifier.pretrained(VectorClassifierConfig(), num_outputs=2, store=STORE, example=tokens)


def test_fits_without_a_warning() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for settings in SETTINGS:
            learned(**settings)

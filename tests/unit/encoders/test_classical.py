import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import catboost
import lightgbm
import numpy as np
import numpy.typing as npt
import pytest
import torch
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.utils import class_weight

from twominds.artifacts import Card, to_json
from twominds.backbones import BackboneStore
from twominds.encoders.artifact import load_encoder, save_encoder
from twominds.encoders.boosting import LightGBMTrees, TreesConfig
from twominds.encoders.catalog import AnyEncoderConfig, EncodersConfig, encoders_from_json
from twominds.encoders.classical import ClassicalTextConfig, ClassicalTextEncoder
from twominds.encoders.embedding import embed
from twominds.encoders.huggingface import load_backbone
from twominds.encoders.text import TextEncoderConfig
from twominds.errors import ConfigError, TrainingError
from twominds.recipes.leya import leya
from twominds.records import PRESENT, Features, FloatArray, Modality, absent
from twominds.tasks import AH_VIDEO

Make = Callable[..., Features]
Array = npt.NDArray[np.float64]
CLASSIFIERS = ["logistic_regression", "lightgbm", "catboost"]
FILLER = ["today", "work", "food", "walk", "sleep", "home", "friend", "doctor", "week", "habit"]
QUICK: dict[str, Any] = {"vocabulary": 50, "trees": 20, "tree_learning_rate": 0.2, "tree_depth": 3}


def clip_of(text: str, name: str = "clip") -> Features:
    values = np.frombuffer(text.encode(), dtype=np.uint8)
    return Features(clip_id=name, view=Modality.TEXT, presence=PRESENT, values=values)


def transcripts(count: int, seed: int) -> tuple[list[str], npt.NDArray[np.int64]]:
    """Random words; those of class 1, a third of them, say "maybe" somewhere."""
    rng = np.random.default_rng(seed)
    labels = (np.arange(count) % 3 == 0).astype(np.int64)
    texts: list[str] = []
    for label in labels:
        words = rng.choice(FILLER, 8).tolist()
        words.insert(int(rng.integers(8)), "maybe" if label else "surely" if rng.random() < 0.5 else "today")
        texts.append(" ".join(words))
    return texts, labels


TRAIN, TRAIN_LABELS = transcripts(45, seed=1)
TEST, TEST_LABELS = transcripts(12, seed=2)
NOT_IN_TRAINING = ["unheard unknown syllables", " ", "Maybe, MAYBE! maybe not sure..."]


def learned(
    texts: Sequence[str] = TRAIN, labels: npt.NDArray[np.int64] = TRAIN_LABELS, seed: int = 0, **settings: Any
) -> ClassicalTextEncoder:
    clips = [clip_of(text, str(i)) for i, text in enumerate(texts)]
    config = ClassicalTextConfig(**{**QUICK, **settings})
    store = BackboneStore(uri="/nowhere")
    encoder = ClassicalTextEncoder.pretrained(config, num_outputs=int(labels.max()) + 1, store=store, example=clips[0])
    encoder.learn(clips, torch.from_numpy(labels), seed=seed)
    return encoder


def answers(encoder: ClassicalTextEncoder, clips: Sequence[Features]) -> tuple[Array, FloatArray]:
    """Class probabilities and embeddings."""
    with torch.no_grad():
        output = encoder(encoder.collate(clips))
    return output.logits.double().softmax(dim=1).numpy(), output.embedding.numpy()


def tfidf_by_sklearn(texts: Sequence[str], ngram_max: int = 2) -> Array:
    vectorizer = TfidfVectorizer(max_features=50, ngram_range=(1, ngram_max), min_df=2).fit(TRAIN)
    return cast(Any, vectorizer.transform(texts)).toarray()


def probabilities_by_library(classifier: str, train: Array, labels: npt.NDArray[np.int64], test: Array) -> Array:
    """What the library itself says after training on the same matrix, through its own scikit-learn interface."""
    if classifier == "logistic_regression":
        regression = cast(Any, LogisticRegression(class_weight="balanced", max_iter=10_000))
        return regression.fit(train, labels).predict_proba(test)
    trees: dict[str, Any] = {"n_estimators": 20, "learning_rate": 0.2, "max_depth": 3}
    weights: Any = cast(Any, class_weight).compute_sample_weight("balanced", labels)
    model: Any
    if classifier == "lightgbm":
        model = lightgbm.LGBMClassifier(**trees, min_child_samples=5, n_jobs=1, verbosity=-1)
    else:
        model = cast(Any, catboost.CatBoostClassifier)(
            **trees, random_seed=0, thread_count=1, allow_writing_files=False, logging_level="Silent"
        )
    return np.asarray(model.fit(train, labels, sample_weight=weights).predict_proba(test))


@pytest.mark.parametrize("ngram_max", [1, 2, 3])
def test_the_embedding_is_scikit_learns_tfidf(ngram_max: int) -> None:
    encoder = learned(ngram_max=ngram_max)
    texts = [*TEST, *NOT_IN_TRAINING]
    _, vectors = answers(encoder, [clip_of(text) for text in texts])
    np.testing.assert_allclose(vectors, tfidf_by_sklearn(texts, ngram_max), atol=1e-6)
    assert encoder.embedding_dim == vectors.shape[1] == (len(FILLER) + 2 if ngram_max == 1 else 50)
    assert not vectors[len(TEST) : len(TEST) + 2].any()
    assert vectors[-1].any()


@pytest.mark.parametrize("classifier", CLASSIFIERS)
def test_probabilities_are_the_librarys_own(classifier: str) -> None:
    texts = [*TEST, *NOT_IN_TRAINING]
    found, _ = answers(learned(classifier=classifier), [clip_of(text) for text in texts])
    train, test = (tfidf_by_sklearn(some).astype(np.float32).astype(np.float64) for some in (TRAIN, texts))
    np.testing.assert_allclose(found, probabilities_by_library(classifier, train, TRAIN_LABELS, test), atol=1e-5)


@pytest.mark.parametrize("classifier", CLASSIFIERS)
def test_three_classes(classifier: str) -> None:
    labels = TRAIN_LABELS + np.array(["surely" in text for text in TRAIN]) * 2
    found, _ = answers(learned(TRAIN, labels, classifier=classifier), [clip_of(text) for text in TEST])
    train, test = (tfidf_by_sklearn(some).astype(np.float32).astype(np.float64) for some in (TRAIN, TEST))
    np.testing.assert_allclose(found, probabilities_by_library(classifier, train, labels, test), atol=1e-5)


@pytest.mark.parametrize("classifier", CLASSIFIERS)
def test_finds_the_planted_word(classifier: str) -> None:
    found, _ = answers(learned(classifier=classifier), [clip_of(text) for text in TEST])
    assert found.argmax(axis=1).tolist() == TEST_LABELS.tolist()


@pytest.mark.parametrize("classifier", CLASSIFIERS)
def test_saved_and_loaded_it_is_the_same_to_the_bit(classifier: str, tmp_path: Path) -> None:
    encoder = learned(classifier=classifier)
    config: EncodersConfig = {Modality.TEXT: encoder.config}
    save_encoder(str(tmp_path), encoder, config, Card(kind="encoder", task=AH_VIDEO, recipe="test", config={}))
    loaded, card = load_encoder(str(tmp_path))
    assert isinstance(loaded, ClassicalTextEncoder)
    assert loaded.embedding_dim == encoder.embedding_dim == len(card.architecture["encoder"]["vocabulary"])
    clips = [clip_of(text) for text in [*TEST, *NOT_IN_TRAINING]]
    for before, after in zip(answers(encoder, clips), answers(loaded, clips), strict=True):
        np.testing.assert_array_equal(before, after)


@pytest.mark.parametrize("classifier", CLASSIFIERS)
def test_the_same_seed_gives_the_same_artifact(classifier: str, tmp_path: Path) -> None:
    ids: list[str] = []
    for run in range(2):
        encoder = learned(classifier=classifier, seed=7)
        card = Card(kind="encoder", task=AH_VIDEO, recipe="test", config={})
        ids.append(save_encoder(str(tmp_path / str(run)), encoder, {Modality.TEXT: encoder.config}, card).artifact_id)
    assert ids[0] == ids[1]


@pytest.mark.parametrize("classifier", CLASSIFIERS)
def test_alone_it_says_what_it_says_in_a_batch(classifier: str) -> None:
    encoder = learned(classifier=classifier)
    clips = [clip_of(text) for text in TEST]
    together, vectors = answers(encoder, clips)
    for i, clip in enumerate(clips):
        alone, vector = answers(encoder, [clip])
        np.testing.assert_allclose(alone[0], together[i], atol=1e-6)
        np.testing.assert_array_equal(vector[0], vectors[i])


def test_learns_from_present_training_clips_alone() -> None:
    clips = [clip_of(text) for text in TRAIN]
    nothing = Features(clip_id="none", view=Modality.TEXT, presence=absent("no transcript"))
    config = ClassicalTextConfig(**QUICK)
    store = BackboneStore(uri="/nowhere")
    encoder = ClassicalTextEncoder.pretrained(config, num_outputs=2, store=store, example=clips[0])
    encoder.learn([nothing, *clips, nothing], torch.tensor([1, *TRAIN_LABELS.tolist(), 0]), seed=0)
    test = [clip_of(text) for text in TEST]
    np.testing.assert_array_equal(answers(encoder, test)[0], answers(learned(), test)[0])
    assert {word for term in encoder.architecture["vocabulary"] for word in term.split()} <= set(
        " ".join(TRAIN).split()
    )


def test_vocabulary_is_bounded_and_what_one_clip_says_stays_out() -> None:
    encoder = learned([*TRAIN, "maybe supercalifragilistic"], np.append(TRAIN_LABELS, 1), vocabulary=5000)
    assert "maybe" in encoder.architecture["vocabulary"]
    assert not any("supercali" in term for term in encoder.architecture["vocabulary"])
    assert len(learned(vocabulary=7).architecture["vocabulary"]) == 7


def test_what_one_person_says_stays_out_of_the_vocabulary_in_however_many_clips() -> None:
    """The vocabulary is published with the card: a name that one person says in two clips is that person's."""
    said = [
        ("anna", "my dog waldi is old", 0),
        ("anna", "waldi and my garden, maybe", 1),
        ("bert", "my old garden", 0),
        ("bert", "maybe the old dog", 1),
        (None, "zoe came, maybe", 1),
        (None, "zoe left", 0),
        ("", "nobody came", 0),
    ]
    clips = [replace(clip_of(text, str(i)), participant_id=person) for i, (person, text, _) in enumerate(said)]
    labels, store = torch.tensor([label for *_, label in said]), BackboneStore(uri="/nowhere")

    def vocabulary(**settings: Any) -> set[str]:
        config = ClassicalTextConfig(**QUICK, **settings)
        encoder = ClassicalTextEncoder.pretrained(config, num_outputs=2, store=store, example=clips[0])
        encoder.learn(clips, labels, seed=0)
        return set(encoder.architecture["vocabulary"])

    # Anna's "waldi" is in two clips; "my garden" and "garden maybe" are hers alone, each word of them is not. Who says
    # "zoe" is not known: it may be two people.
    shared = {"my", "dog", "old", "garden", "maybe", "zoe", "came"}
    assert vocabulary() == shared
    assert vocabulary(min_clips=3) == {"my", "old", "maybe"}
    assert vocabulary(min_people=3) == {"maybe"}
    assert vocabulary(min_people=1) == shared | {"waldi"}
    with pytest.raises(TrainingError, match=r"text\.min_people \(6\) people"):
        vocabulary(min_people=6)


def test_embed_carries_absence_and_probabilities() -> None:
    nothing = Features(clip_id="none", view=Modality.TEXT, presence=absent("no transcript"))
    clip, missing = embed(learned(classifier="catboost"), [clip_of(TEST[0]), nothing])
    assert missing.vectors is None
    assert missing.presence.reason == "no transcript"
    assert clip.probabilities is not None
    expected, _ = answers(learned(classifier="catboost"), [clip_of(TEST[0])])
    np.testing.assert_allclose(clip.probabilities, expected, atol=1e-6)
    assert clip.pooled is None


@pytest.mark.parametrize(
    ("role", "representation"), [("text.emotion_distilroberta", "cls"), ("text.all_minilm", "mean")]
)
def test_frozen_embeddings_are_the_backbones(
    role: str, representation: Any, store: BackboneStore, features_of: Make, tmp_path: Path
) -> None:
    clips = [features_of(Modality.TEXT, 3 + seed % 9, seed) for seed in range(12)]
    config = ClassicalTextConfig(
        representation=representation, backbone=role, classifier="lightgbm", trees=5, tree_min_clips=2
    )
    encoder = ClassicalTextEncoder.pretrained(config, num_outputs=2, store=store, example=clips[0])
    encoder.learn(clips, torch.arange(12) % 2, seed=0)
    backbone = cast(Any, load_backbone(store, role))
    together, vectors = answers(encoder, clips)
    for i, clip in enumerate(clips):
        with torch.no_grad():
            tokens = backbone(input_ids=torch.from_numpy(clip.values).unsqueeze(0)).last_hidden_state[0]
        pooled = tokens[0] if representation == "cls" else tokens.mean(dim=0)
        np.testing.assert_allclose(vectors[i], pooled.numpy(), atol=1e-5)
        np.testing.assert_array_equal(answers(encoder, [clip])[0][0], together[i])
    assert np.ptp(together[:, 1]) > 0
    card = Card(kind="encoder", task=AH_VIDEO, recipe="test", config={})
    save_encoder(str(tmp_path), encoder, {Modality.TEXT: config}, card)
    loaded, card = load_encoder(str(tmp_path))
    assert store.uri not in json.dumps(to_json(card))
    np.testing.assert_array_equal(answers(cast(ClassicalTextEncoder, loaded), clips)[0], together)


def test_other_weights_replace_the_trees_that_were_read_before() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(40, 2)).astype(np.float32)
    ones = np.ones(40, np.float32)
    first, second = LightGBMTrees(), LightGBMTrees()
    for trees, column in ((first, 0), (second, 1)):
        trees.learn(x, (x[:, column] > 0).astype(np.int64), ones, TreesConfig(trees=10), seed=0)
    rebuilt = LightGBMTrees(len(first.model))
    rebuilt.load_state_dict(first.state_dict())
    before = rebuilt(torch.from_numpy(x))
    rebuilt.model = torch.zeros_like(second.model)
    rebuilt.load_state_dict(second.state_dict())
    after = rebuilt(torch.from_numpy(x))
    assert torch.equal(before, first(torch.from_numpy(x)))
    assert torch.equal(after, second(torch.from_numpy(x)))
    assert not torch.equal(before, after)


def test_nothing_is_left_for_an_optimizer() -> None:
    assert learned().parameter_groups(1e-3) == []


def test_unbalanced_training_is_the_librarys_default() -> None:
    found, _ = answers(learned(balanced=False, c=0.3), [clip_of(text) for text in TEST])
    train, test = tfidf_by_sklearn(TRAIN), tfidf_by_sklearn(TEST)
    expected: Array = cast(Any, LogisticRegression(C=0.3)).fit(train, TRAIN_LABELS).predict_proba(test)
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_needs_every_class_and_some_word() -> None:
    with pytest.raises(TrainingError, match="1 of the 2 classes"):
        learned(TRAIN, np.zeros(45, np.int64) + 1)
    with pytest.raises(TrainingError, match=r"text\.min_clips \(2\)"):
        learned(["one", "two", "three", "four"], np.array([0, 1, 0, 1]))


def test_features_of_the_other_kind_are_refused(store: BackboneStore, features_of: Make) -> None:
    tokens = features_of(Modality.TEXT)
    with pytest.raises(ConfigError, match="of the kind words, these are tokens"):
        ClassicalTextEncoder.pretrained(ClassicalTextConfig(), num_outputs=2, store=store, example=tokens)
    config = ClassicalTextConfig(representation="cls", backbone="text.all_minilm")
    with pytest.raises(ConfigError, match="of the kind tokens, these are words"):
        ClassicalTextEncoder.pretrained(config, num_outputs=2, store=store, example=clip_of("words"))


def test_either_text_encoder_survives_json() -> None:
    text: list[AnyEncoderConfig] = [TextEncoderConfig(), ClassicalTextConfig(classifier="catboost", trees=7)]
    for config in text:
        either = {**leya().encoders, Modality.TEXT: config}
        assert encoders_from_json(json.loads(json.dumps(to_json(either)))) == either


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("backbone", "text.all_minilm"),
        ("vocabulary", 0),
        ("ngram_max", 4),
        ("min_clips", 0),
        ("c", 0.0),
        ("trees", 0),
        ("tree_learning_rate", 0.0),
        ("tree_depth", 17),
        ("tree_leaves", 1),
        ("tree_min_clips", 0),
    ],
)
def test_refuses_settings_out_of_range(setting: str, value: Any) -> None:
    with pytest.raises(ConfigError, match=rf"text\.{setting}"):
        ClassicalTextConfig(**{setting: value})
    with pytest.raises(ConfigError, match=r"text\.backbone"):
        ClassicalTextConfig(representation="mean")

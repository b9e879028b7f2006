"""The job on a recipe whose encoders and fusion are one model: what it saves embeds and is scored."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tests.unit.pipelines.test_train_jointly import VIEWS, joint_config
from torch.testing import assert_close

from twominds import artifacts
from twominds.encoders.artifact import load_encoder
from twominds.encoders.embedding import embed
from twominds.errors import ConfigError
from twominds.pipelines.embed import EmbedConfig, embed_features
from twominds.pipelines.evaluate import EvaluateConfig, evaluate
from twominds.pipelines.train import TrainConfig, train_encoders, train_several
from twominds.pipelines.train_view import read_examples
from twominds.records import Modality, Score
from twominds.scoring.ensemble import Ensemble
from twominds.search.config import SearchConfig
from twominds.search.setup import prepare
from twominds.tasks import AH_VIDEO
from twominds.training.metrics import macro_f1

pytestmark = [pytest.mark.ray, pytest.mark.timeout(300)]


@pytest.fixture
def config(tmp_path: Path) -> TrainConfig:
    return replace(joint_config(tmp_path), checkpoint_interval_s=0.5)


def test_one_training_saves_the_encoders_and_the_ensemble(ray_session: None, config: TrainConfig) -> None:
    summary, uri = train_encoders(config), config.output.removesuffix("/encoders")
    assert "jobs/embed.py" in summary.next_step
    assert "then python jobs/evaluate.py" in summary.next_step
    clips = {view: read_examples(config.features, view, "validation", AH_VIDEO.output) for view in VIEWS}
    embeddings = {view: embed(load_encoder(f"{config.output}/{view}")[0], clips[view].validation[0]) for view in VIEWS}
    ensemble = Ensemble.load(config.ensemble)
    scores = ensemble.score([{view: embeddings[view][i] for view in VIEWS} for i in range(15)])
    answered = [i for i, score in enumerate(scores) if isinstance(score, Score)]
    assert answered == [0, 1, 2, *range(4, 15)], "of the fourth nothing is there"
    labels = clips[VIEWS[0]].validation[1].values.numpy()
    said = [score.label if isinstance(score, Score) else 0 for score in scores]  # the majority of training: the first
    mf1 = macro_f1(labels, np.array(said), 2)
    assert ensemble.card.metrics["validation_score"] == {"42": pytest.approx(mf1)}, "the card speaks of other weights"
    assert mf1 > 0.8
    assert ensemble.card.seeds == (42,)
    for view in VIEWS:
        card = artifacts.read_card(f"{config.output}/{view}")
        assert card.data["trained"] == "jointly"
        assert card.metrics["validation_score"] > 0.6
        assert ensemble.encoder_id(view) == card.artifact_id
    embedded = embed_features(EmbedConfig(features=config.features, encoders=config.output, output=f"{uri}/embeddings"))
    assert embedded.next_step == f"python jobs/evaluate.py --embeddings {uri}/embeddings"
    evaluate(EvaluateConfig(ensemble=config.ensemble, embeddings=f"{uri}/embeddings", output=f"{uri}/report"))
    created = ensemble.card.created
    train_encoders(config)
    assert artifacts.read_card(config.ensemble).created == created, "it was trained again"


def test_two_workers_save_one_system_of_another_seed(ray_session: None, config: TrainConfig) -> None:
    train_encoders(replace(config, workers=2, seed=7, cpus=1))
    card = artifacts.read_card(config.ensemble)
    assert card.seeds == (7,)
    assert card.metrics["validation_score"]["7"] > 0.8
    assert {artifacts.read_card(f"{config.output}/{view}").seeds for view in VIEWS} == {(7,)}


def test_two_workers_take_the_weights_of_a_training_alike(
    ray_session: None, config: TrainConfig, capfd: pytest.CaptureFixture[str]
) -> None:
    first = replace(config, workers=2, cpus=1, ensemble=f"{config.output}/ensemble")
    place = f"{config.output}-again"
    second = replace(first, output=place, ensemble=f"{place}/ensemble")
    assert train_several([first, second], ["", config.output]) == ["", ""]
    assert capfd.readouterr().out.count("weights of simple/joint, which is trained alike") == 1
    for part in (*VIEWS, "ensemble"):
        found, expected = (artifacts.load_tensors(f"{uri}/{part}") for uri in (place, config.output))
        assert_close(found, expected, rtol=0, atol=0)


def test_settings_that_do_not_go_with_it_are_refused_before_anything_starts(config: TrainConfig) -> None:
    with pytest.raises(ConfigError, match="leave out --views"):
        train_encoders(replace(config, views=(Modality.FACE,)))
    with pytest.raises(ConfigError, match="trains no model jointly"):
        train_encoders(replace(config, recipe="simple/ah-frame", seed=3))
    with pytest.raises(ConfigError, match=r"simple/joint was trained jointly with its encoders.*nothing to search"):
        prepare(SearchConfig(embeddings=config.features, encoders=config.features))

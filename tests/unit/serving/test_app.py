"""The application before it runs: its arguments, what it refuses to start with, its config files. No cluster."""

import json
import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import pytest
import yaml
from pydantic import ValidationError
from ray import serve
from ray.serve.schema import ServeDeploySchema

from twominds import artifacts
from twominds.artifacts import Card, UsedBackbone
from twominds.backbones import BackboneStore, BundleEntry, add_to_bundle
from twominds.encoders.artifact import used_backbone
from twominds.errors import ArtifactError, BackboneError, ConfigError, MissingInputError
from twominds.fusion.transformer import TransformerFusionConfig
from twominds.media.reader import MediaConfig
from twominds.records import Modality, View
from twominds.scoring.ensemble import EnsembleConfig
from twominds.scoring.scorer import encoder_uri
from twominds.serving.answers import ModelAnswer
from twominds.serving.app import ServeArgs, build
from twominds.serving.deployments import ReplicaSettings
from twominds.tasks import AH_VIDEO

CONFIGS = Path(__file__).parents[3] / "serve_configs"
ROLE = "text.all_minilm"


@dataclass(frozen=True, kw_only=True)
class Folders:
    args: ServeArgs
    card: Card


def save_encoder_card(ensemble: str, view: View) -> str:
    """Makes an encoder without tensors, and returns its id."""
    card = Card(kind="encoder", task=AH_VIDEO, recipe="leya", config={"encoder of": str(view)})
    return artifacts.save(encoder_uri(ensemble, view), {}, card).artifact_id


@pytest.fixture
def folders(tmp_path: Path) -> Folders:
    """An ensemble and its encoders by their cards alone, and a bundle without anything in it."""
    uri, models = str(tmp_path / "ensemble"), tmp_path / "models"
    models.mkdir()
    encoders = {str(view): save_encoder_card(uri, view) for view in Modality}
    card = Card(
        kind="ensemble",
        task=AH_VIDEO,
        recipe="leya",
        config=artifacts.to_json(EnsembleConfig(fusion=TransformerFusionConfig())),
        architecture={"encoders": encoders},
        seeds=(42, 2025),
    )
    return Folders(args=ServeArgs(ensemble=uri, models=str(models)), card=artifacts.save(uri, {}, card))


def bound(application: serve.Application) -> Any:
    """The deployment that an application binds, with the arguments of its constructor."""
    return cast(Any, application)._bound_deployment


def test_the_parts_and_how_they_hang_together(folders: Folders) -> None:
    ingress = bound(build(folders.args))
    model, decoder, encoders, ensemble = ingress.init_args
    assert isinstance(model, ModelAnswer)
    assert (model.artifact_id, model.seeds) == (folders.card.artifact_id, [42, 2025])
    assert model.members == ["42", "2025"]
    assert bound(decoder).name == "MediaDecoder"
    assert {view: bound(encoder).name for view, encoder in encoders.items()} == {
        "scene": "SceneEncoder",
        "face": "FaceEncoder",
        "audio": "AudioEncoder",
        "text": "TextEncoder",
    }
    part, modality, artifact_id, media = bound(encoders[Modality.AUDIO]).init_args
    assert isinstance(part, ReplicaSettings)
    assert (modality, artifact_id) == (Modality.AUDIO, folders.card.architecture["encoders"]["audio"])
    *_, task, keeps_video = bound(decoder).init_args
    assert bound(decoder).init_args[1] == media
    assert task == folders.card.task
    assert not keeps_video  # no encoder reads the video itself: an upload need not travel on
    assert bound(ensemble).init_args[1] == folders.card.artifact_id


def test_by_default_it_reserves_no_cpu(folders: Folders) -> None:
    assert bound(build(folders.args)).ray_actor_options == {"num_cpus": 0}


@pytest.mark.parametrize(
    ("missing", "job"), [("ensemble", "jobs/tune_fusion.py"), ("models", "jobs/make_debug_models")]
)
def test_what_is_missing_is_said_with_the_job_that_makes_it(
    folders: Folders, tmp_path: Path, missing: str, job: str
) -> None:
    nowhere = str(tmp_path / "nowhere")
    with pytest.raises(MissingInputError, match=job) as error:
        build(folders.args.model_copy(update={missing: nowhere}))
    assert nowhere in str(error.value)


def test_a_bundle_without_one_of_the_backbones(folders: Folders) -> None:
    used = UsedBackbone(role=ROLE, hub_id=None, revision="", licence="", weights="debug")
    artifacts.save(folders.args.ensemble, {}, replace(folders.card, backbones=(used,)))
    with pytest.raises(BackboneError, match=ROLE):
        build(folders.args)


def test_a_bundle_with_other_weights_than_those_of_the_training(folders: Folders, tmp_path: Path) -> None:
    """The same name and the same shapes, and yet a score would mean nothing."""
    models = folders.args.models
    for name, words in (("trained with", b"one"), ("served with", b"another")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "vocab.txt").write_bytes(words)
    published = BundleEntry(weights="published", hub_id=None, revision="abc", licence="Apache-2.0")
    add_to_bundle(models, ROLE, tmp_path / "trained with", published)
    used = used_backbone(BackboneStore(uri=models), ROLE)
    artifacts.save(folders.args.ensemble, {}, replace(folders.card, backbones=(used,)))
    build(folders.args)
    debug = BundleEntry(weights="debug", hub_id=None, revision="tiny", licence="Apache-2.0")
    add_to_bundle(models, ROLE, tmp_path / "served with", debug)
    with pytest.raises(BackboneError, match=rf"other weights for {ROLE} \(debug, tiny\) .* on \(published, abc\)"):
        build(folders.args)


def test_faces_of_new_videos_want_a_detector_where_the_corpus_brought_its_own(folders: Folders) -> None:
    config = EnsembleConfig(fusion=TransformerFusionConfig(), media=MediaConfig(detector="corpus"))
    artifacts.save(folders.args.ensemble, {}, replace(folders.card, config=artifacts.to_json(config)))
    with pytest.raises(ConfigError, match="`detector` `yolo`"):
        build(folders.args)
    ingress = bound(build(folders.args.model_copy(update={"detector": "yunet"})))
    media = bound(ingress.init_args[1]).init_args[1]
    assert media == MediaConfig(detector="yunet")


def test_an_encoder_is_no_ensemble(folders: Folders) -> None:
    artifacts.save(folders.args.ensemble, {}, replace(folders.card, kind="encoder"))
    with pytest.raises(ArtifactError, match="not an ensemble"):
        build(folders.args)


def test_an_ensemble_or_an_encoder_that_was_changed_is_refused_before_anything_starts(folders: Folders) -> None:
    uri = Path(folders.args.ensemble)
    text = uri / "encoders" / "text" / "card.json"
    text.write_text(text.read_text().replace('"encoder of": "text"', '"encoder of": "face"'))
    with pytest.raises(ArtifactError, match=r"encoders/text/model\.safetensors .*changed or damaged"):
        build(folders.args)
    another = save_encoder_card(str(uri / "other"), Modality.FACE)
    shutil.copytree(uri / "other" / "encoders" / "face", uri / "encoders" / "text", dirs_exist_ok=True)
    with pytest.raises(ArtifactError, match=rf"encoders/text is {another}, and the ensemble was made with"):
        build(folders.args)
    save_encoder_card(str(uri), Modality.TEXT)
    build(folders.args)
    card = json.loads((uri / "card.json").read_text())
    card["config"]["inputs"] = "logits"
    (uri / "card.json").write_text(json.dumps(card))
    with pytest.raises(ArtifactError, match=r"ensemble/model\.safetensors and the settings in its card\.json"):
        build(folders.args)


def test_arguments_are_checked() -> None:
    for wrong in ({"max_batch_size": 0}, {"max_upload_mib": -1}, {"no_such_argument": 1}):
        with pytest.raises(ValidationError, match=next(iter(wrong))):
            ServeArgs.model_validate(wrong)


@pytest.mark.parametrize("name", ["ah.yaml", "ah-gpu.yaml"])
def test_config_files_fit_the_application(folders: Folders, name: str) -> None:
    raw = yaml.safe_load((CONFIGS / name).read_text())
    schema = ServeDeploySchema.model_validate(raw)
    (application,) = schema.applications
    assert application.import_path == f"{build.__module__}:{build.__name__}"
    args = ServeArgs.model_validate(application.args)
    assert args.ensemble == ServeArgs().ensemble  # they run on what the demo leaves
    assert schema.http_options.request_timeout_s
    assert schema.http_options.request_timeout_s > args.timeout_s
    ingress = bound(build(args.model_copy(update={"ensemble": folders.args.ensemble, "models": folders.args.models})))
    _, decoder, encoders, ensemble = ingress.init_args
    names = {ingress.name, *(bound(part).name for part in (decoder, *encoders.values(), ensemble))}
    assert {deployment.name for deployment in application.deployments} <= names

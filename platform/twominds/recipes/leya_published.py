"""LEYA's published weights as artifacts: state dicts under the authors' names for four encoders and the fusion.

The names are those of the authors' public code (github.com/LEYA-HSE/ABAW10-BAH). Files are read without unpickling
anything. That code stopped each training on the mean of validation and public test, so `selected_on` says so. Its clips
are read as it read them: scene frames keep their shape and are cropped (VideoMAE's own processor), faces are squeezed.
What it does otherwise than here: its frames are those at equal steps from the first to the last, by their numbers; ours
are those in the middle of equal parts, by time.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import torch

from twominds.artifacts import Card, to_json
from twominds.backbones import BackboneStore
from twominds.backbones.state_dicts import read_checkpoint, read_state_dict
from twominds.encoders.artifact import load_encoder, save_encoder, used_backbone
from twominds.encoders.audio import AudioEncoderConfig
from twominds.encoders.catalog import ENCODERS, AnyEncoderConfig
from twominds.encoders.encoder import Architecture
from twominds.encoders.face import FaceEncoderConfig
from twominds.encoders.huggingface import backbone_config, load_backbone
from twominds.encoders.scene import SceneEncoderConfig
from twominds.encoders.text import TextEncoderConfig
from twominds.errors import ArtifactError
from twominds.fusion.catalog import build_fusion
from twominds.fusion.transformer import TransformerFusionConfig
from twominds.media.reader import MediaConfig
from twominds.recipes.catalog import find_recipe
from twominds.recipes.checkpoints import UNUSED, State, explained, fill, imported_card, renamed
from twominds.recipes.recipe import WHISPER
from twominds.records import Modality, View
from twominds.scoring.ensemble import save_ensemble
from twominds.scoring.members import EnsembleConfig, seed_name

_NAMES: dict[View, dict[str, str]] = {
    Modality.SCENE: {"videomae.": "backbone.", "fc_norm.": "head_norm.", "classifier.": "classifier."},
    Modality.FACE: {"feature_extractor.": "mlp.", "classifier.": "classifier."},
    Modality.AUDIO: {
        "encoder.input_proj.": "projection.",
        "encoder.stack.layers.": "temporal.mixers.",
        "encoder.stack.norms.": "temporal.norms.",
        "head.net.0.": "hidden.0.",
        "head.net.3.": "classifier.",
    },
    Modality.TEXT: {"bert.": "backbone.", "fc.": "mlp.0.", "fc2.": "classifier."},
}
"""What the authors' names start with, and ours."""

_FUSION_NAMES: dict[str, str] = {
    **{f"proj.{modality}.proj.": f"projectors.by_modality.{modality}." for modality in Modality},
    "exchange.mod_emb": "modality_embedding",
    "exchange.cls_token": "cls",
    "exchange.encoder.layers.": "layers.",
    "exchange.out_norm.": "norm.",
    "classifier.": "classifier.",
    "proto.P": "prototype_head.prototypes",
}


def import_encoder(uri: str, view: View, file: Path, store: BackboneStore) -> Card:
    """Turns the authors' checkpoint of one view into an encoder artifact at `uri`; returns its card.

    Args:
        uri: Folder of the artifact.
        view: The view whose encoder it is.
        file: A state dict, or a checkpoint with one in it: `torch.save` or safetensors.
        store: The bundle that the encoder will run with: the backbones whose features it takes, and for scene and text
            the architecture that the file fills.

    Raises:
        ArtifactError: the file has other tensors than that encoder.
        BackboneError: the file is not plain weights, or the bundle lacks a backbone.
    """
    recipe, media = find_recipe("leya"), _media()
    state = {name: tensor.float() for name, tensor in read_state_dict(file).items() if not name.endswith(UNUSED)}
    names, what = _NAMES[view], f"{file} is not LEYA's {view} encoder"
    tensors = renamed(state, names)
    with explained(what, names):
        config, architecture = _READERS[view](tensors)
    if isinstance(config, SceneEncoderConfig | TextEncoderConfig):
        architecture = {"backbone": backbone_config(load_backbone(store, config.backbone))}
    encoder = ENCODERS[type(config)].from_architecture(
        config, num_outputs=recipe.task.num_outputs, architecture=architecture
    )
    fill(encoder, tensors, names, what)
    roles = [r for r in replace(recipe, media=media).frozen_roles([view]) if r != WHISPER or store.has(r)]
    card = replace(
        imported_card("encoder", recipe, [file], "validation+test"),
        config={"features": to_json(recipe.features), "media": to_json(media)},
        backbones=tuple(used_backbone(store, role) for role in roles),
    )
    return save_encoder(uri, encoder, {**recipe.encoders, view: config}, card)


def import_ensemble(uri: str, files: Sequence[Path], encoders: Mapping[View, str]) -> Card:
    """Turns the authors' fusion checkpoints into an ensemble artifact at `uri`; returns its card.

    Which seed made which file is not known: they are numbered from 1 in their order.

    Args:
        uri: Folder of the artifact.
        files: One checkpoint (`model_state` and `model_cfg`) per seed model.
        encoders: The artifact of each modality's imported encoder, copied into the ensemble.

    Raises:
        ArtifactError: a file is another kind of fusion, or does not fit its config, the other files or the encoders.
        BackboneError: a file is not plain values.
    """
    recipe = find_recipe("leya")
    read = [_read_fusion(file) for file in files]
    config, dims = read[0].config, read[0].dims
    for file, other in zip(files, read, strict=True):
        if (other.config, other.dims) != (config, dims):
            raise ArtifactError(f"{file} is a model of another configuration than {files[0]}: they make no ensemble.")
    for modality, dim in dims.items():
        if modality not in encoders:
            raise ArtifactError(f"{files[0]} takes the modality {modality}, of which no encoder is given.")
        made = load_encoder(encoders[modality])[0].embedding_dim
        if made != dim:
            raise ArtifactError(f"{files[0]} takes {modality} embeddings of {dim} values, the encoder makes {made}.")
    ensemble = EnsembleConfig(fusion=config, inputs="emb", views=tuple(dims), media=_media())
    states = {seed_name(seed): model.tensors for seed, model in enumerate(read, start=1)}
    card = imported_card("ensemble", recipe, files, "validation+test")
    return save_ensemble(uri, states, ensemble, dims=dims, encoders=encoders, card=card)


def _media() -> MediaConfig:
    """As the public code reads videos: the scene is cropped, and full frames stand in for faces that are not found."""
    return replace(find_recipe("leya").media, scene_fit="crop", min_face_frames=0)


def _scene(state: State) -> tuple[AnyEncoderConfig, Architecture]:
    return SceneEncoderConfig(head_norm="head_norm.weight" in state), {}


def _face(state: State) -> tuple[AnyEncoderConfig, Architecture]:
    hidden_dim, statistics = state["mlp.0.weight"].shape
    config = FaceEncoderConfig(hidden_dim=hidden_dim, embedding_dim=len(state["mlp.4.weight"]))
    return config, {"input_dim": statistics // 2}


def _audio(state: State) -> tuple[AnyEncoderConfig, Architecture]:
    hidden_dim, input_dim = state["projection.weight"].shape
    inner, state_dim = state["temporal.mixers.0.A_log"].shape
    config = AudioEncoderConfig(
        hidden_dim=hidden_dim,
        num_layers=sum(name.startswith("temporal.norms.") and name.endswith(".weight") for name in state),
        state_dim=state_dim,
        conv_kernel=state["temporal.mixers.0.conv1d.weight"].shape[2],
        expand=inner // hidden_dim,
        head_hidden_dim=len(state["hidden.0.weight"]),
    )
    return config, {"input_dim": input_dim}


def _text(state: State) -> tuple[AnyEncoderConfig, Architecture]:
    config = TextEncoderConfig(hidden_dims=(len(state["mlp.0.weight"]),), activation="none", dropout=0.2)
    if len(state["classifier.weight"]) == 1:  # sigmoid(z) is softmax([0, z])
        for name in ("classifier.weight", "classifier.bias"):
            state[name] = torch.cat([torch.zeros_like(state[name]), state[name]])
    return config, {}


_READERS: dict[View, Callable[[State], tuple[AnyEncoderConfig, Architecture]]] = {
    Modality.SCENE: _scene,
    Modality.FACE: _face,
    Modality.AUDIO: _audio,
    Modality.TEXT: _text,
}
"""What an encoder's shapes say of its config and its input; each puts right what the names alone don't."""


@dataclass(frozen=True)
class _FusionFile:
    config: TransformerFusionConfig
    dims: dict[View, int]
    tensors: State


def _read_fusion(file: Path) -> _FusionFile:
    settings = read_checkpoint(file).get("model_cfg")
    if not isinstance(settings, Mapping):
        raise ArtifactError(f"{file} has no `model_cfg`: tensors alone don't say the heads and the modalities' order.")
    cfg = cast("Mapping[str, Any]", settings)
    if (kind := (cfg.get("fusion"), cfg.get("input_type"))) != ("exchange_transformer", "emb"):
        raise ArtifactError(f"{file} is a fusion {kind[0]!r} of {kind[1]!r}, not an 'exchange_transformer' of 'emb'.")
    names, what = _FUSION_NAMES, f"{file} is not LEYA's fusion"
    classes = find_recipe("leya").task.num_outputs
    config = TransformerFusionConfig(  # what a file leaves out has the public code's default
        hidden_dim=int(cfg.get("d_model", 256)),
        dropout=float(cfg.get("drop", 0.1)),
        num_layers=int(cfg.get("x_layers", 2)),
        num_heads=int(cfg.get("x_heads", 4)),
        feedforward_factor=int(cfg.get("x_ff_mult", 4)),
        use_cls=bool(cfg.get("x_use_cls", True)),
        prototypes_per_class=int(cfg.get("num_prototypes", 4)) if cfg.get("use_prototypes") else 0,
        prototype_temperature=float(cfg.get("proto_tau", 0.07)),
    )
    tensors = renamed({name: tensor.float() for name, tensor in read_state_dict(file).items()}, names)
    with explained(what, names):
        order = [Modality(name) for name in cfg["modalities"]]
        present = [modality for modality in Modality if modality in order]
        embedding = tensors["modality_embedding"].reshape(-1, config.hidden_dim)
        if config.use_cls:  # theirs adds an embedding of its own to [CLS]
            tensors["cls"] = tensors["cls"].flatten() + embedding[0]
            embedding = embedding[1:]
        tensors["modality_embedding"] = embedding[[order.index(modality) for modality in present]]
        dims: dict[View, int] = {
            modality: tensors[f"projectors.by_modality.{modality}.0.weight"].shape[1] for modality in present
        }
        if config.prototypes_per_class:
            prototypes = tensors["prototype_head.prototypes"]
            tensors["prototype_head.prototypes"] = prototypes.reshape(classes, -1, config.hidden_dim)
    fill(build_fusion(config, dims=dims, num_outputs=classes), tensors, names, what)
    return _FusionFile(config, dims, tensors)

"""ConflictAwareAH's published weights as artifacts: `best_model.pt` of the authors' model card.

The names are those of a declared fork of their code (github.com/Luo-Eleven/MDT-AH); the file itself was not to be had
here. It is read without unpickling anything. It holds VideoMAE's weights, whose licence is not commercial. The paper
says that validation chose them; the fork's own settings choose on the public test split.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

import torch

from twominds.artifacts import Card, to_json
from twominds.backbones import BackboneStore
from twominds.backbones.state_dicts import read_checkpoint, read_state_dict
from twominds.encoders.artifact import save_encoder, used_backbone
from twominds.encoders.attended import AttendedEncoder, AttendedEncoderConfig
from twominds.encoders.huggingface import backbone_config, load_backbone
from twominds.errors import ArtifactError
from twominds.fusion.catalog import build_fusion
from twominds.fusion.conflict import ConflictFusionConfig, Form
from twominds.recipes.catalog import find_recipe
from twominds.recipes.checkpoints import UNUSED, State, explained, fill, imported_card, renamed
from twominds.recipes.conflict_aware import AUDIO, FACE, TEXT, TEXT_BLEND, VIEWS, above, with_windows
from twominds.recipes.recipe import WHISPER, Recipe
from twominds.recipes.stages import TrainJointly
from twominds.records import View
from twominds.scoring.decision import Threshold
from twominds.scoring.ensemble import save_ensemble
from twominds.scoring.members import EnsembleConfig, Member, seed_name, view_member, view_state

_THEIRS: Mapping[View, str] = {FACE: "video", AUDIO: "audio", TEXT: "text"}
"""What the authors call a view."""

_FUSIONS: Mapping[str, Form] = {"fusion_transformer.": "tokens", "temporal_transformer.": "concat"}
"""What the names of the two Transformers begin with."""


WINDOWS = 5
"""How many windows of faces and sound the published system takes the mean over (section 4.3)."""


@dataclass(frozen=True, kw_only=True)
class _Checkpoint:
    state: State
    config: ConflictFusionConfig
    blend: float
    threshold: float


def import_checkpoint(uri: str, file: Path, store: BackboneStore, *, windows: int = WINDOWS) -> Card:
    """Turns the authors' checkpoint into three encoders and an ensemble; returns the ensemble's card.

    Args:
        uri: Folder of `encoders/<view>` and `ensemble`.
        file: `torch.save` of a dictionary with `model`, `best_thresh` and `args`.
        store: The bundle, for the architecture of the three backbones.
        windows: How many stretches of faces and sound are looked at where a clip is scored.

    Raises:
        ArtifactError: the file has other tensors than that system.
        ConfigError: there are no windows.
        BackboneError: the file is not plain weights, or the bundle lacks a backbone.
    """
    read, what = _read(file), f"{file} is not ConflictAwareAH"
    recipe = with_windows(_recipe(read), windows)
    encoders: dict[View, str] = {view: f"{uri}/encoders/{view}" for view in VIEWS}
    parts: dict[View, State] = {view: {} for view in VIEWS}
    rest: State = {}
    for name, tensor in read.state.items():
        view = next((view for view in VIEWS if name.startswith(f"{_THEIRS[view]}_")), None)
        (rest if view is None else parts[view])[name] = tensor
    for view in VIEWS:
        encoder = _encoder(view, parts[view], recipe, store, what)
        roles = [role for role in recipe.frozen_roles([view]) if role != WHISPER or store.has(role)]
        card = replace(
            imported_card("encoder", recipe, [file], "validation"),
            config={"features": to_json(recipe.features), "media": to_json(recipe.media)},
            backbones=tuple(used_backbone(store, role) for role in roles),
        )
        save_encoder(encoders[view], encoder, recipe.encoders, card)
    names = {**{f"{start}layers.": "layers." for start in _FUSIONS}, "classifier.": "head."}
    tensors = renamed(rest, names)
    dims = dict.fromkeys(VIEWS, read.config.hidden_dim)
    fusion = build_fusion(read.config, dims=dims, num_outputs=recipe.task.num_outputs)
    fill(fusion, tensors, names, what)
    name = seed_name(1)  # nobody knows which
    config = EnsembleConfig(
        fusion=read.config,
        views=VIEWS,
        media=recipe.media,
        decision=recipe.decision,
        members=(Member(name=name, weight=1 - read.blend), view_member(TEXT, read.blend)),
    )
    states = {name: fusion.state_dict(), TEXT: view_state(TEXT, recipe.task.num_outputs)}
    card = imported_card("ensemble", recipe, [file], "validation")
    return save_ensemble(f"{uri}/ensemble", states, config, dims=dims, encoders=encoders, card=card)


def _read(file: Path) -> _Checkpoint:
    content, what = read_checkpoint(file), f"{file} is not ConflictAwareAH"
    state = {
        name.removeprefix("module."): tensor.float()
        for name, tensor in read_state_dict(file).items()
        if not name.endswith(UNUSED)
    }
    prefix = next((start for start in _FUSIONS if any(name.startswith(start) for name in state)), None)
    if prefix is None:
        raise ArtifactError(f"{what}: it has no fusion_transformer and no temporal_transformer.")
    form = _FUSIONS[prefix]

    def setting(name: str, default: float) -> float:
        """Of the checkpoint, or of the command line that it was trained by."""
        given = content.get(name, args.get(name, default))
        if not isinstance(given, int | float):
            raise ArtifactError(f"{what}: {name} is {given!r}, not a number.")
        return float(given)

    found = content.get("args")
    args = cast("Mapping[str, object]", found if isinstance(found, Mapping) else {})
    with explained(what, {}):
        dim, width = len(state["text_proj.weight"]), len(state["classifier.0.weight"])
        layers = {name.split(".")[2] for name in state if name.startswith(tuple(_FUSIONS))}
        token = dim if form == "tokens" else width
        config = ConflictFusionConfig(
            hidden_dim=dim,
            head_dim=len(state["classifier.1.weight"]),
            form=form,
            conflict=width > len(VIEWS) * dim,
            project=False,
            one_logit=True,
            dropout=0.0,
            num_layers=len(layers),
            num_heads=int(setting("num_heads", 8)),
            feedforward_factor=len(state[f"{prefix}layers.0.linear1.weight"]) // token,
        )
    blend, threshold = setting("text_blend", TEXT_BLEND), setting("best_thresh", 0.5)
    return _Checkpoint(state=state, config=config, blend=blend, threshold=threshold)


def _recipe(read: _Checkpoint) -> Recipe:
    """The published system as the file has it."""
    recipe = find_recipe("conflict-aware")
    (stage,) = recipe.stages
    assert isinstance(stage, TrainJointly)
    head_dim = len(read.state["text_head.1.weight"]) if "text_head.1.weight" in read.state else 512
    encoders = {
        view: replace(cast("AttendedEncoderConfig", recipe.encoders[view]), head_dim=head_dim) for view in VIEWS
    }
    return replace(
        recipe,
        encoders=encoders,
        fusion=replace(recipe.fusion, model=read.config, seeds=(1,)),
        stages=(replace(stage, blend={TEXT: read.blend}),),
        decision=recipe.decision.with_step(Threshold(value=above(read.threshold))),
    )


def _encoder(view: View, state: State, recipe: Recipe, store: BackboneStore, what: str) -> AttendedEncoder:
    """One branch, filled; only the text's has a head that was trained."""
    theirs, config = _THEIRS[view], cast("AttendedEncoderConfig", recipe.encoders[view])
    names = {
        f"{theirs}_encoder.": "backbone.",
        f"{theirs}_proj.": "projection.",
        f"{theirs}_pool.": "pooling.",
        f"{theirs}_head.": "classifier.",
    }
    architecture = {"backbone": backbone_config(load_backbone(store, config.backbone))}
    encoder = AttendedEncoder.from_architecture(config, num_outputs=recipe.task.num_outputs, architecture=architecture)
    encoder.view, encoder.answers, encoder.output = view, view == TEXT, recipe.task.output
    tensors = renamed(state, names)
    if not encoder.answers:
        tensors |= {
            name: torch.zeros_like(tensor)
            for name, tensor in encoder.state_dict().items()
            if name.startswith("classifier.")
        }
    fill(encoder, tensors, names, what)
    return encoder

"""Trained encoders on disk: the artifact's card says how to build one, its tensors fill it."""

from dataclasses import replace
from typing import Any

from twominds import artifacts, model_card
from twominds.artifacts import Card, UsedBackbone, fingerprint
from twominds.backbones import BackboneStore
from twominds.encoders.catalog import ENCODERS, AnyEncoderConfig, EncodersConfig, encoders_from_json
from twominds.encoders.encoder import Encoder
from twominds.errors import ArtifactError, BackboneError
from twominds.records import View


def used_backbone(store: BackboneStore, role: str) -> UsedBackbone:
    """What a card says of a backbone of the bundle.

    Raises:
        BackboneError: the bundle lacks it.
    """
    entry = store.entry(role)
    return UsedBackbone(
        role=role,
        hub_id=entry.hub_id,
        revision=entry.revision,
        licence=entry.licence,
        weights=entry.weights,
        digest=fingerprint(dict(entry.sha256)),
    )


def check_backbones(card: Card, store: BackboneStore) -> None:
    """Refuses a bundle with other weights than those that the artifact was trained on: its scores would mean nothing.

    Raises:
        BackboneError: names the role that is missing or another, and where both came from; or the file of the bundle
            that is not its manifest's.
    """
    for trained_on in card.backbones:
        here = used_backbone(store, trained_on.role)
        store.check(trained_on.role)
        if trained_on.digest and here.digest != trained_on.digest:
            raise BackboneError(
                f"The bundle at {store.uri} has other weights for {trained_on.role} ({here.weights}, {here.revision}) "
                f"than artifact {card.artifact_id} was trained on ({trained_on.weights}, {trained_on.revision}). "
                "Give the bundle that it was trained with."
            )


def save_encoder(uri: str, encoder: Encoder, config: EncodersConfig, card: Card) -> Card:
    """Writes an encoder, with its model card, and returns its completed card.

    Args:
        uri: Folder of the artifact.
        encoder: The trained model.
        config: The configs it was built from (its own view's counts).
        card: What is known of its training; `config` may hold further sections (`features`, `media`), `encoders` and
            the architecture are filled in here.
    """
    sections: dict[str, Any] = {**card.config, "encoders": artifacts.to_json(config)}
    parameters = sum(p.numel() for p in encoder.parameters() if p.requires_grad)  # that were trained; none of trees
    architecture = {"modality": str(encoder.view), "encoder": encoder.architecture, "parameters": parameters}
    if not encoder.answers:
        architecture["answers"] = False
    return model_card.save(uri, encoder.state_dict(), replace(card, config=sections, architecture=architecture))


def save_renamed(uri: str, target: str, view: View) -> Card:
    """The encoder at `uri` as that of another view of its modality: an ensemble may have several on the same features.

    Raises:
        ArtifactError: there is no complete artifact, or it was changed since it was saved.
    """
    card, _ = artifacts.verified(uri)
    own = card.architecture["modality"]
    config = {**card.config, **{of: {view: card.config[of][own]} for of in ("features", "encoders")}}
    renamed = replace(card, config=config, architecture={**card.architecture, "modality": view})
    return model_card.save(target, artifacts.load_tensors(uri), renamed)


def load_encoder(uri: str, config: AnyEncoderConfig | None = None) -> tuple[Encoder, Card]:
    """The encoder at `uri`, in eval mode on the CPU, and its card.

    Args:
        uri: Folder of the artifact.
        config: In the place of the artifact's own, with which it has the same tensors.

    Raises:
        ArtifactError: there is none, it is something else, or its tensors do not fit its card.
    """
    card = artifacts.read_card(uri)
    if card.kind != "encoder":
        raise ArtifactError(f"The artifact at {uri} is an {card.kind}, not an encoder.")
    view: View = card.architecture["modality"]  # what a view was called when each modality had one
    config = config or encoders_from_json(card.config["encoders"])[view]
    encoder = ENCODERS[type(config)].from_architecture(
        config, num_outputs=card.task.num_outputs, architecture=card.architecture["encoder"]
    )
    encoder.view, encoder.output = view, card.task.output
    encoder.answers = card.architecture.get("answers", True)
    try:
        encoder.load_state_dict(artifacts.load_tensors(uri))
    except RuntimeError as error:
        raise ArtifactError(f"The tensors at {uri} do not fit their card: {error}") from error
    return encoder.eval(), card

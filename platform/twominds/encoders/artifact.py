"""Trained encoders on disk: the artifact's card says how to build one, its tensors fill it."""

from dataclasses import replace
from typing import Any

from twominds import artifacts
from twominds.artifacts import Card
from twominds.encoders.catalog import ENCODERS, EncodersConfig
from twominds.encoders.encoder import Encoder
from twominds.errors import ArtifactError
from twominds.records import Modality


def save_encoder(uri: str, encoder: Encoder, config: EncodersConfig, card: Card) -> Card:
    """Writes an encoder and returns its completed card.

    Args:
        uri: Folder of the artifact.
        encoder: The trained model.
        config: The configs it was built from (its own modality's counts).
        card: What is known of its training; `config` may hold further sections (`features`, `media`), `encoders` and
            the architecture are filled in here.
    """
    sections: dict[str, Any] = {**card.config, "encoders": artifacts.to_json(config)}
    architecture = {"modality": str(encoder.modality), "encoder": encoder.architecture}
    return artifacts.save(uri, encoder.state_dict(), replace(card, config=sections, architecture=architecture))


def load_encoder(uri: str) -> tuple[Encoder, Card]:
    """The encoder at `uri`, in eval mode on the CPU, and its card.

    Raises:
        ArtifactError: there is none, it is something else, or its tensors do not fit its card.
    """
    card = artifacts.read_card(uri)
    if card.kind != "encoder":
        raise ArtifactError(f"The artifact at {uri} is an {card.kind}, not an encoder.")
    modality = Modality(card.architecture["modality"])
    config = artifacts.from_json(EncodersConfig, card.config["encoders"]).of(modality)
    encoder = ENCODERS[modality].from_architecture(
        config, num_classes=card.task.num_classes, architecture=card.architecture["encoder"]
    )
    try:
        encoder.load_state_dict(artifacts.load_tensors(uri))
    except RuntimeError as error:
        raise ArtifactError(f"The tensors at {uri} do not fit their card: {error}") from error
    return encoder.eval(), card

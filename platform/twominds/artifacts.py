"""Anything trained, saved and loaded: safetensors beside a JSON card that says what it is and where it came from.

An artifact is a folder (local or `s3://`): `model.safetensors` and `card.json`. The card is written last, so a folder
with a card is complete; its id is a digest of both, and what has another digest is not loaded. Nothing is ever
unpickled.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any, Literal, TypeVar, cast

from pydantic import TypeAdapter, ValidationError
from upath import UPath

from twominds.errors import ArtifactError
from twominds.records import Modality, View, modality_of
from twominds.storage import write_whole
from twominds.tasks import Task

if TYPE_CHECKING:
    from torch import Tensor

FORMAT_VERSION = 1
CARD = "card.json"
TENSORS = "model.safetensors"
RECORDED_PACKAGES = (
    "twominds",
    "torch",
    "torchvision",
    "transformers",
    "timm",
    "ultralytics",
    "av",
    "numpy",
    "scikit-learn",
    "lightgbm",
    "catboost",
    "ray",
)

_RETIRED = frozenset({"decoder_threads"})
"""Settings that older artifacts and folders hold and that never changed a result: passed over."""

Weights = Literal["published", "debug"]
T = TypeVar("T")


def to_json(value: object) -> Any:
    """A config dataclass as plain JSON values (dictionaries, lists, numbers, strings)."""
    return TypeAdapter[object](type(value)).dump_python(value, mode="json")


def from_json(kind: type[T], value: object, path: str = "") -> T:
    """A config dataclass of type `kind` back from `to_json`; unknown or ill-typed fields are an error.

    Args:
        kind: The class of the config.
        value: What `to_json` made of one, read back from JSON.
        path: Where in a larger one it stands, with a dot at its end, for what the error says.

    Raises:
        ArtifactError: the value does not fit the dataclass.
    """
    value = _of_today(value)
    try:
        config = TypeAdapter(kind).validate_python(value)
    except ValidationError as error:
        raise ArtifactError(f"Not a {kind.__name__}: {error}") from error
    # Plain dataclasses can't be told to forbid what they do not know, and a misspelt setting must not be dropped.
    if unknown := list(_unknown(value, to_json(config), path)):
        raise ArtifactError(f"Not a {kind.__name__}: it has no {', '.join(unknown)}.")
    return config


def config_from_json(configs: Mapping[Modality, Sequence[type[T]]], view: View, value: Mapping[str, Any]) -> T:
    """One view's settings back from `to_json`.

    Args:
        configs: The classes of each modality's settings, told apart by their `kind`; the first may come without.
        view: The view that the settings are of.
        value: What `to_json` made of them, read back from JSON.

    Raises:
        ArtifactError: there is no such view or kind, or a setting is not one of it.
    """
    try:
        known = configs[modality_of(view)]
    except ValueError as error:
        raise ArtifactError(f"There is no view {view!r}: a view begins with {', '.join(Modality)}.") from error
    kinds = {getattr(config, "kind", None): config for config in known}
    kind = value.get("kind", getattr(known[0], "kind", None))
    if kind not in kinds:
        raise ArtifactError(f"The settings of {view} are of the kind {kind!r}, which this version does not know.")
    return from_json(kinds[kind], value, f"{view}.")


_RENAMED = {
    f"{of}_mf1{part}": f"{of}_score{part}" for of in ("validation", "selection") for part in ("", "_mean", "_std")
}
"""What older artifacts, searches and studies call what is now named after no one metric."""


def _of_today(value: object) -> object:
    """JSON of an older version in the words of this one; what it does not know it leaves as it is."""
    if isinstance(value, Mapping):
        items = {
            _RENAMED.get(name, name): _of_today(inner) for name, inner in cast("Mapping[str, object]", value).items()
        }
        if items.keys() >= {"fusion", "modalities"}:  # an ensemble, when each modality had one view
            items["views"] = items.pop("modalities")
        if items.keys() == {"threshold", "temperature", "bias", "abstain_band"}:  # a decision, before it had steps
            return {
                "steps": [
                    {"kind": "calibrate", "temperature": items["temperature"], "bias": items["bias"]},
                    {"kind": "threshold", "value": items["threshold"]},
                    {"kind": "abstain", "band": items["abstain_band"]},
                ]
            }
        if items.keys() == {"name", "classes"}:  # a task, when all were of whole clips
            return {"name": items["name"], "output": {"names": items["classes"]}}
        return items
    if isinstance(value, list):
        return [_of_today(inner) for inner in cast("list[object]", value)]
    return value


def _unknown(value: object, known: object, path: str = "") -> Iterator[str]:
    """Dotted names in the JSON `value` that are not in `known`."""
    if isinstance(value, Mapping) and isinstance(known, Mapping):
        known_items = cast("Mapping[str, object]", known)
        for name, inner in cast("Mapping[str, object]", value).items():
            if name in known_items:
                yield from _unknown(inner, known_items[name], f"{path}{name}.")
            elif name not in _RETIRED:
                yield f"{path}{name}"
    elif isinstance(value, list | tuple) and isinstance(known, list):
        for inner, known_inner in zip(cast("Sequence[object]", value), cast("list[object]", known), strict=False):
            yield from _unknown(inner, known_inner, path)


def fingerprint(*values: object) -> str:
    """12 hexadecimal digits that are the same for the same JSON values."""
    text = json.dumps(values, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def installed_versions() -> dict[str, str]:
    """Versions of the packages that a result depends on."""
    found: dict[str, str] = {}
    for package in RECORDED_PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


@dataclass(frozen=True, kw_only=True)
class UsedBackbone:
    """A pre-trained model behind an artifact."""

    role: str
    hub_id: str | None
    revision: str
    licence: str
    weights: Weights
    digest: str = ""
    """Digest of its files: who runs the artifact must have the same ones."""


@dataclass(frozen=True, kw_only=True)
class Card:
    """What an artifact is: enough to rebuild it, to defend its scores and to know its licences."""

    kind: Literal["encoder", "ensemble"]
    artifact_id: str = ""
    """Digest of tensors and config; filled in by `save`."""
    task: Task
    recipe: str
    config: dict[str, Any]
    """The typed configs as JSON; `from_json` reads them back."""
    architecture: dict[str, Any] = field(default_factory=dict[str, Any])
    """What the configs leave open and loading needs (backbone config, input dimensions)."""
    data: dict[str, Any] = field(default_factory=dict[str, Any])
    """Fingerprint of the training data and the number of clips per split."""
    metrics: dict[str, Any] = field(default_factory=dict[str, Any])
    selected_on: str = "validation"
    """The labels that chose this model: `validation`, or `validation+test` (the paper's protocol)."""
    seeds: tuple[int, ...] = ()
    backbones: tuple[UsedBackbone, ...] = ()
    versions: dict[str, str] = field(default_factory=installed_versions)
    created: str = field(default_factory=lambda: datetime.now(UTC).isoformat(timespec="seconds"))
    format_version: int = FORMAT_VERSION

    @property
    def weights(self) -> Weights:
        """`debug` when any backbone behind the artifact has seeded random weights."""
        return "debug" if any(backbone.weights == "debug" for backbone in self.backbones) else "published"


def save(uri: str, tensors: "Mapping[str, Tensor]", card: Card) -> Card:
    """Writes an artifact and returns its card with the id filled in.

    Raises:
        ArtifactError: the folder cannot be written.
    """
    import safetensors.torch  # brings torch with it, which processes that only write tables do without

    folder = UPath(uri)
    payload = safetensors.torch.save({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()})
    complete = replace(card, artifact_id=_digest(payload, card))
    try:
        # A half-written artifact must not look whole: the old card goes first, the new one comes last.
        (folder / CARD).unlink(missing_ok=True)
        write_whole(folder / TENSORS, payload)
        write_whole(folder / CARD, json.dumps(to_json(complete), indent=2).encode())
    except OSError as error:
        raise ArtifactError(f"Cannot write the artifact at {uri}: {error}") from error
    return complete


def _digest(payload: bytes, card: Card) -> str:
    """The id of an artifact with these tensors and this card: of what it answers, not of how well, when and by whom."""
    settings = json.dumps([card.config, card.architecture], sort_keys=True)
    return hashlib.sha256(payload + settings.encode()).hexdigest()[:12]


def read_card(uri: str) -> Card:
    """The card of the artifact at `uri`, as it stands there; `verified` compares it with the tensors.

    Raises:
        ArtifactError: there is no complete artifact, or it was written by a newer version.
    """
    path = UPath(uri) / CARD
    if not path.exists():
        raise ArtifactError(f"No artifact at {uri}: it has no {CARD}.")
    try:
        raw = json.loads(path.read_text())
    except json.JSONDecodeError as error:
        raise ArtifactError(f"{path} was cut off in mid-writing. Remove that folder, and make it again.") from error
    if raw.get("format_version", 0) > FORMAT_VERSION:
        raise ArtifactError(f"The artifact at {uri} was written by a newer version of twominds; update the package.")
    card = from_json(Card, raw)
    # As they stand there, whoever wrote them: the artifact's id is a digest of both.
    return replace(card, config=raw["config"], architecture=raw.get("architecture", {}))


def verified(uri: str) -> tuple[Card, bytes]:
    """The card of the artifact at `uri` and the bytes of its tensors, which are those that it was saved with.

    Raises:
        ArtifactError: there is no complete artifact, or tensors or settings were changed since.
    """
    card, path = read_card(uri), UPath(uri) / TENSORS
    if not path.exists():
        raise ArtifactError(f"The artifact at {uri} is incomplete: it has no {TENSORS}.")
    payload = path.read_bytes()
    if (found := _digest(payload, card)) != card.artifact_id:
        raise ArtifactError(
            f"{path} and the settings in its {CARD} are not what was saved as {card.artifact_id}: one of them was "
            f"changed or damaged (together they are {found}). Copy the artifact again, or make it again."
        )
    return card, payload


def load_tensors(uri: str) -> "dict[str, Tensor]":
    """The tensors of the artifact at `uri`, on the CPU.

    Raises:
        ArtifactError: as `verified`.
    """
    import safetensors.torch

    return safetensors.torch.load(verified(uri)[1])


def merge_backbones(cards: Sequence[Card]) -> tuple[UsedBackbone, ...]:
    """The backbones behind several artifacts, each named once."""
    return tuple({backbone.role: backbone for card in cards for backbone in card.backbones}.values())

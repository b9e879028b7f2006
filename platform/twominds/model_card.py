"""The model card that travels in each artifact, in the Hugging Face format, and the artifact as a hub repository.

`README.md` is made from `card.json` alone (and, when it is pushed, from test scores that a report measured): recipe,
data by fingerprint, metrics, licences, use and limits. It names no clip and no person.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, cast

from torch import Tensor
from upath import UPath

from twominds import artifacts
from twominds.artifacts import Card, UsedBackbone
from twominds.backbones import BACKBONES
from twominds.errors import ArtifactError
from twominds.storage import write_whole

if TYPE_CHECKING:
    from jinja2 import Template

README = "README.md"
ENCODERS = "encoders"
"""Folder of an ensemble with the artifacts of its encoders, by view."""

_PUSHED = "<!-- written by twominds --push-to: the next push replaces this folder -->"


@dataclass(frozen=True, kw_only=True)
class CardEntry:
    """One entry of a card's metrics or data."""

    name: str
    value: object
    interval: tuple[float, float] | None = None
    """Its bounds, where they were measured."""

    @property
    def shown(self) -> str:
        """A value as a cell of a table."""
        return f"{self.value:.4g}" if isinstance(self.value, float) else str(self.value).replace("|", "/")

    @property
    def split(self) -> str:
        """What it was measured on."""
        return "test" if "test" in self.name else "validation"

    @property
    def is_main(self) -> bool:
        """Whether it is of the task's metric, which the model was chosen by."""
        name = self.name.partition(" / ")[0]
        return name.removesuffix("_mean").endswith("_score")

    @property
    def is_score(self) -> bool:
        """Whether it says how good the model is, rather than how it was made."""
        return self.interval is not None or "_score" in self.name


def metrics_of(found: Mapping[str, object], prefix: str = "") -> Iterator[CardEntry]:
    """The entries of nested metrics, one by one.

    A value with an interval is a `{"value": x, "interval": [low, high]}`, or a `NAME_interval` beside `NAME`.
    """
    for name, value in found.items():
        if name.endswith("_interval") and name.removesuffix("_interval") in found:
            continue
        label, interval = f"{prefix}{name}", found.get(f"{name}_interval")
        if isinstance(value, Mapping):
            inner = cast(Mapping[str, object], value)
            if "value" not in inner:
                yield from metrics_of(inner, f"{label} / ")
                continue
            value, interval = inner["value"], inner.get("interval")
        yield CardEntry(name=label, value=value, interval=_bounds(interval))


def is_non_commercial(backbone: UsedBackbone) -> bool:
    """Whether the backbone's licence forbids commercial use; random numbers of our own are bound by none."""
    known = BACKBONES.get(backbone.role)
    stated = "-NC" in backbone.licence.upper()
    return backbone.weights == "published" and (stated or (known is not None and known.non_commercial))


def is_agpl(backbone: UsedBackbone) -> bool:
    """Whether who offers the backbone over a network owes its users the source."""
    return "AGPL" in backbone.licence.upper()


def readme(card: Card, *, test_metrics: Mapping[str, object] | None = None) -> str:
    """The model card: Markdown below YAML front matter that the hub accepts.

    Args:
        card: The artifact's card.
        test_metrics: What a report measured after the model was chosen, on test and perhaps on validation; see
            `metrics_of`. None: nothing.
    """
    measured = [*metrics_of(card.metrics), *metrics_of(test_metrics or {})]
    metrics = {metric.name: metric for metric in measured}.values()  # of two, the report's, which has an interval
    scores = [metric for metric in metrics if metric.is_score]
    return _template().render(
        card=card,
        front_matter=_front_matter(card, scores),
        title=_title(card),
        data=[*metrics_of(card.data)],
        settings=[metric for metric in metrics if not metric.is_score],
        scores=scores,
        non_commercial=[b.role for b in card.backbones if is_non_commercial(b)],
        agpl=[b.role for b in card.backbones if is_agpl(b)],
    )


def save(uri: str, tensors: Mapping[str, Tensor], card: Card) -> Card:
    """`artifacts.save`, and the model card beside it.

    Raises:
        ArtifactError: the folder cannot be written.
    """
    complete = artifacts.save(uri, tensors, card)
    write_readme(uri, complete)
    return complete


def write_readme(uri: str, card: Card) -> None:
    """Writes the model card of the artifact at `uri`."""
    write_whole(UPath(uri) / README, readme(card).encode())


def copy_artifact(uri: str, target: str) -> None:
    """Copies an artifact's tensors and card, and makes its model card anew.

    Raises:
        ArtifactError: there is no complete artifact, or it was changed since it was saved.
    """
    _copy(uri, target, readme(artifacts.read_card(uri)))


def publish(uri: str, target: str, *, test_metrics: Mapping[str, object] | None = None) -> None:
    """Copies an artifact, with its encoders, into a folder that can be uploaded to a model hub as it is.

    The folder holds README.md, card.json and model.safetensors, the same per view in encoders/, and nothing else.
    It can be loaded and served like the artifact itself.

    Args:
        uri: Folder of the artifact.
        target: The folder: new, empty, or of an earlier push, which is replaced.
        test_metrics: What a report measured on test; see `metrics_of`.

    Raises:
        ArtifactError: there is no whole artifact, it was changed since, or the target holds something else.
    """
    (card, _), uri, target = artifacts.verified(uri), uri.rstrip("/"), target.rstrip("/")
    parts = [f"{ENCODERS}/{view}" for view in card.architecture.get("encoders", {})]
    for part in parts:
        artifacts.verified(f"{uri}/{part}")
    if f"{_absolute(uri)}/".startswith(f"{_absolute(target)}/"):
        raise ArtifactError(f"{target} holds the artifact itself: give another folder to push it to.")
    _clear(UPath(target))
    text = readme(card, test_metrics=test_metrics)
    _copy(uri, target, f"{text}\n{_PUSHED}\n")
    for part in parts:
        copy_artifact(f"{uri}/{part}", f"{target}/{part}")


def _front_matter(card: Card, scores: list[CardEntry]) -> str:
    from huggingface_hub.repocard_data import EvalResult, ModelCardData  # not at import: many only read artifacts

    restrictive = sorted({b.licence.lower() for b in card.backbones if is_non_commercial(b) or is_agpl(b)})
    data = card.data.get("embeddings") or card.data.get("features") or "see card.json"
    results = [
        EvalResult(
            task_type="video-classification",
            dataset_type="video",
            dataset_name=f"labelled clips ({data})",
            dataset_split=metric.split,
            metric_type="f1" if card.task.metric.endswith("f1") else card.task.metric,
            metric_name=metric.name,
            metric_value=round(float(metric.value), 4),
        )
        for metric in scores
        if metric.is_main and isinstance(metric.value, int | float)
    ]
    debug = ["debug-weights"] if card.weights == "debug" else []
    return ModelCardData(
        language="en",
        license="other",
        license_name="-and-".join(restrictive) or "that-of-the-backbones",
        license_link=README,
        library_name="twominds",
        tags=["ambivalence", "hesitancy", "affective-computing", card.kind, card.recipe, *debug],
        pipeline_tag="video-classification" if card.kind == "ensemble" else None,
        base_model=sorted({b.hub_id for b in card.backbones if b.hub_id}) or None,
        model_name=f"{card.recipe} {card.kind} {card.artifact_id}" if results else None,
        eval_results=results or None,
    ).to_yaml()


@cache
def _template() -> "Template":
    from jinja2 import Environment

    environment = Environment(trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True)
    return environment.from_string(Path(__file__).with_name("model_card.md.j2").read_text(encoding="utf-8"))


def _title(card: Card) -> str:
    if card.kind == "ensemble":
        return f"ensemble of {len(card.seeds)} fusion models over {', '.join(card.architecture.get('encoders', {}))}"
    return f"{card.architecture.get('modality', 'unimodal')} encoder"


def _bounds(interval: object) -> tuple[float, float] | None:
    if interval is None:
        return None
    low, high = cast("tuple[float, float]", interval)
    return float(low), float(high)


def _absolute(uri: str) -> str:
    return uri if "://" in uri else str(Path(uri).resolve())


def _clear(folder: UPath) -> None:
    """Removes an earlier push.

    Raises:
        ArtifactError: the folder holds anything else.
    """
    names = {path.name for path in folder.iterdir()} if folder.exists() else set[str]()
    if not names:
        return
    marked = README in names and (folder / README).read_text(encoding="utf-8").rstrip().endswith(_PUSHED)
    if not marked or names - {README, artifacts.CARD, artifacts.TENSORS, ENCODERS}:
        raise ArtifactError(f"{folder} holds something that is no earlier push: give a new or an empty folder.")
    folder.fs.rm(folder.path, recursive=True)


def _copy(uri: str, target: str, text: str) -> None:
    card, folder = UPath(uri) / artifacts.CARD, UPath(target)
    _, tensors = artifacts.verified(uri)
    (folder / artifacts.CARD).unlink(missing_ok=True)  # what is half overwritten must not look whole
    write_whole(folder / README, text.encode())  # first: a push that was cut off is known as one
    write_whole(folder / artifacts.TENSORS, tensors)
    write_whole(folder / artifacts.CARD, card.read_bytes())  # last, as in `artifacts.save`

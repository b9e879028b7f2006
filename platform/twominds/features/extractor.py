"""What the four extractors share: the protocol, absent clips, pooling over time."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Literal, Protocol

import numpy as np
import numpy.typing as npt
import torch

from twominds.records import PRESENT, ClipMedia, Features, FloatArray, Presence, Times, View, absent, modality_of

Precision = Literal["float32", "bfloat16"]
"""What matrix products are computed in; everything else, and the result, is float32."""

RGB = tuple[float, float, float]
"""A value for each of red, green and blue, on a scale from 0 to 1."""

IMAGENET_MEAN: RGB = (0.485, 0.456, 0.406)
IMAGENET_STD: RGB = (0.229, 0.224, 0.225)


class FeatureExtractor(Protocol):
    """Turns decoded clips into the features of one view with a frozen backbone.

    Whether features are `pooled` is said when an extractor is built: for scene and text nothing else needs the frozen
    backbone, which is then not even loaded.
    """

    view: View
    """Whose features they are."""

    def extract(self, media: Sequence[ClipMedia]) -> list[Features]:
        """Features of each clip, in order; a clip without the modality keeps its place, with the reason.

        A clip's features do not depend on what else is in `media` (to float32 rounding).
        """
        ...


def extract_present(
    media: Sequence[ClipMedia],
    view: View,
    missing: Callable[[ClipMedia], str],
    extract: Callable[[list[ClipMedia]], list[Features]],
) -> list[Features]:
    """Run `extract` on the clips that have the modality, and put the absent ones back in their places.

    All of them carry on the points of their clips, and the warnings, before their own.

    Args:
        media: Clips in any mixture.
        view: Whose modality decides, by `media.presence`.
        missing: Why a clip that is marked present can't be used after all, or "".
        extract: Features of clips that all have the modality.
    """
    presences: list[Presence] = []
    for clip in media:
        presence = clip.presence[modality_of(view)]
        reason = missing(clip) if presence.present else ""
        presences.append(absent(reason) if reason else presence)
    return extract_where(media, view, presences, extract)


def extract_where(
    media: Sequence[ClipMedia],
    view: View,
    presences: Sequence[Presence],
    extract: Callable[[list[ClipMedia]], list[Features]],
) -> list[Features]:
    """Features of the clips that have the view, in one call of `extract`, and absent ones of the others, in order.

    Args:
        media: The clips as they were read.
        view: The view that the features are of.
        presences: Whether each clip has the view, which need not be that of its modality (as in `extract_present`).
        extract: Makes the features of the clips that have it.
    """
    present = [clip for clip, presence in zip(media, presences, strict=True) if presence.present]
    extracted = iter(extract(present) if present else [])
    features = [
        next(extracted) if presence.present else Features(clip_id=clip.clip_id, view=view, presence=presence)
        for clip, presence in zip(media, presences, strict=True)
    ]
    return [
        replace(item, points_s=clip.points_s, warnings=(*clip.warnings, *item.warnings))
        for clip, item in zip(media, features, strict=True)
    ]


def present_features(
    clip: ClipMedia,
    view: View,
    *,
    values: npt.NDArray[Any],
    times_s: Times | None,
    rows: npt.NDArray[np.floating] | None,
    warnings: tuple[str, ...] = (),
) -> Features:
    """Features of a clip that has the modality; `rows` [T, D] are what is pooled over time, None where nothing is."""
    return Features(
        clip_id=clip.clip_id,
        view=view,
        presence=PRESENT,
        values=values,
        times_s=times_s,
        pooled=None if rows is None else mean_and_std(rows),
        warnings=warnings,
    )


def mean_and_std(rows: npt.NDArray[np.floating]) -> FloatArray:
    """[mean; population standard deviation] over the rows: [T, D] -> float32 [2 * D] (LEYA, eq. 2)."""
    exact = rows.astype(np.float64)
    return np.concatenate([exact.mean(axis=0), exact.std(axis=0)]).astype(np.float32)


def normalize_images(images: torch.Tensor, mean: RGB = IMAGENET_MEAN, std: RGB = IMAGENET_STD) -> torch.Tensor:
    """uint8 RGB [..., H, W, 3] -> float32 [..., 3, H, W] with `mean` and `std` per colour; ImageNet's by default."""
    means = torch.tensor(mean, device=images.device)[:, None, None]
    stds = torch.tensor(std, device=images.device)[:, None, None]
    # Moved as bytes, a quarter of what floats would be, and normalised in place.
    return images.movedim(-1, -3).contiguous().float().div_(255.0).sub_(means).div_(stds)


def autocast(device: str, precision: Precision) -> torch.autocast:
    """Mixed precision for a forward pass on `device`; does nothing for float32."""
    return torch.autocast(torch.device(device).type, dtype=torch.bfloat16, enabled=precision == "bfloat16")

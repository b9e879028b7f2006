"""Running a trained encoder: features in, embeddings out."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from twominds.encoders.encoder import Encoder, activated
from twominds.encoders.points import PointEncoder
from twominds.features.align import align
from twominds.features.extractor import Precision, autocast
from twominds.records import Embedding, Features, FloatArray, Times
from twominds.tasks import Intensities

POINTS_AT_ONCE = 4096
"""Points of a clip in one forward pass."""


def embed(
    encoder: Encoder,
    features: Sequence[Features],
    *,
    batch_size: int = 16,
    device: str = "cpu",
    precision: Precision = "float32",
) -> list[Embedding]:
    """One embedding per clip, in order; an absent clip stays absent, with its reason.

    An encoder that does not answer by itself gives vectors alone. One of whole clips (`Encoder.whole_clip`) says the
    same at each of a clip's points; one that looks at several stretches of a clip (`Encoder.seen`) gives a row of each.

    A clip's embedding does not depend on what else is in `features` (to float32 rounding). Clips of similar length
    share a batch, so little is computed on padding.

    Args:
        encoder: Moved to `device`; its training mode is left as it was.
        features: Features of the encoder's view, clip by clip.
        batch_size: Most clips in one forward pass; bounds memory.
        device: Where to compute.
        precision: `bfloat16` computes matrix products in it; probabilities then move by about 1e-2.
    """
    embeddings = [
        Embedding(
            clip_id=item.clip_id,
            view=item.view,
            presence=item.presence,
            points_s=item.points_s,
            warnings=item.warnings,
        )
        for item in features
    ]
    order = sorted((i for i, item in enumerate(features) if item.presence.present), key=lambda i: -_length(features[i]))
    was_training = encoder.training
    encoder.to(device).eval()
    try:
        for start in range(0, len(order), max(1, batch_size)):
            chosen = order[start : start + batch_size]
            batch = [features[i] for i in chosen]
            if isinstance(encoder, PointEncoder):
                for i in chosen:
                    embeddings[i] = _embed_points(encoder, features[i], device, precision)
                continue
            for i, embedding in zip(chosen, _embed_batch(encoder, batch, device, precision), strict=True):
                embeddings[i] = embedding
    finally:
        encoder.train(was_training)
    if not encoder.answers:
        return [replace(embedding, logits=None, probabilities=None) for embedding in embeddings]
    return embeddings


def _embed_points(encoder: PointEncoder, item: Features, device: str, precision: Precision) -> Embedding:
    """What the encoder says at each of a clip's points."""
    if encoder.config.between == "answers" and item.points_s is not None and item.times_s is not None:
        vectors, logits, probabilities = _between_answers(encoder, item, item.points_s, device, precision)
    else:
        vectors, logits, probabilities = _at_points(encoder, item, device, precision)
    return Embedding(
        clip_id=item.clip_id,
        view=item.view,
        presence=item.presence,
        vectors=vectors,
        logits=logits,
        probabilities=probabilities,
        points_s=item.points_s,
        pooled=item.pooled,
        warnings=item.warnings,
    )


def _between_answers(
    encoder: PointEncoder, item: Features, points_s: Times, device: str, precision: Precision
) -> list[FloatArray]:
    """Vectors, logits and probabilities at the points, from those at the rows' own times (HSEmotion, section 5)."""
    at_rows = _at_points(encoder, replace(item, points_s=item.times_s), device, precision)
    vectors, logits, probabilities = (align(rows, item.times_s, points_s, "linear") for rows in at_rows)
    if not isinstance(encoder.output, Intensities):
        logits = np.log(np.maximum(probabilities, np.finfo(np.float32).tiny))  # whose softmax they are
    return [vectors, logits, probabilities]


def _at_points(encoder: PointEncoder, item: Features, device: str, precision: Precision) -> list[FloatArray]:
    """Vectors, logits and probabilities at a clip's points, some thousands at a time: there may be an hour of them."""
    count = 1 if item.points_s is None else len(item.points_s)
    parts: list[list[FloatArray]] = []
    for start in range(0, count, POINTS_AT_ONCE):
        points = np.arange(start, min(start + POINTS_AT_ONCE, count))
        parts.append(_arrays(encoder, encoder.collate_points([item], [points], device), device, precision))
    return [np.concatenate(arrays) for arrays in zip(*parts, strict=True)]


def _embed_batch(encoder: Encoder, batch: Sequence[Features], device: str, precision: Precision) -> list[Embedding]:
    stretches = [encoder.seen(item) for item in batch]
    together = [stretch for of_clip in stretches for stretch in of_clip]
    parts = [
        _arrays(encoder, encoder.collate(together[start : start + len(batch)], device), device, precision)
        for start in range(0, len(together), len(batch))
    ]
    arrays = [np.concatenate(of_parts) for of_parts in zip(*parts, strict=True)]
    embeddings: list[Embedding] = []
    end = 0
    for item, of_item in zip(batch, stretches, strict=True):
        points_s = item.points_s if encoder.whole_clip else None
        count = 1 if points_s is None else len(points_s)
        own = slice(end, end := end + len(of_item))
        vectors, logits, probabilities = (np.repeat(array[own], count, axis=0) for array in arrays)
        embeddings.append(
            Embedding(
                clip_id=item.clip_id,
                view=item.view,
                presence=item.presence,
                vectors=vectors,
                logits=logits,
                probabilities=probabilities,
                points_s=points_s,
                pooled=item.pooled,
                warnings=item.warnings,
            )
        )
    return embeddings


def _arrays(encoder: Encoder, inputs: dict[str, Tensor], device: str, precision: Precision) -> list[FloatArray]:
    """Vectors, logits and probabilities (or intensities) of a batch."""
    with torch.inference_mode(), autocast(device, precision):
        output = encoder(inputs)
        logits = output.logits.float()
        probabilities = activated(logits, encoder.output) if encoder.output else logits.softmax(dim=-1)
        return [_numpy(tensor) for tensor in (output.embedding.float(), logits, probabilities)]


def _numpy(tensor: torch.Tensor) -> FloatArray:
    return tensor.cpu().numpy().astype(np.float32, copy=False)


def _length(features: Features) -> int:
    return 0 if features.values is None else len(features.values)

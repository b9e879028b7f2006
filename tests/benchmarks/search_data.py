"""The data of the search benchmark: embeddings with planted truth, in the sizes of BAH's, as of `jobs/embed.py`.

A modality's embedding is a few factors, turned into its space, and a little noise in every dimension:

    cue        one factor, in part the same in all modalities; the label is more likely the larger it is
    conflict   one factor that says nothing alone: scene's times text's, and face's times audio's, bear on the label
    person     ten factors, mostly the same in all clips of a participant, of larger variance than the cues
    clip       twelve more that mean nothing

    P(label = 1) = sigmoid(sum of weight * cue + weight * (conflict * conflict, of two pairs)); some are flipped
"""

import argparse
import json
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import torch
from torch import Tensor

from twominds import artifacts
from twominds.artifacts import Card, fingerprint, to_json
from twominds.fusion.batch import FusionInputs
from twominds.records import PRESENT, Clip, Embedding, Modality, Split, View, absent, clip_labels
from twominds.results import tables
from twominds.results.about import ABOUT, About
from twominds.tasks import AH_VIDEO

SEED = 2
CLIPS = {Split.TRAIN: 778, Split.VALIDATION: 124, Split.TEST: 525}
PARTICIPANTS = {Split.TRAIN: 164, Split.VALIDATION: 26, Split.TEST: 110}
DIMS: dict[View, int] = {Modality.SCENE: 768, Modality.FACE: 256, Modality.AUDIO: 128, Modality.TEXT: 128}

CUE_WEIGHT: dict[View, float] = {Modality.SCENE: 0.7, Modality.FACE: 0.9, Modality.AUDIO: 0.8, Modality.TEXT: 0.9}
SHARED = 0.3
"""How much of the cues' variance all modalities show alike."""
CUE_STD, CONFLICT_STD = 1.0, 2.5
"""In the embedding."""
CONFLICTS = ((Modality.SCENE, Modality.TEXT), (Modality.FACE, Modality.AUDIO))
CONFLICT_WEIGHT = 1.3
FLIPPED = 0.05
"""Share of labels."""
PERSON_FACTORS, CLIP_FACTORS = 10, 12
PERSON_STD, CLIP_STD = 1.6, 1.0
OWN = 0.8
"""How much of a person's factors' variance is the person's own; the rest changes from clip to clip."""
NOISE_STD = 0.15
"""Of each dimension."""
ABSENT: dict[View, float] = {Modality.SCENE: 0.0, Modality.FACE: 0.04, Modality.AUDIO: 0.02, Modality.TEXT: 0.03}
"""Share of clips without the modality."""

FloatArray = npt.NDArray[np.float32]


def draw(seed: int) -> list[tuple[Clip, dict[View, Embedding]]]:
    """The clips of all splits with their embeddings; no participant is in two splits."""
    rng = np.random.default_rng(seed)
    turn: dict[View, FloatArray] = {
        view: _orthonormal(rng, 2 + PERSON_FACTORS + CLIP_FACTORS, dim) for view, dim in DIMS.items()
    }
    return [clip for split in CLIPS for clip in _draw_split(rng, split, turn)]


def _draw_split(
    rng: np.random.Generator, split: Split, turn: dict[View, FloatArray]
) -> list[tuple[Clip, dict[View, Embedding]]]:
    clips, people = CLIPS[split], PARTICIPANTS[split]
    # Everybody is in one clip at least.
    person = np.sort(np.concatenate([np.arange(people), rng.integers(0, people, clips - people)]))
    shared = rng.standard_normal(clips)
    cue: dict[View, npt.NDArray[np.float64]] = {
        m: np.sqrt(SHARED) * shared + np.sqrt(1 - SHARED) * rng.standard_normal(clips) for m in Modality
    }
    conflict: dict[View, npt.NDArray[np.float64]] = {view: rng.standard_normal(clips) for view in Modality}
    evidence = sum(CUE_WEIGHT[view] * cue[view] for view in Modality)
    evidence += CONFLICT_WEIGHT * sum(conflict[one] * conflict[other] for one, other in CONFLICTS)
    labels = (rng.random(clips) < 1 / (1 + np.exp(-evidence))) ^ (rng.random(clips) < FLIPPED)
    vectors: dict[View, FloatArray] = {}
    there: dict[View, npt.NDArray[np.bool_]] = {}
    for view in Modality:
        dim = DIMS[view]
        own = rng.standard_normal((people, PERSON_FACTORS))[person]
        passing = rng.standard_normal((clips, PERSON_FACTORS))
        factors = [
            np.stack([CUE_STD * cue[view], CONFLICT_STD * conflict[view]], axis=1),
            PERSON_STD * (np.sqrt(OWN) * own + np.sqrt(1 - OWN) * passing),
            CLIP_STD * rng.standard_normal((clips, CLIP_FACTORS)),
        ]
        noise = NOISE_STD * rng.standard_normal((clips, dim))
        vectors[view] = (np.concatenate(factors, axis=1) @ turn[view] + noise).astype(np.float32)
        there[view] = rng.random(clips) >= ABSENT[view]
    drawn: list[tuple[Clip, dict[View, Embedding]]] = []
    for i in range(clips):
        participant = f"{split}-{person[i]:03}"
        clip = Clip(
            clip_id=f"{split}-{i:04}",
            video_uri="",
            split=split,
            labels=clip_labels(int(labels[i])),
            participant_id=participant,
        )
        embeddings: dict[View, Embedding] = {
            view: Embedding(clip_id=clip.clip_id, view=view, presence=PRESENT, vectors=np.atleast_2d(vectors[view][i]))
            if there[view][i]
            else Embedding(clip_id=clip.clip_id, view=view, presence=absent("It was drawn so."))
            for view in Modality
        }
        drawn.append((clip, embeddings))
    return drawn


def _orthonormal(rng: np.random.Generator, rows: int, dim: int) -> FloatArray:
    """[rows, dim]."""
    return np.linalg.qr(rng.standard_normal((dim, rows)))[0].T.astype(np.float32)


def write_search_data(root: Path, seed: int = SEED) -> None:
    """Writes `embeddings/` and stand-ins for `encoders/` below `root`: the search copies those beside the winner."""
    rows: list[tables.Row] = []
    for clip, embeddings in draw(seed):
        row = {name: value for name, value in tables.clip_to_row(clip).items() if name in tables.WITHOUT_WORDS}
        for embedding in embeddings.values():
            row |= tables.embedding_to_row(embedding)
        rows.append(row)
    fields: list[pa.Field[Any]] = [tables.CLIP_SCHEMA.field(name) for name in tables.WITHOUT_WORDS]
    fields += tables.embedding_fields(*Modality)
    for view in Modality:
        card = Card(kind="encoder", task=AH_VIDEO, recipe="leya", config={})
        artifacts.save(str(root / "encoders" / view), {"w": torch.zeros(1)}, card)
    folder = root / "embeddings"
    folder.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(rows, schema=pa.schema(fields)), folder / "all.parquet")
    about = About(recipe="leya", corpus="drawn", fingerprint=fingerprint(["search benchmark", seed]), models="none")
    (folder / ABOUT).write_text(json.dumps(to_json(about)))


def read_split(embeddings: Path, split: Split) -> tuple[FusionInputs, Tensor]:
    """Inputs of the fusion, zeros where a modality is absent, and labels [N] of one split."""
    chosen = cast("Any", [("split", "=", split.value)])
    table = pq.read_table(embeddings / "all.parquet", filters=chosen)
    tokens: dict[View, Tensor] = {}
    masks: list[Tensor] = []
    for view, dim in DIMS.items():
        present = torch.tensor(table.column(f"{view}_present").to_pylist())
        tokens[view] = torch.zeros(len(present), dim)
        # Rows without a vector leave nothing behind.
        flat: Any = pc.list_flatten(table.column(f"{view}_vector"))
        tokens[view][present] = torch.from_numpy(flat.to_numpy().reshape(-1, dim).copy())
        masks.append(present)
    labels = torch.tensor(table.column("label").to_pylist())
    return FusionInputs(tokens=tokens, mask=torch.stack(masks, dim=1)), labels


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Draw the data of the search benchmark.")
    parser.add_argument("root", type=Path)
    parser.add_argument("--seed", type=int, default=SEED)
    arguments = parser.parse_args()
    write_search_data(arguments.root, arguments.seed)

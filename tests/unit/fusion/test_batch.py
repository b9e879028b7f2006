from collections.abc import Mapping

import numpy as np
import pytest
import torch

from twominds.errors import ArtifactError, MissingInputError
from twominds.fusion.batch import InputKind, count_points, fusion_inputs
from twominds.records import PRESENT, Embedding, Modality, View, absent

FACE, TEXT = Modality.FACE, Modality.TEXT


def embedding(view: View, first: float, pooled: bool = True) -> Embedding:
    return Embedding(
        clip_id="a",
        view=view,
        presence=PRESENT,
        vectors=np.atleast_2d(np.array([first, 2, 3], dtype=np.float32)),
        logits=np.atleast_2d(np.array([-1, 1], dtype=np.float32)),
        probabilities=np.atleast_2d(np.array([0.25, 0.75], dtype=np.float32)),
        pooled=np.arange(4, dtype=np.float32) if pooled else None,
    )


def gone(view: View) -> Embedding:
    return Embedding(clip_id="a", view=view, presence=absent("no track"))


CLIPS: list[Mapping[View, Embedding]] = [
    {FACE: embedding(FACE, 7), TEXT: gone(TEXT)},
    {TEXT: embedding(TEXT, 9)},
    {FACE: gone(FACE), TEXT: gone(TEXT)},
]


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("emb", [7, 2, 3]),
        ("prob", [0.25, 0.75]),
        ("logits", [-1, 1]),
        ("emb+prob", [7, 2, 3, 0.25, 0.75]),
        ("pooled", [0, 1, 2, 3]),
    ],
)
def test_each_kind_takes_its_part(kind: InputKind, expected: list[float]) -> None:
    inputs = fusion_inputs(CLIPS, (FACE, TEXT), kind)
    assert inputs.tokens[FACE][0].tolist() == expected
    assert inputs.dims == {FACE: len(expected), TEXT: len(expected)}
    assert inputs.tokens[FACE].dtype == torch.float32


def test_absent_and_missing_are_masked() -> None:
    inputs = fusion_inputs(CLIPS, (TEXT, FACE), "emb")
    assert inputs.mask.tolist() == [[False, True], [True, False], [False, False]]
    assert inputs.any_present().tolist() == [True, True, False]
    assert list(inputs.tokens) == [TEXT, FACE]
    assert len(inputs) == 3


def test_select_by_indices_and_by_mask() -> None:
    inputs = fusion_inputs(CLIPS, (FACE, TEXT), "emb")
    chosen = inputs.select(torch.tensor([1, 0]))
    assert chosen.tokens[TEXT][0].tolist() == [9, 2, 3]
    assert chosen.mask.tolist() == [[False, True], [True, False]]
    assert len(inputs.select(inputs.any_present())) == 2


def test_dims_are_kept_where_a_modality_is_absent_everywhere() -> None:
    inputs = fusion_inputs(CLIPS[:1], (FACE, TEXT), "emb", {FACE: 3, TEXT: 5})
    assert inputs.dims == {FACE: 3, TEXT: 5}
    with pytest.raises(MissingInputError, match="text"):
        fusion_inputs(CLIPS[:1], (FACE, TEXT), "emb")


def test_no_clips_keep_their_shape() -> None:
    inputs = fusion_inputs([], (FACE, TEXT), "emb", {FACE: 3, TEXT: 5})
    assert inputs.mask.shape == (0, 2)
    assert inputs.tokens[TEXT].shape == (0, 5)


def test_a_part_that_is_not_there_is_an_error_not_a_zero() -> None:
    with pytest.raises(MissingInputError, match="pooled"):
        fusion_inputs([{FACE: embedding(FACE, 1, pooled=False)}], (FACE,), "pooled")


def test_embeddings_of_another_encoder_are_refused() -> None:
    with pytest.raises(ArtifactError, match="3 values where the fusion model takes 8"):
        fusion_inputs(CLIPS, (FACE,), "emb", {FACE: 8})


def of_points(view: View, vectors: list[list[float]]) -> Embedding:
    times_s = np.arange(len(vectors), dtype=np.float64)
    return Embedding(clip_id="a", view=view, presence=PRESENT, vectors=np.array(vectors, np.float32), points_s=times_s)


def test_the_points_of_all_clips_are_rows_clip_after_clip() -> None:
    views = ("face.effnet", "face.vit")
    clips: list[Mapping[View, Embedding]] = [
        {"face.effnet": of_points("face.effnet", [[1, 2], [3, 4], [5, 6]]), "face.vit": gone("face.vit")},
        {"face.effnet": gone("face.effnet"), "face.vit": of_points("face.vit", [[7], [8]])},
        {"face.effnet": of_points("face.effnet", [[9, 10]]), "face.vit": of_points("face.vit", [[11]])},
    ]
    inputs = fusion_inputs(clips, views, "emb")
    assert (len(inputs), inputs.dims) == (6, {"face.effnet": 2, "face.vit": 1})
    assert inputs.tokens["face.effnet"].tolist() == [[1, 2], [3, 4], [5, 6], [0, 0], [0, 0], [9, 10]]
    assert inputs.tokens["face.vit"].tolist() == [[0], [0], [0], [7], [8], [11]]
    assert inputs.mask.tolist() == [[True, False]] * 3 + [[False, True]] * 2 + [[True, True]]
    assert [count_points(clip) for clip in clips] == [3, 2, 1]
    alone = fusion_inputs(clips[1:2], views, "emb", inputs.dims)
    assert torch.equal(alone.tokens["face.vit"], inputs.tokens["face.vit"][3:5])

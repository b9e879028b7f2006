from collections.abc import Callable

import numpy as np
import pytest
import torch

from twominds.features.extractor import extract_present, mean_and_std, normalize_images
from twominds.records import PRESENT, ClipMedia, Features, Modality

MakeClip = Callable[..., ClipMedia]


def test_mean_and_population_std_by_hand() -> None:
    rows = np.array([[1.0, 10.0], [3.0, 10.0]], np.float32)
    np.testing.assert_allclose(mean_and_std(rows), [2.0, 10.0, 1.0, 0.0])
    assert mean_and_std(rows).dtype == np.float32


def test_one_row_has_no_spread() -> None:
    np.testing.assert_array_equal(mean_and_std(np.array([[5.0, -1.0]], np.float32)), [5.0, -1.0, 0.0, 0.0])


def test_the_std_of_nearly_equal_large_values_is_not_lost_to_rounding() -> None:
    rows = np.array([[4096.0], [4097.0]], np.float32).repeat(500, axis=0)
    np.testing.assert_allclose(mean_and_std(rows), [4096.5, 0.5], rtol=1e-6)


def test_imagenet_normalisation_by_hand() -> None:
    image = np.zeros((1, 2, 2, 3), np.uint8)
    image[..., 0], image[..., 1], image[..., 2] = 255, 128, 0
    normalized = normalize_images(torch.from_numpy(image))
    assert normalized.shape == (1, 3, 2, 2)
    expected = [(1.0 - 0.485) / 0.229, (128 / 255 - 0.456) / 0.224, (0.0 - 0.406) / 0.225]
    np.testing.assert_allclose(normalized[0, :, 1, 1].numpy(), expected, rtol=1e-6)


def test_absent_clips_keep_their_places_and_reasons(make_clip: MakeClip) -> None:
    seen: list[str] = []

    def extract(media: list[ClipMedia]) -> list[Features]:
        seen.extend(one.clip_id for one in media)
        return [Features(clip_id=one.clip_id, view=Modality.TEXT, presence=PRESENT) for one in media]

    media = [
        make_clip("a", transcript="x"),
        make_clip("b", missing=Modality.TEXT, transcript="x"),
        make_clip("c", transcript="x"),
        make_clip("d"),
    ]
    features = extract_present(media, Modality.TEXT, lambda one: "" if one.transcript else "no words", extract)
    assert seen == ["a", "c"]
    assert [one.clip_id for one in features] == ["a", "b", "c", "d"]
    assert [one.presence.reason for one in features] == ["", "left out on purpose", "", "no words"]


def test_without_any_present_clip_the_backbone_is_not_run(make_clip: MakeClip) -> None:
    def extract(media: list[ClipMedia]) -> list[Features]:
        pytest.fail("nothing to extract")

    media = [make_clip("a", missing=Modality.FACE)]
    assert len(extract_present(media, Modality.FACE, lambda _: "", extract)) == 1
    assert extract_present([], Modality.FACE, lambda _: "", extract) == []

"""The detector of drawn faces, through the media layer's own detector and the recipe's own rule."""

import numpy as np

from twominds.backbones import BackboneStore
from twominds.media.faces import YoloFaceDetector, largest_box
from twominds.records import FloatArray
from twominds.synthetic.weights.drawn import drawn_pictures


def overlap(first: FloatArray, second: FloatArray) -> float:
    """Intersection over union of two boxes."""
    width = min(first[2], second[2]) - max(first[0], second[0])
    height = min(first[3], second[3]) - max(first[1], second[1])
    shared = max(width, 0.0) * max(height, 0.0)
    areas = sum(float((box[2] - box[0]) * (box[3] - box[1])) for box in (first, second))
    return float(shared / (areas - shared))


def test_it_finds_drawn_faces_and_only_those(tiny_bundle: str) -> None:
    """Of the bundle of the tests, which is trained for a short while; `make_debug_models` does better by default."""
    detector = YoloFaceDetector(BackboneStore(uri=tiny_bundle).folder("detect.yolo_face"))
    rng = np.random.default_rng(1234)  # people and rooms that it never saw
    with_face = [picture for picture in drawn_pictures(rng, 60, faces=1) if len(picture[1])]
    found = detector.detect([image for image, _ in with_face])
    pairs = list(zip(found, (faces[0] for _, faces in with_face), strict=True))
    hits = [any(overlap(box, face) >= 0.5 for box in boxes) for boxes, face in pairs]
    largest = [(largest_box(boxes, 320, 240), face) for boxes, face in pairs]
    right = [box is not None and overlap(np.array(box, np.float32), face) >= 0.5 for box, face in largest]
    assert np.mean(hits) > 0.8
    assert np.mean(right) > 0.75
    empty = detector.detect([image for image, _ in drawn_pictures(rng, 30, faces=0)])
    assert np.mean([len(boxes) > 0 for boxes in empty]) < 0.15

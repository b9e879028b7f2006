"""A bundle of random weights without the detector, and a way to write clips down."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch

from twominds.backbones import BackboneStore
from twominds.records import PRESENT, ClipMedia, Modality, absent

MakeClip = Callable[..., ClipMedia]


@pytest.fixture(scope="session")
def store(tmp_path_factory: pytest.TempPathFactory) -> BackboneStore:
    from twominds.synthetic.weights import make_debug_models

    uri = str(tmp_path_factory.mktemp("features") / "models")
    make_debug_models(uri, seed=3, detector=False)
    return BackboneStore(uri=uri)


@pytest.fixture(scope="session")
def make_clip() -> MakeClip:
    """A clip with only the given parts; every modality counts as present but the `missing` one."""

    def make(clip_id: str = "clip", *, missing: Modality | None = None, **fields: Any) -> ClipMedia:
        parts: dict[str, Any] = {
            "duration_s": 1.0,
            "scene_frames": None,
            "face_crops": None,
            "face_detected": None,
            "audio": None,
            "transcript": None,
            "transcript_source": "",
            "presence": {m: absent("left out on purpose") if m == missing else PRESENT for m in Modality},
            **fields,
        }
        return ClipMedia(clip_id=clip_id, **parts)

    return make


@pytest.fixture
def one_thread() -> Iterator[None]:
    """For models so small that a second thread costs more than it does, above all on a busy machine."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)

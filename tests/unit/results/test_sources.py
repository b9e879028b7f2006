"""What a clip is made of is told without reading it: by size and time on a disk, by digest in an object store."""

import os
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import boto3
import numpy as np
import pytest
from moto.server import ThreadedMotoServer

from twominds.records import Clip, Source
from twominds.results.sources import with_sources


def source(clip: Clip, *, face_crops: bool = False) -> Source:
    (found,) = with_sources([clip], face_crops=face_crops)
    assert replace(found, source=None) == clip
    assert found.source is not None
    return found.source


@pytest.fixture
def clip(tmp_path: Path) -> Clip:
    (tmp_path / "a.mp4").write_bytes(b"video")
    return Clip(clip_id="a", video_uri=str(tmp_path / "a.mp4"), transcript="part of me")


def test_a_file_is_the_same_until_its_size_or_time_is_another(clip: Clip) -> None:
    path, before = Path(clip.video_uri), source(clip)
    assert source(clip) == before
    path.write_bytes(b"VIDEO")
    os.utime(path, ns=(1, 10**18))
    later = source(clip)
    assert later.video not in ("", before.video)
    path.write_bytes(b"another video")
    os.utime(path, ns=(1, 10**18))
    assert source(clip).video not in ("", later.video, before.video)
    path.unlink()
    assert source(clip) == replace(before, video="")


@pytest.mark.parametrize(
    "uri", ["rtsp://camera/1", "nosuchplace://a/b.mp4", f"/tmp/{'x' * 300}.mp4", "/dev/null/a.mp4"]
)
def test_what_cannot_be_looked_at_has_no_state(uri: str) -> None:
    assert source(Clip(clip_id="a", video_uri=uri)) == Source(video="", words="")


def test_words_are_a_digest_that_knows_none_from_empty(clip: Clip) -> None:
    said = [source(replace(clip, transcript=text)).words for text in ("part of me", "part of you", "", None)]
    assert len(set(said)) == 4
    assert said[3] == ""
    assert not any("part" in digest for digest in said)


def test_face_crops_belong_to_the_video_where_they_are_used(clip: Clip, tmp_path: Path) -> None:
    crops = tmp_path / "crops"
    crops.mkdir()
    (crops / "frame-1.jpg").write_bytes(b"face")
    clip = replace(clip, face_crops_uri=str(crops))
    plain, before = source(clip), source(clip, face_crops=True)
    (crops / "frame-1.jpg").write_bytes(b"another face")
    assert source(clip) == plain
    assert source(clip, face_crops=True).video != before.video
    Path(clip.video_uri).unlink()
    assert source(clip, face_crops=True).video == ""


def test_given_vectors_belong_to_the_video_where_they_are_used(clip: Clip) -> None:
    plain = source(clip)
    given = replace(clip, vectors={"x": np.ones(3, np.float32), "y": np.zeros(2, np.float32)})

    def video(clip: Clip, names: Sequence[str] | None) -> str:
        (found,) = with_sources([clip], vectors=names)
        assert found.source is not None
        assert found.source.words == plain.words
        return found.source.video

    assert video(clip, None) == video(given, ()) == video(given, ["z"]) == plain.video
    other = replace(given, vectors={**given.vectors, "y": np.ones(2, np.float32)})
    assert len({plain.video, video(given, None), video(other, None), video(given, ["x"])}) == 4
    assert video(given, ["x"]) == video(other, ["x"])
    assert video(given, ["y"]) != video(other, ["y"])
    Path(clip.video_uri).unlink()
    assert video(given, None) == ""


def test_an_object_store_is_asked_for_a_listing_and_not_for_every_file(
    s3_server: Callable[[], AbstractContextManager[ThreadedMotoServer]], monkeypatch: pytest.MonkeyPatch
) -> None:
    with s3_server():
        client = cast("Any", boto3).client("s3")
        client.create_bucket(Bucket="corpus")
        for name in ("a", "b", "c"):
            client.put_object(Bucket="corpus", Key=f"videos/{name}.mp4", Body=name.encode())
        names = [*"abc", "missing"]
        clips = [Clip(clip_id=name, video_uri=f"s3://corpus/videos/{name}.mp4") for name in names]
        before = [clip.source for clip in with_sources(clips)]
        client.put_object(Bucket="corpus", Key="videos/b.mp4", Body=b"B")
        client.put_object(Bucket="corpus", Key="videos/c.mp4", Body=b"c")  # the same again, later
        after = [clip.source for clip in with_sources(clips)]
    assert [a == b for a, b in zip(before, after, strict=True)] == [True, False, True, True]
    assert before[3] == Source(video="", words="")

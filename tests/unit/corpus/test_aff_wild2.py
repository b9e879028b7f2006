from pathlib import Path

import pytest

from twominds.corpus.manifest import read_corpus
from twominds.errors import CorpusError
from twominds.records import Clip, Corpus, Split
from twominds.tasks import AH_VIDEO, EXPRESSION

HEADER = "Neutral,Anger,Disgust,Fear,Happiness,Sadness,Surprise,Other\n"


def write(root: Path, name: str, *lines: object, header: str = HEADER) -> None:
    file = root / "EXPR_Recognition_Challenge" / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(header + "".join(f"{line}\n" for line in lines))


def film(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"not opened")


def read(root: Path) -> Corpus:
    return read_corpus(str(root), task=EXPRESSION)


def by_id(corpus: Corpus) -> dict[str, Clip]:
    return {clip.clip_id: clip for clip in corpus.clips}


def test_frames_by_line_and_minus_one_is_unknown(tmp_path: Path) -> None:
    film(tmp_path, "videos/1-30-1280x720.mp4", "new_vids/video7.avi", "videos/unused.mp4")
    film(tmp_path, "cropped_aligned/1-30-1280x720/00001.jpg")
    write(tmp_path, "Train_Set/1-30-1280x720.txt", 0, -1, 7, 4, -1)
    write(tmp_path, "Validation_Set/video7.txt", -1, 6)
    corpus = read(tmp_path)
    first, second = corpus.clips
    assert (first.clip_id, first.split, second.split) == ("1-30-1280x720", Split.TRAIN, Split.VALIDATION)
    assert first.labels is not None
    assert second.labels is not None
    assert first.labels.classes.tolist() == [0, -1, 7, 4, -1]
    assert second.labels.classes.tolist() == [-1, 6]
    assert first.video_uri == f"{tmp_path}/videos/1-30-1280x720.mp4"
    assert second.video_uri == f"{tmp_path}/new_vids/video7.avi"
    assert first.face_crops_uri == f"{tmp_path}/cropped_aligned/1-30-1280x720"
    assert second.face_crops_uri is None
    assert corpus.failures == ()
    assert corpus.notes == ("Videos passed over, since nobody annotated their expressions: 1.",)


def test_the_annotations_may_lie_deeper_and_the_header_gives_the_order(tmp_path: Path) -> None:
    film(tmp_path, "batch1/a.mp4")
    root = tmp_path / "Third ABAW Annotations"
    write(root, "Validation_Set/a.txt", 0, 1, "", header="Other, happiness\r\n")
    (clip,) = read(tmp_path).clips
    assert clip.labels is not None
    assert clip.labels.classes.tolist() == [7, 4]


def test_two_people_need_crops(tmp_path: Path) -> None:
    film(tmp_path, "videos/two.mp4", "videos/also.mp4", "videos/turn_left.mp4", "cropped_aligned/two_left/00001.jpg")
    for name in ("two_left", "two_right", "turn_left", "also_right"):
        write(tmp_path, f"Train_Set/{name}.txt", 0)
    write(tmp_path, "Validation_Set/also.txt", 1)
    corpus = read(tmp_path)
    clips = by_id(corpus)
    assert clips["two_left"].video_uri == clips["two_right"].video_uri == f"{tmp_path}/videos/two.mp4"
    assert clips["two_left"].face_crops_uri == f"{tmp_path}/cropped_aligned/two_left"
    assert [failure.clip_id for failure in corpus.failures] == ["also_right", "two_right", "also"]
    assert corpus.failures[1].reason == (
        "Several people are in two, and without face crops in cropped_aligned/ nobody knows who is meant."
    )
    assert corpus.notes == (
        "Videos of which one person is in one split and one in another: 1.",
        "Videos of several people, whom only the corpus's own face crops tell apart: 2.",
    )


def test_videos_that_are_missing_or_there_twice_are_failures(tmp_path: Path) -> None:
    film(tmp_path, "batch1/a.mp4", "batch2/a.avi")
    write(tmp_path, "Train_Set/a.txt", 0)
    write(tmp_path, "Train_Set/b.txt", 0)
    twice, missing = read(tmp_path).failures
    assert twice.reason == f"Several files are named a: {tmp_path}/batch1/a.mp4 and {tmp_path}/batch2/a.avi."
    assert missing.reason == f"{tmp_path}/videos/b.mp4 does not exist."


def test_wrong_annotations_are_named_all_at_once(tmp_path: Path) -> None:
    film(tmp_path, "videos/a.mp4")
    write(tmp_path, "Train_Set/a.txt", 0, 8, "", 1.5, 2)
    write(tmp_path, "Train_Set/b.txt", 1, header="")
    write(tmp_path, "Validation_Set/a.txt", 1)
    with pytest.raises(CorpusError) as raised:
        read(tmp_path)
    message = str(raised.value)
    assert "a.txt, lines 3, 4 and 5: write one number for each frame, from 0 to 7, or -1 where" in message
    assert "found '8', '' and '1.5'" in message
    assert "b.txt, line 1: name the classes of the numbers below, separated by commas, such as Neutral" in message
    assert "a.txt: a video is in one set alone; found another one in Train_Set" in message


def test_other_tasks_and_empty_sets(tmp_path: Path) -> None:
    (tmp_path / "EXPR" / "Train_Set").mkdir(parents=True)
    with pytest.raises(CorpusError, match=r"Train_Set have no annotations: expected a file NAME\.txt"):
        read(tmp_path)
    (tmp_path / "EXPR" / "Train_Set" / "a.txt").write_text("nonsense")
    with pytest.raises(CorpusError, match=r"Aff-Wild2 at .* has labels for `expression`; task `ah-video` has one of 2"):
        read_corpus(str(tmp_path))
    (clip,) = read_corpus(str(tmp_path), task=AH_VIDEO, labels_required=False).clips
    assert clip.labels is None

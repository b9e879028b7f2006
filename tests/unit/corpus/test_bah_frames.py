from pathlib import Path

import pytest

from twominds.corpus.manifest import read_corpus
from twominds.errors import CorpusError
from twominds.records import Clip
from twominds.tasks import AH_FRAME, MIMICRY

A = "Videos/31/Visite_1/31_Question_2_Video.mp4"
B = "Videos/32/Visite_1/32_Question_7_Video.mp4"
PRIVATE = "Videos/40/Visite_1/40_Question_3_Video.mp4"


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    (tmp_path / "split").mkdir()
    (tmp_path / "split" / "train.txt").write_text(f"{A},1,Well\n")
    (tmp_path / "split" / "val.txt").write_text(f"{B},0,Sure\n")
    (tmp_path / "split" / "private.txt").write_text(f"{PRIVATE}\n")
    return tmp_path


def write_frames(tree: Path, split: str, *lines: str) -> None:
    (tree / "split-frames").mkdir(exist_ok=True)
    (tree / "split-frames" / f"{split}.txt").write_text("".join(f"{line}\n" for line in lines))


def classes(clip: Clip) -> list[int] | None:
    return None if clip.labels is None else clip.labels.classes.tolist()


def test_frames_join_their_clips_and_what_is_not_listed_is_unknown(tree: Path) -> None:
    write_frames(tree, "train", f"{A}/frame-4.jpg,1", f"{A}/frame-0.jpg,0", f"{A}/frame-1.jpg,0", "x/frame-0.jpg,1")
    corpus = read_corpus(str(tree), task=AH_FRAME)
    assert [clip.clip_id for clip in corpus.clips] == [A, B, PRIVATE]
    assert [classes(clip) for clip in corpus.clips] == [[0, 0, -1, -1, 1], None, None]
    assert "Clips of whose frames no label is known: 1." in corpus.notes
    assert any("passed over, since they are none of the clips in use: 1" in note for note in corpus.notes)
    assert [classes(clip) for clip in read_corpus(str(tree)).clips] == [[1], [0], None]


def test_clips_without_listed_frames_take_those_of_the_annotations(tree: Path) -> None:
    write_frames(tree, "train", f"{A}/frame-0.jpg,1")
    (tree / "video_annotation_transcript.yaml").write_text(
        f"{A}: {{global_ah: 1, frame_annotation: [[{A}/frame-0.jpg, 0]]}}\n"
        f"{B}: {{global_ah: 0, frame_annotation: [[{B}/frame-1.jpg, 1]]}}\n"
    )
    corpus = read_corpus(str(tree), task=AH_FRAME)
    assert [classes(clip) for clip in corpus.clips] == [[1], [-1, 1], None]
    assert corpus.notes == ()


def test_a_clip_whose_frames_say_something_else_is_noted(tree: Path) -> None:
    write_frames(tree, "train", f"{A}/frame-0.jpg,0")
    write_frames(tree, "val", f"{B}/frame-0.jpg,0")
    assert read_corpus(str(tree), task=AH_FRAME).notes == (
        "Clips whose own label is not that of any frame, or the other way round: 1.",
    )


def test_abaw8_joins_both_spellings_of_a_visit(tmp_path: Path) -> None:
    (tmp_path / "default-split").mkdir()
    key = "77/Visite 1/77_Question_6_x_Video.mp4"
    (tmp_path / "default-split" / "val.txt").write_text(f"{key},1,Hm, no\n")
    crops = f"cropped-aligned-faces/{key.replace('Visite 1', 'Visite_1')}"
    (tmp_path / "annotation.yml").write_text(
        f"{key.replace('Visite 1', 'Visite_1')}:\n"
        f"  global_ah: 1\n  frame_annotation: [['{crops}/frame-0.jpg', 0], ['{crops}/frame-1.jpg', 1]]\n"
    )
    (clip,) = read_corpus(str(tmp_path), task=AH_FRAME).clips
    assert (clip.clip_id, classes(clip)) == (key, [0, 1])
    assert clip.video_uri == f"{tmp_path}/videos/{key}"


def test_wrong_frames_are_named(tree: Path) -> None:
    with pytest.raises(CorpusError, match=r"has no labels of frames for its clips: expected .*split-frames"):
        read_corpus(str(tree), task=AH_FRAME)
    write_frames(tree, "train", f"{A}/frame-0.jpg,1", f"{A}/frame-1.jpg,1", f"{A}/frame-0.jpg,0", f"{A}/frame-1.jpg,1")
    with pytest.raises(CorpusError, match=r"train\.txt, line 3: a frame has one label; another line has another"):
        read_corpus(str(tree), task=AH_FRAME)
    write_frames(tree, "train", f"{A}/frame-0.jpg,1")
    write_frames(tree, "val", f"{A}/frame-0.jpg,1")
    with pytest.raises(CorpusError, match=r"val\.txt: frames of Videos/31/.* are in the file of another split"):
        read_corpus(str(tree), task=AH_FRAME)


def test_other_tasks_are_refused_by_name_or_noted(tree: Path) -> None:
    message = r"BAH tree at .* has labels for `ah-video` and `ah-frame`; task `mimicry` has 6 intensities \(Admiration,"
    with pytest.raises(CorpusError, match=message):
        read_corpus(str(tree), task=MIMICRY)
    corpus = read_corpus(str(tree), task=MIMICRY, labels_required=False)
    assert [clip.labels for clip in corpus.clips] == [None, None, None]
    assert corpus.notes[0].endswith("for each clip. They are left out.")

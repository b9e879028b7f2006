import json
from pathlib import Path

import numpy as np
import pytest

from twominds.corpus.labels import labels_at
from twominds.corpus.manifest import read_corpus
from twominds.errors import CorpusError
from twominds.records import Corpus, Labels
from twominds.tasks import AH_FRAME, AH_VIDEO, EXPRESSION, MIMICRY, Intensities, Task

CALM = Task(name="calm", output=Intensities(names=("Calm", "Inner Rest"), low=-1.0, high=1.0), unit="frame")


@pytest.fixture
def clips(tmp_path: Path) -> Path:
    for name in ("v/a.mp4", "v/b.mp4"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"not opened")
    (tmp_path / "clips.csv").write_text("clip_id,video,split\none,v/a.mp4,train\ntwo,v/b.mp4,test\n")
    return tmp_path


def read(folder: Path, labels: str, task: Task = EXPRESSION, name: str = "labels.csv", corpus: str = "") -> Corpus:
    (folder / name).write_text(labels)
    return read_corpus(str(folder / (corpus or "clips.csv")), task=task, labels=str(folder / name))


def of(corpus: Corpus, clip: int = 0) -> Labels:
    labels = corpus.clips[clip].labels
    assert labels is not None
    return labels


def test_segments(clips: Path) -> None:
    corpus = read(
        clips,
        "Video;Start (s);End_S;Label;note\nv/a.mp4;2.5;3;Happiness;x\none;0;2.5;0;\nv/a.mp4;3;4;;\n".replace(
            "Start (s)", "start s"
        ),
    )
    labels = of(corpus)
    assert labels.times_s is not None
    assert labels.ends_s is not None
    assert (labels.times_s.tolist(), labels.ends_s.tolist()) == ([0, 2.5, 3], [2.5, 3, 4])
    assert labels.classes.tolist() == [0, 4, -1]
    assert labels_at(labels, np.array([0.0, 2.5, 3.5, 4.0]), 0.1).classes.tolist() == [0, 4, -1, -1]
    assert corpus.clips[1].labels is None
    assert corpus.notes == ("Clips of which labels.csv says nothing: 1.",)


def test_frames_by_number_and_by_time(clips: Path) -> None:
    corpus = read(clips, "clip_id,frame,time_s,label\none,2,0.08,yes\none,0,0,no\ntwo,1,0.04,\n", AH_FRAME)
    assert [labels.classes.tolist() for labels in (of(corpus), of(corpus, 1))] == [[0, -1, 1], []]
    assert of(corpus).times_s is None
    corpus = read(clips, "video,time_s,label\none,1.5,ah\none,.5,no_ah\n", AH_FRAME)
    times_s = of(corpus).times_s
    assert times_s is not None
    assert (times_s.tolist(), of(corpus).classes.tolist()) == ([0.5, 1.5], [0, 1])
    assert of(corpus).ends_s is None
    corpus = read(clips, "video,frame,label\none,1,ah\none,2,no_ah\n", AH_FRAME)
    assert corpus.notes[-1] == "labels.csv has no label for any frame 0: frames are counted from 0."


def test_intensities_in_time(clips: Path) -> None:
    rows = [{"video": "one", "time_s": t, "calm": -1, "inner_rest": t} for t in (0, 0.5)]
    rows.append({"video": "one", "time_s": 1})  # type: ignore[typeddict-item]
    corpus = read(clips, "\n".join(map(json.dumps, rows)), CALM, name="labels.jsonl")
    assert of(corpus).values.tolist() == [[-1, 0], [-1, 0.5], [0, 0]]
    assert of(corpus).known.tolist() == [True, True, False]


def test_labels_of_a_folder_and_of_a_table_elsewhere(clips: Path) -> None:
    corpus = read(clips, "video,start_s,end_s,label\na.mp4,0,1,yes\n", AH_FRAME, corpus="v")
    assert of(corpus).classes.tolist() == [1]
    (clips / "else").mkdir()
    (clips / "else" / "labels.csv").write_text("video,start_s,end_s,label\nv/b.mp4,0,1,yes\n../v/a.mp4,0,1,no\n")
    corpus = read_corpus(str(clips / "clips.csv"), task=AH_FRAME, labels=str(clips / "else" / "labels.csv"))
    assert [of(corpus, index).classes.tolist() for index in (0, 1)] == [[0], [1]]


def test_own_labels_replace_those_of_the_corpus(clips: Path) -> None:
    (clips / "clips.csv").write_text("video,label\nv/a.mp4,of whole clips\n")
    assert of(read(clips, "video,frame,label\nv/a.mp4,0,yes\n", AH_FRAME)).classes.tolist() == [1]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (
            "one,0,2,0\none,1,3,0\n",
            r"row 3: segments of a clip may not overlap; found an overlap with row 2 \(0 to 2\)",
        ),
        ("one,0,9,0\none,1,2,0\none,3,4,0\n", r"rows 3 and 4: .* overlap; found an overlap with row 2 \(0 to 9\)"),
        (
            "one,2,1,0\none,3,3,0\n",
            r"rows 2 and 3, column `end_s`: a segment ends after its start; found '?2 to 1.* 3 to 3",
        ),
        ("three,0,1,0\n", r"row 2, column `video`: the corpus has no such clip: write its `clip_id`, .*'three'"),
        (",0,1,0\n", r"row 2, column `video`: name the clip"),
        ("one,0,1,Contempt\n", r"row 2, column `label`: write 0 \(Neutral\), .* or 7 \(Other\), and leave it empty"),
        ("one,0,1,-1\n", r"row 2, column `label`: write 0 .* leave it empty where nobody annotated; found '-1'"),
        ('one,"0,5",1,0\n', r"row 2, column `start_s`: write a point instead of the decimal comma; found '0,5'"),
        ("one,-1,1,0\n", r"row 2, column `start_s`: write seconds since the video's beginning, from 0; found '-1'"),
        ("one,0,00:01,0\n", r"row 2, column `end_s`: write a number, such as 12.5; found '00:01'"),
        ("one,0,1_0,0\n", r"row 2, column `end_s`: write a number"),
        ("one,0,,0\n", r"row 2, column `end_s`: write a number; found nothing"),
        ("", r"labels\.csv has no rows"),
    ],
)
def test_wrong_segments_are_named(clips: Path, rows: str, message: str) -> None:
    with pytest.raises(CorpusError, match=message):
        read(clips, f"video,start_s,end_s,label\n{rows}")


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ("video,frame,label\none,0,0\none,0,0\n", r"row 3: a frame of a clip may be there only once; .* row 2 again"),
        ("video,time_s,label\none,0.5,0\none,.50,0\n", r"row 3: a time of a clip may be there only once"),
        ("video,frame,label\none,1.5,0\n", r"row 2, column `frame`: write the frame's number, a whole one from 0"),
        ("video,frame,label\none,99999999999,0\n", r"row 2, column `frame`: write the frame's number"),
        ("video,label\none,0\n", r"name columns `start_s` and `end_s` \(of segments\), or `frame` or `time_s`"),
        (
            "video,start,stop,label\none,0,1,0\n",
            r"column `start`: rename it to `start_s`[^`]*\n.*`stop`: rename it to `end_s`",
        ),
        ("file,frame,label\none,0,0\n", r"no column `video`; found .* If it is `file`, rename it to `video`"),
        ("video,frame,class\none,0,0\n", r"column `class`: rename it to `label`"),
        ("video,frame\none,0\n", r"there is no column for what is said"),
    ],
)
def test_wrong_frames_and_columns_are_named(clips: Path, table: str, message: str) -> None:
    with pytest.raises(CorpusError, match=f"(?i){message}"):
        read(clips, table)


def test_intensities_out_of_range_and_columns_that_are_missing(clips: Path) -> None:
    with pytest.raises(CorpusError, match=r"row 2, column `Calm`: write a number from -1 to 1; found '2'"):
        read(clips, "video,frame,Calm,Inner Rest\none,0,2,0\n", CALM)
    with pytest.raises(CorpusError, match=r"there is no column `Inner Rest`: add what is missing"):
        read(clips, "video,frame,Calm\none,0,1\n", CALM)


def test_two_clips_of_one_video_need_their_ids(clips: Path) -> None:
    (clips / "clips.csv").write_text("clip_id,video\none,v/a.mp4\ntwo,v/a.mp4\n")
    assert of(read(clips, "video,frame,label\ntwo,0,1\n"), 1).classes.tolist() == [1]
    with pytest.raises(CorpusError, match="several clips are of this video: write `clip_id` instead"):
        read(clips, "video,frame,label\nv/a.mp4,0,1\n")


def test_tasks_of_whole_clips_have_no_labels_in_time(clips: Path) -> None:
    with pytest.raises(CorpusError, match=r"for tasks with labels of frames, and `ah-video` has one for each clip"):
        read(clips, "video,frame,label\none,0,1\n", AH_VIDEO)


def test_intensities_of_clips_are_columns_of_their_table(clips: Path) -> None:
    names = "admiration,AMUSEMENT,determination,empathic_pain,Excitement,joy"
    (clips / "clips.csv").write_text(f"video,{names},age\nv/a.mp4,0,.1,.2,.3,.4,1,30\nv/b.mp4,,,,,,,31\n")
    first, second = read_corpus(str(clips / "clips.csv"), task=MIMICRY).clips
    assert first.labels is not None
    np.testing.assert_allclose(first.labels.values, [[0, 0.1, 0.2, 0.3, 0.4, 1]], atol=1e-6)
    assert (second.labels, dict(second.attributes)) == (None, {"age": "31"})
    (clips / "clips.csv").write_text(f"video,{names.replace('joy', 'joy_mean')}\nv/a.mp4,0,0,0,0,0,0\n")
    with pytest.raises(CorpusError, match="column `joy_mean`: rename it to `Joy`"):
        read_corpus(str(clips / "clips.csv"), task=MIMICRY)


@pytest.mark.parametrize(
    ("task", "message"),
    [
        (
            AH_FRAME,
            r"has labels of whole clips \(`label`\); task `ah-frame` has one of 2 .* second table \(`--labels`\)",
        ),
        (MIMICRY, r"has one label for each clip \(`label`\); task `mimicry` has 6 intensities .* Write one column"),
    ],
)
def test_labels_of_another_task_are_refused_or_left_out(clips: Path, task: Task, message: str) -> None:
    (clips / "clips.csv").write_text("video,label\nv/a.mp4,1\n")
    with pytest.raises(CorpusError, match=message):
        read_corpus(str(clips / "clips.csv"), task=task)
    corpus = read_corpus(str(clips / "clips.csv"), task=task, labels_required=False)
    assert corpus.clips[0].labels is None
    assert corpus.notes[0].endswith("They are left out.")
    (clips / "clips.csv").write_text("video,label\nv/a.mp4,\n")
    assert read_corpus(str(clips / "clips.csv"), task=task).clips[0].labels is None

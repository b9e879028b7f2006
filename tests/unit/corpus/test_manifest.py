import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet
import pytest
from upath import UPath

from twominds.corpus.manifest import read_corpus, read_manifest
from twominds.errors import CorpusError
from twominds.records import Split


def test_folder_is_searched_by_name(tmp_path: Path) -> None:
    (tmp_path / "b" / "c").mkdir(parents=True)
    for name in ("a.MP4", "b/two words.mov", "b/c/x.webm", "notes.txt", "b/.hidden.mp4"):
        (tmp_path / name).write_bytes(b"not opened")
    clips = read_corpus(str(tmp_path)).clips
    assert [clip.clip_id for clip in clips] == ["a.MP4", "b/c/x.webm", "b/two words.mov"]
    assert clips[2].video_uri == str(tmp_path / "b" / "two words.mov")
    assert clips[0].label is None
    assert clips[0].transcript is None


def test_one_video(tmp_path: Path) -> None:
    (tmp_path / "a.mkv").write_bytes(b"")
    assert [clip.clip_id for clip in read_corpus(str(tmp_path / "a.mkv")).clips] == ["a.mkv"]


def test_consent_can_be_asked_of_bah_alone(tmp_path: Path) -> None:
    (tmp_path / "a.mkv").write_bytes(b"")
    with pytest.raises(CorpusError, match="no BAH tree: nothing there says who consented to a publication"):
        read_corpus(str(tmp_path), purpose="publication")


def test_csv(tmp_path: Path) -> None:
    table = tmp_path / "clips.csv"
    table.write_text(
        "\ufeffclip_id,video,split,label,transcript,participant,question,gender\n"
        'one,v/a.mp4,Train,1,"yes, no",7,3,Female\n'
        ",s3://bucket/b.mp4,dev,,,,,\n"
        ",/abs/c.mp4,test,0,,,,\n"
    )
    one, two, three = read_corpus(str(table)).clips
    assert (one.clip_id, one.video_uri, one.split, one.label) == ("one", f"{tmp_path}/v/a.mp4", Split.TRAIN, 1)
    assert (one.transcript, one.participant_id, one.question) == ("yes, no", "7", 3)
    assert one.attributes == {"gender": "Female"}
    assert (two.clip_id, two.video_uri, two.split, two.label, two.transcript) == (
        "s3://bucket/b.mp4",
        "s3://bucket/b.mp4",
        Split.VALIDATION,
        None,
        None,
    )
    assert three.video_uri == "/abs/c.mp4"


def test_jsonl_tells_silence_from_absence(tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [
        {"video": "a.mp4", "transcript": "", "label": 0},
        {"video": "b.mp4", "transcript": None},
    ]
    (tmp_path / "clips.jsonl").write_text("\n".join(map(json.dumps, rows)) + "\n")
    assert [clip.transcript for clip in read_manifest(str(tmp_path / "clips.jsonl")).clips] == ["", None]


def test_parquet(tmp_path: Path) -> None:
    parquet: Any = pyarrow.parquet
    parquet.write_table(pa.table({"video": ["a.mp4", "b.mp4"], "label": [1, None]}), tmp_path / "clips.parquet")
    assert [(clip.clip_id, clip.label) for clip in read_manifest(str(tmp_path / "clips.parquet")).clips] == [
        ("a.mp4", 1),
        ("b.mp4", None),
    ]


def test_other_filesystems() -> None:
    for name in ("a.mp4", "sub/b c.mp4", "clips.csv"):
        file = UPath(f"memory://manifest-test/{name}")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("video\nsub/b c.mp4\n")
    assert [clip.clip_id for clip in read_corpus("memory://manifest-test").clips] == ["a.mp4", "sub/b c.mp4"]
    (clip,) = read_corpus("memory://manifest-test/clips.csv").clips
    assert UPath(clip.video_uri) == UPath("memory://manifest-test/sub/b c.mp4")


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("t.csv", "file\na.mp4\n", "no column `video`; found `file`. If it is `file`, rename it to `video`"),
        ("t.csv", "a.mp4,1\nb.mp4,0\n", "no column `video`; found `a.mp4` and `1`. .* the first row names the columns"),
        ("t.csv", "video,split\na.mp4,\nb.mp4,holdout\n", "row 3, column `split`: write one of .* found 'holdout'"),
        ("t.csv", "video,question\na.mp4,Q1\n", "row 2, column `question`: write the question's number"),
        ("t.csv", "video,label\na.mp4,1,2\n", "row 2: more cells than the header has columns"),
        ("t.csv", "video\na.mp4\na.mp4\n", "row 3, column `video`: a clip may be there only once; .* as in row 2"),
        ("t.csv", "video\n", "has no rows"),
        ("t.csv", "video,label\n,,\n , \n", "has no rows"),
        ("t.csv", "", "has no rows"),
        ("t.csv", 'video\n"a.mp4', "line 2: unexpected end of data .is a quotation mark missing"),
        ("t.csv", "video,label\n,1\n", "row 2, column `video`: name the file of the video"),
        ("t.jsonl", '{"video": "a.mp4"}\n{"video":\n', "row 2: expected a JSON object on one line"),
        ("t.jsonl", '["a.mp4"]\n', "row 1: expected a JSON object"),
        ("t.jsonl", '{"video": "a.mp4", "video": "b.mp4"}\n', "row 1: .*it names something twice"),
        ("t.jsonl", '{"video": ["a.mp4"]}\n', "row 1, column `video`: write text or a number, nothing nested"),
        ("t.jsonl", f'{{"video": "{"a" * 1025}"}}\n', "row 1, column `video`: write at most 1024 characters"),
        ("t.jsonl", f'{{"video": "a", "x": {"[" * 100_000}{"]" * 100_000}}}\n', "row 1: expected a JSON object"),
        ("t.parquet", "no parquet", "is no Parquet table"),
        ("t.txt", "a.mp4\n", "neither a video nor a table .* Save the table as CSV UTF-8"),
        ("t.xlsx", "PK", "neither a video nor a table .* Save the table as CSV UTF-8"),
        ("t.json", "[]", "neither a video nor a table .* one JSON object on each line"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, name: str, text: str, message: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(CorpusError, match=message):
        read_corpus(str(tmp_path / name))


def test_nothing_there(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match="There is nothing at"):
        read_corpus(str(tmp_path / "missing"))
    with pytest.raises(CorpusError, match="No videos in"):
        read_corpus(str(tmp_path))


def test_files_that_are_not_there_are_failures_of_the_corpus(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_bytes(b"")
    (tmp_path / "folder.mp4").mkdir()
    (tmp_path / "link.mp4").symlink_to("nowhere")
    videos = ["a.mp4", "b.mp4", "folder.mp4", "link.mp4", "s3://bucket/c.mp4", f"{'x' * 300}.mp4", "rtsp://camera/1"]
    (tmp_path / "t.csv").write_text("\n".join(["video", *videos]))
    corpus = read_corpus(str(tmp_path / "t.csv"))
    assert [clip.clip_id for clip in corpus.clips] == videos, "their labels count all the same"
    assert {failure.stage for failure in corpus.failures} == {"corpus"}
    assert [failure.reason.removeprefix(f"{tmp_path}/") for failure in corpus.failures] == [
        "b.mp4 does not exist.",
        "folder.mp4 is no file, but a folder.",
        "link.mp4 is a link to what is not there.",
        f"{'x' * 300}.mp4 cannot be opened: File name too long.",
        "rtsp://camera/1 is at a place of a kind that cannot be read here: Unsupported filesystem: 'rtsp'.",
    ]

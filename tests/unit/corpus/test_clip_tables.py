"""Tables as Excel, pandas, SPSS and scripts write them: read where they are unambiguous, else refused with all rows."""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from upath import UPath

from twominds.corpus.clip_tables import read_clip_table
from twominds.errors import CorpusError
from twominds.records import AH_VIDEO, Clip, Corpus, Split, Task


def read(file: Path, content: str | bytes, task: Task = AH_VIDEO) -> Corpus:
    file.write_bytes(content.encode() if isinstance(content, str) else content)
    return read_clip_table(UPath(file), task)


def labels(corpus: Corpus) -> list[int | None]:
    return [clip.label for clip in corpus.clips]


TABLE = "video,label,transcript\na.mp4,1,naïve — café\nb.mp4,0,oui\n"


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
@pytest.mark.parametrize("line_end", ["\n", "\r\n", "\r"])
def test_what_programs_write_is_read(tmp_path: Path, encoding: str, separator: str, line_end: str) -> None:
    text = TABLE.replace(",", separator).replace("\n", line_end)
    corpus = read(tmp_path / "t.csv", text.encode(encoding))
    assert [(clip.clip_id, clip.label, clip.transcript) for clip in corpus.clips] == [
        ("a.mp4", 1, "naïve — café"),
        ("b.mp4", 0, "oui"),
    ]
    assert corpus.notes == ()


def test_excel_says_which_separator_it_takes(tmp_path: Path) -> None:
    assert labels(read(tmp_path / "t.csv", "sep=;\r\nvideo;label\r\na.mp4;1\r\n")) == [1]
    with pytest.raises(CorpusError, match="row 3, column `label`"):
        read(tmp_path / "t.csv", "sep=;\r\nvideo;label\r\na.mp4;9\r\n")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (TABLE.encode("cp1252"), r"t\.csv, row 2, column `transcript`: the byte 0xEF is not UTF-8"),
        ("vidéo,label\na.mp4,1\n".encode("latin-1"), r"t\.csv, row 1: the byte 0xE9 is not UTF-8"),
        (b'video,transcript\n"a.mp4","two\nlines"\nb.mp4,na\xefve\n', r"t\.csv, row 3, column `transcript`"),
        (TABLE.encode("utf-16-le"), "UTF-16 without its byte order mark"),
        (TABLE.encode("utf-16")[:-1], "cut off or damaged: it begins as UTF-16"),
        (b"PK\x03\x04\xff\xfe", "row 1: the byte 0xFF is not UTF-8"),
    ],
)
def test_other_encodings_are_refused_with_the_place(tmp_path: Path, content: bytes, message: str) -> None:
    with pytest.raises(CorpusError, match=message):
        read(tmp_path / "t.csv", content)


def test_json_lines_in_another_encoding(tmp_path: Path) -> None:
    text = '{"video": "a.mp4"}\n{"video": "b.mp4", "transcript": "café"}\n'
    with pytest.raises(CorpusError, match="row 2, column `transcript`: the byte 0xE9 is not UTF-8"):
        read(tmp_path / "t.jsonl", text.encode("cp1252"))
    assert read(tmp_path / "t.jsonl", text.encode("utf-16")).clips[1].transcript == "café"


def test_blanks_capitals_and_quotes_around_names_do_not_matter(tmp_path: Path) -> None:
    header = '\ufeff Clip ID , "VIDEO", Split,\u00a0Label,TRANSCRIPT, participant , Question'
    (clip,) = read(tmp_path / "t.csv", f'{header}\none, a.mp4, train, 1, "I want, but", p1, 3\n').clips
    assert clip == Clip(
        clip_id="one",
        video_uri=str(tmp_path / "a.mp4"),
        split=Split.TRAIN,
        label=1,
        transcript="I want, but",
        participant_id="p1",
        question=3,
    )


def test_leftovers_of_excel_and_pandas_are_passed_over(tmp_path: Path) -> None:
    corpus = read(tmp_path / "t.csv", "video,label,,\na.mp4,1,,\n,,,\n\n , ,,\nb.mp4,,,\n")
    assert labels(corpus) == [1, None]
    assert corpus.notes == ("Rows passed over, since they are empty: 2.",)
    assert labels(read(tmp_path / "t.csv", ",video,label\n0,a.mp4,1.0\n2,b.mp4,\n")) == [1, None]
    for text in ("video,label,\na.mp4,1,hello\n", "video,label,\na.mp4,1,0\n"):
        with pytest.raises(CorpusError, match="column 3 has no name: name it"):
            read(tmp_path / "t.csv", text)


@pytest.mark.parametrize("word", ["nan", "NaN", "NA", "N/A", "#N/A", "None", "null", "NaT", "<NA>", " "])
def test_words_for_nothing_are_nothing_except_as_words_that_were_said(tmp_path: Path, word: str) -> None:
    row = ",".join(["a.mp4", *[word] * 5])
    (clip,) = read(tmp_path / "t.csv", f"video,label,split,question,participant,transcript\n{row}\n").clips
    assert clip == Clip(clip_id="a.mp4", video_uri=str(tmp_path / "a.mp4"), transcript=word.strip() or None)


def test_json_without_values(tmp_path: Path) -> None:
    rows = [
        {"video": "a.mp4", "label": float("nan"), "transcript": float("nan"), "participant": 7.0, "age": float("nan")},
        {"video": "b.mp4", "label": None, "transcript": None, "split": float("nan"), "question": 3.0, "age": None},
    ]
    one, two = read(tmp_path / "t.jsonl", "\n".join(map(json.dumps, rows))).clips
    assert (one.label, one.transcript, one.participant_id, one.attributes) == (None, None, "7", {})
    assert (two.label, two.transcript, two.split, two.question, two.attributes) == (None, None, None, 3, {})


def test_strings_keep_what_unicode_calls_line_ends(tmp_path: Path) -> None:
    said = "a\u2028b\u2029c\x85d\fe\vf\x1cg\th"
    lines = [json.dumps({"video": f"{i}.mp4", "transcript": said}, ensure_ascii=False) for i in range(2)]
    lines[1] = lines[1].replace("\\t", "\t").replace("\\f", "\f")  # control characters that are not escaped
    for line_end in ("\n", "\r\n"):
        corpus = read(tmp_path / "t.jsonl", line_end.join(lines))
        assert [clip.transcript for clip in corpus.clips] == [said, said]


def test_half_characters_can_be_written_down(tmp_path: Path) -> None:
    line = r'{"video": "a.mp4", "transcript": "cut \ud83d", "tags": ["\udca9"], "notes \ud83d": "caf\u00e9"}'
    (clip,) = read(tmp_path / "t.jsonl", line).clips
    assert clip.transcript == "cut \ufffd"
    assert clip.attributes == {"tags": '["\ufffd"]', "notes \ufffd": "café"}


@pytest.mark.parametrize(
    ("written", "label"),
    [
        ("0", 0),
        ("1", 1),
        ("1.0", 1),
        ("Yes", 1),
        ("NO", 0),
        ("TRUE", 1),
        ("false", 0),
        (" 1 ", 1),
        ("AH", 1),
        ("no_ah", 0),
    ],
)
def test_labels_that_are_unambiguous(tmp_path: Path, written: str, label: int) -> None:
    assert labels(read(tmp_path / "t.csv", f"video,label\na.mp4,{written}\n")) == [label]


@pytest.mark.parametrize("written", ["2", "-1", "-5", "ambivalent", "0.5", "inf", "1e999", "0,5", "yes and no"])
def test_labels_that_are_none_of_the_tasks_are_refused(tmp_path: Path, written: str) -> None:
    with pytest.raises(CorpusError, match=r"row 3, column `label`: write 0 \(no_ah\) or 1 \(ah\), and leave it empty"):
        read(tmp_path / "t.csv", f'video,label\na.mp4,1\nb.mp4,"{written}"\n')


def test_labels_are_those_of_the_task(tmp_path: Path) -> None:
    three = Task(name="three", classes=("none", "some", "much"))
    assert labels(read(tmp_path / "t.csv", "video,label\na.mp4,2\nb.mp4,0\nc.mp4,Some\n", three)) == [2, 0, 1]
    for written in ("3", "yes"):
        with pytest.raises(CorpusError, match=r"write 0 \(none\), 1 \(some\) or 2 \(much\)"):
            read(tmp_path / "t.csv", f"video,label\na.mp4,{written}\n", three)


def test_everything_that_is_wrong_is_said_at_once(tmp_path: Path) -> None:
    text = "video,label,split,Labels,text\na.mp4,2,train,x,y\n,1,,x,y\nb.mp4,-1,hold,x,y\na.mp4,0,test,x,y\n"
    with pytest.raises(CorpusError) as raised:
        read(tmp_path / "t.csv", text)
    first, *lines = str(raised.value).split("\n")
    assert first == f"{tmp_path}/t.csv cannot be used as it is:"
    assert [line.split(": ")[0].strip() for line in lines] == [
        "column `text`",
        "rows 2 and 4, column `label`",
        "row 3, column `video`",
        "row 4, column `split`",
        "row 5, column `video`",
    ]


def test_very_many_wrong_rows_are_counted(tmp_path: Path) -> None:
    rows = "".join(f"{i}.mp4,{i + 2}\n" for i in range(1000))
    with pytest.raises(
        CorpusError, match=r"rows 2, 3, 4, .*, 11 and 990 more, .* found '2', .*'6' and 995 more"
    ) as raised:
        read(tmp_path / "t.csv", f"video,label\n{rows}")
    assert len(str(raised.value)) < 400


@pytest.mark.parametrize("other", ["a.mp4", "./a.mp4", "v/../a.mp4", "file://{root}/a.mp4", "{root}/a.mp4", "link.mp4"])
def test_a_file_is_in_one_split_alone(tmp_path: Path, other: str) -> None:
    (tmp_path / "v").mkdir()
    (tmp_path / "a.mp4").write_bytes(b"")
    (tmp_path / "link.mp4").symlink_to("a.mp4")
    other = other.format(root=tmp_path)
    with pytest.raises(CorpusError, match=r"no video may be in more than one .* found one in train \(row 2\) and test"):
        read(tmp_path / "t.csv", f"clip_id,video,split\n1,a.mp4,train\n2,{other},test\n")
    corpus = read(tmp_path / "t.csv", f"clip_id,video,split\n1,a.mp4,train\n2,{other},train\n")
    assert corpus.notes == ("Clips whose video is that of another clip: 1.",)


def test_a_person_is_in_one_split_alone(tmp_path: Path) -> None:
    text = "video,split,participant\na.mp4,train,p7\nb.mp4,train,P7 \nc.mp4,{},p7\nd.mp4,test,8\ne.mp4,,8\n"
    for split in ("test", "dev"):
        with pytest.raises(CorpusError, match=r"found participant 'p7' in train \(rows 2 and 3\) and \w+ \(row 4\)\."):
            read(tmp_path / "t.csv", text.format(split))
    assert read(tmp_path / "t.csv", text.format("train")).notes == ()
    (note,) = read(tmp_path / "t.csv", text.format("private")).notes
    assert note == "Participants of the private split who are in another one, too: 1."


def test_paths_of_windows_are_failures_and_the_others_go_on(tmp_path: Path) -> None:
    (tmp_path / "v").mkdir()
    for name in ("v/a.mp4", "odd\\name.mp4", "space here.mp4"):
        (tmp_path / name).write_bytes(b"")
    videos = [
        "v\\a.mp4",
        "D:\\v\\b.mp4",
        "D:/v/c.mp4",
        "\\\\server\\share\\d.mp4",
        "file:///D:/v/e.mp4",
        "odd\\name.mp4",
        f"file://{tmp_path}/space%20here.mp4",
        "v/a.mp4",
    ]
    corpus = read(tmp_path / "t.csv", "\n".join(["video", *videos]))
    assert [clip.clip_id for clip in corpus.clips] == videos
    assert [failure.clip_id for failure in corpus.failures] == videos[:5]
    assert corpus.failures[0].reason == "The path has backslashes; with forward slashes the file is found."
    assert {failure.reason[:18] for failure in corpus.failures[1:]} == {"A path of Windows:"}
    assert corpus.clips[6].video_uri == f"{tmp_path}/space here.mp4"


def test_home_and_object_stores(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (clip,) = read(tmp_path / "t.csv", "video\n~/a.mp4\n").clips
    assert clip.video_uri == f"{tmp_path}/a.mp4"
    table = UPath("memory://clip-tables/study/t.csv")
    table.parent.mkdir(parents=True, exist_ok=True)
    table.write_text("video\n./a.mp4\n../b.mp4\nsub\\c.mp4\n")
    corpus = read_clip_table(table, AH_VIDEO)
    assert [UPath(clip.video_uri) for clip in corpus.clips[:2]] == [
        UPath("memory://clip-tables/study/a.mp4"),
        UPath("memory://clip-tables/b.mp4"),
    ]
    assert [failure.clip_id for failure in corpus.failures] == ["sub\\c.mp4"]


def write(file: Path, columns: dict[str, Any]) -> UPath:
    pq.write_table(pa.table(columns), file)
    return UPath(file)


def test_parquet_of_any_plain_type(tmp_path: Path) -> None:
    table = write(
        tmp_path / "t.parquet",
        {
            "Video": pa.array(["a.mp4", "b.mp4"]).dictionary_encode(),
            "label": pa.array([1.0, float("nan")]),
            "split": pa.array(["train", None], pa.large_string()),
            "participant": pa.array([7, None], pa.int64()),
            "transcript": ["", None],
            "taken": pa.array([1, None], pa.timestamp("ns")),
            "meta": [{"visit": 1}, None],
            "tags": [["x"], None],
            "a.b": [True, None],
            "photo": [b"1", b"2"],
            "photos": [[{"photo": b"1"}], []],
        },
    )
    corpus = read_clip_table(table, AH_VIDEO)
    assert corpus.clips == (
        Clip(
            clip_id="a.mp4",
            video_uri=str(tmp_path / "a.mp4"),
            label=1,
            split=Split.TRAIN,
            participant_id="7",
            transcript="",
            attributes={
                "taken": "1970-01-01 00:00:00.000000001",
                "meta": '{"visit": 1}',
                "tags": '["x"]',
                "a.b": "True",
            },
        ),
        Clip(clip_id="b.mp4", video_uri=str(tmp_path / "b.mp4")),
    )
    assert corpus.notes[0] == "Columns passed over, since they hold bytes: `photo` and `photos`."
    bools = write(tmp_path / "t.parquet", {"video": ["a.mp4", "b.mp4"], "label": [True, False]})
    assert labels(read_clip_table(bools, AH_VIDEO)) == [1, 0]


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        (
            {"video": [{"bytes": b"x" * 60_000, "path": "a.mp4"}]},
            "column `video`: write its `path` as a column of text",
        ),
        ({"video": [["a.mp4"]], "label": [b"1"]}, r"(?s)column `video`: write text or numbers.*column `label`"),
        (
            {"video": ["a.mp4"], "Clip ID": [{"a": 1}]},
            "column `Clip ID`: write text or numbers; found 'struct<a: int64>'",
        ),
        ({"video": pa.array([], pa.string())}, "has no rows"),
    ],
)
def test_parquet_columns_that_are_no_text(tmp_path: Path, columns: dict[str, Any], message: str) -> None:
    with pytest.raises(CorpusError, match=message) as raised:
        read_clip_table(write(tmp_path / "t.parquet", columns), AH_VIDEO)
    assert len(str(raised.value)) < 500


def test_damaged_parquet(tmp_path: Path) -> None:
    whole = write(tmp_path / "t.parquet", {"video": [f"{i}.mp4" for i in range(1000)]}).read_bytes()
    for damaged in (b"", whole[:-20], whole[:4] + bytes(len(whole) - 300) + whole[-296:]):
        with pytest.raises(CorpusError, match="is no Parquet table that can be read"):
            read(tmp_path / "t.parquet", damaged)

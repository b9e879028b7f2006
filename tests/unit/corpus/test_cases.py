"""The tables of `../shared/cases`, each made after somebody's bug report, behave as `expect.json` there says."""

import json
from pathlib import Path
from typing import Any, cast

import pytest

from twominds.corpus.manifest import read_corpus
from twominds.errors import CorpusError
from twominds.records import Clip, Corpus

CASES = Path(__file__).resolve().parents[4] / "shared" / "cases"
SENTENCES = {
    "cp1252.csv": r"cp1252\.csv, row 4, column `transcript`: the byte 0xEF is not UTF-8 .* Save it as UTF-8",
    "labels_one_two.csv": r"rows 2 and 4, column `label`: write 0 .* or 1 .* leave it empty .* found '2'",
    "label_minus_one.csv": r"row 3, column `label`: write 0 .* or 1 .* leave it empty .* found '-1'",
    "same_person_in_train_and_test.csv": r"participant 'p1' in train \(row 2\) and test \(row 4\)",
    "huggingface_video.parquet": r"column `video`: write its `path` .* found 'struct<bytes: binary, path: string>'",
}
"""What is said of those that cannot be read; the others can."""


def tables() -> list[str]:
    if not CASES.is_dir():
        return []
    expected = cast("dict[str, dict[str, Any]]", json.loads((CASES / "expect.json").read_text()))
    return [name for name, case in expected.items() if case["kind"] == "table"]


@pytest.mark.skipif(not CASES.is_dir(), reason="no ../shared/cases beside this checkout")
@pytest.mark.parametrize("name", tables())
def test_case(name: str) -> None:
    case = json.loads((CASES / "expect.json").read_text())[name]
    file = Path(name).name
    if file in SENTENCES:
        assert case["expect"] == "refused"
        with pytest.raises(CorpusError, match=SENTENCES[file]) as raised:
            read_corpus(str(CASES / name))
        assert len(str(raised.value)) < 400
        return
    corpus = read_corpus(str(CASES / name))
    clips = corpus.clips
    assert len(clips) == case.get("rows", 3)
    if "labels" in case:
        assert [clip.label for clip in clips] == case["labels"]
    if file in ("utf16.csv", "semicolons.csv", "header_spaces.csv"):
        assert [as_written(clip) for clip in clips] == [
            ("train", 1, "I want to but", "p1"),
            ("val", 0, "yes of course", "p2"),
            ("test", 1, "naïve café — peut-être", "p3"),
        ]
    if file in CHECKS:
        CHECKS[file](corpus)


def as_written(clip: Clip) -> tuple[str | None, int | None, str | None, str | None]:
    return clip.split, clip.label, clip.transcript, clip.participant_id


def line_separators(corpus: Corpus) -> None:
    assert [clip.transcript for clip in corpus.clips] == [
        "I want to\u2028but then",
        "yes\x85of course",
        "page\fbreak\u2029here",
    ]


def nan(corpus: Corpus) -> None:
    assert [as_written(clip) for clip in corpus.clips] == [("train", 1, None, None), ("val", None, "yes", None)]


def windows_paths(corpus: Corpus) -> None:
    back, drive = corpus.failures
    assert (back.clip_id, drive.clip_id) == ("clips\\a.mp4", "C:\\study\\clips\\b.mp4")
    assert back.reason == "The path has backslashes; with forward slashes the file is found."
    assert "A path of Windows: write it with forward slashes" in drive.reason


def ragged(corpus: Corpus) -> None:
    assert [clip.attributes for clip in corpus.clips] == [
        {"age": "31", "tags": '["x", "y"]'},
        {"age": "31-40", "meta": '{"visit": 1}'},
        {"site": "Montréal"},
    ]


CHECKS = {
    "line_separators.jsonl": line_separators,
    "nan.jsonl": nan,
    "windows_paths.csv": windows_paths,
    "ragged.jsonl": ragged,
}

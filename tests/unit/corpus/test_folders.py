import os
from pathlib import Path

import pytest

from twominds.corpus.manifest import read_corpus
from twominds.errors import CorpusError
from twominds.results.tables import clips_to_table


def fill(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"not opened")


def test_what_is_passed_over_is_counted_by_suffix(tmp_path: Path) -> None:
    fill(tmp_path, "a.mp4", "notes.txt", "b/more.TXT", "b/sound.mp3", "README", "clips.csv", "b/deeper.csv")
    fill(tmp_path, "._a.mp4", ".DS_Store", ".git/annex/objects/a.mp4")
    corpus = read_corpus(str(tmp_path))
    assert [clip.clip_id for clip in corpus.clips] == ["a.mp4"]
    passed_over, table = corpus.notes
    for count in ("2 x .txt", "2 x .csv", "1 x .mp3", "1 x without a suffix"):
        assert count in passed_over
    assert "to use those of `clips.csv`, give the table itself" in table


def test_names_differ_by_case_alone(tmp_path: Path) -> None:
    fill(tmp_path, "a.mp4", "A.mp4", "a.MP4")
    assert [clip.clip_id for clip in read_corpus(str(tmp_path)).clips] == ["A.mp4", "a.MP4", "a.mp4"]


def test_a_name_that_is_no_utf8_fails_and_can_be_written_down(tmp_path: Path) -> None:
    fill(tmp_path, "a.mp4")
    for name in (b"caf\xe9.mp4", b"d\xe9/b.mp4"):
        path = os.fsencode(tmp_path) + b"/" + name
        fill(tmp_path, os.fsdecode(path))
    corpus = read_corpus(str(tmp_path))
    assert [clip.clip_id for clip in corpus.clips] == ["a.mp4", "caf\\xe9.mp4", "d\\xe9/b.mp4"]
    assert [failure.clip_id for failure in corpus.failures] == ["caf\\xe9.mp4", "d\\xe9/b.mp4"]
    assert {failure.reason for failure in corpus.failures} == {
        "Its name is not UTF-8, so it cannot be written down: rename the file."
    }
    assert clips_to_table(corpus.clips)["clip_id"].to_pylist() == ["a.mp4", "caf\\xe9.mp4", "d\\xe9/b.mp4"]


def test_linked_folders_are_followed_once(tmp_path: Path) -> None:
    folder, elsewhere = tmp_path / "folder", tmp_path / "elsewhere"
    fill(folder, "real/a.mp4")
    fill(elsewhere, "b.mp4")
    (folder / "again").symlink_to("real")
    (folder / "real" / "loop").symlink_to(folder)
    (folder / "linked").symlink_to(elsewhere)
    (folder / "one").symlink_to("two")
    (folder / "two").symlink_to("one")
    (folder / "gone.mp4").symlink_to("nowhere.mp4")
    corpus = read_corpus(str(folder))
    assert [clip.clip_id for clip in corpus.clips] == ["gone.mp4", "linked/b.mp4", "real/a.mp4"]
    assert [failure.clip_id for failure in corpus.failures] == ["gone.mp4"]


def test_a_device_is_not_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.mp4")
    assert [failure.reason for failure in read_corpus(str(tmp_path)).failures] == [
        f"{tmp_path}/a.mp4 is no file, but a device."
    ]


def test_a_folder_without_videos_says_what_is_there(tmp_path: Path) -> None:
    fill(tmp_path, "a.mp3", "b.mp3", "clips.csv")
    with pytest.raises(CorpusError, match=r"No videos in .*; it has 2 x \.mp3 and 1 x \.csv\. Give the table itself"):
        read_corpus(str(tmp_path))

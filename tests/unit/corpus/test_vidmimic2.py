from pathlib import Path

import numpy as np
import pytest

from twominds.corpus.manifest import read_corpus
from twominds.errors import CorpusError
from twominds.records import Corpus, Split
from twominds.tasks import EXPRESSION, MIMICRY

HEADER = "Filename,Admiration,Amusement,Determination,Empathic Pain,Excitement,Joy\n"


def film(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"not opened")


def read(root: Path) -> Corpus:
    return read_corpus(str(root), task=MIMICRY)


def test_split_files(tmp_path: Path) -> None:
    film(tmp_path, "raw/00007.mp4", "raw/12660.mp4", "raw/00123.webm")
    film(tmp_path, "face_images/00007/5.jpg")
    (tmp_path / "text").mkdir()
    (tmp_path / "text" / "00007.txt").write_text("how brave\n")
    (tmp_path / "train_split.csv").write_text(f"{HEADER}7,0.1,0,1,0.25,.5,1e-2\n")
    (tmp_path / "valid_split.csv").write_text(f"{HEADER}00123.mp4,,,,,,\n")
    (tmp_path / "test_split.csv").write_text(f"{HEADER}12660,0,0,0,0,0,0\n")
    corpus = read(tmp_path)
    seven, other, test = corpus.clips
    assert [clip.clip_id for clip in corpus.clips] == ["00007", "00123", "12660"]
    assert [clip.split for clip in corpus.clips] == [Split.TRAIN, Split.VALIDATION, Split.TEST]
    assert seven.labels is not None
    np.testing.assert_allclose(seven.labels.values, [[0.1, 0, 1, 0.25, 0.5, 0.01]], atol=1e-6)
    assert (other.labels, test.labels) == (None, None)
    assert seven.video_uri == f"{tmp_path}/raw/00007.mp4"
    assert other.video_uri == f"{tmp_path}/raw/00123.webm"
    assert (seven.transcript, other.transcript) == ("how brave", None)
    assert (seven.face_crops_uri, other.face_crops_uri) == (f"{tmp_path}/face_images/00007", None)
    assert corpus.notes == ("test_split.csv has no label but zeros: those of its clips are unknown.",)


def test_split_files_in_data_and_a_test_split_of_its_own(tmp_path: Path) -> None:
    film(tmp_path, "raw/00001.mp4", "data/test_data/raw/00002.mp4")
    (tmp_path / "data" / "train_split.csv").write_text(f"{HEADER}1,0,0,0,0,0,0\n")
    (tmp_path / "data" / "test_data" / "test_split.csv").write_text("Filename\n2\n3\n")
    corpus = read(tmp_path)
    assert [clip.video_uri for clip in corpus.clips] == [
        f"{tmp_path}/raw/00001.mp4",
        f"{tmp_path}/data/test_data/raw/00002.mp4",
        f"{tmp_path}/data/raw/00003.mp4",
    ]
    assert [failure.clip_id for failure in corpus.failures] == ["00003"]
    assert corpus.clips[0].labels is not None  # nothing of anything: of a training clip that is an answer


def test_what_is_wrong_is_named_at_once(tmp_path: Path) -> None:
    (tmp_path / "train_split.csv").write_text(
        f'{HEADER}1,0,0,0,0,0,1.5\n2,0,0,0,0,0,"0,5"\n3,0,0,0,0,0,\n4,0,0,0,0,0,much\n,0,0,0,0,0,0\n1,0,0,0,0,0,0\n'
    )
    (tmp_path / "valid_split.csv").write_text("File,Admiration,Joy\n2,0,0\n")
    with pytest.raises(CorpusError) as raised:
        read(tmp_path)
    message = str(raised.value)
    assert "row 2, column `Joy`: write a number from 0 to 1; found '1.5'." in message
    assert "row 3, column `Joy`: write a point instead of the decimal comma; found '0,5'." in message
    assert "row 4, column `Joy`: write all intensities of a row, or none." in message
    assert "row 5, column `Joy`: write a number, such as 12.5; found 'much'." in message
    assert "row 6, column `Filename`: write the number of the video." in message
    assert "row 7, column `Filename`: a video may be there only once; found '1'." in message
    assert "There is no column `Amusement`, `Determination`, `Empathic Pain` and `Excitement`: add" in message
    assert "There is no column `Filename`" in message


def test_other_tasks(tmp_path: Path) -> None:
    (tmp_path / "train_split.csv").write_text(f"{HEADER}1,0,0,0,0,0,0\n")
    with pytest.raises(CorpusError, match=r"Hume-Vidmimic2 at .* has labels for `mimicry`; task `expression` has one"):
        read_corpus(str(tmp_path), task=EXPRESSION)
    (tmp_path / "train_split.csv").write_text(HEADER)
    with pytest.raises(CorpusError, match="have no rows"):
        read(tmp_path)

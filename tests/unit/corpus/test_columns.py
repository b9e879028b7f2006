import pytest
from upath import UPath

from twominds.corpus.columns import meaning_of, our_name
from twominds.corpus.problems import Problems
from twominds.errors import CorpusError


def problems_of(*columns: str) -> str:
    problems = Problems(UPath("t.csv"))
    meaning_of(columns, problems)
    return problems.text()


@pytest.mark.parametrize("name", ["clip_id", "ClipID", "clip id", " Clip-Id ", "CLIP_ID", '"clip_id"', "\ufeffclip_id"])
def test_one_name_however_it_is_written(name: str) -> None:
    assert our_name(name) == "clip_id"


@pytest.mark.parametrize(
    ("name", "ours"),
    [
        ("labels", "label"),
        ("lable", "label"),
        ("Label (final)", "label"),
        ("true_label", "label"),
        ("ground truth", "label"),
        ("target", "label"),
        ("global_ah", "label"),
        ("Transcription", "transcript"),
        ("transcripts", "transcript"),
        ("transcript_en", "transcript"),
        ("trancript", "transcript"),
        ("text", "transcript"),
        ("Subtitles", "transcript"),
        ("participant_id", "participant"),
        ("ParticipantNr", "participant"),
        ("partcipant", "participant"),
        ("speaker", "participant"),
        ("Subject ID", "participant"),
        ("users", "participant"),
        ("Split_set", "split"),
        ("splits", "split"),
        ("spilt", "split"),
        ("fold", "split"),
        ("questions", "question"),
        ("question_nr", "question"),
        ("id", "clip_id"),
        ("clips", "clip_id"),
        ("video_id", "clip_id"),
    ],
)
def test_a_name_close_to_one_of_ours_is_refused_with_what_to_write(name: str, ours: str) -> None:
    assert f"column `{name}`: rename it to `{ours}`, or" in problems_of("video", name)


ATTRIBUTES = (
    "gender age_range ethnicity is_student site language level table session visit clip_duration file_size fps comment "
    "text_length duration_s device title emotion score"
)


@pytest.mark.parametrize("name", ATTRIBUTES.split())
def test_what_is_not_close_is_an_attribute(name: str) -> None:
    problems = Problems(UPath("t.csv"))
    meaning = meaning_of(["video", name], problems)
    assert (problems.text(), dict(meaning.ours), dict(meaning.attributes)) == ("", {"video": 0}, {name: 1})


def test_beside_ours_a_close_one_is_an_attribute() -> None:
    columns = ["video", "participant", "participant_age", "speaker", "label", "label_confidence", "file"]
    problems = Problems(UPath("t.csv"))
    assert list(meaning_of(columns, problems).attributes) == ["participant_age", "speaker", "label_confidence", "file"]
    assert problems.text() == ""


def test_two_columns_of_one_name() -> None:
    assert "two columns mean the same (`Label` and `label`): keep one" in problems_of("video", "label", "Label ")
    assert "two columns mean the same (`age`)" in problems_of("video", "age", "age")


@pytest.mark.parametrize("name", ["videos", "Video_File", "filename", "path", "vidoe", "clip"])
def test_without_a_video_the_likely_column_is_named(name: str) -> None:
    with pytest.raises(
        CorpusError, match=rf"no column `video`; found `{name}` and `gender`\. If it is `{name}`, rename"
    ):
        problems_of(name, "gender")

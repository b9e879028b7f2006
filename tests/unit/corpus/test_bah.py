from pathlib import Path

import pytest
from upath import UPath

from twominds.corpus.annotations import read_annotations, read_frame_labels
from twominds.corpus.bah import continuous_times, find_bah, read_bah, read_transcript, read_words
from twominds.corpus.manifest import read_corpus
from twominds.errors import CorpusError
from twominds.records import Split, Word

CLIP = "Videos/31/Visite_1/31_Question_2_2000-01-02_10-20-30_Video.mp4"
SPACED = "Videos/32/Visite 1/32 Question 7 2000-01-02_10-20-30_Video-DESKTOP-AB12 (1).mp4"
SILENT = "Videos/32/Visite_1/32_Question_1_2000-01-02_10-30-30_Video.mp4"


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    (tmp_path / "split").mkdir()
    (tmp_path / "split" / "train.txt").write_text(f"{CLIP},1,Well, yes, and, no.\n{SPACED},0,Sure\n{SILENT},1,\n")
    (tmp_path / "split" / "private.txt").write_text(
        "Videos/40/Visite_1/40_Question_3_Video.mp4\nVideos/40/Visite_1/40_Question_4_Video.mp4,,a, b\n"
        "Videos/40/Visite_1/40_Question_5_Video.mp4,maybe, maybe not\n"
    )
    (tmp_path / "meta_data.yml").write_text(
        "'31': {Age: 30, Age range: 25-34, Gender: Female, Ethnicity simplified: White, Is student: 'No',"
        " Use in challenges: 'Yes', Use in publications: 'No'}\n"
        "32: {Age: 41, Age range: 35-44, Gender: Male, Use in challenges: 'No', Use in publications: true}\n"
    )
    return tmp_path


def test_split_rows_keep_commas_spaces_and_empty_transcripts(tree: Path) -> None:
    first, second, third, *_ = read_bah(str(tree)).clips
    assert (first.clip_id, first.label, first.transcript) == (CLIP, 1, "Well, yes, and, no.")
    assert (first.split, first.participant_id, first.question) == (Split.TRAIN, "31", 2)
    assert first.video_uri == f"{tree}/{CLIP}"  # the file need not exist
    assert first.attributes == {
        "gender": "Female",
        "age_range": "25-34",
        "ethnicity": "White",
        "is_student": "No",
    }
    assert (second.clip_id, second.label, second.participant_id, second.question) == (SPACED, 0, "32", 7)
    assert third.transcript == ""
    assert third.face_crops_uri is None


def test_private_rows_have_no_label(tree: Path) -> None:
    private = [clip for clip in read_bah(str(tree)).clips if clip.split is Split.PRIVATE]
    assert [(clip.label, clip.transcript) for clip in private] == [
        (None, None),
        (None, "a, b"),
        (None, "maybe, maybe not"),
    ]


@pytest.mark.parametrize(("purpose", "left"), [("challenge", {"31"}), ("publication", {"32"})])
def test_refused_consent_is_honoured_and_counted(tree: Path, purpose: str, left: set[str]) -> None:
    assert purpose == "challenge" or purpose == "publication"
    corpus = read_bah(str(tree), purpose=purpose)
    assert {clip.participant_id for clip in corpus.clips} == left  # 40 has no metadata: no consent is known
    (note,) = corpus.notes
    assert f"2 participants ({6 - len(corpus.clips)} clips) did not consent to the purpose '{purpose}'" in note
    assert read_bah(str(tree)).notes == ()


def test_consent_needs_metadata(tree: Path) -> None:
    (tree / "meta_data.yml").unlink()
    assert len(read_bah(str(tree)).clips) == 6
    with pytest.raises(CorpusError, match=r"meta_data\.yml is missing"):
        read_bah(str(tree), purpose="challenge")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("Videos/1/a.mp4,2,words", "line 2: write the label 0 or 1 after the path; found '2'"),
        ("Videos/1/a.mp4", "line 2: write the label"),
        ("Videos/../../etc/a.mp4,1,words", "line 2: write a path below the corpus"),
        ("/etc/a.mp4,1,words", "line 2: write a path below the corpus"),
        (f"{CLIP},1,again", "line 2: a clip may be there only once; found .* as in train.txt, line 1"),
    ],
)
def test_wrong_rows_are_named(tree: Path, line: str, message: str) -> None:
    (tree / "split" / "test.txt").write_text(f"Videos/9/Visite_1/x.mp4,0,fine\n{line}\n")
    with pytest.raises(CorpusError, match=message):
        read_bah(str(tree))


def test_all_wrong_lines_of_all_split_files_are_named_at_once(tree: Path) -> None:
    with (tree / "split" / "train.txt").open("a") as file:
        file.write("Videos/1/v/a.mp4,2,words\nVideos/1/v/b.mp4,-1,words\n")
    (tree / "split" / "test.txt").write_text("Videos\\2\\a.mp4,1,words\n\nVideos/31/v/new.mp4,0,words\n")
    with pytest.raises(CorpusError) as raised:
        read_bah(str(tree))
    message = str(raised.value)
    assert "train.txt, lines 4 and 5: write the label 0 or 1 after the path; found '2' and '-1'." in message
    assert "test.txt, line 1: write a path below the corpus" in message
    assert "found participant '31' in train (line 1) and test (line 3)" in message


def test_split_files_in_other_encodings(tree: Path) -> None:
    line = f"{CLIP.replace('/31/', '/50/')},1,naïve\u2028café\n"
    (tree / "split" / "test.txt").write_text(line, encoding="utf-16")
    (clip,) = [clip for clip in read_bah(str(tree)).clips if clip.split is Split.TEST]
    assert clip.transcript == "naïve\u2028café"
    (tree / "split" / "test.txt").write_bytes(line.replace("\u2028", " ").encode("cp1252"))
    with pytest.raises(CorpusError, match=r"test\.txt, line 1: the byte 0xEF is not UTF-8"):
        read_bah(str(tree))
    (tree / "split" / "test.txt").unlink()
    (tree / "meta_data.yml").write_bytes("'31':\n  Gender: Féminin\n".encode("cp1252"))
    with pytest.raises(CorpusError, match=r"meta_data\.yml, line 2: the byte 0xE9 is not UTF-8"):
        read_bah(str(tree))


def test_unsafe_yaml_is_refused(tree: Path) -> None:
    (tree / "meta_data.yml").write_text("'31': {Gender: Female}\n'32': !!python/object/apply:os.getcwd []\n")
    with pytest.raises(CorpusError, match=r"meta_data.yml, line 2.*python/object"):
        read_bah(str(tree))


def test_abaw8_variant(tmp_path: Path) -> None:
    (tmp_path / "data" / "default-split").mkdir(parents=True)
    (tmp_path / "data" / "default-split" / "val.txt").write_text("77/Visite 1/77_Question_6_x_Video.mp4,1,Hm, no\n")
    (tmp_path / "data" / "cropped-aligned-faces").mkdir()
    found = find_bah(str(tmp_path))
    assert found is not None
    assert found[1] == "abaw8"
    (clip,) = read_corpus(str(tmp_path)).clips
    assert (clip.clip_id, clip.participant_id, clip.question) == ("77/Visite 1/77_Question_6_x_Video.mp4", "77", 6)
    assert clip.video_uri == f"{tmp_path}/data/videos/77/Visite 1/77_Question_6_x_Video.mp4"
    assert clip.face_crops_uri == f"{tmp_path}/data/cropped-aligned-faces/77/Visite 1/77_Question_6_x_Video.mp4"


def test_transcript_with_tuples_restarts_and_an_open_end(tree: Path) -> None:
    folder = tree / "transcription" / CLIP
    folder.mkdir(parents=True)
    (folder / f"{Path(CLIP).stem}.yml").write_text(
        "chunks:\n"
        "- {language: english, text: ' one', timestamp: !!python/tuple [0.0, 12.5]}\n"
        "- {language: english, text: ' two', timestamp: !!python/tuple [12.5, 29.0]}\n"
        "- {language: english, text: ' three', timestamp: !!python/tuple [0.0, 4.0]}\n"
        "- {language: english, text: ' four', timestamp: !!python/tuple [4.5, null]}\n"
        "text: one two three four\n"
    )
    chunks = read_transcript(str(tree), CLIP)
    assert [(chunk.text, chunk.start_s, chunk.end_s) for chunk in chunks] == [
        ("one", 0.0, 12.5),
        ("two", 12.5, 29.0),
        ("three", 29.0, 33.0),
        ("four", 33.5, None),
    ]
    (tree / "split" / "test.txt").write_text("")
    (tree / "split" / "train.txt").write_text(f"{CLIP},1\n")  # no third column: the transcription has the words
    assert read_bah(str(tree)).clips[0].transcript == "one two three four"


def test_windows_of_a_single_chunk_and_open_ends() -> None:
    assert continuous_times([(0.0, 28.0), (0.0, 28.5), (0.0, 3.0)]) == [(0.0, 28.0), (28.0, 56.5), (56.5, 59.5)]
    assert continuous_times([(0.0, None), (0.0, 2.0)]) == [(0.0, None), (30.0, 32.0)]
    assert continuous_times([]) == []


def test_an_open_end_within_a_window_is_no_new_window() -> None:
    assert continuous_times([(5.0, None), (7.0, 9.0), (0.5, 2.0)]) == [(5.0, None), (7.0, 9.0), (9.5, 11.0)]


def transcription(tree: Path, clip: str, chunks: str) -> None:
    folder = tree / "transcription" / clip
    folder.mkdir(parents=True)
    (folder / f"{Path(clip).stem}.yml").write_text(f"{chunks}text: as the recogniser wrote it\n")


THREE_RESTARTS = """chunks:
- {language: english, text: ' one', timestamp: !!python/tuple [0.0, 12.5]}
- {language: english, text: ' two', timestamp: !!python/tuple [12.5, 29.0]}
- {language: english, text: ' three', timestamp: !!python/tuple [0.0, 4.0]}
- {language: english, text: ' ', timestamp: !!python/tuple [4.0, 5.0]}
- {language: english, text: ' four five', timestamp: !!python/tuple [6.0, null]}
- {language: english, text: ' six', timestamp: !!python/tuple [8.0, 28.0]}
- {language: english, text: ' seven', timestamp: !!python/tuple [1.0, 27.0]}
- {language: english, text: ' eight', timestamp: !!python/tuple [0.0, 3.0]}
- {language: english, text: ' nine', timestamp: !!python/tuple [3.5, null]}
"""


def test_words_over_three_restarts_and_open_ends(tree: Path) -> None:
    """Worked out by hand: the windows begin at 0, at 29, at 29 + 28 = 57, and at 57 + 27 = 84."""
    transcription(tree, CLIP, THREE_RESTARTS)
    expected = [
        ("one", 0.0, 12.5),
        ("two", 12.5, 29.0),
        ("three", 29.0, 33.0),
        ("four five", 35.0, 37.0),  # until the next one begins
        ("six", 37.0, 57.0),
        ("seven", 58.0, 84.0),
        ("eight", 84.0, 87.0),
        ("nine", 87.5, 87.5),  # nobody knows
    ]
    words = read_words(str(tree), CLIP)
    assert words is not None
    assert [(word.text, word.start_s, word.end_s) for word in words] == expected
    first, second, *_ = read_bah(str(tree)).clips
    assert first.words == words
    assert first.transcript == "Well, yes, and, no."  # the split file's, as ever
    assert second.words is None
    assert read_words(str(tree), SPACED) is None


def test_a_file_that_cannot_be_read_costs_the_times_alone_unless_the_words_are_needed_from_it(tree: Path) -> None:
    transcription(tree, CLIP, "chunks: [{text: a, timestamp: soon}]\n")
    transcription(tree, SPACED, "chunks: [{text: ' Sure', timestamp: !!python/tuple [0.0, 1.0]}]\n")
    corpus = read_bah(str(tree))
    assert corpus.clips[0].words is None
    assert corpus.clips[1].words == (Word(text="Sure", start_s=0.0, end_s=1.0),)
    (note,) = corpus.notes
    assert note.startswith("1 clips' words have no times.")
    assert "chunk 1" in note
    (tree / "split" / "train.txt").write_text(f"{CLIP},1\n")
    with pytest.raises(CorpusError, match="chunk 1"):
        read_bah(str(tree))


def test_each_transcription_is_opened_once(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from twominds.corpus import bah

    transcription(tree, CLIP, THREE_RESTARTS)
    transcription(tree, SPACED, THREE_RESTARTS)
    (tree / "split" / "train.txt").write_text(f"{CLIP},1\n{SPACED},0,Sure\n")
    opened: list[str] = []
    own = bah.read_yaml

    def counted(path: UPath) -> object:
        opened.append(path.name)
        return own(path)

    monkeypatch.setattr(bah, "read_yaml", counted)
    clips = read_bah(str(tree)).clips
    assert clips[0].transcript == "as the recogniser wrote it"
    assert sorted(opened) == sorted(["meta_data.yml", *(f"{Path(clip).stem}.yml" for clip in (CLIP, SPACED))])


def test_annotations(tree: Path) -> None:
    (tree / "video_annotation_transcript.yaml").write_text(
        f"{CLIP}:\n"
        "  global_ah: 1\n  annotator_id: 2\n  transcript: Well\n  certainty_ah: [3, 2]\n"
        "  time_detailed_ah: [['00:00:01.500', '00:00:02.250'], [00:01:01.000, 00:01:02.000]]\n"
        "  fr_detailed_ah: [[36, 54], [1464, 1488]]\n"
        f"  frame_annotation: [[{CLIP}/frame-0.jpg, 0], [{CLIP}/frame-2.jpg, 1]]\n"
        "  all_cues: {audio: [pause], body: null, facial: frown, inconsistencies: [], language: [maybe, 'no, yes']}\n"
    )
    annotation = read_annotations(str(tree))[CLIP]
    assert [(s.start_s, s.end_s, s.start_frame, s.end_frame, s.certainty) for s in annotation.segments] == [
        (1.5, 2.25, 36, 54, 3),
        (61.0, 62.0, 1464, 1488, 2),  # unquoted: YAML counts it in base 60
    ]
    assert annotation.frame_labels is not None
    assert annotation.frame_labels.classes.tolist() == [0, -1, 1]
    assert annotation.cues == {
        "audio": ("pause",),
        "body": (),
        "facial": ("frown",),
        "inconsistencies": (),
        "language": ("maybe", "no, yes"),
    }


def test_wrong_annotations_are_named(tree: Path) -> None:
    file = tree / "video_annotation_transcript.yaml"
    file.write_text(f"{CLIP}: {{global_ah: 1, time_detailed_ah: [['1 s', '00:00:02.000']]}}\n")
    with pytest.raises(CorpusError, match=r"31_Question_2.*expected a time as HH:MM:SS.mmm, found '1 s'"):
        read_annotations(str(tree))
    (tree / "split-frames").mkdir()
    (tree / "split-frames" / "val.txt").write_text(f"{CLIP}/frame-0.jpg,0\n{CLIP}/frame-x.jpg,0\n")
    with (tree / "split-frames" / "val.txt").open("a") as file:
        file.write(f"{CLIP}/frame-2.jpg,7\n")
    with pytest.raises(CorpusError, match=r"val.txt, lines 2 and 3: write `<clip>/frame-<n>.jpg` and 0 or 1"):
        read_frame_labels(str(tree), Split.VALIDATION)

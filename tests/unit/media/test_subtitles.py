"""The words of subtitle tracks: which track, and what of it anybody says."""

from collections.abc import Callable
from pathlib import Path

import pytest
from av.stream import Disposition

from twominds.media.container import MediaFile
from twominds.media.subtitles import Subtitles, read_subtitles

Write = Callable[..., Path]

WORDS = [b"I want to,", b"but then again", b"I never do"]
SAID = "I want to, but then again I never do"
AUTRES = [b"Je veux bien,", b"mais au fond", b"je ne le fais jamais"]


def subtitles_of(path: Path) -> Subtitles:
    with MediaFile(path) as file:
        return read_subtitles(file)


@pytest.mark.parametrize(
    ("name", "codec"), [("a.mp4", "mov_text"), ("a.mkv", "srt"), ("b.mkv", "webvtt"), ("c.mkv", "ass")]
)
def test_tracks_are_read_without_their_markup(write_subtitled: Write, name: str, codec: str) -> None:
    lines = [b"I want to,", b"{\\i1}but\\NI can't{\\i0}", b"I can't do it"]
    path = write_subtitled(lines, name=name, codec=codec)
    found = subtitles_of(path)
    assert (found.text, found.warnings) == ("I want to, but I can't I can't do it", ())
    assert [(word.text, word.start_s, word.end_s) for word in found.words] == [
        ("I want to,", 0.0, pytest.approx(0.9)),
        ("but I can't", 1.0, pytest.approx(1.9)),
        ("I can't do it", 2.0, pytest.approx(2.9)),
    ]


def test_a_line_that_is_written_twice_is_one_that_stays(write_subtitled: Write) -> None:
    found = subtitles_of(write_subtitled([b"I do", b"I do", b"[sighs]", b"not"]))
    assert found.text == "I do not"
    assert [(word.text, word.start_s, word.end_s) for word in found.words] == [
        ("I do", 0.0, pytest.approx(1.9)),
        ("not", 3.0, pytest.approx(3.9)),
    ]


def test_a_file_without_subtitles_has_no_words_and_no_warning(write_video: Write) -> None:
    assert subtitles_of(write_video([0, 40])) == Subtitles(text=None)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (b"[MUSIC PLAYING]", None),
        (b"[Music]", None),
        (b"(laughs)", None),
        (b"- (laughs)", None),
        (b"(SIGHS) I know", "I know"),
        (b"I know (but I won't)", "I know (but I won't)"),
        (b"I [inaudible] know", "I know"),
        (b"[door\\Ncloses] I know", "I know"),
        (b"\xe2\x99\xaa let it be \xe2\x99\xaa I know", "I know"),
        (b"\xe2\x99\xaa let it be\\NI know", "I know"),
        (b">> I know", "I know"),
        (b"in (1999) I knew", "in (1999) I knew"),
    ],
)
def test_what_is_heard_but_not_said_is_left_out(write_subtitled: Write, line: bytes, said: str | None) -> None:
    assert subtitles_of(write_subtitled([line])).text == said


@pytest.mark.parametrize("disposition", [Disposition.forced, Disposition.forced | Disposition.default])
def test_forced_subtitles_are_never_the_words(write_subtitled: Write, disposition: Disposition) -> None:
    both = subtitles_of(
        write_subtitled([b"Exit", b"No entry"], WORDS, dispositions=[disposition, Disposition(0)], name="both.mkv")
    )
    assert both.text == SAID
    assert both.warnings == ("The file has 2 subtitle tracks; number 2 was used, the rest was left out.",)
    alone = subtitles_of(write_subtitled([b"Exit", b"No entry"], dispositions=[disposition]))
    assert alone.text is None
    assert "left out" in alone.warnings[0]


def test_signs_that_nobody_flagged_are_not_taken_for_the_words(write_subtitled: Write) -> None:
    path = write_subtitled([b"Exit"], WORDS, dispositions=[Disposition.default, Disposition(0)])
    assert subtitles_of(path).text == SAID


def test_of_translations_the_one_in_the_language_of_the_sound_is_used(write_subtitled: Write) -> None:
    def write(sound: str | None, name: str) -> Path:
        default_french = [Disposition.default, Disposition(0)]
        return write_subtitled(
            AUTRES, WORDS, languages=["fre", "eng"], dispositions=default_french, sound_language=sound, name=name
        )

    english = subtitles_of(write("eng", "english.mkv"))
    assert english.text == SAID
    assert english.warnings == ("The file has 2 subtitle tracks; number 2 (eng) was used, the rest was left out.",)
    assert subtitles_of(write("fre", "french.mkv")).text == "Je veux bien, mais au fond je ne le fais jamais"
    assert subtitles_of(write(None, "unknown.mkv")).text == "Je veux bien, mais au fond je ne le fais jamais"


def test_a_commentator_s_words_are_not_the_person_s(write_subtitled: Write) -> None:
    commented = [Disposition.comment | Disposition.default, Disposition(0)]
    assert subtitles_of(write_subtitled(AUTRES, WORDS, dispositions=commented)).text == SAID

"""The words of a file's subtitles."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

from av.packet import Packet
from av.stream import Stream
from av.subtitles.subtitle import SubtitleSet

from twominds.media.container import MediaFile, packets_of, read_only
from twominds.media.tracks import choice, subtitle_tracks
from twominds.records import Word

_MARKUP = re.compile(r"\{[^}]*\}|<[^>]*>|\\h|>>")
_LINE_END = re.compile(r"\\[Nn]")
_SOUNDS = re.compile(
    r"\[[^\]]*\]"  # [Music]
    r"|\((?=[^)]*[A-Z])[^)a-zà-ÿ]*\)"  # (SIGHS)
    r"|^\W*\([^)]*\)\W*$"  # (laughs), alone in its line; within one, it may be said
    r"|[♪♫][^♪♫]*[♪♫]|[♪♫].*",  # sung
    re.MULTILINE,
)
"""What subtitles for the deaf tell of sounds: heard, but nobody's words."""
_FULL_TRACK = 0.5
"""A track with less than this of the words of the fullest one is no transcript, but signs or foreign lines."""


@dataclass(frozen=True, kw_only=True)
class Subtitles:
    """What a file's subtitles say."""

    text: str | None
    """The words; None where there are none."""
    words: tuple[Word, ...] = ()
    """The lines that make up the text, each with the time it is shown, in the container's own time."""
    warnings: tuple[str, ...] = ()
    """What was chosen and left out."""


def read_subtitles(file: MediaFile) -> Subtitles:
    """The words of the file's subtitles (mov_text, SubRip, WebVTT, ASS) without markup and labels of sounds.

    Of several tracks (`subtitle_tracks`) the first that is about as full as the fullest.

    Raises:
        MediaError: the file is no video and no sound file.
    """
    with file.container() as container:
        present = container.streams.subtitles
        if not present:
            return Subtitles(text=None)
        tracks = subtitle_tracks(container)
        read_only(container, *tracks)
        lines: dict[int, list[_Line]] = {track.index: [] for track in tracks}
        for packet in packets_of(container, *tracks) if tracks else ():
            for line in _lines_of(packet) if packet.size else ():
                said = lines[packet.stream_index]
                if said and said[-1].text == line.text:  # a line that stays is often written twice
                    said[-1] = replace(line, start_s=said[-1].start_s)
                else:
                    said.append(line)
        texts = {index: " ".join(line.text for line in said) for index, said in lines.items()}
        fullest = max((len(text.split()) for text in texts.values()), default=0)
        for track in tracks if fullest else ():
            if len(texts[track.index].split()) >= _FULL_TRACK * fullest:
                return Subtitles(
                    text=texts[track.index],
                    words=_timed(lines[track.index]),
                    warnings=choice("subtitle track", present, track),
                )
    return Subtitles(
        text=None,
        warnings=("The file's subtitles were left out: they are forced, pictures, or labels of sounds, not words.",),
    )


@dataclass(frozen=True, kw_only=True)
class _Line:
    text: str
    start_s: float | None
    """None where the packet has no time stamp."""
    end_s: float | None
    """None where the packet does not say."""


def _timed(lines: Sequence[_Line]) -> tuple[Word, ...]:
    """A line is one `Word`, for when its words are said within it nobody knows. None are timed unless all begin.

    One that ends nobody knows when ends where the next begins, the last one where it begins itself.
    """
    starts = [line.start_s for line in lines if line.start_s is not None]
    if len(starts) < len(lines):
        return ()
    ends = [
        line.end_s if line.end_s is not None else after
        for line, after in zip(lines, [*starts[1:], starts[-1]], strict=True)
    ]
    return tuple(
        Word(text=line.text, start_s=start, end_s=max(start, end))
        for line, start, end in zip(lines, starts, ends, strict=True)
    )


def _lines_of(packet: "Packet[Stream]") -> list[_Line]:
    try:
        shown = cast(SubtitleSet | None, cast(Any, packet.stream).decode2(packet))
    except (ValueError, RuntimeError):  # damaged, or no decoder
        return []
    start_s = float(packet.pts * packet.time_base) if packet.pts is not None and packet.time_base else None
    length_s = float(packet.duration * packet.time_base) if packet.duration and packet.time_base else None
    end_s = None if start_s is None or length_s is None else start_s + length_s
    dialogues = [cast(bytes, getattr(rectangle, "dialogue", b"")) for rectangle in shown or ()]  # bitmaps have none
    texts = [_words(dialogue.decode("utf-8", "replace")) for dialogue in dialogues]
    return [_Line(text=text, start_s=start_s, end_s=end_s) for text in texts if text]


def _words(text: str) -> str:
    return " ".join(_SOUNDS.sub(" ", _LINE_END.sub("\n", _MARKUP.sub(" ", text))).split())

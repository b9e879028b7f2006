"""The words of a file's subtitles."""

import re
from dataclasses import dataclass
from typing import Any, cast

from av.packet import Packet
from av.stream import Stream
from av.subtitles.subtitle import SubtitleSet

from twominds.media.container import MediaFile, packets_of, read_only
from twominds.media.tracks import choice, subtitle_tracks

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
        lines: dict[int, list[str]] = {track.index: [] for track in tracks}
        for packet in packets_of(container, *tracks) if tracks else ():
            for line in _lines_of(packet) if packet.size else ():
                said = lines[packet.stream_index]
                if said[-1:] != [line]:  # a line that stays is often written twice
                    said.append(line)
        texts = {track.index: " ".join(lines[track.index]) for track in tracks}
        fullest = max((len(text.split()) for text in texts.values()), default=0)
        for track in tracks if fullest else ():
            if len(texts[track.index].split()) >= _FULL_TRACK * fullest:
                return Subtitles(text=texts[track.index], warnings=choice("subtitle track", present, track))
    return Subtitles(
        text=None,
        warnings=("The file's subtitles were left out: they are forced, pictures, or labels of sounds, not words.",),
    )


def _lines_of(packet: "Packet[Stream]") -> list[str]:
    try:
        shown = cast(SubtitleSet | None, cast(Any, packet.stream).decode2(packet))
    except (ValueError, RuntimeError):  # damaged, or no decoder
        return []
    dialogues = [cast(bytes, getattr(rectangle, "dialogue", b"")) for rectangle in shown or ()]  # bitmaps have none
    return [line for dialogue in dialogues if (line := _words(dialogue.decode("utf-8", "replace")))]


def _words(text: str) -> str:
    return " ".join(_SOUNDS.sub(" ", _LINE_END.sub("\n", _MARKUP.sub(" ", text))).split())

"""Which of a file's tracks are meant: one rule each for pictures, sound and subtitles.

A track that FFmpeg has no decoder for is never chosen. Of the others those come first that are made for everybody, then
the default ones, then the first in the file. Who reads a track goes on to the next where nothing of it decodes.
"""

from collections.abc import Iterable, Sequence
from typing import Any, TypeVar, cast

from av.audio.stream import AudioStream
from av.container import InputContainer
from av.stream import Disposition, Stream
from av.video.stream import VideoStream

_NOT_MOVING = Disposition.attached_pic | Disposition.timed_thumbnails | Disposition.still_image | Disposition.dependent
"""Cover art, chapter pictures, photos, and layers that mean nothing without another track."""
_NOT_THE_PERSON = (
    Disposition.comment
    | Disposition.dub
    | Disposition.visual_impaired
    | Disposition.descriptions
    | Disposition.karaoke
    | Disposition.clean_effects
    | Disposition.non_diegetic
)
"""Sound, or its text, in which somebody else speaks over the person, or in the person's place, or nobody does."""

Track = TypeVar("Track", bound=Stream)


def picture_tracks(container: InputContainer) -> list[VideoStream]:
    """The moving pictures, best first: of several defaults the largest."""
    moving = [stream for stream in _decodable(container.streams.video) if not stream.disposition & _NOT_MOVING]
    return sorted(moving, key=lambda stream: (not _is_default(stream), -stream.width * stream.height))


def sound_tracks(container: InputContainer) -> list[AudioStream]:
    """The sound tracks, best first; those for others (comments, dubs, descriptions) only after all of the person's."""
    tracks = _decodable(container.streams.audio)
    return sorted(tracks, key=lambda stream: (bool(stream.disposition & _NOT_THE_PERSON), not _is_default(stream)))


def subtitle_tracks(container: InputContainer) -> list[Stream]:
    """The subtitle tracks that may hold what is said, best first: those in the language of the sound, then the default.

    Forced ones never do: they hold what a viewer who understands the person still has to read.
    """
    excluded = Disposition.forced | _NOT_THE_PERSON
    tracks = [stream for stream in _decodable(container.streams.subtitles) if not stream.disposition & excluded]
    spoken = next((stream.language for stream in sound_tracks(container)), None)
    return sorted(tracks, key=lambda stream: (stream.language != spoken, not _is_default(stream)))


def choice(kind: str, tracks: Sequence[Stream], used: Stream) -> tuple[str, ...]:
    """What to tell of a choice among all of a file's `tracks` of a kind; nothing where there was none."""
    if len(tracks) < 2:
        return ()
    number = 1 + sorted(track.index for track in tracks).index(used.index)
    language = f" ({used.language})" if used.language and used.language != "und" else ""
    return (f"The file has {len(tracks)} {kind}s; number {number}{language} was used, the rest was left out.",)


def _decodable(streams: Iterable[Track]) -> list[Track]:
    return [stream for stream in streams if cast(Any, stream).codec_context is not None]


def _is_default(stream: Stream) -> bool:
    return bool(stream.disposition & Disposition.default)

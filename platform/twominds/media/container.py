"""Files that hold pictures, sound and subtitles, opened for PyAV without letting FFmpeg open anything by itself."""

import io
import re
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Lock
from types import TracebackType
from typing import Any, BinaryIO, Self, cast

import av
import numpy as np
from av.container import InputContainer
from av.error import FFmpegError
from av.packet import Packet
from av.stream import Discard, Stream
from upath import UPath

from twominds.errors import MediaError
from twominds.records import ByteArray

_CONTAINERS = (
    "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpeg,mpegts,mpegvideo,flv,asf,ogg,mxf,dv,nut,gif,apng,"
    "wav,w64,mp3,aac,flac,aiff,caf,amr"
)
"""What may be opened. A playlist (HLS, concat, DASH) is text that makes FFmpeg open other files: never from a user."""
_READ_WHOLE_BYTES = 64 << 20
"""A remote file up to this size is fetched once; it is read two or three times."""
_PHOTO = re.compile(
    rb".{4}ftyp(avif|heic|heix|heim|heis|mif1|mif2|crx )|\xff\xd8\xff|\x89PNG|RIFF.{4}WEBP|BM.{4}\0{4}|II\*\0|MM\0\*"
    rb"|\xff\x0a|\0{3}\x0c(JXL |jP  )",
    re.DOTALL,
)
"""How photos begin: AVIF, HEIC, CR3, JPEG, PNG, WebP, BMP, TIFF, JPEG XL, JPEG 2000. FFmpeg takes some for videos."""
_PHOTO_START_BYTES = 1 << 16
_MAX_PIXELS = 8192 * 4320
DECODER_OPTIONS = {"max_pixels": str(_MAX_PIXELS)}
"""The decoder itself refuses larger frames, before it makes room for them: later ones are not bound by the header."""

DECODING_ERRORS = (FFmpegError, EOFError, RuntimeError)
"""What PyAV raises on damaged data (RuntimeError: FFmpeg has no decoder for the stream)."""


class MediaFile:
    """A file, local, remote or in memory, that is opened as often as its parts are read. A context manager.

    Reads through Python's own file objects alone, so that FFmpeg opens nothing by itself. Threads may have it open at
    the same time.
    """

    def __init__(self, source: str | Path | bytes | ByteArray | BinaryIO, *, name: str | None = None) -> None:
        """Open `source`: a path or URI, the file's bytes, or a seekable binary file (left open at the end).

        Bytes in an array are read where they are, such as in an object store that several processes share.

        Args:
            source: where the bytes are.
            name: what errors call the file; the path by default.

        Raises:
            MediaError: there is no file, it cannot be read, or it is empty.
        """
        self._owned = not hasattr(source, "read")
        if isinstance(source, str | Path):
            self.name = name or str(source)
            self._handle = _open_uri(str(source), self.name)
        else:
            self.name = name or "the uploaded file"
            self._handle = _over_bytes(source) if isinstance(source, bytes | np.ndarray) else source
        self._lock = Lock()
        self._size = self._handle.seek(0, io.SEEK_END)
        if self._size == 0:
            self.close()
            raise MediaError(f"{self.name} is empty.")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close what `__init__` opened."""
        if self._owned:
            self._handle.close()

    @contextmanager
    def container(self) -> Generator[InputContainer]:
        """The file from its start, for PyAV.

        Raises:
            MediaError: it is no video and no sound file.
        """
        view = _View(self._handle, self._lock, self._size)
        start = view.read(_PHOTO_START_BYTES)
        if _PHOTO.match(start) and b"acTL" not in start:  # the mark of an animated PNG
            raise self.photo()
        view.seek(0)
        try:
            container = av.open(view, "r", options=DECODER_OPTIONS, container_options={"format_whitelist": _CONTAINERS})
        except (FFmpegError, EOFError, ValueError) as error:
            raise MediaError(
                f"{self.name} is not a video that can be read: its content is of no known video or sound format, or "
                "it is damaged or cut off where the format is described."
            ) from error
        with container:
            yield container

    def photo(self) -> MediaError:
        """The error that says so."""
        return MediaError(f"{self.name} is a photo, not a video.")


class _View:
    """A file of several readers, with a position for each."""

    def __init__(self, handle: BinaryIO, lock: Lock, size: int) -> None:
        self._handle, self._lock, self._size = handle, lock, size
        self._at = 0

    def read(self, size: int = -1) -> bytes:
        with self._lock:
            self._handle.seek(self._at)
            data = self._handle.read(size)
        self._at += len(data)
        return data

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._at = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        return self._at

    def tell(self) -> int:
        return self._at


def _over_bytes(source: bytes | ByteArray) -> BinaryIO:
    if isinstance(source, bytes):
        return io.BytesIO(source)
    import pyarrow as pa

    return cast(BinaryIO, pa.BufferReader(pa.py_buffer(source.data)))


def _open_uri(uri: str, name: str) -> BinaryIO:
    try:
        path = UPath(uri)
        remote = path.protocol not in ("", "file", "local")
        if remote and path.stat().st_size <= _READ_WHOLE_BYTES:
            return io.BytesIO(path.read_bytes())
        return path.open("rb")
    except FileNotFoundError as error:
        raise MediaError(f"{name} is not there.") from error
    except (OSError, ValueError) as error:
        raise MediaError(f"{name} cannot be opened: {error}.") from error


def has_decoder(stream: Stream) -> bool:
    """Whether FFmpeg knows the stream's codec."""
    return cast(Any, stream).codec_context is not None


def packets_of(container: InputContainer, *streams: Stream) -> "Iterator[Packet[Stream]]":
    """Packets of the streams, until the file ends or breaks; the last ones, empty, drain the decoders."""
    packets = container.demux(*cast(Any, streams))
    while True:
        try:
            yield next(packets)
        except StopIteration:
            return
        except (FFmpegError, EOFError, IndexError):  # IndexError: PyAV at the end, when streams turned up on the way
            yield Packet()  # what was read before the damage is still to be drained
            return


def read_only(container: InputContainer, *streams: Stream) -> None:
    """Skip the data of all other streams, in reading and in seeking."""
    wanted = {stream.index for stream in streams}
    for other in container.streams:
        other.discard = Discard.default if other.index in wanted else Discard.all


def seek(container: InputContainer, stream: Stream, tick: int) -> bool:
    """Go to the key frame of `stream` before `tick`; whether the container could."""
    try:
        container.seek(tick, stream=cast(Any, stream))
    except (FFmpegError, EOFError):
        return False
    return True

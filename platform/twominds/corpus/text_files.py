"""Text files as people save them: UTF-8 with or without a byte order mark, UTF-16 and UTF-32 with one.

Windows-1252, Latin-1 and the like cannot be told apart and are refused: a guess would spoil every accent.
"""

import codecs
import re
from collections.abc import Iterator

from upath import UPath

from twominds.errors import CorpusError

_MARKS = (  # UTF-32's little-endian mark begins like UTF-16's
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_HALF_CHARACTER = re.compile("[\ud800-\udfff]")
_UNDECODED = re.compile("[\udc80-\udcff]")
"""A byte that is no UTF-8, as Python's `surrogateescape` keeps it."""


def read_text(file: UPath) -> str:
    """The text of a file, its line ends as they are.

    Raises:
        CorpusError: the file is missing, or is in another encoding; names the file and the line.
    """
    text = decode(file)
    if found := _UNDECODED.search(text):
        check_decoded(text, f"{file}, line {text.count(chr(10), 0, found.start()) + 1}")
    return text


def decode(file: UPath) -> str:
    """As `read_text`, but bytes that are no UTF-8 stay in the text, for `check_decoded` to say where they are."""
    try:
        data = file.read_bytes()
    except FileNotFoundError as error:
        raise CorpusError(f"{file} is missing.") from error
    for mark, encoding in _MARKS:
        if data.startswith(mark):
            try:
                return data.decode(encoding)
            except UnicodeDecodeError as error:
                raise CorpusError(
                    f"{file} is cut off or damaged: it begins as {encoding.upper()}. {_ADVICE}"
                ) from error
    if b"\0" in data[:4]:
        raise CorpusError(f"{file} is not UTF-8, but UTF-16 without its byte order mark, or no text. {_ADVICE}")
    return data.decode("utf-8-sig", errors="surrogateescape")


_ADVICE = "Save it as UTF-8 (in Excel: `CSV UTF-8`)."


def is_decoded(text: str) -> bool:
    """Whether all of a text of `decode` was UTF-8."""
    return not _UNDECODED.search(text)


def check_decoded(text: str, where: str) -> None:
    """Refuses text of `decode` in which a byte is no UTF-8.

    Raises:
        CorpusError: names the byte; the message starts with `where`.
    """
    if found := _UNDECODED.search(text):
        byte = ord(found.group()) - 0xDC00
        raise CorpusError(f"{where}: the byte 0x{byte:02X} is not UTF-8 (perhaps Windows-1252 or Latin-1). {_ADVICE}")


def whole_characters(text: str) -> str:
    """Text without half characters, which cannot be written down; JSON holds them where an emoji was cut in two."""
    return _HALF_CHARACTER.sub("\ufffd", text)


def numbered_lines(text: str) -> Iterator[tuple[int, str]]:
    """The lines that are not blank, numbered from 1.

    A line ends at a line feed alone: Unicode's other separators, at which `str.splitlines` cuts, are part of what
    people said.
    """
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            yield number, line.rstrip("\r")

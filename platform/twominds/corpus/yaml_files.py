"""YAML as the BAH corpus writes it, read safely: plain data and one Python tag, `!!python/tuple`.

Any other tag is refused, so that nothing in a corpus file can make the reader run code.
"""

from collections.abc import Hashable, Mapping
from typing import Any, cast

import yaml
from upath import UPath

from twominds.corpus.text_files import read_text
from twominds.errors import CorpusError

# The C loader is about ten times faster, which the 91 MB of annotations need; it is not in every build of PyYAML.
_Base: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class _TupleLoader(_Base):  # a safe loader, and lists tagged !!python/tuple
    pass


def _tuple(loader: Any, node: yaml.Node) -> tuple[Any, ...]:
    return tuple(loader.construct_sequence(node, deep=True))


_TupleLoader.add_constructor("tag:yaml.org,2002:python/tuple", _tuple)


def read_yaml(path: UPath) -> object:
    """The plain data in a YAML file.

    Raises:
        CorpusError: the file is missing, is no YAML, or holds a tag other than `!!python/tuple`; names file and line.
    """
    text = read_text(path)
    try:
        return cast(object, yaml.load(text, Loader=_TupleLoader))
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"{path}, line {mark.line + 1}" if mark else str(path)
        raise CorpusError(f"{where}: cannot be read as plain YAML: {error.problem or error.context}.") from error
    except (yaml.YAMLError, ValueError) as error:
        raise CorpusError(f"{path}: cannot be read as plain YAML: {error}.") from error


def as_mapping(value: object, where: str) -> Mapping[str, object]:
    """`value` as a mapping with string keys.

    Raises:
        CorpusError: it is no mapping; the message starts with `where`.
    """
    if not isinstance(value, Mapping):
        raise CorpusError(f"{where}: expected a mapping, found {_kind(value)}.")
    return {str(key): item for key, item in cast(Mapping[Hashable, object], value).items()}


def as_sequence(value: object, where: str) -> tuple[object, ...]:
    """`value` as a tuple; None counts as empty.

    Raises:
        CorpusError: it is no list; the message starts with `where`.
    """
    if value is None:
        return ()
    if not isinstance(value, list | tuple):
        raise CorpusError(f"{where}: expected a list, found {_kind(value)}.")
    return tuple(cast(list[object], value))


def as_number(value: object, where: str) -> float:
    """`value` as a number.

    Raises:
        CorpusError: it is none; the message starts with `where`.
    """
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise CorpusError(f"{where}: expected a number, found {_kind(value)}.")
    try:
        return float(value)
    except ValueError as error:
        raise CorpusError(f"{where}: expected a number, found {value!r}.") from error


def as_text(value: object) -> str:
    """`value` as stripped text; None is empty."""
    return "" if value is None else str(value).strip()


def _kind(value: object) -> str:
    return "nothing" if value is None else f"a {type(value).__name__}"

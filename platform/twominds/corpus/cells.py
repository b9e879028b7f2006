"""What the cells of a table say: no value, text, a number, a time, a label, a split.

Tables come from Excel, pandas, SPSS and scripts, so a cell may be text, a number, a bool, NaN or a word for nothing.
What cannot be read is a `ValueError` whose words say what to write instead.
"""

import json
import math
import re

import numpy as np

from twominds.corpus.text_files import whole_characters
from twominds.records import FloatArray, Split
from twominds.tasks import Intensities, Task

SPLITS = {
    "train": Split.TRAIN,
    "training": Split.TRAIN,
    "val": Split.VALIDATION,
    "valid": Split.VALIDATION,
    "validation": Split.VALIDATION,
    "dev": Split.VALIDATION,
    "test": Split.TEST,
    "private": Split.PRIVATE,
}
_YES_NO = {"no": 0, "false": 0, "yes": 1, "true": 1}
_NO_VALUE = frozenset({"", "nan", "na", "n/a", "#n/a", "<na>", "nat", "none", "null"})
_MOST_CHARACTERS = 1024
_LARGEST = 1_000_000
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")
_DECIMAL_COMMA = re.compile(r"[+-]?\d*,\d+")


def is_missing(cell: object) -> bool:
    """Whether a cell of any kind holds nothing: None, or a NaN or NaT, which equals nothing."""
    return cell is None or (not isinstance(cell, np.ndarray) and cell != cell)


def is_empty(cell: object) -> bool:
    """Whether a cell that is no free text holds nothing: missing, blank, or a word that programs write for nothing."""
    return is_missing(cell) or (isinstance(cell, str) and cell.strip().casefold() in _NO_VALUE)


def text_of(cell: object) -> str:
    """A cell as stripped text; numbers that are whole without a decimal point, which pandas adds beside a gap."""
    if isinstance(cell, list | tuple | dict | bytes):
        raise ValueError("write text or a number, nothing nested")
    if isinstance(cell, float) and cell.is_integer():
        cell = int(cell)
    return whole_characters(str(cell)).strip()


def short_text_of(cell: object) -> str:
    """Text that names something: a clip, a person, a file."""
    text = text_of(cell)
    if len(text) > _MOST_CHARACTERS or "\0" in text:
        raise ValueError(f"write at most {_MOST_CHARACTERS} characters, none of them NUL")
    return text


def attribute_of(cell: object) -> str:
    """Any cell as text, lists and mappings as JSON; "" where it holds nothing."""
    if is_missing(cell):
        return ""
    if isinstance(cell, list | tuple | dict):
        return whole_characters(json.dumps(cell, ensure_ascii=False, default=str))
    return text_of(cell)


def split_of(cell: object) -> Split:
    """The split that a cell names."""
    name = text_of(cell).casefold()
    if name not in SPLITS:
        raise ValueError(f"write one of {', '.join(SPLITS)}")
    return SPLITS[name]


def label_of(cell: object, task: Task) -> int:
    """The class that a cell names: its name, its number, or yes or no where there are two."""
    text = text_of(cell).casefold()
    names = {name.casefold(): label for label, name in enumerate(task.names)}
    label = names.get(text, _YES_NO.get(text) if task.num_outputs == 2 else None)
    label = _whole(text) if label is None else label
    if label is None or label >= task.num_outputs:
        classes = [f"{number} ({name})" for number, name in enumerate(task.names)]
        raise ValueError(f"write {', '.join(classes[:-1])} or {classes[-1]}, and leave it empty where nobody annotated")
    return label


def question_of(cell: object) -> int:
    """The number of a question."""
    number = _whole(text_of(cell))
    if not number or number > _LARGEST:
        raise ValueError("write the question's number, a whole one from 1")
    return number


def intensity_of(cell: object, output: Intensities) -> float:
    """How much a cell says there is of something."""
    number = _number(cell)
    if not output.low <= number <= output.high:
        raise ValueError(f"write a number from {output.low:g} to {output.high:g}")
    return number


def vector_of(cell: object) -> FloatArray:
    """The list of numbers that a cell holds, or its JSON: float32 [D]."""
    try:
        numbers = np.asarray(json.loads(cell) if isinstance(cell, str) else cell)
    except (ValueError, RecursionError):  # no JSON, or lists of unequal lengths
        numbers = np.zeros(0)
    if numbers.ndim == 1 and len(numbers) and numbers.dtype.kind in "iuf":
        with np.errstate(over="ignore"):
            vector = numbers.astype(np.float32)
        if np.isfinite(vector).all():
            return vector
    raise ValueError("write a list of finite numbers, such as [0.12, -0.5]")


def seconds_of(cell: object) -> float:
    """The seconds since the video's beginning."""
    number = _number(cell)
    if number < 0:
        raise ValueError("write seconds since the video's beginning, from 0")
    return number


def frame_of(cell: object) -> int:
    """The number of a frame."""
    number = _whole(text_of(cell))
    if number is None or number > _LARGEST * 10:
        raise ValueError("write the frame's number, a whole one from 0")
    return number


def _number(cell: object) -> float:
    text = text_of(cell)
    if _DECIMAL_COMMA.fullmatch(text):
        raise ValueError("write a point instead of the decimal comma")
    if not _NUMBER.fullmatch(text) or not math.isfinite(number := float(text)):
        raise ValueError("write a number, such as 12.5")
    return number


def _whole(text: str) -> int | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return int(number) if number >= 0 and number.is_integer() else None

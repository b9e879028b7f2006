"""When tokens were said: from the times of words to those of the tokens that a tokenizer makes of them.

A transcript and its timed words need not be written alike ("Well, yes." and "well yes"): words are compared by their
letters and digits, in order. Of a few words with one time (a subtitle, a recogniser's segment) each has the share of it
that its characters have. A word that nobody timed is where it stands between its timed neighbours.
"""

import re
from collections.abc import Sequence
from difflib import SequenceMatcher

import numpy as np

from twominds.records import Times, Word

_WORD = re.compile(r"\S+")
_NOT_HEARD = re.compile(r"[\W_]+")


def token_times(transcript: str, offsets: Sequence[tuple[int, int]], words: Sequence[Word]) -> Times | None:
    """The middle of the word that each token belongs to: [L].

    Args:
        transcript: what was said.
        offsets: first character and end of each of L tokens; a special token is empty, and has the time of the first
            word before all others, of the last one after them.
        words: the text's words in time.

    Returns:
        None where none of the words is in the text.
    """
    said = [(match.start(), match.end(), _heard(match.group())) for match in _WORD.finditer(transcript)]
    timed = [(text, middle_s) for word in words for text, middle_s in _single(word)]
    ours, theirs = [text for _, _, text in said], [text for text, _ in timed]
    pairs = [
        (block.a + i, block.b + i)
        for block in SequenceMatcher(a=ours, b=theirs, autojunk=False).get_matching_blocks()
        for i in range(block.size)
        if ours[block.a + i]
    ]
    if not pairs:
        return None
    centres = np.array([(start + end) / 2 for start, end, _ in said])
    known = centres[[i for i, _ in pairs]]
    middles_s = np.interp(centres, known, np.array([timed[j][1] for _, j in pairs]))
    starts = np.array([start for start, _, _ in said])
    # By its last character: a token of some vocabularies has the space before it as its first.
    last = np.array([max(0, end - 1) for _, end in offsets])
    times_s = middles_s[np.maximum(0, np.searchsorted(starts, last, side="right") - 1)]
    real = np.flatnonzero([end > start for start, end in offsets])
    if len(real):
        times_s[: real[0]], times_s[real[-1] + 1 :] = middles_s[0], middles_s[-1]
    return times_s


def _single(word: Word) -> list[tuple[str, float]]:
    """Each single word of a timed one, as it is heard, and its middle."""
    length_s = (word.end_s - word.start_s) / max(1, len(word.text))
    found = [(_heard(match.group()), (match.start() + match.end()) / 2) for match in _WORD.finditer(word.text)]
    return [(text, word.start_s + middle * length_s) for text, middle in found if text]


def _heard(text: str) -> str:
    return _NOT_HEARD.sub("", text).casefold()

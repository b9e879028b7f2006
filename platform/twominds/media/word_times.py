"""When each word was said, by what a speech recogniser looked at when it wrote the word.

As in Whisper's own code (`whisper/timing.py`): the cross-attention of the heads that follow the sound is normalised
over the tokens, smoothed over time and averaged; the cheapest path through it that goes on in both, by dynamic time
warping, tells when each token begins. A word ends where the next one begins.
"""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from twominds.records import FloatArray

FRAME_S = 0.02
"""What one position of Whisper's encoder hears."""
_SPACE = "Ġ"
"""How a token begins that begins a word, in byte-level BPE."""


def token_starts_s(attention: FloatArray, *, smoothed_over: int = 7) -> npt.NDArray[np.float64]:
    """When tokens begin, in seconds from the first frame: [H, N, F] attention of H heads -> [N] ascending.

    Args:
        attention: what each head looked at, among F frames, when it wrote each of N tokens.
        smoothed_over: frames that a median is taken over.
    """
    spread = attention.std(axis=1, keepdims=True)
    level = (attention - attention.mean(axis=1, keepdims=True)) / np.where(spread > 0, spread, 1.0)
    side = smoothed_over // 2
    padded = np.pad(level.astype(np.float64), ((0, 0), (0, 0), (side, side)), mode="reflect")
    smooth = np.median(np.lib.stride_tricks.sliding_window_view(padded, smoothed_over, axis=2), axis=-1)
    return FRAME_S * _first_columns(-smooth.mean(axis=0)).astype(np.float64)


def word_ranges(tokens: Sequence[str]) -> list[range]:
    """Which tokens make up each word: one begins at every token that begins with a space, and at the first."""
    begins = [i for i, token in enumerate(tokens) if i == 0 or token.startswith(_SPACE)]
    return [range(begin, end) for begin, end in pairwise([*begins, len(tokens)])]


def _first_columns(cost: npt.NDArray[np.floating]) -> npt.NDArray[np.int64]:
    """[N]: where each row is entered by the cheapest path through [N, F] from corner to corner.

    A step goes to the next row, the next column, or both. One diagonal after the other is worked out at once.
    """
    rows, columns = cost.shape
    total = np.full((rows + 1, columns + 1), np.inf)
    total[0, 0] = 0.0
    came = np.zeros((rows, columns), np.int8)
    for diagonal in range(rows + columns - 1):
        row = np.arange(max(0, diagonal - columns + 1), min(rows - 1, diagonal) + 1, dtype=np.int64)
        column = diagonal - row
        before = np.stack([total[row, column], total[row, column + 1], total[row + 1, column]])
        came[row, column] = before.argmin(axis=0)
        total[row + 1, column + 1] = cost[row, column] + before.min(axis=0)
    firsts = np.zeros(rows, np.int64)
    place = rows - 1, columns - 1
    while place[0] >= 0:
        firsts[place[0]] = place[1]
        down, right = ((1, 1), (1, 0), (0, 1))[int(came[place])]
        place = place[0] - down, place[1] - right
    return firsts

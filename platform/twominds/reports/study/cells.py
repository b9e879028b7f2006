"""Numbers as cells of tables: in percent with two decimals, as papers print them; correlations times 100."""

from twominds.training.bootstrap import Difference, Estimate

NONE = "–"
"""In a cell that has nothing to say."""


def estimate(score: Estimate, digits: int = 2) -> str:
    """In percent, with its interval where there is one."""
    value, *ends = (f"{100 * share:.{digits}f}" for share in (score.value, *(score.interval or ())))
    return f"{value} [{', '.join(ends)}]" if ends else value


def difference(over: Difference | None) -> str:
    """In percentage points, with its interval where there is one."""
    if over is None:
        return NONE
    low, high = bounds(over)
    return f"{signed(over.value)} [{low}, {high}]" if low else signed(over.value)


def p_value(over: Difference | None) -> str:
    """The p value of a difference as text; a dash where there is no difference."""
    return NONE if over is None or over.p_value is None else f"{over.p_value:.3f}"


def bounds(of: Estimate | Difference) -> tuple[str, str]:
    """Of its interval, in percent; "" where there is none."""
    return ("", "") if of.interval is None else (f"{100 * of.interval[0]:.2f}", f"{100 * of.interval[1]:.2f}")


def percent(share: float | None, none: str = NONE) -> str:
    """A share in percent, as a table shows it."""
    return none if share is None else f"{100 * share:.2f}"


def points(number: float | None, none: str = NONE) -> str:
    """What is in percent already."""
    return none if number is None else f"{number:.2f}"


def signed(share: float | None) -> str:
    """A difference, in percentage points."""
    return NONE if share is None else f"{100 * share:+.2f}"

"""What a terminal shows of a search."""

from rich.table import Table

from twominds.search.outcomes import Outcome
from twominds.search.trial import Rules

SHOWN = 5
"""Best candidates in the table of a terminal."""


def best_table(finished: list[Outcome], rules: Rules) -> Table:
    """The best finished candidates, and the settings in which they differ most visibly."""
    table = Table("rank", "MF1", "candidate")
    for rank, outcome in enumerate(sorted(finished, key=rules.rank, reverse=True)[:SHOWN], start=1):
        table.add_row(str(rank), score_text(outcome), _settings(outcome))
    return table


def score_text(outcome: Outcome) -> str:
    """The mean over the seeds, and how far they spread."""
    return f"{outcome.mean:.3f}" + (f" +- {outcome.std:.3f}" if len(outcome.results) > 1 else "")


def _settings(outcome: Outcome) -> str:
    candidate = outcome.candidate
    told = ("hidden_dim", "num_layers", "dropout", "optimizer", "learning_rate")
    names = [name for name in told if name in candidate] if "hidden_dim" in candidate else list(candidate)
    values = {name: candidate[name] for name in names}
    return ", ".join(f"{n} {v:.3g}" if isinstance(v, float) else f"{n} {v}" for n, v in values.items())

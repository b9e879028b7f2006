"""What a job tells a person at its end: what it did, where that is, and what to run next."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from twominds.records import Failure

SHOWN_FAILURES = 10


@dataclass(kw_only=True)
class Summary:
    """The end of a job. Clips are named only by count and reason: logs hold nothing personal."""

    title: str
    where: str
    """Where the result is."""
    facts: list[tuple[str, str]] = field(default_factory=list[tuple[str, str]])
    failures: list[Failure] = field(default_factory=list[Failure])
    notes: Sequence[str] = ()
    """What a person should know of what went in: sentences."""
    tables: list[Table] = field(default_factory=list[Table])
    next_step: str = ""
    """The command to run next."""

    def add(self, what: str, value: object) -> None:
        """Adds one line."""
        self.facts.append((what, str(value)))

    def show(self, console: Console | None = None) -> None:
        """Prints the summary."""
        console = console or Console()
        console.rule(f"[bold]{self.title}")
        for table in self.tables:
            console.print(table)
        width = max((len(what) for what, _ in self.facts), default=0)
        for what, value in self.facts:
            console.print(f"  {what.ljust(width)}  {escape(value)}", highlight=False, soft_wrap=True)
        for stage, reason, count in commonest(self.failures):
            console.print(f"  [yellow]{count} x {stage}[/yellow]: {escape(reason)}", highlight=False, soft_wrap=True)
        for note in self.notes:
            console.print(f"  [yellow]note[/yellow]:   {escape(note)}", highlight=False, soft_wrap=True)
        console.print(f"  [green]result[/green]: {escape(self.where)}", highlight=False, soft_wrap=True)
        if self.next_step:
            console.print(f"  [green]next[/green]:   {escape(self.next_step)}", highlight=False, soft_wrap=True)


def commonest(failures: Sequence[Failure]) -> list[tuple[str, str, int]]:
    """The stages and reasons that most clips failed at and for, with how many, the most first."""
    counts = Counter((failure.stage, failure.reason) for failure in failures)
    return [(stage, reason, count) for (stage, reason), count in counts.most_common(SHOWN_FAILURES)]

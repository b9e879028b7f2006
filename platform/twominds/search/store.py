"""Where a search rests. What is in here is all that is known of it: whoever goes on with it needs nothing else.

search.json                      what is searched, as the last start had it
outcomes/<hash>.json             what became of a candidate
candidates/<hash>/begun.json     a candidate's settings, from when it was begun
candidates/<hash>/seed-*.json    what a finished seed came to, and beside it its model
incidents/                       what went wrong and was survived
tune/<start>/                    Ray Tune's own files of each start, for TensorBoard; nobody here reads them
"""

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from upath import UPath

from twominds.artifacts import from_json, to_json
from twominds.recipes.space import Candidate
from twominds.search.candidate import CandidateStore, SeedResult
from twominds.search.outcomes import Incident, Outcome
from twominds.storage import files_in, read_if_there, write_whole

BEGUN, DESCRIPTION = "begun.json", "search.json"


@dataclass(frozen=True, kw_only=True)
class Begun:
    """That a candidate is tried."""

    candidate: Candidate
    began: float
    """Seconds since 1970."""
    times: int = 1
    """How often it was begun: more than once where what tried it died."""


class SearchStore:
    """The state of one search, local or on an object store. Processes on any node may hold one each."""

    def __init__(self, uri: str) -> None:
        """Takes the search's folder."""
        self.uri = uri
        self._read: dict[str, Outcome] = {}  # an outcome never changes

    def candidate(self, candidate: Candidate) -> CandidateStore:
        """Where the seeds of a candidate rest."""
        return CandidateStore(self.uri, candidate)

    def begin(self, candidate: Candidate) -> float:
        """Notes that a candidate is tried, perhaps again; returns when it was begun first."""
        begun = self.begun(candidate)
        begun = (
            Begun(candidate=candidate, began=time.time()) if begun is None else replace(begun, times=begun.times + 1)
        )
        write_whole(self.candidate(candidate).folder / BEGUN, json.dumps(to_json(begun)).encode())
        return begun.began

    def begun(self, candidate: Candidate) -> Begun | None:
        """Since when a candidate is tried, if it is."""
        payload = read_if_there(self.candidate(candidate).folder / BEGUN)
        return None if payload is None else from_json(Begun, json.loads(payload))

    def results(self, candidate: Candidate, seeds: Sequence[int]) -> tuple[SeedResult, ...]:
        """Results of those seeds of a candidate that are done."""
        found = (self.candidate(candidate).result(seed) for seed in seeds)
        return tuple(result for result in found if result is not None)

    def end(self, outcome: Outcome) -> None:
        """Notes what became of a candidate."""
        write_whole(self._outcome(outcome.candidate), json.dumps(to_json(outcome), allow_nan=False).encode())

    def outcome(self, candidate: Candidate) -> Outcome | None:
        """What became of a candidate, if it is over."""
        return self._load(self._outcome(candidate))

    def outcomes(self) -> list[Outcome]:
        """Outcomes of the candidates that are over, in the order in which they ended."""
        found = [self._load(path) for path in files_in(f"{self.uri}/outcomes", "*.json")]
        return sorted((outcome for outcome in found if outcome is not None), key=lambda outcome: outcome.over)

    def unfinished(self) -> list[Candidate]:
        """Candidates that were begun and are not over, the earliest first."""
        over = {path.stem for path in files_in(f"{self.uri}/outcomes", "*.json")}
        paths = [p for p in files_in(f"{self.uri}/candidates", f"*/{BEGUN}") if p.parent.name not in over]
        found = [from_json(Begun, json.loads(path.read_text())) for path in paths]
        return [begun.candidate for begun in sorted(found, key=lambda begun: begun.began)]

    def keep_models_of(self, candidates: Sequence[Candidate]) -> None:
        """Forgets the models (not the results) of all that is over but these."""
        kept = {self.candidate(candidate).folder.name for candidate in candidates}
        for outcome in self.outcomes():
            store = self.candidate(outcome.candidate)
            if store.folder.name not in kept:
                store.drop_models()

    def note(self, cause: str) -> None:
        """Keeps what went wrong for the report."""
        now = time.time()
        write_whole(UPath(self.uri) / "incidents" / f"{now:.6f}.json", json.dumps({"at": now, "cause": cause}).encode())

    def incidents(self) -> list[Incident]:
        """All that was noted, in order."""
        return [Incident(**json.loads(path.read_text())) for path in files_in(f"{self.uri}/incidents", "*.json")]

    def describe(self, **facts: Any) -> None:
        """Keeps what this start searches, for a report without one."""
        write_whole(UPath(self.uri) / DESCRIPTION, json.dumps(facts, indent=2).encode())

    def description(self) -> dict[str, Any]:
        """What the last start searched; empty where there was none."""
        return json.loads(read_if_there(UPath(self.uri) / DESCRIPTION) or b"{}")

    def _outcome(self, candidate: Candidate) -> UPath:
        return UPath(self.uri) / "outcomes" / f"{self.candidate(candidate).folder.name}.json"

    def _load(self, path: UPath) -> Outcome | None:
        key = str(path)
        if key not in self._read and (payload := read_if_there(path)) is not None:
            self._read[key] = from_json(Outcome, json.loads(payload))
        return self._read.get(key)

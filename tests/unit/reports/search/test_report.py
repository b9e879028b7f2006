"""A search's report against a small search worked out by hand."""

import base64
import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from typing import Any
from xml.etree import ElementTree

import pyarrow as pa
import pytest
from upath import UPath

from twominds.recipes.space import Candidate, Choice, LogUniform, SearchSpace, Uniform
from twominds.reports.search.costs import saved_s, search_costs
from twominds.reports.search.protocol import banners, protocol
from twominds.reports.search.report import FILES, trials_rows, write_search_report
from twominds.reports.search.scales import Scale, broken, floor_of
from twominds.reports.search.tables import (
    best_so_far,
    cost_cells,
    ending_cells,
    facts,
    failure_cells,
    incident_cells,
    ranking_cells,
    setting_cells,
)
from twominds.search.candidate import SeedResult
from twominds.search.outcomes import Incident, Outcome, SearchResults

ODD = "<script>alert('1')</script> & $x_1$"
EVEN = [0.60 + 0.01 * i for i in range(12)]
NODE_HOUR_S = 4 * 3600.0
"""Of a candidate that takes a quarter of a node."""
FIGURES = ["best-so-far", "parallel", "effects", "seeds", "ended", "cost"]

SPACE: SearchSpace = {
    "hidden_dims": Choice(values=((64,), (64, 64))),
    "dropout": Uniform(low=0.0, high=0.5),
    "learning_rate": LogUniform(low=1e-4, high=1e-2),
    ODD: Choice(values=("a", ODD)),
}


def trained(seed: int, mf1: float, node_hours: float, epochs: int = 10, loss: float = 0.5) -> SeedResult:
    return SeedResult(
        seed=seed,
        validation_score=mf1,
        validation_loss=loss,
        selection_score=mf1,
        selection_loss=loss,
        best_epoch=epochs // 2,
        epochs=epochs,
        seconds=node_hours * NODE_HOUR_S,
    )


def settings(number: int, space: SearchSpace = SPACE) -> Candidate:
    candidate: Candidate = {}
    for name, dimension in space.items():
        if isinstance(dimension, Choice):
            candidate[name] = dimension.values[number % len(dimension.values)]
        else:
            candidate[name] = dimension.low + (dimension.high - dimension.low) * (number % 7 + 0.5) / 7
    return candidate


def outcome(number: int, *results: SeedResult, space: SearchSpace = SPACE, **others: Any) -> Outcome:
    given: dict[str, Any] = {"status": "finished", "began": 1000.0 * number, "over": 1000.0 * number + 500, **others}
    return Outcome(candidate=settings(number, space), results=results, **given)


FIRST = outcome(1, trained(1, 0.60, 1, 10), trained(2, 0.70, 3, 20))
REACH = outcome(2, trained(1, 0.50, 2), status="ended", rule="reach", reason="It can't win.")
FAILED = outcome(3, status="failed", reason=ODD)
BEST = outcome(4, trained(1, 0.72, 1, 30), trained(2, 0.70, 1, 40))
MEDIAN = outcome(
    5, status="ended", rule="median", unfinished_epochs=5, unfinished_s=NODE_HOUR_S / 2, unfinished_score=0.9
)
LAST = outcome(6, trained(1, 0.61, 1, 20), trained(2, 0.61, 1, 30))
INCIDENT = Incident(at=0.0, cause="A node was lost.")
RESULTS = SearchResults(
    recipe="r/fusion",
    description="a fusion",
    space=SPACE,
    seeds=(1, 2),
    sampler="hyperopt",
    std_penalty=0.0,
    selected_on="validation",
    weights="published",
    planned=6,
    outcomes=(FIRST, REACH, FAILED, BEST, MEDIAN, LAST),
    incidents=(INCIDENT, Incident(at=3600.0, cause=ODD), replace(INCIDENT, at=7260.0)),
    node_share=0.25,
)


class Page(HTMLParser):
    """Everything that a browser would load or run."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    @property
    def figures(self) -> list[str | None]:
        return [attributes["id"] for tag, attributes in self.tags if tag == "figure"]


def written(results: SearchResults, name: str) -> tuple[str, dict[str, Any]]:
    """The page and the JSON. Not on a disk: to the report an object store is like any folder."""
    folder = UPath(f"memory://search-report/{name}")
    write_search_report(results, str(folder))
    return (folder / "report.html").read_text(), json.loads(
        (folder / "results.json").read_text(), parse_constant=refuse
    )


def refuse(constant: str) -> Any:
    raise AssertionError(f"{constant} is not JSON")


@pytest.fixture(scope="module")
def whole() -> tuple[str, dict[str, Any]]:
    return written(RESULTS, "whole")


def test_best_so_far_is_of_candidates_with_every_seed() -> None:
    """What was ended early is left out, though the last of them stood at 0.9."""
    assert best_so_far(RESULTS) == pytest.approx([0.65, 0.65, 0.65, 0.71, 0.71, 0.71])
    assert best_so_far(replace(RESULTS, outcomes=RESULTS.outcomes[1:4])) == [None, None, pytest.approx(0.71)]
    # Each minus twice its deviation: 0.65 - 2 x 0.05, 0.71 - 2 x 0.01, 0.61 - 0.
    penalised = best_so_far(replace(RESULTS, std_penalty=2.0))
    assert penalised == pytest.approx([0.55, 0.55, 0.55, 0.69, 0.69, 0.69])


def test_costs_by_hand() -> None:
    costs = search_costs(RESULTS)
    spent = {status: (of.candidates, of.seeds, of.node_hours) for status, of in costs.spent.items()}
    assert spent == {"finished": (3, 6, 8.0), "ended": (2, 1, 2.5), "failed": (1, 0, 0.0)}
    # Reach: one more seed like its first, 2. Median: its epochs take 0.1; finished seeds have 10, 20, 20, 30, 30 and
    # 40, so 25 at the median; two seeds of 2.5, of which 0.5 was trained.
    by_rule = {ending.rule: ending for ending in costs.endings}
    assert [ending.seeds_done for ending in costs.endings] == [0, 1]
    assert (by_rule["reach"].seeds_saved, by_rule["reach"].node_hours_saved) == (1, pytest.approx(2.0))
    assert (by_rule["median"].seeds_saved, by_rule["median"].node_hours_saved) == (2, pytest.approx(4.5))
    assert (costs.node_hours, costs.node_hours_saved) == (10.5, pytest.approx(6.5))
    assert (costs.seeds_saved, costs.unknown) == (3, 0)


def test_a_broken_off_seed_saves_only_its_rest() -> None:
    ended = replace(REACH, results=(trained(1, 0.5, 2),), unfinished_epochs=3, unfinished_s=0.5 * NODE_HOUR_S)
    three = replace(RESULTS, seeds=(1, 2, 3))
    assert saved_s(ended, RESULTS) == pytest.approx(1.5 * NODE_HOUR_S)
    assert saved_s(ended, three) == pytest.approx(3.5 * NODE_HOUR_S)
    slow = replace(ended, unfinished_s=9 * NODE_HOUR_S)  # longer than a whole seed was thought to be
    assert saved_s(slow, RESULTS) == 0.0
    assert saved_s(slow, three) == pytest.approx(2 * NODE_HOUR_S)


def test_what_nobody_can_tell_is_not_counted_as_saved() -> None:
    costs = search_costs(replace(RESULTS, outcomes=(REACH, MEDIAN)))  # nothing finished says how many epochs there are
    assert (costs.unknown, costs.node_hours_saved) == (1, pytest.approx(2.0))
    assert saved_s(replace(MEDIAN, unfinished_epochs=0, unfinished_s=0.0), RESULTS) is None
    assert ending_cells(costs)[1][0][-1] == "0 (1 unknown)"


def test_rows_are_flat_and_a_score_needs_every_seed() -> None:
    rows = trials_rows(RESULTS)
    assert [row["score"] for row in rows] == [
        *(pytest.approx(0.65), None, None),
        *(pytest.approx(0.71), None, pytest.approx(0.61)),
    ]
    first, reach, failed, _, median, _ = rows
    assert (first["mean_score"], first["std_score"]) == (pytest.approx(0.65), pytest.approx(0.05))
    assert (first["score_seed_1"], first["score_seed_2"], first["best_epoch"]) == (0.60, 0.70, 7.5)
    assert (first["hidden_dims"], first["dropout"]) == ("(64, 64)", pytest.approx(0.5 * 1.5 / 7))
    assert (reach["mean_score"], reach["score_seed_2"], reach["seeds_done"], reach["rule"]) == (0.5, None, 1, "reach")
    assert (failed["status"], failed["reason"], failed["mean_score"], failed["seconds"]) == ("failed", ODD, None, 0.0)
    assert (median["seconds"], median["best_epoch"], median["std_score"]) == (NODE_HOUR_S / 2, None, None)
    assert (median["began"], median["over"]) == (5000.0, 5500.0)
    table = pa.Table.from_pylist(rows)
    assert table.num_rows == 6
    assert set(table.column_names) == set().union(*rows)
    assert trials_rows(replace(RESULTS, outcomes=())) == []


def test_tables_by_hand() -> None:
    costs = search_costs(RESULTS)
    assert facts(RESULTS, costs)[1:] == [
        ("Candidates", "3 finished, 2 ended early, 1 failed; 6 planned"),
        ("Best mean MF1", "71.00 ± 1.00 over 2 seeds on validation (candidate 4)"),
        ("Cost", "10.5 node-hours; ending candidates early saved about 6.5 more"),
    ]
    _, ranking = ranking_cells(RESULTS)
    assert ranking[0] == ["1", "4", "71.00 ± 1.00", "72.00", "70.00", "15, 20", "2.0"]
    assert [row[1] for row in ranking] == ["4", "1", "6"]
    assert ending_cells(costs)[1] == [
        ["0", "below the median", "1", "2", "4.5"],
        ["1", "out of reach", "1", "1", "2.0"],
        ["all", "", "2", "3", "6.5"],
    ]
    assert [row[1:] for row in cost_cells(costs)[1]] == [
        *(["3", "6", "8.0"], ["2", "1", "2.5"], ["1", "0", "0"], ["6", "7", "10.5"], ["6", "10", "17.0"]),
    ]
    two_alike = replace(RESULTS, outcomes=(FAILED, replace(FAILED, candidate=settings(9)), replace(FAILED, reason="x")))
    assert failure_cells(two_alike)[1] == [["2", ODD], ["1", "x"]]
    assert incident_cells(RESULTS)[1] == [
        ["2", "A node was lost.", "1970-01-01 00:00", "1970-01-01 02:01"],
        ["1", ODD, "1970-01-01 01:00", "1970-01-01 01:00"],
    ]
    assert setting_cells(RESULTS)[1][:3] == [
        ["hidden_dims", "(64,)", "(64,), (64, 64)"],
        ["dropout", "0.3214", "0 to 0.5"],
        ["learning_rate", "0.006464", "1e-4 to 0.01, logarithmic"],
    ]


def test_page_is_self_contained_and_has_every_figure(whole: tuple[str, dict[str, Any]]) -> None:
    text, _ = whole
    page = Page(text)
    assert page.figures == FIGURES
    assert not {"script", "link", "iframe", "object"} & {tag for tag, _ in page.tags}
    images = [attributes for tag, attributes in page.tags if tag == "img"]
    start = "data:image/svg+xml;base64,"
    assert all((image["src"] or "").startswith(start) for image in images)
    assert not re.search(r"(?:src|href|url)\s*[=(]\s*[\"']?https?:", text)
    for image in images:
        svg = ElementTree.fromstring(base64.b64decode((image["src"] or "").removeprefix(start)))
        assert svg.tag.endswith("svg")
        assert not {tag.tag.rpartition("}")[2] for tag in svg.iter()} & {"script", "foreignObject"}
        links = [value for tag in svg.iter() for name, value in tag.attrib.items() if name.endswith("href")]
        assert all(link.startswith(("#", "data:")) for link in links)
    alts = {name: image["alt"] or "" for name, image in zip(FIGURES, images, strict=True)}
    assert "65.00 from candidate 1, 71.00 from candidate 4; 2 were ended early" in alts["best-so-far"]
    assert "The best is candidate 4" in alts["parallel"]
    assert "hidden_dims: (64,) 66.00 (2), (64, 64) 65.00 (1)" in alts["effects"]
    assert "candidate 4 71.00 ± 1.00; candidate 1 65.00 ± 5.00" in alts["seeds"]
    assert "1 after 0 (below the median); 1 after 1 (out of reach)" in alts["ended"]
    assert "finished 8.0, ended early 2.5, failed 0" in alts["cost"]
    identifiers = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(identifiers) == len(set(identifiers))


def test_page_escapes_and_says_what_a_reader_must_know(whole: tuple[str, dict[str, Any]]) -> None:
    text, _ = whole
    assert text.count("&lt;script&gt;alert(") >= 3  # a setting, a reason, an incident
    order = ["<h1>", 'role="alert"', "<dl>", 'id="settings"', *(f'figure id="{name}"' for name in FIGURES[:4])]
    order += ['id="ranking"', 'id="endings"', 'id="costs"', 'id="failures"', 'id="incidents"', "Protocol</h2>"]
    places = [text.index(part) for part in order]
    assert places == sorted(places)
    assert "marginal" in text
    assert "(estimate)" in text


def test_json_holds_every_number(whole: tuple[str, dict[str, Any]]) -> None:
    _, found = whole
    assert (found["best"], found["ranking"], found["complete"]) == (4, [4, 1, 6], True)
    assert found["best_so_far"] == pytest.approx([0.65, 0.65, 0.65, 0.71, 0.71, 0.71])
    assert found["candidates"][0]["results"][1]["selection_score"] == 0.70
    assert found["candidates"][0]["candidate"]["hidden_dims"] == [64, 64]
    assert found["candidates"][4]["trial"]["score"] is None
    assert found["costs"]["node_hours_saved"] == pytest.approx(6.5)
    assert found["costs"]["spent"]["ended"]["node_hours"] == 2.5
    assert found["space"]["learning_rate"] == {"kind": "LogUniform", "low": 1e-4, "high": 1e-2}
    assert found["incidents"][0] == {"at": 0.0, "cause": "A node was lost."}


def test_a_number_that_is_not_finite_is_null() -> None:
    infinite = outcome(1, trained(1, 0.6, 1, loss=float("inf")), trained(2, 0.7, 1))
    _, found = written(replace(RESULTS, outcomes=(infinite,)), "infinite")
    assert [result["selection_loss"] for result in found["candidates"][0]["results"]] == [None, 0.5]


def test_files_and_same_bytes(whole: tuple[str, dict[str, Any]]) -> None:
    assert sorted(path.name for path in UPath("memory://search-report/whole").iterdir()) == sorted(FILES)
    assert written(RESULTS, "again") == whole


def test_banners_in_order() -> None:
    assert banners(replace(RESULTS, incidents=())) == []
    assert banners(RESULTS) == ["Incidents: 3 times something went wrong, and the search went on."]
    beware = replace(RESULTS, weights="debug", selected_on="validation+test", planned=40, incidents=(INCIDENT,))
    debug, optimistic, incomplete, incident = banners(beware)
    assert debug.startswith("Debug weights")
    assert optimistic.startswith("Selected on validation+test")
    assert "optimistic" in optimistic
    assert incomplete.startswith("Not complete: 6 of 40 candidates are over.")
    assert incident == "Incidents: once something went wrong, and the search went on."
    assert any("No winner" in text for text in banners(replace(RESULTS, outcomes=(REACH,))))


def test_protocol_says_how_candidates_are_scored_ended_and_selected() -> None:
    said = " ".join(protocol(RESULTS))
    for part in ("same seeds (1, 2)", "Only a candidate with every seed can win", "25 % of one", "TPE"):
        assert part in said
    assert "out of reach (1)" in said
    assert "below the median (1)" in said
    assert "no test label was read" in said
    assert "minus" not in said
    other = replace(RESULTS, std_penalty=0.5, selected_on="validation+test", outcomes=(FIRST,), sampler="random")
    said = " ".join(protocol(other))
    assert "minus 0.5 times their standard deviation" in said
    assert "no test label was read" not in said
    assert "No rule ended a candidate" in said


CHOICES: SearchSpace = {"optimizer": Choice(values=("adamw", "sgd")), "use_cls": Choice(values=(False, True))}
LONG: SearchSpace = {
    "a_setting_with_a_name_that_goes_on_for_as_long_as_anybody_could_want_it_to": Uniform(low=1.0, high=1.0),
    "w" * 50: Choice(values=tuple(f"{'value' * 12}{i}" for i in range(30))),
    "one": Choice(values=("only",)),
}
ONE_SEED = replace(RESULTS, seeds=(1,), outcomes=(outcome(1, trained(1, 0.6, 1)), outcome(2, trained(1, 0.7, 1))))
ALONE = replace(RESULTS, outcomes=(FIRST,))


def small(space: SearchSpace) -> SearchResults:
    finished = [outcome(i, trained(1, 0.6, 1), trained(2, 0.6, 1), space=space) for i in range(3)]
    ended = outcome(3, trained(1, 0.5, 1), space=space, status="ended", rule="reach")
    return replace(RESULTS, space=space, outcomes=(*finished, ended))


EDGES: dict[str, tuple[SearchResults, list[str]]] = {
    "nothing": (replace(RESULTS, outcomes=()), []),
    "only failed": (replace(RESULTS, outcomes=(FAILED,)), ["best-so-far"]),
    "none finished": (replace(RESULTS, outcomes=(REACH, FAILED, MEDIAN)), ["best-so-far", "parallel", "ended", "cost"]),
    "no score at all": (
        replace(RESULTS, outcomes=(replace(MEDIAN, unfinished_score=None),)),
        FIGURES[:2] + FIGURES[4:],
    ),
    "alone": (ALONE, ["best-so-far", "parallel", "effects", "seeds", "cost"]),
    "one seed": (ONE_SEED, ["best-so-far", "parallel", "effects", "cost"]),
    "choices, equal scores": (small(CHOICES), FIGURES),
    "long names": (small(LONG), FIGURES),
    "no settings": (small({}), ["best-so-far", "seeds", "ended", "cost"]),
    "penalty": (replace(RESULTS, std_penalty=1.0), FIGURES),
}


@pytest.mark.parametrize("name", EDGES)
@pytest.mark.filterwarnings("error")  # a layout that does not fit, or a limit that is none
def test_edges(name: str) -> None:
    results, figures = EDGES[name]
    text, found = written(results, name.replace(" ", "-"))
    assert Page(text).figures == figures
    assert len(found["candidates"]) == len(results.outcomes)


def test_one_seed_has_no_spread() -> None:
    best = dict(facts(ONE_SEED, search_costs(ONE_SEED)))["Best mean MF1"]
    assert best == "70.00 over 1 seed on validation (candidate 2)"


def test_where_values_stand_on_an_axis() -> None:
    log, linear = Scale(LogUniform(low=1e-4, high=1e-2)), Scale(Uniform(low=2.0, high=4.0))
    assert log.position(1e-3) == pytest.approx(0.5)
    assert log.ticks == [(0.0, "1e-4"), (pytest.approx(0.5), "0.001"), (1.0, "0.01")]
    assert linear.position(3.5) == pytest.approx(0.75)
    assert [text for _, text in linear.ticks] == ["2", "3", "4"]
    tuples = Scale(Choice(values=((1000, 2000), (7,), "b" * 40)))
    assert tuples.ticks == [(0.0, "1000·2000"), (0.5, "7"), (1.0, "bbbbbb…bbbbbbb")]
    assert len(Scale(Choice(values=tuple(range(100)))).ticks) <= 12
    assert Scale(Choice(values=("only",))).position("only") == Scale(Uniform(low=1, high=1)).position(1) == 0.5


def test_few_that_collapsed_do_not_squash_the_rest() -> None:
    assert floor_of([0.34, 0.70, 0.71]) == 0.34  # too few to call one an outlier
    # Quartiles 0.695 and 0.715, so the fence is at 0.635.
    assert floor_of([0.34, 0.69, 0.70, 0.71, 0.72, 0.70, 0.71]) == 0.69
    assert floor_of([0.5] + [0.7] * 9) == 0.5  # no spread, no outlier
    collapsed = [outcome(i, trained(1, mf1, 1), trained(2, mf1, 1)) for i, mf1 in enumerate([0.3, *EVEN])]
    text, _ = written(replace(RESULTS, outcomes=tuple(collapsed)), "collapsed")
    assert "1 with less than 60.0 %, which the means leave out" in text
    assert "Scores below 60.0 stand at the lower end" in text


def test_long_names_are_broken_and_stay_whole() -> None:
    assert broken("prototype_temperature") == "prototype_\ntemperature"
    lines = broken("w" * 25 + "_x").splitlines()
    assert "".join(lines) == "w" * 25 + "_x"
    assert max(len(line) for line in lines) <= 11

"""Which parts a study makes and which it finds again, with stand-ins for the jobs that make them."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import torch
from rich.console import Console
from upath import UPath

from twominds import artifacts
from twominds.artifacts import Card, fingerprint, to_json
from twominds.backbones import BACKBONES, BackboneStore, BundleEntry, add_to_bundle
from twominds.errors import BackboneError
from twominds.pipelines.embed import EmbedConfig
from twominds.pipelines.preprocess import PreprocessConfig, features_fingerprint
from twominds.pipelines.study import parts as study_parts
from twominds.pipelines.study.parts import Made, PartsMaker, StudyConfig, Unmade
from twominds.pipelines.train import TrainConfig
from twominds.recipes.catalog import find_recipe, find_study
from twominds.recipes.recipe import WHISPER, Recipe
from twominds.records import Clip, Modality, Split, View, clip_labels
from twominds.reports.study.rows import StudyPart
from twominds.results import tables
from twominds.results.about import ABOUT, About, absolute, claim_folder, read_about
from twominds.tasks import AH_VIDEO

SCENE, FACE, AUDIO, TEXT = Modality


def bundle(folder: Path, roles: Sequence[str]) -> str:
    """Every role is named; nothing of it is loaded here."""
    for role in roles:
        (folder / "files").mkdir(parents=True)
        (folder / "files" / "weights").write_text(role)
        entry = BundleEntry(weights="published", hub_id=None, revision="x", licence="x")
        add_to_bundle(str(folder / "bundle"), role, folder / "files", entry)
    return str(folder / "bundle")


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> str:
    return bundle(tmp_path_factory.mktemp("models"), [role for role in BACKBONES if role != WHISPER])


@dataclass
class Jobs:
    """Stand-ins for the three jobs: they claim and leave their folders as the real ones do, and note what they made."""

    labels: dict[str, dict[Split, int]] = field(default_factory=dict[str, dict[Split, int]])
    """Of each corpus the label of its one clip per split."""
    asked: list[tuple[str, ...]] = field(default_factory=list[tuple[str, ...]])
    passes: list[tuple[str, ...]] = field(default_factory=list[tuple[str, ...]])
    """The modalities of every pass over the videos that made something."""
    trained: list[str] = field(default_factory=list[str])
    embedded: list[str] = field(default_factory=list[str])
    weights_from: dict[tuple[str, int | None], str] = field(default_factory=dict[tuple[str, int | None], str])
    """Where a joint training was told to find its weights, by recipe and seed."""

    def preprocess(self, config: PreprocessConfig) -> None:
        recipe, store = find_recipe(config.recipe), BackboneStore(uri=config.models)
        if config.detector:
            recipe = replace(recipe, media=replace(recipe.media, detector=config.detector))
        config = replace(config, views=config.views or recipe.views)
        parts = {view: features_fingerprint(recipe, store, view) for view in config.views}
        about = About(
            recipe=recipe.name,
            corpus=absolute(config.corpus),
            models=config.models,
            media=recipe.media,
            parts=parts,
            purpose=config.purpose,
            pooled=config.pooled or recipe.fusion.takes_pooled or has_pooled(config.output),
            fingerprint=fingerprint(parts),
        )
        claim_folder(config.output, about)
        self.asked.append(config.views)
        file = Path(config.output) / "clips.parquet"
        if not file.exists():
            self.passes.append(config.views)
            labels = self.labels.get(config.corpus, {Split.TRAIN: 0, Split.VALIDATION: 1, Split.TEST: 1})
            clips = [
                Clip(clip_id=f"{s}-clip", video_uri="", split=s, labels=clip_labels(label))
                for s, label in labels.items()
            ]
            pq.write_table(tables.clips_to_table(clips), file)

    def train_several(self, configs: Sequence[TrainConfig], weights_from: Sequence[str] = ()) -> list[str]:
        made = [UPath(config.output).name for config in configs]
        for config, source in zip(configs, weights_from, strict=True):
            if source:
                assert UPath(source).name in made[: made.index(UPath(config.output).name)], "it comes before"
                self.weights_from[config.recipe, config.seed] = source
        return [self.train_encoders(config) for config in configs]

    def train_encoders(self, config: TrainConfig) -> str:
        recipe, about = find_recipe(config.recipe), read_about(config.features)
        views = config.views or recipe.views
        if not Path(config.output).exists():
            self.trained.append(f"{', '.join(views)} of {recipe.name}")
            for view in views:
                settings = [to_json(recipe.encoders[view]), about.parts[view], config.output, about.corpus]
                card = Card(kind="encoder", task=AH_VIDEO, recipe=recipe.name, config={"made of": settings})
                card = replace(card, selected_on=config.protocol)
                artifacts.save(f"{config.output}/{view}", {"w": torch.zeros(1)}, card)
        return ""

    def embed_features(self, config: EmbedConfig) -> None:
        if not Path(config.output).exists():
            self.embedded.append(", ".join(config.views))
        parts = {view: artifacts.read_card(f"{config.encoders}/{view}").artifact_id for view in config.views}
        claim_folder(config.output, replace(read_about(config.features), parts=parts, fingerprint=fingerprint(parts)))

    def forget(self) -> None:
        for made in (self.asked, self.passes, self.trained, self.embedded):
            made.clear()


def has_pooled(folder: str) -> bool:
    return Path(folder, ABOUT).exists() and read_about(folder).pooled


def stand_ins(monkeypatch: pytest.MonkeyPatch) -> Jobs:
    made = Jobs()
    for name in ("preprocess", "train_several", "embed_features"):
        monkeypatch.setattr(study_parts, name, getattr(made, name))
    return made


@pytest.fixture
def jobs(monkeypatch: pytest.MonkeyPatch) -> Jobs:
    return stand_ins(monkeypatch)


Make = Callable[..., dict[tuple[str, View], StudyPart]]


@pytest.fixture
def make(tmp_path: Path, models: str, jobs: Jobs) -> Make:
    """`make(*recipes, **settings)`: the parts of a study in this test's folder."""

    def make(*recipes: str | Recipe, **settings: str) -> dict[tuple[str, View], StudyPart]:
        places = {"corpus": "/corpora/a", "models": models, "folder": str(tmp_path / "study")}
        config = replace(StudyConfig(), **(places | settings))
        found = [each if isinstance(each, Recipe) else find_recipe(each) for each in recipes]
        return made(PartsMaker(config, Console(quiet=True)).make(found))

    return make


def made(found: Made) -> dict[tuple[str, View], StudyPart]:
    """All of them: none is lacking."""
    parts = {key: part for key, part in found.parts.items() if isinstance(part, StudyPart)}
    assert len(parts) == len(found.parts)
    assert found.unmade == {}
    return parts


def place(part: StudyPart) -> tuple[str, str, str]:
    return part.features, part.encoder, part.embeddings


Parts = dict[tuple[str, View], StudyPart]


@dataclass
class Table:
    """All rows of LEYA's Table 1, and one of them again."""

    parts: Parts
    jobs: Jobs
    again: Parts
    jobs_again: Jobs


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory, models: str) -> Table:
    """Made once; treat it as read-only."""
    config = StudyConfig(corpus="/corpora/a", models=models, folder=str(tmp_path_factory.mktemp("table")))
    with pytest.MonkeyPatch.context() as patched:
        jobs = stand_ins(patched)
        parts = made(PartsMaker(config, Console(quiet=True)).make(find_study("leya/all")))
        jobs_again = stand_ins(patched)
        again = made(PartsMaker(config, Console(quiet=True)).make(find_study("leya/11")))
    return Table(parts=parts, jobs=jobs, again=again, jobs_again=jobs_again)


def test_an_encoder_that_comes_to_nothing_is_missing_alone(
    tmp_path: Path, models: str, jobs: Jobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried: list[View] = []

    def train(configs: Sequence[TrainConfig], _: Sequence[str]) -> list[str]:
        tried.extend(view for config in configs for view in config.views)
        lost = "The audio encoder could not be trained. The training loss is nan."
        return [lost if AUDIO in config.views else jobs.train_encoders(config) for config in configs]

    monkeypatch.setattr(study_parts, "train_several", train)
    config = StudyConfig(corpus="/corpora/a", models=models, folder=str(tmp_path))
    rows = [find_recipe(f"leya/{number}") for number in ("01", "03", "14")]
    whole = PartsMaker(config, Console(quiet=True)).make(rows)
    found = whole.parts
    lacking = {key: part.reason for key, part in found.items() if isinstance(part, Unmade)}
    assert set(found) == {(row.name, view) for row in rows for view in row.views}
    assert set(lacking) == {(row.name, AUDIO) for row in rows if AUDIO in row.views}
    assert ("leya/03", AUDIO) in lacking
    assert set(lacking.values()) == {"The audio encoder could not be trained. The training loss is nan."}
    assert tried.count(AUDIO) == 1, "rows that share an encoder try it once"
    assert whole.unmade == {row.name: lacking[row.name, AUDIO] for row in rows if AUDIO in row.views}
    assert {part.view for part in whole.unique} == {view for row in rows for view in row.views} - {AUDIO}


def test_the_whole_table_takes_three_passes_and_seven_encoders(table: Table) -> None:
    """All four modalities are made in one; of the three inputs that text encoders have, two are left for text alone."""
    jobs, parts = table.jobs, table.parts
    assert jobs.passes == jobs.asked
    assert [set(views) for views in jobs.passes] == [set(Modality), {TEXT}, {TEXT}]
    assert all(len(set(views)) == len(views) for views in jobs.passes)
    assert sorted(made.split(" ")[0] for made in jobs.trained) == ["audio", "face", "scene", *["text"] * 4]
    assert sorted(jobs.embedded) == ["audio", "face", "scene", *["text"] * 4]
    assert set(parts) == {(row.name, view) for row in find_study("leya/all") for view in row.views}
    unimodal = {1: FACE, 2: SCENE, 3: AUDIO, 4: TEXT, 5: TEXT, 6: TEXT, 7: TEXT}
    own = {number: parts[f"leya/{number:02}", view] for number, view in unimodal.items()}
    assert len({part.encoder for part in own.values()}) == 7
    assert len({part.embeddings for part in own.values()}) == 7
    assert own[4].features == own[5].features, "the bare words are those of both"
    assert len({own[number].features for number in (4, 6, 7)}) == 3
    # The paper's IDs: rows 8 to 10 are made of another text system each, all others of row 7's.
    text = {8: 4, 9: 5, 10: 6} | dict.fromkeys((11, 12, 13, 14, 16, 18, 20, 21, 22, 24), 7)
    for (name, view), part in parts.items():
        number = int(name[-2:])
        same: dict[View, int] = {FACE: 1, SCENE: 2, AUDIO: 3, TEXT: text.get(number, number)}
        assert place(part) == place(own[same[view]]), name


def test_every_folder_holds_what_its_row_asks_for(table: Table, models: str) -> None:
    store = BackboneStore(uri=models)
    unimodal = {key: part for key, part in table.parts.items() if key[0] <= "leya/07"}
    assert len(unimodal) == 7
    for (name, view), part in unimodal.items():
        asked = features_fingerprint(find_recipe(name), store, view)
        assert read_about(part.features).parts[view] == asked
        assert read_about(part.embeddings).parts == {view: part.card.artifact_id}


def test_a_row_after_the_table_makes_nothing(table: Table) -> None:
    jobs = table.jobs_again
    assert (jobs.passes, jobs.trained, jobs.embedded) == ([], [], [])
    assert table.again.keys() == {("leya/11", view) for view in Modality}
    assert all(place(part) == place(table.parts[key]) for key, part in table.again.items())
    # A folder goes on with all that it holds: a clip that joined the corpus must not get half of its modalities.
    assert {frozenset(views) for views in jobs.asked} == {frozenset({TEXT}), frozenset(Modality)}


def test_features_of_another_job_are_used_for_the_same_corpus_alone(
    make: Make, jobs: Jobs, tmp_path: Path, models: str
) -> None:
    there = f"{tmp_path}/study/features/of another job"
    jobs.preprocess(PreprocessConfig(corpus="/corpora/a", output=there, models=models, recipe="leya"))
    jobs.forget()
    parts = make("leya/01", "leya/04", "leya/07")
    assert jobs.passes == [(TEXT,)], "only the bare words are missing"
    assert parts["leya/01", FACE].features == parts["leya/07", TEXT].features == there
    assert jobs.asked[0] == tuple(Modality), "a folder goes on with all that it holds"
    jobs.forget()
    jobs.labels["/corpora/b"] = {Split.TRAIN: 1, Split.VALIDATION: 0}
    other = make("leya/01", corpus="/corpora/b")
    assert jobs.passes == [(FACE,)]
    assert jobs.trained == ["face of leya/01"]
    assert read_about(other["leya/01", FACE].features).corpus == "/corpora/b"


def test_pooled_features_are_made_where_a_row_takes_them_and_serve_the_other_rows_too(make: Make, jobs: Jobs) -> None:
    without = make("leya/01")
    jobs.forget()
    both = make("leya/01", "leya-pooled/01")
    assert (jobs.passes, jobs.trained, jobs.embedded) == ([(FACE,)], [], ["face"]), "the encoder is the same"
    assert place(both["leya/01", FACE]) == place(both["leya-pooled/01", FACE])
    assert not read_about(without["leya/01", FACE].features).pooled
    assert read_about(both["leya/01", FACE].features).pooled
    assert read_about(both["leya/01", FACE].embeddings).pooled
    jobs.forget()
    make("leya-pooled/01")
    make("leya/01")
    assert (jobs.passes, jobs.trained, jobs.embedded) == ([], [], [])


def test_a_copy_of_the_corpus_is_another_corpus(make: Make, jobs: Jobs) -> None:
    """The same clips with the same labels, and perhaps not the same videos."""
    first = make("leya/01")
    jobs.forget()
    copy = make("leya/01", corpus="/corpora/copy of a")
    assert (jobs.passes, jobs.embedded) == ([(FACE,)], ["face"])
    assert set(place(first["leya/01", FACE])).isdisjoint(place(copy["leya/01", FACE]))
    jobs.forget()
    assert place(make("leya/01")["leya/01", FACE]) == place(first["leya/01", FACE])
    assert (jobs.passes, jobs.trained, jobs.embedded) == ([], [], [])


def test_weights_that_join_the_bundle_remake_what_they_bear_on(jobs: Jobs, tmp_path: Path) -> None:
    """Whisper hears the words of clips without: text is another then, face is what it was."""
    models = bundle(tmp_path, [role for role in BACKBONES if role != WHISPER])
    config = StudyConfig(corpus="/corpora/a", models=models, folder=str(tmp_path / "study"))
    before = made(PartsMaker(config, Console(quiet=True)).make(find_study("leya/16")))
    bundle(tmp_path, [WHISPER])
    jobs.forget()
    after = made(PartsMaker(config, Console(quiet=True)).make(find_study("leya/16")))
    assert {view for views in jobs.passes for view in views} >= {TEXT}
    assert set(place(before["leya/16", TEXT])).isdisjoint(place(after["leya/16", TEXT]))
    store = BackboneStore(uri=models)
    for view in (FACE, TEXT):
        made_of = read_about(after["leya/16", view].features).parts[view]
        assert made_of == features_fingerprint(find_recipe("leya/16"), store, view)


def test_clips_that_are_read_otherwise_are_read_again(make: Make, jobs: Jobs, tmp_path: Path, models: str) -> None:
    """Another detector is other faces; the study's folder may hold both."""
    usual = make("leya/01")
    jobs.forget()
    other = make("leya/01", detector="yunet")
    assert jobs.passes == [(FACE,)]
    assert len(jobs.trained) == len(jobs.embedded) == 1
    assert usual["leya/01", FACE].features != other["leya/01", FACE].features
    assert read_about(other["leya/01", FACE].features).media.detector == "yunet"
    jobs.forget()
    assert place(make("leya/01")["leya/01", FACE]) == place(usual["leya/01", FACE])
    assert (jobs.passes, jobs.trained) == ([], [])


def test_an_encoder_is_that_of_its_settings_and_of_the_labels_that_it_may_see(make: Make, jobs: Jobs) -> None:
    first = make("leya/01")["leya/01", FACE]
    face = find_recipe("leya/01")
    fit = {**face.encoder_fits, FACE: replace(face.encoder_fits[FACE], epochs=3)}
    mlp = {**face.encoders, FACE: replace(face.encoders[FACE], dropout=0.1)}
    changed: list[StudyPart] = []
    for recipe in (replace(face, encoder_fits=fit), replace(face, encoders=mlp), replace(face, encoder_seed=1)):
        changed += make(recipe).values()
    changed += make("leya/01", protocol="validation+test").values()
    labels = Path(first.features) / "clips.parquet"

    def relabelled(**told: int) -> StudyPart:
        clips = [
            Clip(clip_id=f"{s}-clip", video_uri="", split=Split(s), labels=clip_labels(label))
            for s, label in told.items()
        ]
        pq.write_table(tables.clips_to_table(clips), labels)
        return make("leya/01")["leya/01", FACE]

    assert place(relabelled(train=0, val=1, test=1)) == place(first)
    assert place(relabelled(train=0, val=1, test=0)) == place(first), "labels of the test split bear on nothing"
    changed += [relabelled(train=0, val=0, test=1), relabelled(train=1, val=1, test=1)]
    assert {part.features for part in changed} == {first.features}
    assert len({part.encoder for part in (first, *changed)}) == 1 + len(changed) == 7
    assert jobs.passes == [(FACE,)]
    branded = [artifacts.read_card(part.encoder).selected_on for part in changed]
    assert branded.count("validation+test") == 1


def test_a_backbone_that_is_not_there_is_said_before_anything_is_made(make: Make, jobs: Jobs, tmp_path: Path) -> None:
    models = bundle(tmp_path / "poor", ["scene.videomae_base"])
    with pytest.raises(BackboneError, match="audio"):
        make("leya/02", "leya/03", models=models)
    assert jobs.asked == []


def test_what_is_in_quarantine_is_counted_once(models: str, make: Make, tmp_path: Path) -> None:
    parts = make("leya/01", "leya/03", "leya/15")
    lines = {"a": "features", "b": "features", "c": "embeddings"}
    face = parts["leya/01", FACE]
    for clip_id, place in lines.items():
        folder = Path(face.features if place == "features" else face.embeddings) / "quarantine"
        folder.mkdir(exist_ok=True)
        for copy in range(2):
            said = {"clip_id": clip_id, "video_uri": "/v", "stage": "decode", "reason": "broken"}
            (folder / f"{clip_id}-{copy}.jsonl").write_text(json.dumps(said) + "\n")
    maker = PartsMaker(StudyConfig(models=models, folder=str(tmp_path / "study")), Console(quiet=True))
    assert sorted(failure.clip_id for failure in maker.quarantined(parts.values())) == ["a", "b", "c"]
    assert maker.quarantined([]) == []

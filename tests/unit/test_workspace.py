from pathlib import Path

import pytest

from twominds import workspace
from twominds.errors import ConfigError, MissingInputError
from twominds.workspace import (
    Workspace,
    check_same_root,
    default_root,
    described_root,
    fixed_root,
    job_command,
    require,
)


def test_root_is_runs_in_the_checkout_whatever_the_current_folder(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("TWOMINDS_HOME", raising=False)
    monkeypatch.chdir(tmp_path)
    assert default_root() == str(Path(__file__).resolve().parents[2] / "runs")


def test_an_installed_package_keeps_its_runs_in_the_current_folder(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    installed = tmp_path / "lib" / "site-packages" / "twominds" / "workspace.py"
    monkeypatch.setattr(workspace, "__file__", str(installed))
    monkeypatch.delenv("TWOMINDS_HOME", raising=False)
    monkeypatch.chdir(tmp_path)
    assert default_root() == str(tmp_path / "runs")


def test_the_environment_names_a_local_root(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TWOMINDS_HOME", "mine")
    assert default_root() == str(tmp_path / "mine")


def test_an_object_store_root_is_left_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TWOMINDS_HOME", "s3://bucket/prefix/")
    ours = Workspace.default()
    assert ours.root == "s3://bucket/prefix/"
    assert ours.corpus == "s3://bucket/prefix/corpus"


def test_the_root_says_who_chose_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TWOMINDS_HOME", "/data")
    assert described_root() == "/data (TWOMINDS_HOME)"
    monkeypatch.delenv("TWOMINDS_HOME")
    assert described_root() == f"{default_root()} (TWOMINDS_HOME is not set)"


@pytest.mark.parametrize("here", ["/data", "s3://bucket/prefix", None])
def test_a_cluster_keeps_its_results_where_this_process_does(monkeypatch: pytest.MonkeyPatch, here: str | None) -> None:
    if here:
        monkeypatch.setenv("TWOMINDS_HOME", here)
    else:
        monkeypatch.delenv("TWOMINDS_HOME", raising=False)
    check_same_root(default_root())
    with pytest.raises(ConfigError, match=r"/of/the/demo.*`ray stop`") as caught:
        check_same_root("/of/the/demo")
    assert default_root() in str(caught.value)


def test_a_package_that_keeps_its_runs_in_the_current_folder_does_so_in_each_process_of_its_own(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(workspace, "__file__", str(tmp_path / "lib" / "site-packages" / "twominds" / "workspace.py"))
    monkeypatch.delenv("TWOMINDS_HOME", raising=False)
    check_same_root(fixed_root())
    with pytest.raises(ConfigError, match="/of/the/demo"):
        check_same_root("/of/the/demo")


def test_every_result_has_a_place_of_its_own() -> None:
    ours = Workspace(root="/w")
    places = [
        ours.corpus,
        ours.models,
        ours.features,
        ours.encoders,
        ours.embeddings,
        ours.search,
        ours.ensemble,
        ours.report,
    ]
    assert len(set(places)) == len(places)
    assert all(place.startswith("/w/") for place in places)


def test_require_gives_what_is_there(tmp_path: Path) -> None:
    assert require(str(tmp_path), what="corpus", made_by="jobs/make_corpus.py").is_dir()


def test_require_says_what_is_missing_and_which_job_makes_it(tmp_path: Path) -> None:
    missing = str(tmp_path / "corpus")
    with pytest.raises(MissingInputError) as caught:
        require(missing, what="corpus", made_by="python jobs/make_corpus.py")
    message = str(caught.value)
    assert "No corpus" in message
    assert missing in message
    assert "python jobs/make_corpus.py" in message
    with pytest.raises(MissingInputError, match=f"^No videos at {missing}. Give its place.$"):
        require(missing, what="videos")  # no job makes these


def test_the_next_command_names_only_places_that_the_job_would_not_find_by_itself(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("TWOMINDS_HOME", "/data")
    assert job_command("embed", features="/data/features", encoders="/data/encoders") == "python jobs/embed.py"
    assert job_command("embed", features="/my disk/features", encoders="/data/encoders") == (
        "python jobs/embed.py --features '/my disk/features'"
    )

from pathlib import Path

import pytest

from twominds.errors import MissingInputError
from twominds.records import View
from twominds.results.about import About, claim_folder
from twominds.search.config import SearchConfig
from twominds.search.setup import recipe_of


def config(folder: Path, recipe: str = "", *views: View) -> SearchConfig:
    about = About(recipe="leya/demo", corpus="c", fingerprint="0", models="m", parts=dict.fromkeys(views, "0"))
    claim_folder(str(folder / "embeddings"), about)
    (folder / "encoders").mkdir()
    return SearchConfig(embeddings=str(folder / "embeddings"), encoders=str(folder / "encoders"), recipe=recipe)


def test_embeddings_of_other_views_are_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(MissingInputError, match=r"no embeddings of face\.mfn, text\.roberta, .* but of scene, face:"):
        recipe_of(config(tmp_path, "hsemotion/demo/emi/roberta-mfn", "scene", "face"))


def test_the_system_is_the_one_of_the_embeddings_or_another_that_they_suffice_for(tmp_path: Path) -> None:
    views = "scene", "face", "audio", "text"
    (tmp_path / "own").mkdir()
    assert recipe_of(config(tmp_path / "own", "", *views)).name == "leya/demo"
    (tmp_path / "other").mkdir()
    assert recipe_of(config(tmp_path / "other", "leya/demo/21", *views)).name == "leya/demo/21"

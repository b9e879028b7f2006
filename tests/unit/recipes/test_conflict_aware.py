import pytest

from twominds.encoders.attended import AttendedEncoderConfig
from twominds.fusion.conflict import ConflictFusionConfig
from twominds.recipes.catalog import find_recipe


def test_only_the_fusion_is_another() -> None:
    for name in ("leya", "leya-pooled", "leya/demo", "leya/demo-pooled"):
        base = find_recipe(name)
        own = find_recipe(f"conflict-aware/{'demo/' * ('demo' in name)}{name.replace('/demo', '')}")
        assert (own.features, own.encoders, own.encoder_fits) == (base.features, base.encoders, base.encoder_fits)
        assert (own.fusion.views, own.fusion.inputs, own.fusion.seeds) == (
            base.fusion.views,
            base.fusion.inputs,
            base.fusion.seeds,
        )
        assert isinstance(own.fusion.model, ConflictFusionConfig)
        assert own.fusion.model.standardize == ("zscore" if "pooled" in name else base.fusion.model.standardize)


@pytest.mark.parametrize("name", ["conflict-aware", "conflict-aware/top-2", "conflict-aware/demo"])
def test_windows_are_cut_out_of_faces_and_sound_not_of_words(name: str) -> None:
    encoders = find_recipe(name).encoders
    rows = {view: config.window_rows for view, config in encoders.items() if isinstance(config, AttendedEncoderConfig)}
    assert rows == {"face": 16, "audio": 16, "text": 0}


def test_the_search_tries_it_with_and_without_the_differences() -> None:
    with_them, without = find_recipe("conflict-aware/leya").fusion.first_points
    assert {**with_them, "conflict": False} == without
    assert with_them["conflict"] is True

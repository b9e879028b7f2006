"""What members of an ensemble count where a joint model's answer takes in a view's own head."""

from dataclasses import replace

import numpy as np
import pytest
from tests.unit.training.test_joint import AUDIO, FACE, FIT, FUSION

from twominds.fusion.catalog import build_fusion
from twominds.recipes.catalog import find_recipe
from twominds.recipes.recipe import Recipe
from twominds.recipes.stages import TrainJointly
from twominds.records import View
from twominds.scoring.post_processing import Grids, SaidClip
from twominds.search.assembly import assemble, chosen_on
from twominds.training.losses import FusionLoss


def recipe(weight: float, grids: Grids) -> Recipe:
    stage = TrainJointly(views=(FACE, AUDIO), fit=FIT, loss=FusionLoss(), heads={AUDIO: 0.5}, blend={AUDIO: weight})
    simple = find_recipe("simple/joint")
    return replace(simple, stages=(stage,), fusion=replace(simple.fusion, model=FUSION), grids=grids)


def weights(of: Recipe) -> dict[str, float]:
    """Chosen on clips of which the head is right, and the fusion wrong."""
    dims: dict[View, int] = {FACE: 4, AUDIO: 4}
    no, yes = [[0.9, 0.1]], [[0.1, 0.9]]
    made = assemble(of, {42: build_fusion(FUSION, dims=dims, num_outputs=2).state_dict()}, dims, of.media)
    clips = [
        SaidClip(
            by_member=np.array([no, yes] if label else [yes, no]),
            points_s=None,
            places=np.array([0]),
            truth=np.array([label]),
        )
        for label in (0, 1, 1, 0)
    ]
    found = {member.name: member.weight for member in chosen_on(made, of, clips).config.members}
    return {name: float(np.max(weight)) for name, weight in found.items()}


@pytest.mark.parametrize("grids", [Grids(thresholds=(0.5,)), Grids(weight_step=1.0, thresholds=(0.5,))])
def test_a_fusion_beside_a_head_that_counts_for_all_is_left_to_stand_in(grids: Grids) -> None:
    assert weights(recipe(1.0, grids)) == {"seed-42": pytest.approx(1e-6), AUDIO: 1.0}


def test_a_head_that_counts_for_nothing_is_left_out() -> None:
    assert weights(recipe(0.0, Grids(thresholds=(0.5,)))) == {"seed-42": 1.0, AUDIO: 0.0}

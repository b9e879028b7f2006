"""What a study's rows answer on some clips, and the row that is saved whole: against models run by hand."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from twominds import artifacts
from twominds.fusion.batch import FusionInputs
from twominds.fusion.catalog import build_fusion
from twominds.pipelines.study.rows import save_whole
from twominds.recipes.recipe import Recipe
from twominds.records import Embedding, Modality, Split, View, absent
from twominds.reports.study.rows import ClipEmbeddings, RowModels, answers, labelled, labelled_points
from twominds.scoring.ensemble import Ensemble
from twominds.tasks import AH_VIDEO
from twominds.training.fit import FitConfig

if TYPE_CHECKING:
    from tests.unit.pipelines.conftest import MadeUpStudy, RayHere

Tiny = Callable[..., Recipe]
Floats = np.ndarray[Any, np.dtype[np.float64]]

FACE, AUDIO = Modality.FACE, Modality.AUDIO
FAST = FitConfig(epochs=1, batch_size=8, patience=1)
PRIORS = {0: (0.5, 0.5), 1: (0.4, 0.6)}
"""What training says, by its majority: of equals the first."""


def by_hand(row: RowModels, clips: Sequence[ClipEmbeddings], hidden: View | None = None) -> Floats:
    """[S, N]: probability of the last class of each seed's model, clip by clip; NaN where it has nothing."""
    saved, card = artifacts.load_tensors(row.uri), artifacts.read_card(row.uri)
    dims: dict[View, int] = dict(card.architecture["dims"])
    found: list[list[float]] = []
    for seed in card.seeds:
        model = build_fusion(row.recipe.fusion.model, dims=dims, num_outputs=2).eval()
        model.load_state_dict({n.split(".", 1)[1]: t for n, t in saved.items() if n.startswith(f"seed-{seed}.")})
        found.append([])
        for item in clips:
            given = {part.view: item.by_encoder[part.encoder] for part in row.parts}
            seen = {m: e for m, e in given.items() if e.presence.present and m != hidden}
            if not seen:
                found[-1].append(float("nan"))
                continue
            tokens = {m: torch.from_numpy(seen[m].vectors) if m in seen else torch.zeros(1, dims[m]) for m in dims}
            with torch.no_grad():
                logits = model(FusionInputs(tokens=tokens, mask=torch.tensor([[m in seen for m in dims]]))).logits
            found[-1].append(float(torch.softmax(logits.double(), dim=1)[0, 1]))
    return np.array(found)


def test_what_single_and_ensemble_rows_report(made_up: "MadeUpStudy", tiny: Tiny, ray_here: "RayHere") -> None:
    single, ensemble = (
        tiny("single", FACE, AUDIO, fit=FAST),
        tiny("ensemble", FACE, AUDIO, reports="ensemble", fit=FAST),
    )
    models, silent = made_up.trained(single, ensemble), "test-33"
    clips = labelled(made_up.clips(silent=[silent]), Split.TEST)
    at, points = [item.clip.clip_id for item in clips].index(silent), labelled_points(clips, AH_VIDEO)
    for hidden in (None, FACE, AUDIO):
        expected = by_hand(models["single"], clips, hidden)
        assert expected.shape == (3, 12)
        assert np.isnan(expected[:, at]).all()
        found = answers(models["single"], single, clips, points, PRIORS[1], hidden)
        assert found.probabilities is not None
        np.testing.assert_allclose(found.probabilities, expected, atol=1e-6)
        nothing = np.isnan(expected)
        # Every third clip of the test split has no sound: without its face there is nothing left of it.
        assert nothing[0].sum() == (1 if hidden != FACE else 4)
        np.testing.assert_array_equal(found.predictions, np.where(nothing, 1, expected >= 0.5))
        np.testing.assert_array_equal(found.answered, ~nothing[0])
        assert found.predictions.dtype == np.int64
        together = answers(models["ensemble"], ensemble, clips, points, PRIORS[0], hidden)
        mean = expected.mean(axis=0, keepdims=True)
        assert together.probabilities is not None
        np.testing.assert_allclose(together.probabilities, mean, atol=1e-6)
        np.testing.assert_array_equal(together.predictions, np.where(np.isnan(mean), 0, mean >= 0.5))
        assert together.predictions.shape == (1, 12)


def test_an_encoder_alone_reports_its_own_softmax(made_up: "MadeUpStudy", tiny: Tiny, ray_here: "RayHere") -> None:
    alone = tiny("alone", AUDIO, reports="encoder")
    row, clips = made_up.trained(alone)["alone"], labelled(made_up.clips(), Split.TEST)
    assert ray_here.started == [], "there is nothing to train"
    points = labelled_points(clips, AH_VIDEO)
    given = [item.by_encoder[made_up.part(AUDIO).encoder] for item in clips]
    expected = np.array([np.nan if e.probabilities is None else e.probabilities[0, 1] for e in given])
    assert np.isnan(expected).sum() == 3
    for majority in (0, 1):
        found = answers(row, alone, clips, points, PRIORS[majority])
        assert found.probabilities is not None
        np.testing.assert_allclose(found.probabilities, expected[None], rtol=1e-6)
        argmax = [majority if e.logits is None else int(e.logits.argmax()) for e in given]
        assert found.predictions.tolist() == [argmax]
    hidden = answers(row, alone, clips, points, PRIORS[1], AUDIO)
    assert not hidden.answered.any()
    assert hidden.predictions.tolist() == [[1] * 12]
    card, encoder = artifacts.read_card(row.uri), artifacts.read_card(made_up.part(AUDIO).encoder)
    assert (card.seeds, card.metrics, card.data["clips"]) == ((5,), encoder.metrics, encoder.data["clips"])
    assert card.architecture["encoders"] == {"audio": encoder.artifact_id}
    assert card.weights == "debug", "what its encoder stands on"


def test_hiding_a_modality_is_its_absence(made_up: "MadeUpStudy", tiny: Tiny) -> None:
    row, clips = made_up.models(tiny("fusion", FACE, AUDIO))["fusion"], made_up.clips()
    shown, hidden = row.inputs_of(clips), row.inputs_of(clips, AUDIO)
    for one, other in zip(shown, hidden, strict=True):
        assert list(other) == [FACE, AUDIO]
        assert other[FACE] is one[FACE]
        assert other[AUDIO] == Embedding(
            clip_id=one[AUDIO].clip_id, view=AUDIO, presence=absent(other[AUDIO].presence.reason)
        )


# --- the headline, whole ---


def test_it_is_saved_whole_with_its_encoders(made_up: "MadeUpStudy", tiny: Tiny, ray_here: "RayHere") -> None:
    """By the name of the row that was chosen, which may share its models with another."""
    single, ensemble = tiny("single", FACE, AUDIO, fit=FAST), tiny("both", FACE, AUDIO, fit=FAST, reports="ensemble")
    models, clips = made_up.trained(single, ensemble), made_up.clips()
    row = models["both"]
    scored = row.inputs_of(clips)
    expected = Ensemble.load(row.uri).probabilities(scored)
    whole = str(made_up.root / "whole")
    assert save_whole(row, ensemble, whole) == artifacts.read_card(whole)
    assert artifacts.read_card(whole).recipe == "both"
    assert save_whole(models["single"], single, str(made_up.root / "of single")).recipe == "single"
    np.testing.assert_array_equal(Ensemble.load(whole).probabilities(scored), expected)
    for view in (FACE, AUDIO):
        places = f"{whole}/encoders/{view}", made_up.part(view).encoder
        assert artifacts.read_card(places[0]) == artifacts.read_card(places[1])
    assert not (Path(row.uri) / "encoders").exists(), "there are many rows, and the encoders are large"


def test_of_single_models_the_best_on_validation_is_saved(
    made_up: "MadeUpStudy", tiny: Tiny, ray_here: "RayHere"
) -> None:
    single = tiny("fusion", FACE, AUDIO, fit=FAST)
    row, clips = made_up.trained(single)["fusion"], made_up.clips()
    path = Path(row.uri) / "card.json"
    said = json.loads(path.read_text())
    said["metrics"]["validation_score"] = {"11": 0.5, "22": 0.75, "33": 0.7}
    path.write_text(json.dumps(said))
    whole = str(made_up.root / "whole")
    save_whole(row, single, whole)
    ensemble = Ensemble.load(whole)
    assert (tuple(ensemble.models), ensemble.card.seeds) == (("seed-22",), (22,))
    assert ensemble.card.metrics["validation_score"] == 0.75
    scored = row.inputs_of(clips)
    np.testing.assert_array_equal(ensemble.probabilities(scored)[0], Ensemble.load(row.uri).probabilities(scored)[1])

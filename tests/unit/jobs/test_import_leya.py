"""The job that imports LEYA's published files: what it takes, refuses and says. See tests/unit/recipes for the rest."""

import runpy
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from twominds import artifacts
from twominds.backbones import BundleEntry, add_to_bundle

JOB = str(Path(__file__).resolve().parents[3] / "jobs" / "import_leya.py")


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> None:
    monkeypatch.setattr(sys, "argv", ["import_leya.py", *arguments])
    runpy.run_path(JOB, run_name="__main__")


def test_imports_an_encoder_and_says_what_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TWOMINDS_HOME", str(tmp_path / "home"))
    for role in ("face.emotion_efficientnet_b0", "detect.yolo_face"):
        (tmp_path / role).mkdir()
        (tmp_path / role / "weights").write_text(role)
        entry = BundleEntry(weights="published", hub_id=None, revision="x", licence="x")
        add_to_bundle(str(tmp_path / "home" / "models"), role, tmp_path / role, entry)
    model = nn.Module()
    model.feature_extractor = nn.Sequential(
        nn.Linear(12, 4), nn.LayerNorm(4), nn.ReLU(), nn.Dropout(0.3), nn.Linear(4, 5), nn.LayerNorm(5)
    )
    model.classifier = nn.Linear(5, 2)
    torch.save(model.state_dict(), tmp_path / "face.pt")
    run(monkeypatch, "--face", str(tmp_path / "face.pt"))
    place = tmp_path / "home" / "leya" / "encoders" / "face"
    card = artifacts.read_card(str(place))
    assert (
        f"face: {place} ({card.artifact_id}, published weights, selected on validation+test)" in capsys.readouterr().out
    )
    torch.save({"classifier.weight": torch.ones(2, 5)}, tmp_path / "other.pt")
    with pytest.raises(SystemExit, match=r"import_leya: .*other\.pt is not LEYA's face encoder"):
        run(monkeypatch, "--face", str(tmp_path / "other.pt"))
    assert artifacts.read_card(str(place)) == card


@pytest.mark.parametrize(
    ("arguments", "sentence"), [([], "nothing to import"), (["--scene", "nowhere.pth"], r"No file at nowhere\.pth")]
)
def test_wants_files_that_are_there(arguments: list[str], sentence: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SystemExit, match=f"import_leya: .*{sentence}"):
        run(monkeypatch, *arguments)

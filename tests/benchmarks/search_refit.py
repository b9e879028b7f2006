"""Measures a winner of the search benchmark again, with seeds that chose nothing, through twominds' trainer.

The mean that a search chose by is the highest of many noisy ones, and so too high, on either side. Test, which chose
nothing at all, is measured beside validation.
"""

import argparse
import json
from pathlib import Path

import torch
from search_data import read_split

from twominds.fusion.catalog import build_fusion
from twominds.recipes.leya import leya
from twominds.recipes.space import Candidate
from twominds.records import Split
from twominds.tasks import AH_VIDEO
from twominds.training.examples import FusionExamples
from twominds.training.fit import fit
from twominds.training.metrics import macro_f1
from twominds.training.objective import Objective


def refit(embeddings: Path, where: list[str], candidate: Candidate, seeds: list[int]) -> dict[str, list[float]]:
    """Macro F1 per seed on validation and test, at the epoch that validation chose."""
    torch.set_num_threads(1)
    fusion = leya().fusion.searched_in(where).with_candidate(candidate)
    train, validation, test = (
        FusionExamples(*read_split(embeddings, split)) for split in (Split.TRAIN, Split.VALIDATION, Split.TEST)
    )
    scores: dict[str, list[float]] = {"validation": [], "test": []}
    for seed in seeds:
        model = build_fusion(fusion.model, dims=train.inputs.dims, num_outputs=AH_VIDEO.num_outputs, seed=seed)
        result = fit(model, train, validation, fusion.fit, seed=seed, loss=fusion.loss, objective=Objective())
        with torch.inference_mode():
            answers = model.eval()(test.inputs).logits.argmax(dim=1)
        scores["validation"].append(result.validation_score)
        scores["test"].append(macro_f1(test.labels.numpy(), answers.numpy(), AH_VIDEO.num_outputs))
    return scores


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Train a candidate with seeds that chose nothing.")
    parser.add_argument("--embeddings", type=Path, required=True)
    parser.add_argument("--space", nargs="*", default=[])
    parser.add_argument("--candidate", type=json.loads, required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1001, 1002, 1003, 1004, 1005])
    parser.add_argument("--output", type=Path, required=True)
    given = parser.parse_args()
    result = refit(given.embeddings, given.space, given.candidate, given.seeds)
    given.output.write_text(json.dumps({"seeds": given.seeds, **result}))

"""Evaluate the ensemble, its encoders and the baselines."""

from twominds.pipelines.evaluate import EvaluateConfig, evaluate
from twominds.pipelines.job import run

if __name__ == "__main__":
    run(evaluate, EvaluateConfig)

"""Score a folder of videos into the challenge's CSV, with Ray Data."""

from twominds.pipelines.batch_score import BatchScoreConfig, batch_score
from twominds.pipelines.job import run

if __name__ == "__main__":
    run(batch_score, BatchScoreConfig)

"""Turn a corpus of videos into features, with Ray Data."""

from twominds.pipelines.job import run
from twominds.pipelines.preprocess import PreprocessConfig, preprocess

if __name__ == "__main__":
    run(preprocess, PreprocessConfig)

"""Train the unimodal encoders, with Ray Train."""

from twominds.pipelines.job import run
from twominds.pipelines.train import TrainConfig, train_encoders

if __name__ == "__main__":
    run(train_encoders, TrainConfig)

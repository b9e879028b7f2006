"""Search the settings of one modality's encoder and save the best one's encoder, with Ray Tune."""

from twominds.pipelines.job import run
from twominds.pipelines.search.encoder import EncoderSearchConfig, search_encoder

if __name__ == "__main__":
    run(search_encoder, EncoderSearchConfig)

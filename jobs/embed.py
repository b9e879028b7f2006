"""Run the trained encoders over the features, with Ray Data."""

from twominds.pipelines.embed import EmbedConfig, embed_features
from twominds.pipelines.job import run

if __name__ == "__main__":
    run(embed_features, EmbedConfig)

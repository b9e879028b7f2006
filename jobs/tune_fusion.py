"""Search the fusion over five seeds and save the ensemble, with Ray Tune and HyperOpt."""

from twominds.pipelines.job import run
from twominds.pipelines.search.fusion import search_fusion
from twominds.search.config import SearchConfig

if __name__ == "__main__":
    run(search_fusion, SearchConfig)

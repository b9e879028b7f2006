"""Search the fusion over five seeds and save the ensemble, with Ray Tune and HyperOpt."""

from twominds.pipelines.job import run
from twominds.pipelines.search.fusion import SearchConfig, search_fusion

if __name__ == "__main__":
    run(search_fusion, SearchConfig)

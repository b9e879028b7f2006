"""`jobs/tune_fusion.py` as it is, with its flags, but for the spaces it searches: those of `search_recipe.py`."""

import os
import runpy
from pathlib import Path

from search_recipe import benchmark_recipe, uniform_recipe

from twominds.pipelines.search import setup as search_setup
from twominds.recipes.recipe import Recipe

JOB = Path(__file__).resolve().parents[2] / "jobs" / "tune_fusion.py"


def _benchmark_recipe(name: str) -> Recipe:
    """In place of `find_recipe`, whatever is asked for. Trials get the fusion as a parameter: nothing else to patch."""
    return uniform_recipe() if os.environ.get("TWOMINDS_BENCH_UNIFORM") else benchmark_recipe()


if __name__ == "__main__":
    search_setup.find_recipe = _benchmark_recipe
    runpy.run_path(str(JOB), run_name="__main__")

"""Settings of searches that are refused."""

from typing import Any, cast

import pytest

from twominds.errors import ConfigError
from twominds.search.config import TuningConfig


@pytest.mark.parametrize("setting", ["concurrency", "hours", "gpus_per_trial", "random_starts", "max_failures"])
def test_settings_out_of_range_are_named(setting: str) -> None:
    with pytest.raises(ConfigError, match=setting):
        TuningConfig(**cast("dict[str, Any]", {setting: -1}))
    with pytest.raises(ConfigError, match="cpus_per_trial"):
        TuningConfig(cpus_per_trial=0)

"""The way to a cluster that is not there."""

from typing import Any

import pytest
import ray

from twominds.errors import ConfigError
from twominds.pipelines.cluster import cluster


def test_no_cluster_at_the_address(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ray says it so of `auto` where none runs; tests beside this one may have one."""

    def none(**options: Any) -> None:
        raise ConnectionError("Could not find any running Ray instance.")

    monkeypatch.setattr(ray, "init", none)
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    with pytest.raises(ConfigError, match="no Ray cluster at auto"), cluster("auto"):
        pass

"""What the engine of a search asks before anything is trained; the rest needs a cluster (`tests/ray`)."""

import sys
from types import ModuleType
from typing import Any, cast

import pytest

from twominds.errors import ConfigError
from twominds.pipelines.search.tuning import mlflow_loggers


def test_an_mlflow_that_does_not_take_the_uri_says_so_before_anything_is_trained(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """MLflow is not installed here: this stands in for it, and for Tune's logger, as far as they are asked."""

    class RefusedError(Exception):
        pass

    class Logger:
        def __init__(self, **settings: str) -> None:
            self.settings = settings

        def setup(self) -> None:
            if self.settings["tracking_uri"].startswith("file:"):
                raise RefusedError("the file store is not maintained")

    exceptions: Any = ModuleType("mlflow.exceptions")
    exceptions.MlflowException = RefusedError
    monkeypatch.setitem(sys.modules, "mlflow.exceptions", exceptions)
    monkeypatch.setattr("ray.air.integrations.mlflow.MLflowLoggerCallback", Logger)
    with pytest.raises(ConfigError, match=r"file:///runs: the file store is not maintained"):
        mlflow_loggers("file:///runs", "search")
    (logger,) = cast("list[Any]", mlflow_loggers("sqlite:///mlflow.db", "search"))
    assert logger.settings == {"tracking_uri": "sqlite:///mlflow.db", "experiment_name": "search"}
    assert mlflow_loggers("", "search") == []

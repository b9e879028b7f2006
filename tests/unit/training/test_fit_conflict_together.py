from collections.abc import Iterator

import pytest
import torch
from tests.unit.training.test_fit_together import CONFIG, check_as_fit

from twominds.fusion.conflict import ConflictFusionConfig, Form


@pytest.fixture(autouse=True)
def double_precision() -> Iterator[None]:
    """As in `test_fit_together`, whose clips are drawn in it."""
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


@pytest.mark.parametrize("form", ["tokens", "concat"])
def test_conflict_aware_models_train_together_as_alone(form: Form) -> None:
    check_as_fit(ConflictFusionConfig(hidden_dim=8, num_heads=2, head_dim=4, dropout=0.0, form=form), CONFIG)

import pytest


@pytest.fixture(autouse=True)
def one_thread(one_thread: None) -> None:
    """Every test of this folder runs on one thread."""

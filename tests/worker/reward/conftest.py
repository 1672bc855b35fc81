"""Small matrices on a shared machine: one thread is faster than two that wait for each other."""

import pytest


@pytest.fixture(scope="module", autouse=True)
def on_one_thread(one_thread: None) -> None:
    """All of them."""

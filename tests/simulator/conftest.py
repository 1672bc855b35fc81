"""The real server and store with the example shop; a script answers instead of a model."""

from pathlib import Path

import pytest

from simulator.questions import SHOP
from tests.server.conftest import adapters, engine, server, shared, start_server

__all__ = ["adapters", "engine", "server", "shared", "shop", "start_server"]


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    """The folder of documents: the shop that the simulated customers know."""
    return SHOP

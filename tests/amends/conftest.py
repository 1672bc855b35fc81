"""An install for the command line's tests: a home of its own, and the session's store."""

from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from amends.cli import app
from amends.store_client import StoreClient
from tests.amends.command_line import Amends


@pytest.fixture
def amends_home(
    tmp_path: Path, store_url: str, redis: StoreClient, monkeypatch: pytest.MonkeyPatch
) -> Path:
    """The home that commands find in the environment; its base model is files that nobody loads."""
    model = tmp_path / "model"
    model.mkdir()
    (model / "config.json").write_text('{"model_type": "llama", "hidden_act": "silu"}')
    (model / "model.safetensors").write_bytes(b"weights")
    home = tmp_path / "home"
    monkeypatch.setenv("AMENDS_HOME", str(home))
    monkeypatch.setenv("AMENDS_REDIS_URL", store_url)
    monkeypatch.setenv("AMENDS_BASE_MODEL", str(model))
    monkeypatch.delenv("AMENDS_KNOWLEDGE", raising=False)
    return home


@pytest.fixture
def amends(amends_home: Path) -> Amends:
    """Runs a command in this process; `code` is the exit code to expect."""

    def run(*words: str, code: int = 0) -> Result:
        result = CliRunner().invoke(app, words)
        assert result.exit_code == code, result.output
        return result

    return run

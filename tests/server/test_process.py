"""`python -m server` as a process, with the real engine on a tiny model."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
from websockets.sync.client import connect

from amends.store_client import StoreClient
from server.routes.conversations import Session
from tests.server.published import publish_acting
from tests.server.running_server import Chat, wait_until
from tests.tiny_model import make_tiny_model

Start = Callable[..., subprocess.Popen[str]]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_model(tmp_path_factory.mktemp("model"))


@pytest.fixture
def start(
    store_url: str, redis: StoreClient, model: Path, shop: Path, tmp_path: Path
) -> Iterator[Start]:
    """Starts the program; keywords are added to its environment (None: taken out)."""
    started: list[subprocess.Popen[str]] = []
    base = {
        "AMENDS_REDIS_URL": store_url,
        "AMENDS_HOME": str(tmp_path / "home"),
        "AMENDS_BASE_MODEL": str(model),
        "AMENDS_KNOWLEDGE": str(shop),
        "AMENDS_DTYPE": "float32",
        "AMENDS_CONTEXT_TOKENS": "2048",
        "AMENDS_MAX_RESPONSE_TOKENS": "24",
        "AMENDS_THREADS": "1",
        "AMENDS_STAFF_TOKEN": "staff-token-of-the-tests",
        "AMENDS_SERVER_PORT": "0",
    }

    def run(**environment: str | None) -> subprocess.Popen[str]:
        whole = {**os.environ, **base, **environment}
        process = subprocess.Popen(
            [sys.executable, "-m", "server"],
            env={name: value for name, value in whole.items() if value is not None},
            stderr=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        return process

    yield run
    for process in started:
        process.kill()
        process.wait()
        assert process.stderr is not None
        process.stderr.close()


def port_of(process: subprocess.Popen[str]) -> int:
    """As the log says it."""
    assert process.stderr is not None
    for line in process.stderr:
        if "listening on" in line:
            return int(line.rsplit(" ", 1)[1])
    raise AssertionError("the server did not start")


def test_the_real_engine_answers_swaps_and_stops_in_order(
    start: Start, model: Path, tmp_path: Path
) -> None:
    process = start()
    port = port_of(process)
    with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=20) as http:
        assert http.get("/livez").status_code == 200
        wait_until(lambda: http.get("/readyz").status_code == 200, 60)
        session = Session.model_validate(http.post("/v1/session", json={}).json())
        with connect(f"ws://127.0.0.1:{port}/v1/chat", compression=None) as socket:
            chat = Chat(socket)
            chat.hello(session.token, None, None)
            first = chat.ask("How long is the return window?")
            adapters = publish_acting(tmp_path / "home", model)
            adapters.activate(1, by="test", reason="test")
            wait_until(lambda: http.get("/readyz").json()["policy_version"] == 1)
            second = chat.ask("What does a return cost?")
            headers = {"Authorization": f"Bearer {session.token}"}
            path = f"/v1/turns/{second.turn_id}/thumb"
            thumb = http.put(path, json={"value": 1}, headers=headers)
    assert (first.end["policy_version"], second.end["policy_version"]) == (0, 1)
    assert first.end["finish_reason"] in ("stop", "length")
    assert thumb.json()["status"] == "created"
    process.send_signal(signal.SIGTERM)
    assert process.wait(30) == 0


def test_the_embedded_store_ends_with_the_server(start: Start, tmp_path: Path) -> None:
    process = start(AMENDS_REDIS_URL=None)
    with httpx.Client(base_url=f"http://127.0.0.1:{port_of(process)}") as http:
        wait_until(lambda: http.get("/livez").status_code == 200)
    assert (tmp_path / "home" / "store" / "server.json").exists()
    process.send_signal(signal.SIGTERM)
    assert process.wait(30) == 0
    assert not (tmp_path / "home" / "store" / "server.json").exists()


@pytest.mark.parametrize(
    ("environment", "code", "text"),
    [
        ({"AMENDS_SERVER_PORT": "x"}, 2, "AMENDS_SERVER_PORT=x: Input should be a valid integer"),
        ({"AMENDS_STAFF_TOKEN": "short"}, 2, "16 characters"),
        ({"AMENDS_KNOWLEDGE": "/nonexistent"}, 1, "shop.json"),
        ({"AMENDS_REDIS_URL": "redis://127.0.0.1:1/0"}, 1, "cannot start"),
        ({"AMENDS_BASE_MODEL": "/nonexistent/model"}, 1, "AMENDS_BASE_MODEL"),
    ],
)
def test_what_keeps_it_from_starting_is_said(
    start: Start, environment: dict[str, str], code: int, text: str
) -> None:
    process = start(**environment)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == code, errors
    assert text in errors
    assert "Traceback" not in errors

"""`amends up` with its real programs, an embedded store and a small random model."""

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import psutil
import pytest

from amends.cli import up
from amends.settings import Settings
from tests.amends.command_line import Amends
from tests.silent_index import silent_index
from tests.tiny_model import make_tiny_model

WAIT_S = 90.0


def until(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < deadline, f"waited {WAIT_S:g} s for {what}"
        time.sleep(0.1)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Install:
    """A running `amends up`."""

    def __init__(self, home: Path, model: Path) -> None:
        self.port = free_port()
        self.home = home
        self.output = home.parent / "up.out"
        unset = ("AMENDS_REDIS_URL", "AMENDS_STAFF_TOKEN", "AMENDS_KNOWLEDGE")
        environment = {name: value for name, value in os.environ.items() if name not in unset}
        self.environment = environment | {
            "AMENDS_HOME": str(home),
            "AMENDS_BASE_MODEL": str(model),
        }
        with self.output.open("wb") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "amends", "up", "--port", str(self.port)],
                env=self.environment,
                stdout=output,
                stderr=output,
                cwd=home.parent,
            )

    def ready(self) -> bool:
        assert self.process.poll() is None, self.said()
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=1)
        try:
            connection.request("GET", "/readyz")
            response = connection.getresponse()
            return response.status == 200 and json.loads(response.read())["ready"]
        except OSError:
            return False
        finally:
            connection.close()

    def said(self) -> str:
        return self.output.read_text()

    def child(self, words: str) -> psutil.Process:
        children = psutil.Process(self.process.pid).children()
        return next(c for c in children if words in " ".join(c.cmdline()))


@pytest.fixture(scope="module")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_model(tmp_path_factory.mktemp("model"))


@pytest.fixture
def install(tmp_path: Path, tiny_model: Path) -> Iterator[Install]:
    install = Install(tmp_path / "home", tiny_model)
    yield install
    if install.process.poll() is None:
        install.process.terminate()
        install.process.wait(WAIT_S)


def test_up_announces_survives_a_killed_server_and_stops_everything(install: Install) -> None:
    until(lambda: "Amends is up" in install.said(), "the announcement")
    assert f"http://localhost:{install.port}/console" in install.said()
    assert (install.home / "staff.token").read_text().strip() in install.said()

    install.child("-m server").kill()
    until(lambda: "server was killed by SIGKILL" in install.said(), "the crash to be seen")
    until(install.ready, "the server to be back")

    programs = psutil.Process(install.process.pid).children(recursive=True)
    install.process.send_signal(signal.SIGINT)
    assert install.process.wait(WAIT_S) == 0, install.said()
    said = "Stopping; a running round saves a checkpoint first (up to 45 s)"
    assert said in install.said()
    assert [p for p in programs if p.is_running() and p.status() != psutil.STATUS_ZOMBIE] == []


def test_a_killed_store_makes_everything_start_again(install: Install) -> None:
    until(lambda: "Amends is up" in install.said(), "the announcement")

    install.child("valkey-server").kill()

    until(lambda: "starting everything again" in install.said(), "the loss to be seen")
    until(lambda: install.said().count("Amends is up") == 2, "the second announcement")


def test_a_second_up_on_the_same_home_is_refused(install: Install) -> None:
    until((install.home / "up.lock").exists, "the first to hold its lock")
    second = subprocess.run(
        [sys.executable, "-m", "amends", "up"],
        env=install.environment,
        capture_output=True,
        text=True,
    )

    assert second.returncode == 1
    assert f"already runs on {install.home} (process {install.process.pid})" in second.stderr


def pip_of(program: subprocess.Popen[bytes]) -> psutil.Process:
    """Once it runs as pip: before, it is a fork of the program."""

    def found() -> list[psutil.Process]:
        children = psutil.Process(program.pid).children(recursive=True)
        return [child for child in children if "pip" in child.cmdline()]

    until(lambda: bool(found()), "pip to start")
    return found()[0]


def is_gone(process: psutil.Process) -> bool:
    return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE


@pytest.mark.parametrize("command", [("up", "--port", "0"), ("model", "fetch")])
def test_a_first_start_that_is_stopped_leaves_nothing_behind(
    tmp_path: Path, command: tuple[str, ...]
) -> None:
    port = str(free_port())
    words = [port if word == "0" else word for word in command]
    with silent_index(tmp_path / "cache") as environment:
        environment["AMENDS_HOME"] = str(tmp_path / "home")
        with subprocess.Popen([sys.executable, "-m", "amends", *words], env=environment) as program:
            pip = pip_of(program)
            program.send_signal(signal.SIGTERM)
            assert program.wait(WAIT_S) == 130
        assert is_gone(pip)
    assert list((tmp_path / "cache").iterdir()) == []


@pytest.mark.skipif(sys.platform != "linux", reason="PR_SET_PDEATHSIG is Linux")
def test_a_first_start_that_is_killed_takes_pip_along(tmp_path: Path) -> None:
    with silent_index(tmp_path / "cache") as environment:
        command = [sys.executable, "-m", "amends", "model", "fetch"]
        with subprocess.Popen(command, env=environment) as program:
            pip = pip_of(program)
            program.kill()
        gone, _ = psutil.wait_procs([pip], timeout=WAIT_S)  # an orphan is ours to reap
        assert gone == [pip]


@contextmanager
def answering(body: bytes) -> Iterator[int]:
    """The port of something that answers every GET with 200 and `body`."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        yield server.server_port
        server.shutdown()
        thread.join()


def test_what_cannot_be_announced_goes_on_running(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("AMENDS_STAFF_TOKEN", raising=False)
    monkeypatch.setattr(up, "PROBE_S", 0.2)  # also the probe's time-out
    with answering(b'{"ready": true, "policy_version": 3}') as port:
        announcement = up.Announcement(Settings(home=tmp_path), "127.0.0.1", port)
        for _ in range(3):
            time.sleep(0.25)
            announcement()
    said = capsys.readouterr().err
    assert said.count("could not be announced") == 1 and "staff.token" in said


@pytest.mark.parametrize("body", [b"hello", b"{}", b"[]", b'{"policy_version": null}'])
def test_something_else_that_answers_on_the_port_is_no_server_of_ours(body: bytes) -> None:
    with answering(body) as port:
        assert up.policy_version("127.0.0.1", port) is None


def test_port_0_is_any_free_port(amends: Amends, amends_home: Path) -> None:
    with up.only_one(amends_home):  # it is accepted, and goes no further
        assert "already runs" in amends("up", "--port", "0", code=1).stderr
    port = up.require_free_port("127.0.0.1", 0)
    assert port > 0 and up.require_free_port("127.0.0.1", port) == port


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("AMENDS_SERVER_TEMPERATURE", "9", "=9: Input should be less than or equal to 2"),
        ("AMENDS_STAFF_TOKEN", "tooshort", ": String should have at least 16 characters"),
        ("AMENDS_WORKER_LEASE_S", "many", "=many: Input should be a valid number"),
        ("AMENDS_LEARN_SEED", "abc", "=abc: Input should be a valid integer"),
        ("AMENDS_LEARN_REWARD_LAYERS", "half", ": expected JSON"),
        ("AMENDS_GATE_MAX_KL", "far", "=far: Input should be a valid number"),
        ("AMENDS_CANARY_SHARE", "3", "=3: Input should be less than 1"),
    ],
)
def test_what_a_program_would_refuse_is_said_before_anything_starts(
    amends: Amends,
    amends_home: Path,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    value: str,
    says: str,
) -> None:
    monkeypatch.setenv(name, value)
    said = amends("up", code=1).stderr
    assert said.startswith(f"error: {name}{says}") and said.count("\n") == 1
    assert "tooshort" not in said and not amends_home.exists()


def test_a_taken_port_is_said_before_anything_starts(amends: Amends, amends_home: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])

        assert f"127.0.0.1:{port}" in amends("up", "--port", port, code=1).stderr
    assert not (amends_home / "logs").exists()

"""What the tests of several parts need: a real store, real workers, and no process left behind."""

import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from amends.embedded_store import StoreClient, connect, open_store
from amends.jobs import worker_commands
from amends.settings import Settings

_PR_SET_CHILD_SUBREAPER = 36
_STOP_S = 60.0

StartWorkers = Callable[[Mapping[str, str]], list[subprocess.Popen[bytes]]]


@pytest.fixture(scope="session", autouse=True)
def no_process_left_behind() -> Iterator[None]:
    """Fails the session when a child, or a child's orphan, is still there at its end."""
    if sys.platform == "linux":
        # Orphans become ours instead of init's, so they cannot hide.
        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    yield
    deadline = time.monotonic() + 5
    left = living_children()
    while left and time.monotonic() < deadline:
        time.sleep(0.1)
        left = living_children()
    described = [_describe(process) for process in left]
    for process in left:
        with suppress(psutil.NoSuchProcess):
            process.kill()
    if described:
        pytest.fail(f"processes left behind: {described}")


@pytest.fixture(autouse=True)
def orphans_are_reaped() -> None:
    """Orphans of earlier tests are ours and may have ended since: no test shall count them."""
    living_children()


def living_children() -> list[psutil.Process]:
    """Children and adopted orphans that still run; those that have ended are reaped here."""
    alive = []
    for child in psutil.Process().children(recursive=True):
        with suppress(psutil.NoSuchProcess, ChildProcessError):
            if child.status() == psutil.STATUS_ZOMBIE:
                os.waitpid(child.pid, os.WNOHANG)
            elif "multiprocessing.resource_tracker" not in " ".join(child.cmdline()):
                alive.append(child)
    return alive


def _describe(process: psutil.Process) -> str:
    with suppress(psutil.NoSuchProcess):
        return f"{process.pid} {' '.join(process.cmdline())}"
    return f"{process.pid} (gone)"


@pytest.fixture(scope="session")
def store_url(
    no_process_left_behind: None, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    """The URL of a real Valkey server with the settings of the product, one per test session."""
    with open_store(Settings(home=tmp_path_factory.mktemp("store"), redis_url=None)) as url:
        yield url


@pytest.fixture
def redis(store_url: str) -> Iterator[StoreClient]:
    """A client of the session's store, emptied before the test."""
    with connect(store_url) as client:
        client.flushall()
        yield client


@pytest.fixture
def celery_workers(store_url: str, redis: StoreClient, tmp_path: Path) -> Iterator[StartWorkers]:
    """Starts the workers of the train and the default queue, and beat, with `env` added.

    The environment has AMENDS_REDIS_URL and AMENDS_HOME (tmp_path) unless `env` says otherwise.
    Output goes to tmp_path/{train,default,beat}.out. All are stopped after the test.
    """
    started: list[subprocess.Popen[bytes]] = []

    def start(env: Mapping[str, str]) -> list[subprocess.Popen[bytes]]:
        base = {"AMENDS_REDIS_URL": store_url, "AMENDS_HOME": str(tmp_path)}
        for name, command in worker_commands().items():
            with open(tmp_path / f"{name}.out", "ab") as out:
                started.append(
                    subprocess.Popen(
                        [*command, "--loglevel=INFO"],
                        env={**os.environ, **base, **env},
                        stdout=out,
                        stderr=out,
                        stdin=subprocess.DEVNULL,
                        start_new_session=True,
                    )
                )
        return started[-3:]

    yield start
    for process in started:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
    for process in started:
        try:
            process.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            raise

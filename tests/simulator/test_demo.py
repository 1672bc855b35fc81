"""The demo leaves nothing of itself when it is stopped."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from tests.silent_index import silent_index

WAIT_S = 60.0


@pytest.mark.parametrize(
    ("program", "number"),
    [
        (("simulator.demo",), signal.SIGINT),
        (("simulator.demo",), signal.SIGTERM),
        (("amends", "demo"), signal.SIGTERM),
    ],
)
def test_a_demo_that_is_stopped_removes_its_temporary_folder(
    tmp_path: Path, program: tuple[str, ...], number: signal.Signals
) -> None:
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    with silent_index(tmp_path / "cache") as environment:
        with subprocess.Popen(
            [sys.executable, "-m", *program, "--json", str(tmp_path / "demo.json")],
            env=environment | {"TMPDIR": str(temporary)},
            stdout=subprocess.PIPE,
        ) as demo:
            deadline = time.monotonic() + WAIT_S
            while not list((tmp_path / "cache").glob("fetching-*")):  # the install is starting
                assert time.monotonic() < deadline and demo.poll() is None
                time.sleep(0.1)
            assert len(list(temporary.glob("amends-demo-*"))) == 1
            below = psutil.Process(demo.pid).children(recursive=True)
            demo.send_signal(number)
            assert demo.wait(WAIT_S) == 130
        assert list(temporary.glob("amends-demo-*")) == []
        assert [p for p in below if p.is_running() and p.status() != psutil.STATUS_ZOMBIE] == []

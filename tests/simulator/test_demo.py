"""The demo leaves nothing of itself when it is stopped."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
import typer

from simulator import demo
from simulator.stages import Clock, Plan
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
        ) as process:
            deadline = time.monotonic() + WAIT_S
            while not list((tmp_path / "cache").glob("fetching-*")):  # the install is starting
                assert time.monotonic() < deadline and process.poll() is None
                time.sleep(0.1)
            assert len(list(temporary.glob("amends-demo-*"))) == 1
            below = psutil.Process(process.pid).children(recursive=True)
            process.send_signal(number)
            assert process.wait(WAIT_S) == 130
        assert list(temporary.glob("amends-demo-*")) == []
        assert [p for p in below if p.is_running() and p.status() != psutil.STATUS_ZOMBIE] == []


def test_a_wrong_optimizer_is_refused_at_once() -> None:
    command = [sys.executable, "-m", "simulator.demo", "--optimizer", "pop"]
    refused = subprocess.run(command, capture_output=True, text=True, timeout=WAIT_S)
    assert refused.returncode == 2 and "'pop'" in refused.stderr


def test_measurements_stay_with_the_install_that_they_are_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def measure(folder: Path, plan: Plan, clock: Clock) -> int:
        clock.results.add("kl", 1.0, "nats", {})
        return demo.PASSED

    monkeypatch.setattr(demo, "_run", measure)
    before = signal.getsignal(signal.SIGTERM)
    try:
        with pytest.raises(typer.Exit):
            demo.demo(home=tmp_path / "home")
    finally:
        signal.signal(signal.SIGTERM, before)
    assert (tmp_path / "home" / "demo.json").is_file()

"""The demo's install leaves nothing behind, and says why when it does not come up."""

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from simulator.stack import StackBroke, last_lines, running_stack, what_passes_on


def children() -> list[psutil.Process]:
    found = []
    for child in psutil.Process().children():
        with suppress(psutil.NoSuchProcess):
            if "amends" in str(child.cmdline()):
                found.append(child)
    return found


def test_an_install_that_cannot_start_says_why(tmp_path: Path) -> None:
    broken = {"AMENDS_CONTEXT_TOKENS": "none at all"}
    with (
        pytest.raises(StackBroke, match=r"(?s)ended with 1.*CONTEXT_TOKENS"),
        running_stack(tmp_path / "home", broken, lambda seconds, line: None, ready_s=60.0),
    ):
        pytest.fail("the install came up")
    assert children() == []


def test_an_install_that_takes_too_long_is_stopped(tmp_path: Path) -> None:
    cache = {"AMENDS_CACHE": str(tmp_path / "cache"), "PIP_INDEX_URL": "http://127.0.0.1:9/"}
    with (
        pytest.raises(StackBroke, match="within 0 s"),
        running_stack(tmp_path / "home", cache, lambda seconds, line: None, ready_s=0.0),
    ):
        pytest.fail("the install came up")
    assert children() == []


def test_a_demo_that_is_killed_takes_its_install_along(tmp_path: Path) -> None:
    script = (
        "import sys; from pathlib import Path; from simulator.stack import running_stack\n"
        "say = lambda seconds, line: print('waiting', flush=True)\n"
        "with running_stack(Path(sys.argv[1]), {}, say, 60.0): pass\n"
    )
    env = {**os.environ, "AMENDS_CACHE": str(tmp_path), "PIP_INDEX_URL": "http://127.0.0.1:9/"}
    with subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path / "home")], env=env, stdout=subprocess.PIPE
    ) as demo:
        assert demo.stdout is not None
        demo.stdout.readline()
        [install] = psutil.Process(demo.pid).children()
        demo.send_signal(signal.SIGKILL)
    deadline = time.monotonic() + 30
    while install.is_running() and install.status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < deadline, "the install outlived the demo"
        time.sleep(0.05)


def test_the_callers_own_install_is_not_touched() -> None:
    theirs = {"AMENDS_REDIS_URL": "redis://a", "AMENDS_HOME": "/b", "AMENDS_SERVER_PORT": "80"}
    kept = {"PATH": "/bin", "AMENDS_CACHE": "/c", "AMENDS_LEARN_SEED": "4"}
    assert what_passes_on({**theirs, **kept}) == kept


def test_the_end_of_a_log_is_short(tmp_path: Path) -> None:
    log = tmp_path / "up.log"
    assert last_lines(log) == ""
    log.write_text("".join(f"line {number}\n" for number in range(5000)))
    assert last_lines(log, 2) == "line 4998\nline 4999"

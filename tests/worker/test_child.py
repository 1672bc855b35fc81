import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from worker.child import Child, classify


def _python(program: str, log: Path, niceness: int = 0) -> Child:
    return Child([sys.executable, "-c", program], log, niceness)


@pytest.mark.parametrize(
    ("return_code", "outcome"),
    [
        (0, "finished"),
        (10, "stopped"),
        (-signal.SIGTERM, "stopped"),
        (11, "lease_lost"),
        (12, "refused"),
        (137, "out_of_memory"),
        (-signal.SIGKILL, "out_of_memory"),
        (1, "crashed"),
        (-signal.SIGSEGV, "crashed"),
        (255, "crashed"),
    ],
)
def test_an_exit_code_says_one_thing(return_code: int, outcome: str) -> None:
    assert classify(return_code) == outcome


def test_a_child_says_how_it_ended_and_what_it_printed_last(tmp_path: Path) -> None:
    log = tmp_path / "deep" / "trainer.log"
    with _python("import sys; print('one'); print('two', file=sys.stderr); sys.exit(7)", log) as it:
        assert it.wait(10) == 7
        assert it.wait(10) == 7
    assert sorted(log.read_text().split()) == ["one", "two"]
    with _python("print('three'); print()", log) as it:
        assert it.wait(10) == 0
        assert it.last_words() == "three"
    assert "one" in log.read_text()


def test_a_running_child_has_no_return_code_and_can_be_asked_and_killed(tmp_path: Path) -> None:
    program = (
        "import signal, time; signal.signal(signal.SIGTERM, lambda *_: print('asked', flush=True));"
        "print('ready', flush=True); time.sleep(60); time.sleep(60)"
    )
    log = tmp_path / "log"
    with _python(program, log, niceness=5) as it:
        while "ready" not in log.read_text():
            assert it.wait(0.05) is None
        process = max(psutil.Process().children(), key=lambda child: child.create_time())
        assert process.nice() == min(19, os.nice(0) + 5)
        it.ask_to_stop()
        while "asked" not in log.read_text():
            assert it.wait(0.05) is None
        it.kill()
        assert it.wait(1) == -signal.SIGKILL


def test_what_the_child_started_ends_with_it(tmp_path: Path) -> None:
    program = (
        "import subprocess, sys\n"
        "p = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])\n"
        "print(p.pid, flush=True)"
    )
    with _python(program, tmp_path / "log") as it:
        assert it.wait(20) == 0
        grandchild = int(it.last_words())
    deadline = time.monotonic() + 5
    while psutil.pid_exists(grandchild) and time.monotonic() < deadline:
        if psutil.Process(grandchild).status() == psutil.STATUS_ZOMBIE:
            break
        time.sleep(0.05)
    assert time.monotonic() < deadline


@pytest.mark.skipif(sys.platform != "linux", reason="PR_SET_PDEATHSIG is Linux")
def test_a_child_gets_sigterm_when_its_parent_is_killed(tmp_path: Path) -> None:
    log = tmp_path / "log"
    child = (
        "import signal, sys, time\n"
        "signal.signal(signal.SIGTERM, lambda *_: (print('asked', flush=True), sys.exit(10)))\n"
        "print('ready', flush=True); time.sleep(60)"
    )
    program = (
        "import sys, time; from pathlib import Path; from worker.child import Child\n"
        f"Child([sys.executable, '-c', {child!r}], Path({str(log)!r}), 0); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", program]) as parent:
        while not log.exists() or "ready" not in log.read_text():
            time.sleep(0.05)
        parent.kill()
    deadline = time.monotonic() + 5
    while "asked" not in log.read_text():
        assert time.monotonic() < deadline
        time.sleep(0.05)

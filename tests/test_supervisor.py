"""The supervisor against real processes: restarts, giving up, stopping, nothing left behind."""

import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import psutil
import pytest

from amends.supervisor import KeptCrashing, Program, Supervisor

WAIT_S = 20.0


def python(code: str) -> tuple[str, ...]:
    return (sys.executable, "-c", textwrap.dedent(code))


def until(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < deadline, f"waited {WAIT_S:g} s for {what}"
        time.sleep(0.02)


def gone(pid: int) -> bool:
    try:
        return bool(psutil.Process(pid).status() == psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return True


def run_until(supervisor: Supervisor, done: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + WAIT_S

    def watch() -> None:
        assert time.monotonic() < deadline, "the programs never got there"
        if done():
            supervisor.stop()

    return supervisor.run(watch)


def test_a_crashed_program_is_started_again_and_named(tmp_path: Path) -> None:
    said: list[str] = []
    starts = tmp_path / "starts"
    program = python(f"""
        import time
        with open({str(starts)!r}, "a") as f: f.write("x")
        time.sleep(60) if open({str(starts)!r}).read() == "xx" else exit(3)
    """)
    supervisor = Supervisor([Program("worker", program)], os.environ, tmp_path, said.append)

    run_until(supervisor, lambda: starts.exists() and starts.read_text() == "xx")

    assert said == ["worker exited with 3; starting it again in 0.5 s"]


def test_a_program_that_keeps_crashing_ends_the_run_with_its_last_lines(tmp_path: Path) -> None:
    bystander = tmp_path / "bystander"
    programs = [
        Program("server", python("print('no model here'); exit(1)")),
        Program(
            "other",
            python(f"""
            import os, time
            open({str(bystander)!r}, "w").write(str(os.getpid()))
            time.sleep(60)
        """),
        ),
    ]
    supervisor = Supervisor(programs, os.environ, tmp_path, print, first_backoff_s=0.02)

    with pytest.raises(KeptCrashing, match=r"the 5th time within 60 s(.|\n)*no model here"):
        supervisor.run()

    assert gone(int(bystander.read_text()))


def test_programs_stop_one_after_the_other_in_their_order(tmp_path: Path) -> None:
    stopped, ready = tmp_path / "stopped", tmp_path / "ready"

    def program(name: str) -> Program:
        return Program(
            name,
            python(f"""
            import signal, sys, time
            def end(*_):
                time.sleep(0.2)
                open({str(stopped)!r}, "a").write("{name} ")
                sys.exit(0)
            signal.signal(signal.SIGTERM, end)
            open({str(ready)!r}, "a").write("x")
            time.sleep(60)
        """),
        )

    supervisor = Supervisor([program("server"), program("worker")], os.environ, tmp_path, print)
    cut_short = run_until(supervisor, lambda: ready.exists() and ready.read_text() == "xx")

    assert not cut_short
    assert stopped.read_text() == "server worker "


def test_a_program_deaf_to_sigterm_is_killed_with_what_it_started(tmp_path: Path) -> None:
    said: list[str] = []
    pids = tmp_path / "pids"
    program = Program(
        "deaf",
        python(f"""
            import os, signal, subprocess, sys, time
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
            open({str(pids)!r}, "w").write(f"{{os.getpid()}} {{child.pid}}\\n")
            time.sleep(60)
        """),
        stop_s=0.3,
    )
    run_until(
        Supervisor([program], os.environ, tmp_path, said.append),
        lambda: pids.exists() and pids.read_text().endswith("\n"),
    )

    assert said == ["deaf did not stop within 0.3 s: killed"]
    for pid in map(int, pids.read_text().split()):
        until(partial(gone, pid), f"process {pid} to be gone")


def test_a_second_signal_kills_at_once(tmp_path: Path) -> None:
    ready = tmp_path / "ready"
    program = Program(
        "deaf",
        python(f"""
            import signal, time
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            open({str(ready)!r}, "w")
            time.sleep(60)
        """),
        stop_s=60.0,
    )

    def press_twice() -> None:
        until(ready.exists, "the program to start")
        for _ in range(2):
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.3)

    presses = threading.Thread(target=press_twice)
    presses.start()
    began = time.monotonic()
    cut_short = Supervisor([program], os.environ, tmp_path, print).run()
    presses.join()

    assert cut_short
    assert time.monotonic() - began < WAIT_S


def test_programs_die_with_a_killed_supervisor(tmp_path: Path) -> None:
    pid_file = tmp_path / "pid"
    sleeper = python(f"""
        import os, time
        open({str(pid_file)!r}, "w").write(f"{{os.getpid()}}\\n")
        time.sleep(60)
    """)
    supervisor = subprocess.Popen(
        python(f"""
            import os
            from pathlib import Path
            from amends.supervisor import Program, Supervisor
            sleeper = Program("sleeper", {sleeper!r})
            Supervisor([sleeper], os.environ, Path({str(tmp_path)!r}), print).run()
        """)
    )
    until(lambda: pid_file.exists() and pid_file.read_text().endswith("\n"), "the program to start")
    supervisor.kill()
    supervisor.wait()

    pid = int(pid_file.read_text())
    until(partial(gone, pid), "the orphan to be ended by the kernel")


def test_a_long_log_is_set_aside_at_the_start(tmp_path: Path) -> None:
    log = tmp_path / "logs" / "server.log"
    log.parent.mkdir()
    log.write_bytes(b"x" * (5 * 1024 * 1024 + 1))
    program = Program("server", python("print('fresh', flush=True); import time; time.sleep(60)"))

    run_until(
        Supervisor([program], os.environ, tmp_path, print),
        lambda: log.exists() and log.read_text() == "fresh\n",
    )

    assert log.with_suffix(".log.1").stat().st_size > 5 * 1024 * 1024

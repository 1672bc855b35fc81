"""Keeps the programs of one install running: start, watch, restart, stop in order, reap.

Knows commands and exit codes; knows nothing of what the programs do, of the store or of the
terminal (it reports through `say`). Invariants: a program dies with its supervisor; when `run`
returns, none of them is left. What this does not cover: see child_process, for systems but Linux.
"""

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType

from amends.child_process import dies_with_parent
from amends.errors import AmendsError

CRASHES = 5  # as many within CRASH_WINDOW_S, and the supervisor gives up
CRASH_WINDOW_S = 60.0
FIRST_BACKOFF_S = 0.5  # before the first restart; doubles with each crash in the window
LOG_BYTES = 5 * 1024 * 1024  # a longer log is set aside at the next start
_POLL_S = 0.1


class KeptCrashing(AmendsError):
    """A program crashed again and again; the message ends with the last lines of its log."""


@dataclass(frozen=True)
class Program:
    """One command to keep running. Programs are stopped in the order in which they are given."""

    name: str
    command: tuple[str, ...]
    stop_s: float = 15.0  # from SIGTERM to SIGKILL
    ending: str = ""  # what it does before it ends, for who waits


@dataclass
class _Child:
    program: Program
    log: Path
    process: subprocess.Popen[bytes] | None = None
    crashed_at: list[float] = field(default_factory=list)
    start_at: float = 0.0


class Supervisor:
    """Runs programs until `stop` is called or a signal arrives; used from the main thread."""

    def __init__(
        self,
        programs: Sequence[Program],
        environment: Mapping[str, str],
        folder: Path,
        say: Callable[[str], None],
        first_backoff_s: float = FIRST_BACKOFF_S,
    ) -> None:
        """Programs run in `folder` and write to `folder`/logs."""
        logs = folder / "logs"
        logs.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._children = [_Child(p, logs / f"{p.name}.log") for p in programs]
        self._environment = dict(environment)
        self._say = say
        self._first_backoff_s = first_backoff_s
        self._stopping = False
        self._kill_now = False

    def run(self, watch: Callable[[], None] = lambda: None) -> bool:
        """Start all, keep them running, stop all; True when a second signal cut the stopping short.

        `watch` is called about ten times a second while all is well. Raises KeptCrashing.
        """
        for child in self._children:
            _set_aside(child.log)
        with self._signals():
            try:
                while not self._stopping:
                    for child in self._children:
                        self._keep_running(child)
                    watch()
                    time.sleep(_POLL_S)
            finally:
                self._stop_all()
        return self._kill_now

    def stop(self) -> None:
        """Ask `run` to stop everything; a second call kills what is still there."""
        self._kill_now = self._stopping
        self._stopping = True

    def _keep_running(self, child: _Child) -> None:
        now = time.monotonic()
        if child.process is None:
            if now >= child.start_at:
                child.process = self._start(child)
            return
        status = child.process.poll()
        if status is None or self._stopping:
            return
        _kill_session(child.process.pid)
        child.process = None
        child.crashed_at = [t for t in child.crashed_at if now - t < CRASH_WINDOW_S] + [now]
        name, crashes = child.program.name, len(child.crashed_at)
        if crashes >= CRASHES:
            raise KeptCrashing(
                f"{name} {describe_exit(status)}, the {crashes}th time within "
                f"{CRASH_WINDOW_S:g} s. Its last lines ({child.log}):\n{_last_lines(child.log)}"
            )
        wait_s = self._first_backoff_s * 2 ** (crashes - 1)
        child.start_at = now + wait_s
        self._say(f"{name} {describe_exit(status)}; starting it again in {wait_s:g} s")

    def _start(self, child: _Child) -> subprocess.Popen[bytes]:
        with child.log.open("ab") as log:
            return subprocess.Popen(
                child.program.command,
                env=self._environment,
                cwd=self._folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C is for the supervisor, which stops in order
                preexec_fn=dies_with_parent(signal.SIGTERM),
            )

    def _stop_all(self) -> None:
        patient = [child.program for child in self._children if child.program.ending]
        told = "; ".join(f"{program.ending} (up to {program.stop_s:g} s)" for program in patient)
        if self._stopping and told:
            with suppress(OSError):  # nobody reads it
                self._say(f"Stopping; {told}")
        for child in self._children:
            if child.process is None:
                continue
            if child.process.poll() is None:
                child.process.terminate()
                deadline = time.monotonic() + child.program.stop_s
                while child.process.poll() is None and not self._kill_now:
                    if time.monotonic() >= deadline:
                        self._say(
                            f"{child.program.name} did not stop within "
                            f"{child.program.stop_s:g} s: killed"
                        )
                        break
                    time.sleep(_POLL_S / 4)
            _kill_session(child.process.pid)
            child.process.wait()

    @contextmanager
    def _signals(self) -> Iterator[None]:
        def on_signal(number: int, frame: FrameType | None) -> None:
            self.stop()

        numbers = (signal.SIGINT, signal.SIGTERM)
        before = [signal.signal(number, on_signal) for number in numbers]
        try:
            yield
        finally:
            for number, handler in zip(numbers, before, strict=True):
                signal.signal(number, handler)


def describe_exit(status: int) -> str:
    """'exited with 3' or 'was killed by SIGKILL'."""
    if status < 0:
        return f"was killed by {signal.Signals(-status).name}"
    return f"exited with {status}"


def _kill_session(leader_pid: int) -> None:
    # The leader may be gone while what it started is not; its session carries its id.
    try:
        os.killpg(leader_pid, signal.SIGKILL)
    except ProcessLookupError:
        return


def _set_aside(log: Path) -> None:
    if log.is_file() and log.stat().st_size > LOG_BYTES:
        log.replace(log.with_suffix(".log.1"))


def _last_lines(log: Path, count: int = 15) -> str:
    with log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - 8192))
        lines = file.read().decode(errors="replace").splitlines()
    return "\n".join(lines[-count:])

"""Starts a whole Amends install as one child process (`amends up`) and makes sure that nothing of
it stays behind.

Knows the command line, /readyz and the logs folder; nothing of what runs inside. Invariants: the
install is a fresh one of its own (no setting of the caller's install reaches it); when the context
ends, on whatever path, the child is reaped. What this does not cover: on systems but Linux a demo
that was killed with -9 leaves its child running.
"""

import ctypes
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

STOP_S = 90.0  # from SIGTERM to SIGKILL: the programs stop one after the other
_KEPT_SETTINGS = frozenset(f"AMENDS_{name}" for name in ("BASE_MODEL", "CACHE", "DTYPE", "THREADS"))


class StackBroke(Exception):
    """The child did not come up, or ended; the message ends with the last lines of its log."""


@dataclass(frozen=True)
class Stack:
    """A running install."""

    base_url: str
    staff_token: str
    home: Path
    process: subprocess.Popen[bytes]
    log: Path

    def check(self) -> None:
        """Raises StackBroke when the child has ended."""
        status = self.process.poll()
        if status is not None:
            raise StackBroke(
                f"`amends up` ended with {status}. Its last lines ({self.log}):\n"
                f"{last_lines(self.log)}"
            )


@contextmanager
def running_stack(
    home: Path,
    environment: Mapping[str, str],
    waiting: Callable[[float, str], None],
    ready_s: float,
    alone: bool = False,
) -> Iterator[Stack]:
    """A fresh install on `home`, ready to answer.

    environment: settings of this install beside its home and token; only those, where `alone`, else
    the caller's hyperparameters of a round pass on too. `waiting` hears the seconds and the newest
    line of the log while the base model is fetched and loaded. Raises StackBroke.
    """
    home.mkdir(parents=True, exist_ok=True)
    port, token = _free_port(), secrets.token_hex(16)
    log = home / "up.log"
    with log.open("ab") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "amends", "up", "--port", str(port)],
            env={
                **what_passes_on(os.environ, alone),
                **environment,
                "AMENDS_HOME": str(home),
                "AMENDS_STAFF_TOKEN": token,
            },
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            preexec_fn=_end_with_parent(),
        )
    try:
        stack = Stack(f"http://127.0.0.1:{port}", token, home, process, log)
        _wait_until_ready(stack, waiting, ready_s)
        yield stack
    finally:
        _reap(process)


def what_passes_on(environment: Mapping[str, str], alone: bool = False) -> dict[str, str]:
    """The caller's environment without what points at an install of theirs."""
    return {
        name: value
        for name, value in environment.items()
        if not name.startswith("AMENDS_")
        or name in _KEPT_SETTINGS
        or (name.startswith("AMENDS_LEARN_") and not alone)  # hyperparameters of the round
    }


def last_lines(log: Path, count: int = 15) -> str:
    """The end of a log file, '' when there is none."""
    if not log.is_file():
        return ""
    with log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - 8192))
        return "\n".join(file.read().decode(errors="replace").splitlines()[-count:])


def _wait_until_ready(stack: Stack, waiting: Callable[[float, str], None], ready_s: float) -> None:
    began = time.monotonic()
    with httpx.Client(base_url=stack.base_url, timeout=5.0) as http:
        while True:
            stack.check()
            seconds = time.monotonic() - began
            try:
                if http.get("/readyz").status_code == 200:
                    return
            except httpx.TransportError:
                pass  # nobody listens yet
            if seconds > ready_s:
                server_log = stack.home / "logs" / "server.log"
                raise StackBroke(
                    f"expected /readyz to answer 200 within {ready_s:g} s, it did not.\n"
                    f"{stack.log} ends:\n{last_lines(stack.log)}\n"
                    f"{server_log} ends:\n{last_lines(server_log)}"
                )
            waiting(seconds, last_lines(stack.log, 1))
            time.sleep(0.5)


def _reap(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _end_with_parent() -> Callable[[], None]:
    """PR_SET_PDEATHSIG (1) = SIGTERM: a demo that dies takes the install with it, in order."""
    prctl = ctypes.CDLL(None).prctl if sys.platform == "linux" else None
    parent = os.getpid()

    def in_child() -> None:
        if prctl is not None:
            prctl(1, int(signal.SIGTERM), 0, 0, 0)
            if os.getppid() != parent:
                os._exit(1)

    return in_child

"""The trainer as a child process: start it, ask it to stop, say how it ended.

Knows no run record and no queue. Invariants: the child dies with the thread that started it
(Linux; on macOS it ends when it finds its lease lost); nothing of its session outlives `kill`.
Exit codes are the trainer's side of the bargain.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Literal, Self

from amends.child_process import dies_with_parent

EXIT_CANCELLED = 10
EXIT_LEASE_LOST = 11
EXIT_REFUSED = 12

Outcome = Literal["finished", "stopped", "lease_lost", "refused", "out_of_memory", "crashed"]

_OUTCOMES: dict[int, Outcome] = {
    0: "finished",
    EXIT_CANCELLED: "stopped",
    EXIT_LEASE_LOST: "lease_lost",
    EXIT_REFUSED: "refused",
    -signal.SIGTERM: "stopped",
    # Nobody but the kernel's memory killer sends this one, apart from our own `kill`.
    -signal.SIGKILL: "out_of_memory",
    128 + signal.SIGKILL: "out_of_memory",
}


def classify(return_code: int) -> Outcome:
    """What a return code (negative: a signal) says about the run."""
    return _OUTCOMES.get(return_code, "crashed")


# Between two looks at a running child.
_LOOK_S = 0.05


class Child:
    """One running command; as a context manager nothing of it is left at the end."""

    def __init__(self, command: Sequence[str], log: Path, niceness: int) -> None:
        log.parent.mkdir(parents=True, exist_ok=True)
        self._log = log
        with open(log, "ab") as output:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
                preexec_fn=dies_with_parent(signal.SIGTERM, niceness),
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.kill()

    def wait(self, timeout_s: float) -> int | None:
        """The return code, or None when it still runs after `timeout_s`."""
        deadline = time.monotonic() + timeout_s
        while not self._has_ended():
            if time.monotonic() >= deadline:
                return None
            time.sleep(min(_LOOK_S, timeout_s))
        self.kill()
        return self._process.returncode

    def ask_to_stop(self) -> None:
        self._process.terminate()

    def kill(self) -> None:
        """End the whole session at once; a child that has ended keeps its return code."""
        if self._process.returncode is None:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()

    def _has_ended(self) -> bool:
        """Looks without reaping: until it is reaped, its number names its session and no other."""
        if self._process.returncode is not None or sys.platform != "linux":
            return self._process.poll() is not None
        look = os.WEXITED | os.WNOHANG | os.WNOWAIT
        return os.waitid(os.P_PID, self._process.pid, look) is not None

    def last_words(self) -> str:
        """The last line of the log that is not empty."""
        with open(self._log, "rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - 4096))
            lines = file.read().decode(errors="replace").split("\n")
        return next((line.strip() for line in reversed(lines) if line.strip()), "")

"""An engine's program while the benchmark runs: started, stopped in between, asked, ended.

Knows the pipe, the signals and /proc; not what is measured. Invariant: nothing of an engine is left
behind, whatever ends the benchmark.
"""

import json
import os
import select
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from amends.child_process import dies_with_parent

ROOT = Path(__file__).resolve().parents[2]
READY_S = 600
CELL_S = 900
STOP_S = 30


@dataclass(frozen=True)
class Program:
    """How to start an engine, and what its rows are called."""

    system: str
    script: str  # under benchmarks/
    arguments: tuple[str, ...] = ()  # after the workload's file
    setting: dict[str, Any] = field(default_factory=dict)
    environment: str = ".venv"


class Engine:
    """A running program; stands still but while it is asked."""

    def __init__(self, program: Program, workload: Path, log: Path) -> None:
        self.program = program
        python = ROOT / program.environment / "bin" / "python"
        script = ROOT / "benchmarks" / program.script
        self._log = log
        self.ready: dict[str, Any] = {}  # what it said when it was
        with log.open("wb") as errors:
            self._process = subprocess.Popen(
                [str(python), str(script), str(workload), *program.arguments],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"},
                start_new_session=True,
                preexec_fn=dies_with_parent(signal.SIGKILL),
                text=True,
            )

    def wait_until_ready(self) -> None:
        """Raises RuntimeError with the last line of the program's errors."""
        self.ready = self._read(READY_S)
        self._signal(signal.SIGSTOP)

    def ask(self, **cell: Any) -> dict[str, Any]:
        """The cell's line. Raises RuntimeError."""
        self._signal(signal.SIGCONT)
        try:
            assert self._process.stdin is not None
            self._process.stdin.write(json.dumps(cell) + "\n")
            self._process.stdin.flush()
            return self._read(CELL_S)
        except BrokenPipeError:
            raise RuntimeError(self._ended()) from None
        finally:
            self._signal(signal.SIGSTOP)

    def peak_memory_bytes(self) -> int:
        """Of all its processes, each at its own peak."""
        return sum(_peak_bytes(pid) for pid in _group(self._process.pid))

    def stop(self) -> None:
        """Asks it to end, then insists: the program alone first, then all that it started."""
        if self._process.stdin is None or self._process.poll() is not None:
            return
        self._signal(signal.SIGCONT)
        self._process.stdin.close()
        for insist in (signal.SIGTERM, signal.SIGKILL):
            try:
                self._process.wait(STOP_S)
                return
            except subprocess.TimeoutExpired:
                self._signal(insist)
        self._process.wait()

    def _signal(self, number: signal.Signals) -> None:
        os.killpg(self._process.pid, number)

    def _read(self, within_s: int) -> dict[str, Any]:
        assert self._process.stdout is not None
        ready, _, _ = select.select([self._process.stdout], [], [], within_s)
        if not ready:
            raise RuntimeError(f"it did not answer within {within_s} s")
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(self._ended())
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise RuntimeError(answer["error"])
        return answer

    def _ended(self) -> str:
        """Its last line; a traceback's other lines name files of this machine."""
        lines = self._log.read_text(errors="replace").strip().splitlines()
        return f"it ended: {lines[-1] if lines else 'without a word'}"


@contextmanager
def running(program: Program, workload: Path, folder: Path) -> Iterator[Engine]:
    """The engine, stopped again whatever happens. Raises RuntimeError when it cannot start."""
    log = folder / f"{'.'.join((Path(program.script).name, *program.arguments))}.log"
    engine = Engine(program, workload, log)
    try:
        engine.wait_until_ready()
        yield engine
    finally:
        engine.stop()


def _group(leader: int) -> Iterator[int]:
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if os.getpgid(int(folder.name)) == leader:
                yield int(folder.name)
        except ProcessLookupError:
            continue


def _peak_bytes(process_id: int) -> int:
    try:
        status = Path(f"/proc/{process_id}/status").read_text()
    except FileNotFoundError:
        return 0
    peaks = [line.split()[1] for line in status.splitlines() if line.startswith("VmHWM")]
    return int(peaks[0]) * 1024 if peaks else 0

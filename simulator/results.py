"""The file of measurements that a command leaves behind: date, commit, machine, rows.

Knows no metric. Invariant: the file on disk is complete JSON after every row, so that a run that
breaks leaves what it had measured.
"""

import json
import os
import platform
import subprocess
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

PROGRAMS = ("amends", "server", "worker", "simulator")


class Results:
    """Rows of one command's file, written as they are known."""

    def __init__(self, path: Path, resume: bool = False) -> None:
        """`resume` keeps the rows that an earlier run of the same commit left."""
        self._path = path
        self._head = {
            "date": datetime.now(UTC).isoformat(timespec="seconds"),
            "commit": commit(),
            "machine": {"cpu": _cpu(), "cores": os.cpu_count()},
        }
        self.rows: list[dict[str, Any]] = []
        if resume and path.is_file():
            earlier = json.loads(path.read_text())
            if earlier["commit"] == self._head["commit"]:
                self.rows = earlier["rows"]

    def add(
        self,
        metric: str,
        value: float | None,
        unit: str,
        setting: dict[str, Any],
        low: float | None = None,
        high: float | None = None,
        system: str = "ours",
    ) -> None:
        """One more row; replaces the file in one step. A value of None: not measured, and
        `setting` says why.
        """
        self.rows.append(
            {
                "metric": metric,
                "system": system,
                "setting": setting,
                "value": value,
                "low": low,
                "high": high,
                "unit": unit,
            }
        )
        self._path.parent.mkdir(parents=True, exist_ok=True)
        fresh = self._path.with_name(self._path.name + ".new")
        fresh.write_text(json.dumps({**self._head, "rows": self.rows}, indent=1) + "\n")
        fresh.replace(self._path)


def commit(*paths: str) -> str:
    """Of the checkout that runs, or the last one that changed these paths beside this file;
    "unknown" outside of a checkout."""
    return _git("log", "-1", "--format=%H", "--", *paths) or "unknown"


def programs() -> str:
    """The commit of the programs that run; "+changes" where files of theirs differ from it."""
    changed = _git("status", "--porcelain", "--", *(f"../{name}" for name in PROGRAMS))
    return f"{commit()}+changes" if changed else commit()


def _git(*arguments: str) -> str:
    """What it prints, in this file's folder; nothing outside of a checkout."""
    folder = Path(__file__).parent
    try:
        found = subprocess.run(
            ["git", *arguments], cwd=folder, capture_output=True, text=True, check=False
        )
    except FileNotFoundError:
        return ""
    return found.stdout.strip()


def _cpu() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.is_file() else []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor() or platform.machine())

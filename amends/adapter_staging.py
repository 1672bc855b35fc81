"""Folders in which adapters are written before they are published.

Knows no version. Invariant: a folder here is either being written by a live run or garbage that
will be swept.
"""

import shutil
import tempfile
import time
from contextlib import suppress
from pathlib import Path

# A folder that nobody has written to for so long belongs to a process that died.
_ABANDONED_S = 24 * 3600.0


class Staging:
    """Lies on the filesystem of the versions, so that publishing is one rename."""

    def __init__(self, root: Path) -> None:
        self._root = root
        root.mkdir(parents=True, exist_ok=True)

    def new(self, run_id: int) -> Path:
        """An empty folder of the run's own."""
        self.sweep()
        return Path(tempfile.mkdtemp(prefix=f"{run_id}-", dir=self._root))

    def holds(self, folder: Path) -> bool:
        """Whether `folder` itself (no link to it) was made here."""
        return not folder.is_symlink() and folder.resolve().parent == self._root.resolve()

    def sweep(self, published_run_id: int | None = None) -> None:
        """Remove folders of a run that has its version, and abandoned ones."""
        for folder in self._root.iterdir():
            done = folder.name.startswith(f"{published_run_id}-")
            with suppress(FileNotFoundError):
                if done or time.time() - folder.stat().st_mtime > _ABANDONED_S:
                    shutil.rmtree(folder, ignore_errors=True)

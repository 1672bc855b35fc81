"""What a killed run needs in order to resume.

Knows no training: states are dicts of tensors, numbers and lists. Invariants: a checkpoint that
can be read is whole (written aside, fsynced, renamed); the two newest are kept, so a torn disk
costs one step.

Random numbers are no part of a state: every draw in a round is seeded by the run's seed and the
step's number.
"""

import os
import pickle
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch


@dataclass(frozen=True)
class Checkpoints:
    """Numbered states in one folder."""

    folder: Path

    def save(self, step: int, state: dict[str, Any]) -> None:
        """Write state number `step` and forget all but the newest two."""
        self.folder.mkdir(parents=True, exist_ok=True)
        aside = self.folder / f".writing-{os.getpid()}"
        with aside.open("wb") as handle:
            torch.save(state, handle)
            handle.flush()
            os.fsync(handle.fileno())
        aside.rename(self._path(step))
        for old in self._steps()[:-2]:
            self._path(old).unlink(missing_ok=True)

    def newest(self) -> tuple[int, dict[str, Any]] | None:
        """The newest readable state and its number; None when there is none."""
        for step in reversed(self._steps()):
            try:
                state = torch.load(self._path(step), weights_only=True, map_location="cpu")
            except (OSError, RuntimeError, EOFError, pickle.UnpicklingError):
                continue  # torn by a full or failing disk: the one before is still good
            return step, state
        return None

    def _steps(self) -> list[int]:
        if not self.folder.is_dir():
            return []
        return sorted(int(path.stem) for path in self.folder.glob("[0-9]*.pt"))

    def _path(self, step: int) -> Path:
        return self.folder / f"{step:06d}.pt"

"""What a round tells the world while it runs.

Knows no Redis and no files: the trainer process gives an implementation, tests another. `beat` is
called between any two pieces of work (about once a second) and may raise to stop the round:
Cancelled, LeaseLost.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Protocol

from amends.events import Stage
from worker.data.examples import Answer


class Cancelled(Exception):
    """Somebody asked the run to stop; everything up to the last checkpoint is kept."""


class LearningFailed(Exception):
    """A step cannot teach anything: its gradient is not finite, or nothing tells answers apart."""


class Reporter(Protocol):
    def beat(self) -> None:
        """Between two pieces of work: renew, look for a cancel, make room for visitors."""

    def stage_started(self, stage: Stage) -> None: ...

    def stage_finished(self, stage: Stage) -> None: ...

    def progress(self, stage: Stage, done: int, total: int) -> None: ...

    def metrics(self, stage: Stage, step: int, values: dict[str, float]) -> None: ...

    def samples(
        self, stage: Stage, step: int, answers: Sequence[Answer], scores: Sequence[float]
    ) -> None: ...

    def log(self, text: str) -> None: ...


@contextmanager
def stage(report: Reporter, name: Stage) -> Iterator[None]:
    """Started before, finished after; a stage that raises is not finished."""
    report.beat()
    report.stage_started(name)
    yield
    report.stage_finished(name)

"""A reporter that keeps what it is told, and stops the round where a test wants it stopped."""

from collections.abc import Sequence

from amends.events import Stage
from worker.data.examples import Answer
from worker.reporting import Cancelled


class Recorder:
    """Implements worker.reporting.Reporter.

    It raises Cancelled at the first beat after `stop_after_updates` reports of numbers, or at beat
    `stop_at[1]` (from 1) of stage `stop_at[0]`. The beat before a stage counts for the one before.
    """

    def __init__(
        self, stop_after_updates: int | None = None, stop_at: tuple[Stage, int] | None = None
    ) -> None:
        self.numbers: list[dict[str, float]] = []
        self.beats: dict[Stage, int] = {}
        self.finished: list[Stage] = []
        self.logs: list[str] = []
        self._stage: Stage = "claim"
        self._stop_after = stop_after_updates
        self._stop_at = stop_at

    def beat(self) -> None:
        self.beats[self._stage] = self.beats.get(self._stage, 0) + 1
        if self._stop_after is not None and len(self.numbers) >= self._stop_after:
            raise Cancelled("asked to stop")
        if self._stop_at == (self._stage, self.beats[self._stage]):
            raise Cancelled(f"asked to stop in {self._stage}")

    def stage_started(self, stage: Stage) -> None:
        self._stage = stage

    def stage_finished(self, stage: Stage) -> None:
        self.finished.append(stage)

    def progress(self, stage: Stage, done: int, total: int) -> None: ...

    def metrics(self, stage: Stage, step: int, values: dict[str, float]) -> None:
        self.numbers.append(values)

    def samples(
        self, stage: Stage, step: int, answers: Sequence[Answer], scores: Sequence[float]
    ) -> None: ...

    def log(self, text: str) -> None:
        self.logs.append(text)

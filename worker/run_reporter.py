"""Reports of a running round: to the run's record and events in Redis, to TensorBoard files, to
the log.

Knows no training. Invariant: `beat` looks at the lease at most once a second, and raises LeaseLost
or Cancelled between two pieces of work; one unreachable look at the store is a blip, the lease
decides when it was one too many.
"""

import logging
import signal
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import FrameType

import torch
from torch.utils.tensorboard import SummaryWriter

from amends.activity import Activity
from amends.errors import StoreUnavailable
from amends.events import (
    Event,
    Log,
    Metrics,
    Progress,
    RunEvents,
    Sample,
    Samples,
    Stage,
    StageFinished,
    StageStarted,
)
from amends.runs import Run, Runs
from worker.data.examples import Answer
from worker.reporting import Cancelled

log = logging.getLogger(__name__)

# Share of a round's time that is over when a stage begins, and that it takes: for one progress bar.
SHARES: dict[Stage, tuple[float, float]] = {
    "claim": (0.0, 0.01),
    "dataset": (0.01, 0.01),
    "sft": (0.02, 0.13),
    "reward": (0.15, 0.1),
    "ppo": (0.25, 0.6),
    "gate": (0.85, 0.14),
    "publish": (0.99, 0.01),
}
LOOK_EVERY_S = 1.0


class RunReporter:
    """Implements worker.reporting.Reporter for one claimed run."""

    def __init__(
        self,
        run: Run,
        runs: Runs,
        events: RunEvents,
        activity: Activity,
        folder: Path,
        threads: int,
    ) -> None:
        self._run = run
        self._runs = runs
        self._events = events
        self._activity = activity
        self._threads = threads
        self._writer = SummaryWriter(str(folder / "tensorboard"))
        self._looked_at = 0.0
        self._started: dict[Stage, float] = {}
        self._asked_to_stop = False
        signal.signal(signal.SIGTERM, self._on_sigterm)

    def beat(self) -> None:
        """Stop when asked to or when the lease is lost; one thread while visitors are answered."""
        if self._asked_to_stop:
            raise Cancelled(f"run {self._run.run_id} was asked to stop")
        if time.monotonic() - self._looked_at < LOOK_EVERY_S:
            return
        self._looked_at = time.monotonic()
        try:
            self._runs.check(self._run.run_id, self._run.epoch)
            active = self._activity.visitors_active()
        except StoreUnavailable as error:
            log.warning("the store did not answer, going on: %s", error)
            return
        torch.set_num_threads(1 if active else self._threads)

    def stage_started(self, stage: Stage) -> None:
        self._started[stage] = time.monotonic()
        log.info("%s", stage)
        if stage == "gate":
            self._safely(lambda: self._runs.to_gating(self._run.run_id, self._run.epoch))
        self._publish(StageStarted(stage=stage))
        self._move(stage, 0.0)

    def stage_finished(self, stage: Stage) -> None:
        seconds = time.monotonic() - self._started[stage]
        log.info("%s took %.1f s", stage, seconds)
        self._publish(StageFinished(stage=stage, seconds=round(seconds, 3)))
        self._move(stage, 1.0)

    def progress(self, stage: Stage, done: int, total: int) -> None:
        self._publish(Progress(stage=stage, done=done, total=total))
        self._move(stage, done / total)

    def metrics(self, stage: Stage, step: int, values: dict[str, float]) -> None:
        for name, value in values.items():
            self._writer.add_scalar(name, value, step)
        self._writer.flush()
        self._publish(Metrics(stage=stage, step=step, values=values))
        log.info("%s %d %s", stage, step, {k: round(v, 4) for k, v in values.items()})

    def samples(
        self, stage: Stage, step: int, answers: Sequence[Answer], scores: Sequence[float]
    ) -> None:
        texts = tuple(
            Sample(prompt=a.context.question, response=a.response, score=round(s, 3))
            for a, s in zip(answers, scores, strict=False)
        )
        self._publish(Samples(stage=stage, step=step, texts=texts))

    def log(self, text: str) -> None:
        log.info("%s", text)
        self._publish(Log(text=text))

    def close(self) -> None:
        self._writer.close()

    def _move(self, stage: Stage, share: float) -> None:
        before, own = SHARES[stage]
        run = self._run
        self._safely(lambda: self._runs.report(run.run_id, run.epoch, stage, before + own * share))

    def _publish(self, event: Event) -> None:
        self._safely(lambda: self._events.publish(self._run.run_id, event))

    def _safely(self, tell: Callable[[], None]) -> None:
        """News that cannot be told is lost; the round goes on."""
        try:
            tell()
        except StoreUnavailable as error:
            log.warning("could not report: %s", error)

    def _on_sigterm(self, number: int, frame: FrameType | None) -> None:
        self._asked_to_stop = True

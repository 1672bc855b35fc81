"""One claimed run from a worker's side: start the trainer, keep the lease, stop it when asked,
record how it ended.

Knows no Celery, no torch and nothing of what is learned. Invariants: the run record, never this
process, decides; whoever loses the lease writes nothing more; every way out leaves the run ended,
or queued, or to the reconciler when the store is away.
"""

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from amends.errors import BadTransition, LeaseLost, NotFound, StoreUnavailable
from amends.events import Log, RunEvents
from amends.feedback_store import FeedbackStore
from amends.jobs import JobQueue
from amends.runs import Run, Runs
from worker.child import Child, classify
from worker.settings import WorkerSettings

logger = logging.getLogger(__name__)

StopReason = Literal["cancel", "shutdown", "lease_lost", "time_limit"]


@dataclass(frozen=True)
class Ending:
    """How the trainer ended, and what we had asked it to stop for."""

    return_code: int
    asked: StopReason | None
    last_words: str


class Interrupt(Exception):
    """Raised into the watch by whoever limits its time; the trainer is asked to stop."""


@dataclass(frozen=True)
class Stores:
    """Where runs and feedback are recorded, and where hints are sent."""

    runs: Runs
    feedback: FeedbackStore
    events: RunEvents
    queue: JobQueue


class TrainingJob:
    """`runs_folder`/{run_id}/trainer.log gets what the trainer prints."""

    def __init__(self, stores: Stores, settings: WorkerSettings, runs_folder: Path) -> None:
        self._stores = stores
        self._settings = settings
        self._runs_folder = runs_folder

    def perform(
        self,
        run_id: int,
        stopping: Callable[[], bool],
        time_limit: type[BaseException] = Interrupt,
    ) -> None:
        """Claim the run and see it through; returns at once when it is not to be had.

        `stopping` says that this worker shuts down. `time_limit` is what Celery raises here when
        the run took too long.
        """
        try:
            run = self._stores.runs.claim(run_id, self._settings.lease_s)
        except (BadTransition, NotFound) as error:
            logger.info("run %d is not to be had: %s", run_id, error)
            return
        try:
            self._settle_earlier(run_id)
            if run.cancel_requested:
                self._stores.runs.finish(run_id, run.epoch, "CANCELLED")
            else:
                self._conclude(run, self._train(run, stopping, time_limit))
            self.settle(run_id)
        except (LeaseLost, BadTransition) as error:
            logger.warning("run %d went on without us: %s", run_id, error)
        except StoreUnavailable as error:
            logger.error("run %d is left to the reconciler: %s", run_id, error)

    def settle(self, run_id: int) -> None:
        """Complete or release the feedback of a run that has ended; for others nothing."""
        state = self._stores.runs.get(run_id).state
        if state in ("CANDIDATE", "REJECTED"):
            self._stores.feedback.complete(run_id)
        elif state in ("FAILED", "CANCELLED"):
            self._stores.feedback.release(run_id)

    def _settle_earlier(self, run_id: int) -> None:
        """One run is live at a time, so the others have ended: what they learned from is completed
        before this one asks what that was.
        """
        for earlier in self._stores.feedback.open_claims():
            if earlier == run_id:
                continue
            try:
                self.settle(earlier)
            except NotFound:
                logger.error("feedback is claimed by run %d, which does not exist", earlier)

    def _train(
        self, run: Run, stopping: Callable[[], bool], time_limit: type[BaseException]
    ) -> Ending:
        arguments = ["--run", str(run.run_id), "--epoch", str(run.epoch)]
        log = self._runs_folder / str(run.run_id) / "trainer.log"
        command = [*self._settings.trainer_command, *arguments]
        logger.info("run %d, attempt %d, epoch %d: starting", run.run_id, run.attempt, run.epoch)
        with Child(command, log, self._settings.trainer_niceness) as child:
            watch = _Watch(child, run, self._stores.runs, self._settings, stopping)
            try:
                return_code = watch.until_end()
            except time_limit:
                watch.stop("time_limit")
                return_code = watch.until_end()
            return Ending(return_code, watch.asked, child.last_words())

    def _conclude(self, run: Run, ending: Ending) -> None:
        """Record the end, unless the trainer has done so itself."""
        runs, run_id, epoch = self._stores.runs, run.run_id, run.epoch
        outcome = classify(ending.return_code)
        now = runs.get(run_id)
        if now.ended or now.epoch != epoch or outcome == "lease_lost":
            logger.info(
                "run %d is %s, trainer ended with %d", run_id, now.state, ending.return_code
            )
        elif ending.asked == "cancel" or now.cancel_requested:
            runs.finish(run_id, epoch, "CANCELLED")
        elif ending.asked == "shutdown":
            runs.requeue(run_id, epoch, count_attempt=False)
            self._say(run_id, "the worker was shut down; another goes on from the last checkpoint")
            self._stores.queue.train(run_id)
        elif outcome == "refused":
            runs.finish(run_id, epoch, "FAILED", error=ending.last_words or "the data were refused")
        else:
            self._try_again(run, ending)

    def _try_again(self, run: Run, ending: Ending) -> None:
        out_of_memory = classify(ending.return_code) == "out_of_memory" and ending.asked is None
        limit = self._settings.max_attempts
        if out_of_memory:
            limit = min(limit, self._settings.max_out_of_memory_attempts)
        why = "was killed for memory" if out_of_memory else f"ended with {ending.return_code}"
        if ending.asked == "time_limit":
            why = "ran past its time limit"
        text = f"attempt {run.attempt} of {limit}: the trainer {why}. {ending.last_words}".strip()
        if run.attempt >= limit:
            self._stores.runs.finish(run.run_id, run.epoch, "FAILED", error=text)
            logger.error("run %d FAILED, %s", run.run_id, text)
        else:
            self._stores.runs.requeue(run.run_id, run.epoch)
            self._stores.queue.train(run.run_id)
        self._say(run.run_id, text)

    def _say(self, run_id: int, text: str) -> None:
        logger.warning("run %d: %s", run_id, text)
        self._stores.events.publish(run_id, Log(text=text))


class _Watch:
    """Waits for a child, renews its lease meanwhile, and stops it for the first reason that
    comes.
    """

    def __init__(
        self,
        child: Child,
        run: Run,
        runs: Runs,
        settings: WorkerSettings,
        stopping: Callable[[], bool],
    ) -> None:
        self.asked: StopReason | None = None
        self._child = child
        self._run = run
        self._runs = runs
        self._settings = settings
        self._stopping = stopping
        self._renewed_at = self._looked_at = time.monotonic()
        self._kill_at: float | None = None

    def until_end(self) -> int:
        """The child's return code."""
        while (return_code := self._child.wait(self._settings.poll_s)) is None:
            now = time.monotonic()
            if now - self._looked_at >= self._settings.renew_every_s:
                self._looked_at = now
                self._renew(now)
            if self._stopping():
                self.stop("shutdown")
            if self._kill_at is not None and now >= self._kill_at:
                self._child.kill()
        return return_code

    def stop(self, reason: StopReason) -> None:
        """Ask once; `stop_grace_s` later the child is killed."""
        if self.asked is None:
            logger.info("run %d: asking the trainer to stop: %s", self._run.run_id, reason)
            self.asked = reason
            self._child.ask_to_stop()
        self._kill_after_grace()

    def _kill_after_grace(self) -> None:
        if self._kill_at is None:
            self._kill_at = time.monotonic() + self._settings.stop_grace_s

    def _renew(self, now: float) -> None:
        """One failed renewal is a blip; the lease itself says when it was one too many. A trainer
        that has just ended its own run is on its way out: waited for, not asked.
        """
        run_id, epoch = self._run.run_id, self._run.epoch
        try:
            held = self._held()
            run = self._runs.get(run_id)
            if run.ended and run.epoch == epoch:
                self._kill_after_grace()
            elif not held:
                self.stop("lease_lost")
            elif run.cancel_requested:
                self.stop("cancel")
        except StoreUnavailable as error:
            logger.warning("run %d: lease not renewed: %s", run_id, error)
            if now - self._renewed_at >= self._settings.lease_s:
                self.stop("lease_lost")

    def _held(self) -> bool:
        """Whether the lease could be renewed."""
        try:
            self._runs.renew(self._run.run_id, self._run.epoch, self._settings.lease_s)
        except LeaseLost:
            return False
        self._renewed_at = time.monotonic()
        return True

"""What the worker does by the clock: find runs that lost their worker, and start a round when
there is reason to.

Knows no Celery and no process. Invariant: both may be called at any time, by several workers at
once, and twice.
"""

import logging
from collections.abc import Callable

from amends.errors import BadTransition, NotFound
from amends.events import Log
from amends.record import now_s
from amends.runs import Run
from worker.settings import WorkerSettings
from worker.training_job import Stores

logger = logging.getLogger(__name__)


def reconcile(stores: Stores, settings: WorkerSettings, settle: Callable[[int], None]) -> None:
    """Requeue or fail runs whose lease expired, repeat lost hints, settle ended runs' feedback."""
    for run in stores.runs.expired():
        try:
            _recover(stores, settings, run)
        except BadTransition as error:
            logger.info("run %d needs no help any more: %s", run.run_id, error)
    live = stores.runs.live()
    if live is not None and stores.runs.take_hint(live.run_id, settings.hint_after_s):
        stores.queue.train(live.run_id)
    for run_id in stores.feedback.open_claims():
        try:
            settle(run_id)
        except NotFound:
            logger.error("feedback is claimed by run %d, which does not exist", run_id)


def _recover(stores: Stores, settings: WorkerSettings, run: Run) -> None:
    if run.cancel_requested:
        stores.runs.finish(run.run_id, None, "CANCELLED")
    elif run.attempt >= settings.max_attempts:
        text = f"attempt {run.attempt} of {settings.max_attempts}: its worker vanished"
        stores.runs.finish(run.run_id, None, "FAILED", error=text)
        logger.error("run %d FAILED, %s", run.run_id, text)
    else:
        stores.runs.requeue(run.run_id, None)
        text = f"attempt {run.attempt}: its worker vanished; going on from the last checkpoint"
        stores.events.publish(run.run_id, Log(text=text))
        logger.warning("run %d, %s", run.run_id, text)
        stores.queue.train(run.run_id)


def maybe_start(stores: Stores, settings: WorkerSettings) -> Run | None:
    """Create and announce a run when enough feedback is new, or some has waited long enough.

    New means: since the last run was created. So a run that failed is not repeated at once with
    the feedback it released.
    """
    if stores.runs.live() is not None:
        return None
    last = next(iter(stores.runs.list(1)), None)
    new = stores.feedback.pending_since(last.created_at if last is not None else 0.0)
    reason = f"{new} new pieces of feedback, at least {settings.min_new_feedback}"
    if new < settings.min_new_feedback:
        oldest = stores.feedback.oldest_pending_at()
        if oldest is None:
            return None
        hours = (now_s() - (last.created_at if last is not None else oldest)) / 3600
        if hours < settings.max_hours_between_rounds:
            return None
        reason = f"feedback is waiting and {hours:.1f} hours passed"
    try:
        run = stores.runs.create(requested_by="schedule", reason=reason)
    except BadTransition:
        return None
    logger.info("run %d created: %s", run.run_id, reason)
    stores.queue.train(run.run_id)
    return run

"""The worker's Celery tasks; each only hands its ids to what does the work.

Knows no torch. The composition root of a pool process: stores are made at the first task, after
the fork.
"""

import os
from functools import cache

from celery import shared_task
from celery.exceptions import SoftTimeLimitExceeded

from amends.errors import SettingsError
from amends.events import RunEvents
from amends.feedback_store import FeedbackStore
from amends.jobs import MAYBE_START, RECONCILE, TRAIN, WATCH_CANARY, JobQueue
from amends.record import now_s
from amends.runs import Runs
from amends.settings import Settings
from amends.store_client import StoreClient, connect
from worker import rounds
from worker.canary.settings import CanarySettings
from worker.settings import WorkerSettings
from worker.shutdown import shutdown_flag
from worker.training_job import Stores, TrainingJob

_PERIODIC = {"ignore_result": True, "soft_time_limit": 60, "time_limit": 90}


@cache
def _url() -> str:
    url = Settings().redis_url
    if url is None:
        raise SettingsError("the worker needs AMENDS_REDIS_URL")
    return url


@cache
def _client() -> StoreClient:
    return connect(_url())


@cache
def _stores() -> Stores:
    client = _client()
    return Stores(Runs(client), FeedbackStore(client), RunEvents(client), JobQueue(_url()))


def _job() -> TrainingJob:
    return TrainingJob(_stores(), WorkerSettings(), Settings().runs_folder)


@shared_task(name=TRAIN, ignore_result=True, acks_late=False)  # type: ignore[untyped-decorator]
def train(run_id: int) -> None:
    """See a run through, from its claim to its end."""
    parent = os.getppid()

    def stopping() -> bool:
        # A main process that was killed leaves its pool without a parent, or with another.
        return shutdown_flag.is_set() or os.getppid() != parent

    _job().perform(run_id, stopping, time_limit=SoftTimeLimitExceeded)


@shared_task(name=RECONCILE, **_PERIODIC)  # type: ignore[untyped-decorator]
def reconcile() -> None:
    """Find what a crash left behind."""
    rounds.reconcile(_stores(), WorkerSettings(), _job().settle)


@shared_task(name=MAYBE_START, **_PERIODIC)  # type: ignore[untyped-decorator]
def maybe_start() -> None:
    """Start a round when there is reason to."""
    rounds.maybe_start(_stores(), WorkerSettings())


@shared_task(name=WATCH_CANARY, **_PERIODIC)  # type: ignore[untyped-decorator]
def watch_canary() -> None:
    """Compare a candidate on trial with the champion; withdraw it when it does worse."""
    from worker.canary import watch  # numpy: only in the process that counts

    sources = watch.sources(Settings().adapters_folder, _client())
    if sources is not None:
        watch.look(sources, CanarySettings(), now_s())

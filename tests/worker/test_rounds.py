import time
from collections.abc import Callable
from pathlib import Path

import pytest

from amends.embedded_store import StoreClient
from amends.errors import LeaseLost
from amends.runs import Verdict
from worker.rounds import maybe_start, reconcile
from worker.settings import WorkerSettings
from worker.training_job import Stores, TrainingJob

SETTINGS = WorkerSettings(min_new_feedback=3, max_hours_between_rounds=1, hint_after_s=30)


@pytest.fixture
def reconcile_now(stores: Stores, tmp_path: Path) -> Callable[..., None]:
    def now(**settings: float) -> None:
        changed = SETTINGS.model_copy(update=settings)
        reconcile(stores, changed, TrainingJob(stores, changed, tmp_path).settle)

    return now


def _expire(redis: StoreClient) -> None:
    redis.hset("amends:run:1", "lease_until", "0")


def test_a_run_whose_worker_vanished_is_requeued_and_announced(
    stores: Stores, redis: StoreClient, reconcile_now: Callable[..., None]
) -> None:
    run = stores.runs.claim(stores.runs.create(requested_by="test").run_id)
    reconcile_now()
    assert stores.runs.get(run.run_id).state == "RUNNING"
    _expire(redis)
    reconcile_now()
    assert stores.runs.get(run.run_id).state == "QUEUED"
    with pytest.raises(LeaseLost):
        stores.runs.check(run.run_id, run.epoch)
    assert redis.llen("celery:train") == 1
    reconcile_now()
    assert redis.llen("celery:train") == 1


def test_a_run_whose_worker_vanished_three_times_fails_and_releases_its_feedback(
    stores: Stores,
    redis: StoreClient,
    give: Callable[[int], None],
    reconcile_now: Callable[..., None],
) -> None:
    give(2)
    run_id = stores.runs.create(requested_by="test").run_id
    stores.feedback.claim(run_id)
    for _ in range(3):
        stores.runs.claim(run_id)
        _expire(redis)
        reconcile_now()
    run = stores.runs.get(run_id)
    assert (run.state, run.error) == ("FAILED", "attempt 3 of 3: its worker vanished")
    assert stores.feedback.pending_since() == 2
    assert stores.runs.live() is None


def test_a_cancelled_run_whose_worker_vanished_is_cancelled(
    stores: Stores, redis: StoreClient, reconcile_now: Callable[..., None]
) -> None:
    run_id = stores.runs.create(requested_by="test").run_id
    stores.runs.claim(run_id)
    stores.runs.request_cancel(run_id)
    _expire(redis)
    reconcile_now()
    assert stores.runs.get(run_id).state == "CANCELLED"


def test_a_lost_hint_is_sent_again_when_it_is_due(
    stores: Stores, redis: StoreClient, reconcile_now: Callable[..., None]
) -> None:
    stores.runs.create(requested_by="test")
    reconcile_now()
    assert redis.llen("celery:train") == 0
    time.sleep(0.02)
    reconcile_now(hint_after_s=0.02)
    assert redis.llen("celery:train") == 1
    reconcile_now(hint_after_s=0.5)
    assert redis.llen("celery:train") == 1


@pytest.mark.parametrize("state", ["CANDIDATE", "FAILED"])
def test_feedback_is_settled_when_the_worker_died_between_the_end_and_the_settling(
    stores: Stores, give: Callable[[int], None], reconcile_now: Callable[..., None], state: str
) -> None:
    give(2)
    run = stores.runs.claim(stores.runs.create(requested_by="test").run_id)
    stores.feedback.claim(run.run_id)
    reconcile_now()
    assert stores.feedback.open_claims() == [run.run_id]
    if state == "CANDIDATE":
        stores.runs.finish(
            run.run_id, run.epoch, "CANDIDATE", version=1, verdict=Verdict(passed=True)
        )
    else:
        stores.runs.finish(run.run_id, run.epoch, "FAILED", error="x")
    reconcile_now()
    counts = stores.feedback.counts()["thumb"]
    assert counts == {
        "pending": 2 if state == "FAILED" else 0,
        "claimed": 0,
        "completed": 2 if state == "CANDIDATE" else 0,
    }


def test_a_round_starts_when_enough_feedback_is_new(
    stores: Stores, redis: StoreClient, give: Callable[[int], None]
) -> None:
    assert maybe_start(stores, SETTINGS) is None
    give(2)
    assert maybe_start(stores, SETTINGS) is None
    give(3)
    run = maybe_start(stores, SETTINGS)
    assert run is not None
    assert (run.state, run.requested_by) == ("QUEUED", "schedule")
    assert "3 new" in run.reason
    assert redis.llen("celery:train") == 1


def test_there_are_never_two_live_runs(stores: Stores, give: Callable[[int], None]) -> None:
    give(5)
    assert maybe_start(stores, SETTINGS) is not None
    assert maybe_start(stores, SETTINGS) is None


def test_a_failed_run_is_not_repeated_with_the_feedback_it_released(
    stores: Stores, give: Callable[[int], None]
) -> None:
    give(5)
    run = maybe_start(stores, SETTINGS)
    assert run is not None
    stores.feedback.claim(run.run_id)
    stores.runs.finish(run.run_id, None, "FAILED", error="x")
    stores.feedback.release(run.run_id)
    assert maybe_start(stores, SETTINGS) is None
    patient = SETTINGS.model_copy(update={"max_hours_between_rounds": 1e-9})
    again = maybe_start(stores, patient)
    assert again is not None
    assert "hours" in again.reason


def test_a_little_feedback_that_waited_long_enough_starts_a_round(
    stores: Stores, give: Callable[[int], None]
) -> None:
    patient = SETTINGS.model_copy(update={"max_hours_between_rounds": 0.05 / 3600})
    assert maybe_start(stores, patient) is None
    give(1)
    assert maybe_start(stores, patient) is None
    time.sleep(0.06)
    assert maybe_start(stores, patient) is not None

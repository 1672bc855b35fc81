import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from pydantic import ValidationError

from amends.embedded_store import StoreClient
from amends.errors import BadTransition, LeaseLost, NotFound
from amends.runs import Ended, Run, Runs, Verdict

LEASE_S = 0.2


@pytest.fixture
def runs(redis: StoreClient) -> Runs:
    return Runs(redis)


def _create(runs: Runs) -> Run:
    return runs.create(requested_by="anna", reason="test")


def test_a_run_goes_from_queue_to_candidate_and_remembers_the_way(runs: Runs) -> None:
    created = runs.create("sft", requested_by="anna", reason="enough feedback")
    assert (created.state, created.optimizer, created.attempt) == ("QUEUED", "sft", 0)
    assert runs.live() == created
    run = runs.claim(created.run_id)
    assert (run.state, run.attempt, run.started_at is not None) == ("RUNNING", 1, True)
    runs.report(run.run_id, run.epoch, "ppo", 0.5)
    runs.to_gating(run.run_id, run.epoch)
    assert runs.get(run.run_id).state == "GATING"
    verdict = Verdict(passed=True, reasons=("wins 60 %",))
    runs.finish(run.run_id, run.epoch, "CANDIDATE", version=3, verdict=verdict)
    ended = runs.get(run.run_id)
    assert (ended.state, ended.version, ended.verdict) == ("CANDIDATE", 3, verdict)
    assert (ended.stage, ended.progress, ended.ended) == ("ppo", 1.0, True)
    assert ended.ended_at is not None and ended.ended_at >= ended.created_at
    assert runs.live() is None
    assert runs.list() == [ended]


def test_a_second_live_run_is_refused_and_says_which_one_lives(runs: Runs) -> None:
    first = _create(runs)
    with pytest.raises(BadTransition, match=f"run {first.run_id} is QUEUED"):
        _create(runs)
    runs.request_cancel(first.run_id)
    second = _create(runs)
    assert second.run_id == first.run_id + 1
    assert [run.run_id for run in runs.list()] == [second.run_id, first.run_id]


def test_of_many_who_create_or_claim_at_once_one_succeeds(runs: Runs) -> None:
    barrier = threading.Barrier(8)

    def create_and_claim() -> int:
        won = 0
        barrier.wait()
        try:
            _create(runs)
            won += 1
        except BadTransition:
            pass
        barrier.wait()
        try:
            runs.claim(1)
            won += 10
        except BadTransition:
            pass
        return won

    with ThreadPoolExecutor(8) as pool:
        futures = [pool.submit(create_and_claim) for _ in range(8)]
        assert sum(future.result() for future in futures) == 11


def test_a_held_run_is_claimed_again_only_when_its_lease_expired(runs: Runs) -> None:
    run = runs.claim(_create(runs).run_id, LEASE_S)
    with pytest.raises(BadTransition, match="lease is not over"):
        runs.claim(run.run_id)
    assert runs.expired() == []
    time.sleep(LEASE_S)
    assert [expired.run_id for expired in runs.expired()] == [run.run_id]
    second = runs.claim(run.run_id)
    assert second.epoch > run.epoch
    assert second.attempt == 2


def test_a_renewed_lease_does_not_expire(runs: Runs) -> None:
    run = runs.claim(_create(runs).run_id, LEASE_S)
    for _ in range(4):
        time.sleep(LEASE_S / 2)
        runs.renew(run.run_id, run.epoch, LEASE_S)
    runs.check(run.run_id, run.epoch)


@pytest.mark.parametrize("how", ["expired", "claimed by another", "requeued", "ended"])
def test_who_lost_the_lease_can_change_nothing_any_more(runs: Runs, how: str) -> None:
    run = runs.claim(_create(runs).run_id, LEASE_S)
    if how == "ended":
        runs.finish(run.run_id, run.epoch, "FAILED", error="x")
    elif how == "requeued":
        runs.requeue(run.run_id, run.epoch)
    else:
        time.sleep(LEASE_S)
        if how == "claimed by another":
            runs.claim(run.run_id)
    before = runs.get(run.run_id)
    with pytest.raises(LeaseLost):
        runs.renew(run.run_id, run.epoch)
    with pytest.raises(LeaseLost):
        runs.report(run.run_id, run.epoch, "ppo", 0.1)
    with pytest.raises(LeaseLost):
        runs.to_gating(run.run_id, run.epoch)
    with pytest.raises(LeaseLost):
        runs.check(run.run_id, run.epoch)
    with pytest.raises((LeaseLost, BadTransition)):
        runs.finish(run.run_id, run.epoch, "CANDIDATE", version=1)
    with pytest.raises((LeaseLost, BadTransition)):
        runs.requeue(run.run_id, run.epoch)
    with pytest.raises((LeaseLost, BadTransition)):
        runs.check(run.run_id, run.epoch)
    assert runs.get(run.run_id) == before


@pytest.mark.parametrize("end", ["CANDIDATE", "REJECTED", "FAILED", "CANCELLED"])
def test_an_end_said_twice_is_one_end_and_another_end_is_refused(runs: Runs, end: Ended) -> None:
    run = runs.claim(_create(runs).run_id)
    runs.finish(run.run_id, run.epoch, end)
    ended = runs.get(run.run_id)
    runs.finish(run.run_id, run.epoch, end)
    assert runs.get(run.run_id) == ended
    other: Ended = "FAILED" if end != "FAILED" else "CANDIDATE"
    with pytest.raises(BadTransition, match=f"ended as {end}"):
        runs.finish(run.run_id, run.epoch, other)
    with pytest.raises(BadTransition):
        runs.claim(run.run_id)


def test_the_reconciler_moves_only_runs_that_nobody_holds(runs: Runs) -> None:
    run = runs.claim(_create(runs).run_id, LEASE_S)
    with pytest.raises(BadTransition, match="lease is not over"):
        runs.requeue(run.run_id, None)
    with pytest.raises(BadTransition, match="lease is not over"):
        runs.finish(run.run_id, None, "FAILED")
    time.sleep(LEASE_S)
    runs.requeue(run.run_id, None)
    runs.requeue(run.run_id, None)
    assert runs.get(run.run_id).state == "QUEUED"


def test_an_orderly_requeue_forgives_the_attempt(runs: Runs) -> None:
    run_id = _create(runs).run_id
    for _ in range(5):
        runs.requeue(run_id, runs.claim(run_id).epoch, count_attempt=False)
    assert runs.get(run_id).attempt == 0
    runs.requeue(run_id, runs.claim(run_id).epoch)
    assert runs.claim(run_id).attempt == 2


def test_a_queued_run_is_cancelled_at_once_and_a_held_one_is_asked(runs: Runs) -> None:
    queued = _create(runs)
    assert runs.request_cancel(queued.run_id).state == "CANCELLED"
    assert runs.request_cancel(queued.run_id).state == "CANCELLED"
    run = runs.claim(_create(runs).run_id)
    asked = runs.request_cancel(run.run_id)
    assert (asked.state, asked.cancel_requested) == ("RUNNING", True)
    runs.finish(run.run_id, run.epoch, "REJECTED", verdict=Verdict(passed=False, reasons=("x",)))
    with pytest.raises(BadTransition, match="ended as REJECTED"):
        runs.request_cancel(run.run_id)


def test_a_hint_is_taken_by_one_and_only_when_it_is_due(runs: Runs) -> None:
    run_id = _create(runs).run_id
    assert not runs.take_hint(run_id, after_s=30)
    time.sleep(0.05)
    assert runs.take_hint(run_id, after_s=0.05)
    assert not runs.take_hint(run_id, after_s=0.05)
    runs.claim(run_id)
    time.sleep(0.05)
    assert not runs.take_hint(run_id, after_s=0.05)


def test_a_run_that_does_not_exist_is_not_found(runs: Runs) -> None:
    for move in (runs.get, runs.claim, runs.request_cancel):
        with pytest.raises(NotFound, match="no run 7"):
            move(7)
    with pytest.raises(NotFound):
        runs.renew(7, 1)
    assert runs.live() is None


def test_a_verdict_against_gives_a_reason() -> None:
    with pytest.raises(ValidationError, match="reason"):
        Verdict(passed=False)

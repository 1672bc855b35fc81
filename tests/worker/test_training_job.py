import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from amends.embedded_store import StoreClient
from amends.runs import Run
from amends.verdict import Verdict
from worker.settings import WorkerSettings
from worker.training_job import Interrupt, Stores, TrainingJob

FAST = {"lease_s": 1.2, "renew_every_s": 0.1, "poll_s": 0.05, "stop_grace_s": 5.0}


@pytest.fixture
def start(
    stores: Stores,
    tmp_path: Path,
    store_url: str,
    trainer_command: tuple[str, ...],
    give: Callable[[int], None],
    monkeypatch: pytest.MonkeyPatch,
) -> Callable[..., Run]:
    """Creates a run with this behaviour and performs it once; returns the run afterwards."""
    monkeypatch.setenv("AMENDS_REDIS_URL", store_url)
    monkeypatch.setenv("AMENDS_HOME", str(tmp_path))
    give(3)

    def perform(
        behaviour: str = "",
        run: Run | None = None,
        stopping: Callable[[], bool] = lambda: False,
        **settings: float,
    ) -> Run:
        run = run or stores.runs.create(requested_by="test", reason=behaviour)
        worker_settings = WorkerSettings(
            **{**FAST, "trainer_command": trainer_command, **settings}  # type: ignore[arg-type]
        )
        job = TrainingJob(stores, worker_settings, tmp_path / "runs")
        job.perform(run.run_id, stopping)
        return stores.runs.get(run.run_id)

    return perform


def _diary(home: Path) -> list[str]:
    path = home / "runs" / "1" / "diary"
    return path.read_text().split("\n")[:-1] if path.exists() else []


def _when_waiting(home: Path, act: Callable[[], object]) -> threading.Thread:
    def wait_and_act() -> None:
        while "waiting" not in _diary(home):
            time.sleep(0.02)
        act()

    thread = threading.Thread(target=wait_and_act)
    thread.start()
    return thread


def _states(stores: Stores) -> dict[str, int]:
    thumbs = stores.feedback.counts()["thumb"]
    return {"pending": thumbs["pending"], "completed": thumbs["completed"]}


def test_feedback_of_a_run_whose_worker_died_after_its_end_is_settled_before_the_next_one_learns(
    start: Callable[..., Run], stores: Stores, give: Callable[[int], None]
) -> None:
    ended = stores.runs.create(requested_by="test", reason="")
    held = stores.runs.claim(ended.run_id, 60.0)
    stores.feedback.claim(ended.run_id)
    stores.runs.to_gating(ended.run_id, held.epoch)
    verdict = Verdict(passed=False, reasons=("no",))
    stores.runs.finish(ended.run_id, held.epoch, "REJECTED", verdict=verdict)
    give(2)
    assert start("crash").state == "QUEUED"  # while it trains
    assert _states(stores)["completed"] == 3


@pytest.mark.parametrize("behaviour", ["candidate", "rejected"])
def test_feedback_of_a_run_that_was_judged_is_completed(
    start: Callable[..., Run], stores: Stores, behaviour: str, tmp_path: Path
) -> None:
    assert start(behaviour).state == behaviour.upper()
    assert _states(stores) == {"pending": 0, "completed": 3}
    assert "attempt 1" in (tmp_path / "runs" / "1" / "trainer.log").read_text()


def test_refused_data_fail_the_run_at_once_with_the_reason_and_release_the_feedback(
    start: Callable[..., Run], stores: Stores
) -> None:
    run = start("12")
    assert (run.state, run.attempt, run.error) == ("FAILED", 1, "attempt 1: 12")
    assert _states(stores) == {"pending": 3, "completed": 0}


@pytest.mark.parametrize(
    ("behaviour", "attempts", "why"),
    [("1", 3, "ended with 1"), ("0", 3, "ended with 0"), ("137", 2, "memory"), ("kill", 2, "mem")],
)
def test_a_crash_is_tried_three_times_and_a_lack_of_memory_twice(
    start: Callable[..., Run],
    stores: Stores,
    redis: StoreClient,
    behaviour: str,
    attempts: int,
    why: str,
) -> None:
    run = start(behaviour)
    for attempt in range(2, attempts + 1):
        assert (run.state, run.attempt) == ("QUEUED", attempt - 1)
        assert stores.feedback.open_claims() == [run.run_id]
        assert redis.llen("celery:train") == attempt - 1
        run = start(run=run)
    assert (run.state, run.attempt) == ("FAILED", attempts)
    assert run.error is not None and why in run.error
    assert _states(stores) == {"pending": 3, "completed": 0}
    assert len(stores.events.read(run.run_id)) == attempts


def test_after_a_crash_the_next_attempt_has_the_same_feedback(
    start: Callable[..., Run], stores: Stores, tmp_path: Path, give: Callable[[int], None]
) -> None:
    run = start("1 candidate")
    give(5)
    assert start(run=run).state == "CANDIDATE"
    assert _diary(tmp_path) == ["start", "claimed 3", "start", "claimed 3"]
    assert _states(stores) == {"pending": 2, "completed": 3}


def test_a_trainer_that_has_ended_its_run_is_not_asked_to_stop_on_its_way_out(
    start: Callable[..., Run], tmp_path: Path
) -> None:
    assert start("lingering").state == "CANDIDATE"
    assert _diary(tmp_path) == ["start", "claimed 3"]


def test_a_trainer_that_hangs_after_it_ended_its_run_is_killed(
    start: Callable[..., Run], stores: Stores, tmp_path: Path
) -> None:
    begun = time.monotonic()
    assert start("hanging", stop_grace_s=0.2).state == "CANDIDATE"
    assert time.monotonic() - begun < 30
    assert _diary(tmp_path) == ["start", "claimed 3"]
    assert _states(stores) == {"pending": 0, "completed": 3}


def test_a_cancelled_run_checkpoints_ends_and_releases_its_feedback(
    start: Callable[..., Run], stores: Stores, tmp_path: Path
) -> None:
    thread = _when_waiting(tmp_path, lambda: stores.runs.request_cancel(1))
    assert start("wait").state == "CANCELLED"
    thread.join()
    assert _diary(tmp_path)[-1] == "checkpoint"
    assert _states(stores) == {"pending": 3, "completed": 0}


def test_a_trainer_that_does_not_listen_is_killed_and_still_cancelled(
    start: Callable[..., Run], stores: Stores, tmp_path: Path
) -> None:
    thread = _when_waiting(tmp_path, lambda: stores.runs.request_cancel(1))
    begun = time.monotonic()
    assert start("deaf", stop_grace_s=0.2).state == "CANCELLED"
    assert time.monotonic() - begun < 30
    thread.join()


def test_a_worker_that_shuts_down_requeues_its_run_and_spends_no_attempt(
    start: Callable[..., Run], stores: Stores, tmp_path: Path
) -> None:
    run = start("wait candidate", stopping=lambda: "waiting" in _diary(tmp_path))
    assert (run.state, run.attempt) == ("QUEUED", 0)
    assert _diary(tmp_path)[-1] == "checkpoint"
    assert start(run=run).state == "CANDIDATE"


def test_a_run_past_its_time_limit_checkpoints_and_is_tried_again(
    start: Callable[..., Run], tmp_path: Path
) -> None:
    def over_time(number: int, frame: object) -> None:
        raise Interrupt

    before = signal.signal(signal.SIGUSR1, over_time)
    thread = _when_waiting(tmp_path, lambda: os.kill(os.getpid(), signal.SIGUSR1))
    try:
        run = start("wait")
    finally:
        thread.join()
        signal.signal(signal.SIGUSR1, before)
    assert (run.state, run.attempt) == ("QUEUED", 1)
    assert _diary(tmp_path)[-1] == "checkpoint"


def test_a_run_taken_over_by_another_worker_is_left_alone(
    start: Callable[..., Run], stores: Stores, redis: StoreClient, tmp_path: Path
) -> None:
    def take_over() -> None:
        redis.hset("amends:run:1", "lease_until", "0")
        stores.runs.claim(1, 60)

    thread = _when_waiting(tmp_path, take_over)
    run = start("wait")
    thread.join()
    assert (run.state, run.attempt) == ("RUNNING", 2)
    assert _diary(tmp_path)[-1] == "checkpoint"
    assert stores.feedback.open_claims() == [1]


def test_one_failed_renewal_does_not_stop_the_run_but_an_expired_lease_does(
    start: Callable[..., Run], stores: Stores, redis: StoreClient, tmp_path: Path
) -> None:
    def blip() -> None:
        redis.client_pause(timeout=300)
        time.sleep(0.5)
        redis.config_set("maxmemory", "1mb")
        time.sleep(0.5)
        redis.config_set("maxmemory", "0")
        (tmp_path / "runs" / "1" / "survived").write_text("")
        assert stores.runs.get(1).state == "RUNNING"
        redis.config_set("maxmemory", "1mb")

    thread = _when_waiting(tmp_path, blip)
    try:
        start("wait")
    finally:
        thread.join()
        redis.config_set("maxmemory", "0")
    assert (tmp_path / "runs" / "1" / "survived").exists()
    assert _diary(tmp_path)[-1] == "checkpoint"
    assert [run.run_id for run in stores.runs.expired()] == [1]


def test_a_run_that_is_not_to_be_had_starts_nothing(
    start: Callable[..., Run], stores: Stores, tmp_path: Path
) -> None:
    run = stores.runs.create(requested_by="test", reason="candidate")
    stores.runs.claim(run.run_id, 60)
    assert start(run=run).attempt == 1
    stores.runs.request_cancel(run.run_id)
    assert _diary(tmp_path) == []


def test_the_command_is_the_trainer_of_this_python() -> None:
    assert WorkerSettings().trainer_command == (sys.executable, "-m", "worker.trainer")
    assert json.dumps(WorkerSettings().trainer_command)

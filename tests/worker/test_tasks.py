"""The tasks in real Celery workers, with a small program where the trainer stands."""

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path

import psutil
import pytest

from amends.embedded_store import connect, open_store
from amends.events import RunEvents
from amends.feedback_store import FeedbackStore
from amends.jobs import JobQueue
from amends.runs import Run, Runs
from amends.settings import Settings
from worker.training_job import Stores

FAST = {
    "AMENDS_WORKER_LEASE_S": "3",
    "AMENDS_WORKER_RENEW_EVERY_S": "0.5",
    "AMENDS_WORKER_POLL_S": "0.1",
    "AMENDS_WORKER_RECONCILE_EVERY_S": "1",
    "AMENDS_WORKER_HINT_AFTER_S": "4",
    "AMENDS_WORKER_MAYBE_START_EVERY_S": "1",
    "AMENDS_WORKER_MIN_NEW_FEEDBACK": "5",
}
Wait = Callable[..., None]
StartWorkers = Callable[[], list[subprocess.Popen[bytes]]]


@pytest.fixture
def start_workers(
    celery_workers: Callable[[Mapping[str, str]], list[subprocess.Popen[bytes]]],
    trainer_command: tuple[str, ...],
) -> StartWorkers:
    """The train worker and the default worker, impatient, with the small program as trainer."""
    command = {"AMENDS_WORKER_TRAINER_COMMAND": json.dumps(trainer_command)}
    return lambda: celery_workers({**FAST, **command})


def diary(home: Path, run: Run) -> list[str]:
    """What the small program noted in this run."""
    path = home / "runs" / str(run.run_id) / "diary"
    return path.read_text().split("\n")[:-1] if path.exists() else []


def _create(stores: Stores, behaviour: str, hint: bool = True) -> Run:
    run = stores.runs.create(requested_by="test", reason=behaviour)
    if hint:
        stores.queue.train(run.run_id)
    return run


def _state(stores: Stores, run: Run) -> str:
    return stores.runs.get(run.run_id).state


def test_runs_end_one_after_another_and_a_lost_hint_loses_nothing(
    start_workers: StartWorkers, stores: Stores, give: Callable[[int], None], wait_for: Wait
) -> None:
    give(2)
    start_workers()
    first = _create(stores, "candidate")
    wait_for(lambda: _state(stores, first) == "CANDIDATE", "the first run's end")
    wait_for(lambda: stores.feedback.counts()["thumb"]["completed"] == 2, "its feedback")
    second = _create(stores, "1 12", hint=False)
    wait_for(lambda: _state(stores, second) == "FAILED", "the second run's end")
    assert stores.runs.get(second.run_id).attempt == 2
    give(8)
    wait_for(lambda: len(stores.runs.list()) == 3, "a run by the schedule")
    assert stores.runs.list()[0].requested_by == "schedule"
    wait_for(lambda: stores.runs.live() is None, "the third run's end")


def test_a_running_run_is_cancelled(
    start_workers: StartWorkers, stores: Stores, tmp_path: Path, wait_for: Wait
) -> None:
    start_workers()
    run = _create(stores, "wait")
    wait_for(lambda: "waiting" in diary(tmp_path, run), "the trainer")
    stores.runs.request_cancel(run.run_id)
    wait_for(lambda: _state(stores, run) == "CANCELLED", "the cancel")
    assert diary(tmp_path, run)[-1] == "checkpoint"


def test_a_worker_that_is_stopped_checkpoints_its_run_and_the_next_goes_on(
    start_workers: StartWorkers, stores: Stores, tmp_path: Path, wait_for: Wait
) -> None:
    train, *others = start_workers()
    run = _create(stores, "wait candidate")
    wait_for(lambda: "waiting" in diary(tmp_path, run), "the trainer")
    train.send_signal(signal.SIGTERM)
    assert train.wait(20) == 0
    assert diary(tmp_path, run)[-1] == "checkpoint"
    assert (_state(stores, run), stores.runs.get(run.run_id).attempt) == ("QUEUED", 0)
    for other in others:
        other.send_signal(signal.SIGTERM)
        other.wait(20)
    start_workers()
    wait_for(lambda: _state(stores, run) == "CANDIDATE", "the run's end")


@pytest.mark.parametrize(
    "victim",
    [
        "main process",
        pytest.param("pool process", marks=pytest.mark.slow),
        pytest.param("trainer", marks=pytest.mark.slow),
        # Beat's lock in the store outlives a killed beat by a minute.
        pytest.param("everything", marks=pytest.mark.slow),
    ],
)
def test_whatever_is_killed_the_run_is_finished_and_no_trainer_is_left(
    start_workers: StartWorkers,
    stores: Stores,
    tmp_path: Path,
    wait_for: Wait,
    give: Callable[[int], None],
    victim: str,
) -> None:
    give(2)
    train, default, beat = start_workers()
    run = _create(stores, "wait candidate")
    wait_for(lambda: "waiting" in diary(tmp_path, run), "the trainer")
    family = psutil.Process(train.pid).children(recursive=True)
    trainer = next(p for p in family if "trainer_script" in " ".join(p.cmdline()))
    pool = psutil.Process(trainer.ppid())
    if victim == "trainer":
        trainer.kill()
    elif victim == "pool process":
        pool.kill()
    elif victim == "main process":
        os.kill(train.pid, signal.SIGKILL)
    else:
        for pid in (beat.pid, default.pid, train.pid, pool.pid, trainer.pid):
            os.kill(pid, signal.SIGKILL)
    if victim == "everything":
        os.killpg(default.pid, signal.SIGKILL)
        os.killpg(train.pid, signal.SIGKILL)
    if victim != "everything":
        wait_for(lambda: not _alive(trainer), "the first trainer's end")
    if victim == "main process":
        train.wait()
        for process in (default, beat):
            process.send_signal(signal.SIGTERM)
            process.wait(20)
        start_workers()
    elif victim == "everything":
        start_workers()
    wait_for(lambda: _state(stores, run) == "CANDIDATE", "the run's end", timeout_s=90)
    wait_for(lambda: stores.feedback.counts()["thumb"]["completed"] == 2, "its feedback")
    assert diary(tmp_path, run).count("claimed 2") == 2
    assert not _alive(trainer)


@pytest.mark.slow
def test_a_store_that_was_killed_costs_neither_the_run_nor_the_workers_hearing(
    celery_workers: Callable[[Mapping[str, str]], list[subprocess.Popen[bytes]]],
    trainer_command: tuple[str, ...],
    tmp_path: Path,
    wait_for: Wait,
) -> None:
    own = Settings(home=tmp_path / "own", redis_url=None)
    with ExitStack() as stack:
        url = stack.enter_context(open_store(own))
        client = stack.enter_context(connect(url))
        stores = Stores(Runs(client), FeedbackStore(client), RunEvents(client), JobQueue(url))
        command = json.dumps(trainer_command)
        workers = celery_workers(
            {
                **FAST,
                "AMENDS_WORKER_TRAINER_COMMAND": command,
                "AMENDS_WORKER_LEASE_S": "20",
                "AMENDS_REDIS_URL": url,
            }
        )
        run = _create(stores, "wait")
        wait_for(lambda: "waiting" in diary(tmp_path, run), "the trainer")
        for _ in range(3):
            server = json.loads((own.store_folder / "server.json").read_text())["pid"]
            os.kill(server, signal.SIGKILL)
            time.sleep(1)
            stack.enter_context(open_store(own))
            time.sleep(2)
            assert (_state(stores, run), stores.runs.get(run.run_id).attempt) == ("RUNNING", 1)
        stores.runs.request_cancel(run.run_id)
        wait_for(lambda: _state(stores, run) == "CANCELLED", "the cancel")
        second = _create(stores, "candidate", hint=False)
        wait_for(lambda: _state(stores, second) == "CANDIDATE", "the next run", timeout_s=120)
        for worker in workers:
            worker.send_signal(signal.SIGTERM)
            worker.wait(30)


def _alive(process: psutil.Process) -> bool:
    return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)

"""The reporter between a round and a real store: what it says, and when it stops the round."""

import os
import signal
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from amends.activity import Activity
from amends.embedded_store import StoreClient, connect
from amends.errors import LeaseLost
from amends.events import (
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
from worker import run_reporter
from worker.data.examples import Answer, Context
from worker.reporting import Cancelled, stage
from worker.run_reporter import SHARES, RunReporter

THREADS = 2
LEASE_S = 30.0

Make = Callable[..., RunReporter]


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    """A reporter takes SIGTERM and torch's threads: give both back."""
    handler, threads = signal.getsignal(signal.SIGTERM), torch.get_num_threads()
    yield
    signal.signal(signal.SIGTERM, handler)
    torch.set_num_threads(threads)


@pytest.fixture
def runs(redis: StoreClient) -> Runs:
    return Runs(redis)


@pytest.fixture
def run(runs: Runs) -> Run:
    return runs.claim(runs.create(requested_by="anna").run_id, LEASE_S)


@pytest.fixture
def make(redis: StoreClient, run: Run, tmp_path: Path) -> Iterator[Make]:
    """A reporter of the claimed run; `client` may be another store's."""
    made: list[RunReporter] = []

    def reporter(client: StoreClient = redis) -> RunReporter:
        parts = Runs(client), RunEvents(client), Activity(client)
        made.append(RunReporter(run, *parts, tmp_path, THREADS))
        return made[-1]

    yield reporter
    for reporter_made in made:
        reporter_made.close()


@pytest.fixture
def looks_always(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every beat looks at the store, not one a second."""
    monkeypatch.setattr(run_reporter, "LOOK_EVERY_S", 0.0)


@pytest.fixture
def unreachable() -> Iterator[StoreClient]:
    """A client of an address where nobody answers."""
    with socket.socket() as taken:  # bound, never listening: connections are refused
        taken.bind(("127.0.0.1", 0))
        with connect(f"redis://127.0.0.1:{taken.getsockname()[1]}/0") as client:
            yield client


def do_everything(report: RunReporter) -> None:
    """One call of each kind, in the order of a round."""
    context = Context("t1", "Do you ship?", (), (), None)
    answers = [Answer(context, "Yes.", None, True), Answer(context, "No.", None, True)]
    with stage(report, "ppo"):
        report.log("hello")
        report.metrics("ppo", 1, {"objective/kl": 0.5})
        report.progress("ppo", 1, 4)
        report.samples("ppo", 1, answers, [1.23456, -1.0])
    report.beat()


def test_events_arrive_in_order(make: Make, redis: StoreClient, run: Run) -> None:
    do_everything(make())
    events = [event for _, event in RunEvents(redis).read(run.run_id)]
    last = events.pop()
    assert events == [
        StageStarted(stage="ppo"),
        Log(text="hello"),
        Metrics(stage="ppo", step=1, values={"objective/kl": 0.5}),
        Progress(stage="ppo", done=1, total=4),
        Samples(
            stage="ppo",
            step=1,
            texts=(
                Sample(prompt="Do you ship?", response="Yes.", score=1.235),
                Sample(prompt="Do you ship?", response="No.", score=-1.0),
            ),
        ),
    ]
    assert isinstance(last, StageFinished) and last.stage == "ppo"
    assert 0 <= last.seconds < 5


def test_numbers_that_are_not_finite_are_told_too(make: Make, redis: StoreClient, run: Run) -> None:
    make().metrics("ppo", 1, {"loss": float("inf")})
    ((_, event),) = RunEvents(redis).read(run.run_id)
    assert event == Metrics(stage="ppo", step=1, values={"loss": float("inf")})


def test_the_run_shows_stage_and_progress_which_never_goes_back(
    make: Make, runs: Runs, run: Run
) -> None:
    report, seen = make(), []
    stages: tuple[Stage, ...] = ("claim", "dataset", "sft", "reward", "ppo", "gate", "publish")
    assert stages == tuple(SHARES)
    for name in stages:
        with stage(report, name):
            seen.append(runs.get(run.run_id).progress)
            report.progress(name, 1, 2)
            now = runs.get(run.run_id)
            assert now.stage == name
            seen.append(now.progress)
    seen.append(runs.get(run.run_id).progress)
    assert seen == sorted(seen) and len(set(seen)) == len(seen)
    assert (seen[0], seen[-1]) == (0.0, 1.0)


def test_the_gate_moves_the_run(make: Make, runs: Runs, run: Run) -> None:
    report = make()
    report.stage_started("ppo")
    assert runs.get(run.run_id).state == "RUNNING"
    report.stage_started("gate")
    assert runs.get(run.run_id).state == "GATING"


def test_tensorboard_files_hold_the_numbers(make: Make, tmp_path: Path) -> None:
    report = make()
    for step in (1, 2, 3):
        report.metrics("ppo", step, {"objective/kl": step / 4, "loss/policy_avg": -1.0})
    # Readable at once: a round may be watched while it runs.
    found = EventAccumulator(str(tmp_path / "tensorboard"))
    found.Reload()
    assert [(e.step, e.value) for e in found.Scalars("objective/kl")] == [
        (1, 0.25),
        (2, 0.5),
        (3, 0.75),
    ]
    assert len(list((tmp_path / "tensorboard").glob("events.out.tfevents.*"))) == 1


def test_another_epoch_ends_the_round(make: Make, runs: Runs, run: Run, looks_always: None) -> None:
    report = make()
    report.beat()
    runs.requeue(run.run_id, run.epoch)
    runs.claim(run.run_id, LEASE_S)
    with pytest.raises(LeaseLost, match=str(run.epoch)):
        report.beat()


@pytest.mark.parametrize(
    "tell",
    [
        lambda report: report.stage_started("gate"),
        lambda report: report.progress("ppo", 1, 2),
    ],
)
def test_a_round_that_lost_its_lease_moves_nothing(
    make: Make, runs: Runs, run: Run, tell: Callable[[RunReporter], None]
) -> None:
    report = make()
    runs.requeue(run.run_id, run.epoch)
    other = runs.claim(run.run_id, LEASE_S)
    with pytest.raises(LeaseLost):
        tell(report)
    now = runs.get(run.run_id)
    assert (now.state, now.epoch, now.progress) == ("RUNNING", other.epoch, 0.0)


def test_an_expired_lease_ends_the_round(make: Make, runs: Runs, run: Run) -> None:
    runs.renew(run.run_id, run.epoch, 0.0)
    with pytest.raises(LeaseLost):
        make().beat()


def test_sigterm_stops_the_round_at_the_next_beat(make: Make, run: Run) -> None:
    report = make()
    report.beat()
    os.kill(os.getpid(), signal.SIGTERM)
    report.log("what is under way is finished")
    with pytest.raises(Cancelled, match=f"run {run.run_id} was asked to stop"):
        report.beat()
    with pytest.raises(Cancelled):  # and at every other one, whoever swallowed the first
        report.beat()


def test_visitors_get_the_threads_while_they_are_answered(
    make: Make, redis: StoreClient, looks_always: None
) -> None:
    report, activity = make(), Activity(redis)
    report.beat()
    assert torch.get_num_threads() == THREADS
    activity.mark_visitor()
    report.beat()
    assert torch.get_num_threads() == 1
    redis.delete("amends:visitors:active")
    report.beat()
    assert torch.get_num_threads() == THREADS


def test_the_store_is_looked_at_once_a_second_at_most(
    make: Make, redis: StoreClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    report = make()
    clock = [1000.0]
    monkeypatch.setattr(run_reporter, "time", SimpleNamespace(monotonic=lambda: clock[0]))
    commands = []
    for now in (0.0, 0.1, 0.5, 0.99, 1.01, 1.5, 2.02):
        clock[0] = 1000.0 + now
        before = calls(redis)
        report.beat()
        commands.append(calls(redis) - before)
    assert [count > 0 for count in commands] == [True, False, False, False, True, False, True]


def calls(redis: StoreClient) -> int:
    """How many scripts the store has run."""
    found = redis.info("commandstats")
    return sum(stats["calls"] for name, stats in found.items() if name.startswith("cmdstat_eval"))


def test_an_unreachable_store_does_not_stop_the_round(
    make: Make,
    unreachable: StoreClient,
    tmp_path: Path,
    looks_always: None,
    caplog: pytest.LogCaptureFixture,
) -> None:
    report = make(unreachable)
    do_everything(report)
    report.stage_started("gate")
    report.beat()
    assert "could not report: " in caplog.text
    assert "the store did not answer, going on: " in caplog.text
    report.close()
    found = EventAccumulator(str(tmp_path / "tensorboard"))
    found.Reload()
    assert [event.value for event in found.Scalars("objective/kl")] == [0.5]


def test_without_a_store_sigterm_still_stops_the_round(
    make: Make, unreachable: StoreClient
) -> None:
    report = make(unreachable)
    os.kill(os.getpid(), signal.SIGTERM)
    with pytest.raises(Cancelled):
        report.beat()

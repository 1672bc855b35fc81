"""`amends train` and `amends runs` on a real store; the tests play the worker."""

import json
import signal
import subprocess
import sys
import threading
import time

from amends.events import Log, Progress, RunEvents, StageFinished, StageStarted
from amends.runs import Runs
from amends.store_client import StoreClient
from amends.verdict import Verdict
from tests.amends.command_line import Amends


def test_train_queues_a_run_and_tells_the_worker(amends: Amends, redis: StoreClient) -> None:
    assert amends("train", "--optimizer", "sft", "--reason", "new returns").stdout == (
        "Run 1 is queued.\n"
    )

    run = Runs(redis).get(1)
    assert (run.state, run.optimizer, run.reason) == ("QUEUED", "sft", "new returns")
    assert run.requested_by.startswith("operator:")
    assert redis.llen("celery:train") == 1


def test_a_second_live_run_is_refused(amends: Amends) -> None:
    amends("train")

    assert amends("train", code=1).stderr.startswith("error: ")


def test_list_and_show_tell_what_the_gate_said(amends: Amends, redis: StoreClient) -> None:
    runs = Runs(redis)
    assert "No runs yet" in amends("runs", "list").stdout
    amends("train")
    run = runs.claim(1)
    runs.report(1, run.epoch, "ppo", 0.5)
    assert "ppo 50%" in amends("runs", "list").stdout
    runs.to_gating(1, run.epoch)
    verdict = Verdict(passed=False, reasons=("win rate 0.47 is below 0.5",))
    runs.finish(1, run.epoch, "REJECTED", verdict=verdict)

    late = amends("runs", "cancel", "1", code=1).stderr
    assert late == "error: run 1 has ended as REJECTED, nothing to cancel\n"
    assert "win rate 0.47 is below 0.5" in amends("runs", "show", "1").stdout
    assert json.loads(amends("runs", "list", "--json").stdout)[0]["state"] == "REJECTED"


def test_a_queued_run_is_cancelled(amends: Amends, redis: StoreClient) -> None:
    amends("train")

    assert amends("runs", "cancel", "1").stdout == "Run 1 is cancelled.\n"
    assert Runs(redis).get(1).state == "CANCELLED"


def test_a_claimed_run_is_asked_to_stop(amends: Amends, redis: StoreClient) -> None:
    amends("train")
    Runs(redis).claim(1)

    assert amends("runs", "cancel", "1").stdout == "Run 1 was asked to stop.\n"
    assert Runs(redis).get(1).cancel_requested


def test_follow_shows_the_stages_until_the_run_ends(amends: Amends, redis: StoreClient) -> None:
    amends("train")
    runs, events = Runs(redis), RunEvents(redis)

    def work() -> None:
        epoch = runs.claim(1).epoch
        events.publish(1, StageStarted(stage="dataset"))
        events.publish(1, Progress(stage="dataset", done=1, total=4))
        events.publish(1, StageFinished(stage="dataset", seconds=0.5))
        time.sleep(0.7)
        events.publish(1, Log(text="last words"))
        runs.to_gating(1, epoch)
        runs.finish(1, epoch, "CANDIDATE", version=3, verdict=Verdict(passed=True))

    worker = threading.Thread(target=work)
    worker.start()
    result = amends("runs", "follow", "1")
    worker.join()

    assert "dataset: 0.5 s" in result.stderr
    assert "last words" in result.stderr
    assert result.stdout == "Run 1: CANDIDATE, version 3\n"


def test_a_followed_run_is_one_json_value_as_it_ended(amends: Amends, redis: StoreClient) -> None:
    runs = Runs(redis)

    def work() -> None:
        while (run := runs.live()) is None:
            time.sleep(0.05)
        epoch = runs.claim(run.run_id).epoch
        runs.to_gating(run.run_id, epoch)
        runs.finish(run.run_id, epoch, "REJECTED", verdict=Verdict(passed=False, reasons=("no",)))

    worker = threading.Thread(target=work)
    worker.start()
    told = json.loads(amends("train", "--json", "--follow").stdout)
    worker.join()
    assert (told["run_id"], told["state"]) == (1, "REJECTED")


def test_ctrl_c_leaves_the_run_going(amends: Amends, redis: StoreClient) -> None:
    amends("train")
    RunEvents(redis).publish(1, Log(text="on it"))
    command = [sys.executable, "-m", "amends", "runs", "follow", "1"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as follower:
        assert follower.stderr is not None
        for line in follower.stderr:
            if "on it" in line:
                break
        follower.send_signal(signal.SIGINT)
        rest = follower.stderr.read()

    assert follower.returncode == 130
    assert "Run 1 goes on" in rest
    assert Runs(redis).get(1).state == "QUEUED"

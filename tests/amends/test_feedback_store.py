import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Literal

import psutil
import pytest

from amends.embedded_store import StoreClient, connect, open_store
from amends.errors import IdempotencyConflict, StoreUnavailable
from amends.feedback import Correction, Feedback, Ranking, Rater, Rating, Thumb
from amends.feedback_store import FeedbackStore
from amends.settings import Settings

VISITOR = Rater(rater_id="v1", role="visitor")
EXPERT = Rater(rater_id="anna", role="expert")


@pytest.fixture
def store(redis: StoreClient) -> FeedbackStore:
    return FeedbackStore(redis)


def _thumb(turn: int, value: Literal[1, -1] = 1, rater: Rater = VISITOR, at: float = 0.0) -> Thumb:
    return Thumb(
        turn_id=f"t{turn}", conversation_id="c", rater=rater, given_at=at or turn, value=value
    )


def _correction(turn: int, text: str = "Ten days.") -> Correction:
    return Correction(
        turn_id=f"t{turn}", conversation_id="c", rater=EXPERT, given_at=turn, response=text
    )


def _total(store: FeedbackStore) -> dict[str, int]:
    counts = store.counts().values()
    return {
        state: sum(count[state] for count in counts)
        for state in ("pending", "claimed", "completed")
    }


def test_every_kind_reads_back_as_it_was_given(store: FeedbackStore) -> None:
    given: list[Feedback] = [
        _thumb(1, -1),
        Rating(conversation_id="c", rater=VISITOR, given_at=2, value=4),
        _correction(3),
        Ranking(
            turn_id="t4", conversation_id="c", rater=EXPERT, given_at=4, responses=("a", "b", "c")
        ),
    ]
    assert [store.add(feedback, f"k{i}") for i, feedback in enumerate(given)] == ["created"] * 4
    assert store.of_conversation("c") == given
    assert store.claim(1) == given


def test_the_same_key_changes_nothing_even_when_the_clock_moved(store: FeedbackStore) -> None:
    assert store.add(_thumb(1, 1, at=10), "key") == "created"
    assert store.add(_thumb(1, 1, at=11), "key") == "unchanged"
    assert store.of_conversation("c") == [_thumb(1, 1, at=10)]
    assert _total(store)["pending"] == 1


def test_the_same_key_with_another_body_is_a_conflict_and_writes_nothing(
    store: FeedbackStore,
) -> None:
    store.add(_thumb(1, 1), "key")
    with pytest.raises(IdempotencyConflict):
        store.add(_thumb(1, -1), "key")
    with pytest.raises(IdempotencyConflict):
        store.add(_thumb(2, 1), "key")
    assert store.of_conversation("c") == [_thumb(1, 1)]


def test_the_same_key_of_two_raters_is_two_keys(store: FeedbackStore) -> None:
    other = Rater(rater_id="v2", role="visitor")
    assert store.add(_thumb(1, 1), "key") == "created"
    assert store.add(_thumb(1, -1, other), "key") == "created"


def test_a_late_repetition_does_not_undo_a_newer_judgement(store: FeedbackStore) -> None:
    store.add(_thumb(1, 1), "up")
    assert store.add(_thumb(1, -1), "down") == "replaced"
    assert store.add(_thumb(1, 1), "up") == "unchanged"
    assert store.of_conversation("c") == [_thumb(1, -1)]


def test_without_a_key_the_judgement_itself_decides(store: FeedbackStore) -> None:
    assert store.add(_thumb(1, 1)) == "created"
    assert store.add(_thumb(1, 1, at=99)) == "unchanged"
    assert store.add(_thumb(1, -1)) == "replaced"
    assert store.add(_thumb(1, 1)) == "replaced"
    assert _total(store) == {"pending": 1, "claimed": 0, "completed": 0}


def test_a_claim_repeated_gives_the_same_and_takes_nothing_that_came_since(
    store: FeedbackStore,
) -> None:
    first = [_thumb(i) for i in range(1, 4)]
    for feedback in first:
        store.add(feedback, feedback.feedback_id)
    assert store.claim(1) == first
    store.add(_thumb(9), "later")
    assert store.claim(1) == first
    assert _total(store) == {"pending": 1, "claimed": 3, "completed": 0}


def test_a_claim_of_nothing_stays_empty_when_repeated(store: FeedbackStore) -> None:
    assert store.claim(1) == []
    store.add(_thumb(1), "k")
    assert store.claim(1) == []
    assert store.claim(2) == [_thumb(1)]


def test_released_feedback_is_claimed_by_the_next_run_in_its_old_order(
    store: FeedbackStore,
) -> None:
    store.add(_thumb(1), "1")
    waiting_since = store.oldest_pending_at()
    store.claim(1)
    assert store.open_claims() == [1]
    store.release(1)
    store.release(1)
    assert (store.open_claims(), store.runs_of(_thumb(1).feedback_id)) == ([], [])
    assert store.oldest_pending_at() == waiting_since
    assert _total(store) == {"pending": 1, "claimed": 0, "completed": 0}
    assert store.claim(2) == [_thumb(1)]


def test_completed_feedback_is_used_by_later_runs_and_knows_its_runs(store: FeedbackStore) -> None:
    store.add(_thumb(1), "1")
    store.claim(1)
    store.complete(1)
    store.release(1)
    store.add(_thumb(2), "2")
    assert store.claim(2) == [_thumb(2)]
    assert store.all_used(2) == [_thumb(1), _thumb(2)]
    store.complete(2)
    store.complete(2)
    assert _total(store) == {"pending": 0, "claimed": 0, "completed": 2}
    assert store.runs_of(_thumb(1).feedback_id) == [1]
    assert store.used_by(1) == [_thumb(1)]


def test_feedback_replaced_while_claimed_is_pending_again_and_the_run_keeps_its_copy(
    store: FeedbackStore,
) -> None:
    store.add(_thumb(1, 1), "1")
    store.claim(1)
    assert store.add(_thumb(1, -1), "2") == "replaced"
    assert _total(store) == {"pending": 1, "claimed": 0, "completed": 0}
    assert store.all_used(1) == [_thumb(1, 1)]
    store.complete(1)
    assert _total(store) == {"pending": 1, "claimed": 0, "completed": 0}
    assert store.claim(2) == [_thumb(1, -1)]
    assert store.all_used(2) == [_thumb(1, -1)]
    store.complete(2)
    assert store.used_by(1) == [_thumb(1, 1)]
    assert store.runs_of(_thumb(1).feedback_id) == [1, 2]


def test_a_release_does_not_bring_back_what_was_replaced(store: FeedbackStore) -> None:
    store.add(_thumb(1, 1), "1")
    store.claim(1)
    store.add(_thumb(1, -1), "2")
    store.release(1)
    assert store.claim(2) == [_thumb(1, -1)]
    assert _total(store) == {"pending": 0, "claimed": 1, "completed": 0}


def test_pending_feedback_is_counted_by_its_arrival(store: FeedbackStore) -> None:
    store.add(_thumb(1), "1")
    time.sleep(0.01)
    between = time.time()
    store.add(_thumb(2), "2")
    assert store.pending_since() == 2
    assert store.pending_since(between) == 1


def test_feedback_added_while_a_run_claims_is_in_the_claim_or_pending_never_lost(
    store: FeedbackStore,
) -> None:
    stop = threading.Event()

    def add(worker: int) -> int:
        number = 0
        while not stop.is_set():
            rater = Rater(rater_id=f"v{worker}-{number}", role="visitor")
            store.add(_thumb(number, 1, rater), f"{worker}-{number}")
            number += 1
        return number

    with ThreadPoolExecutor(4) as pool:
        adders = [pool.submit(add, worker) for worker in range(4)]
        time.sleep(0.2)
        claimed = []
        for run_id in (1, 2, 3):
            claimed.append(len(store.claim(run_id)))
            time.sleep(0.1)
        stop.set()
        added = sum(adder.result() for adder in adders)
    last = len(store.claim(4))
    assert min(claimed) > 0
    assert sum(claimed) + last == added
    assert _total(store) == {"pending": 0, "claimed": added, "completed": 0}


@pytest.mark.parametrize(
    ("setting", "value", "back"),
    [("maxmemory", "1mb", "0"), ("min-replicas-to-write", "1", "0")],
)
def test_a_store_that_takes_no_writes_is_unavailable_and_recovers_by_itself(
    store: FeedbackStore, redis: StoreClient, setting: str, value: str, back: str
) -> None:
    redis.config_set(setting, value)
    try:
        with pytest.raises(StoreUnavailable):
            store.add(_thumb(1), "k")
    finally:
        redis.config_set(setting, back)
    assert store.of_conversation("c") == []
    assert store.add(_thumb(1), "k") == "created"


def test_a_store_that_does_not_fsync_takes_no_feedback(
    redis: StoreClient, store: FeedbackStore
) -> None:
    redis.config_set("appendfsync", "everysec")
    try:
        with pytest.raises(StoreUnavailable, match="appendfsync"):
            store.add(_thumb(1), "k")
    finally:
        redis.config_set("appendfsync", "always")


def test_where_config_is_forbidden_each_answer_waits_for_the_disk(
    redis: StoreClient, store_url: str
) -> None:
    redis.acl_setuser(
        "plain", enabled=True, passwords=["+secret"], commands=["+@all", "-config"], keys=["*"]
    )
    redis.config_set("appendfsync", "everysec")
    redis.config_resetstat()
    try:
        named = store_url.replace(store_url.split("//")[1].split("@")[0], "plain:secret")
        with connect(named) as client:
            assert FeedbackStore(client).add(_thumb(1), "k") == "created"
        assert redis.info("commandstats")["cmdstat_waitaof"]["calls"] == 2
    finally:
        redis.config_set("appendfsync", "always")
        redis.acl_deluser("plain")


def test_acknowledged_feedback_survives_kill_9_of_the_store(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path, redis_url=None)
    acknowledged: list[str] = []
    with open_store(settings) as url, connect(url) as client:
        store = FeedbackStore(client)

        def add_until_killed() -> None:
            number = 0
            while True:
                rater = Rater(rater_id=f"v{number}", role="visitor")
                try:
                    store.add(_thumb(1, 1, rater), f"k{number}")
                except StoreUnavailable:
                    return
                acknowledged.append(rater.rater_id)
                number += 1

        adder = threading.Thread(target=add_until_killed)
        adder.start()
        time.sleep(0.3)
        _kill_store(tmp_path)
        adder.join()
        with open_store(settings) as second, connect(second) as survivor:
            kept = {
                feedback.rater.rater_id for feedback in FeedbackStore(survivor).of_conversation("c")
            }
    assert len(acknowledged) > 20
    assert kept >= set(acknowledged)
    assert len(kept) <= len(acknowledged) + 1


def _store_pid(home: Path) -> int:
    pid: int = json.loads((home / "store" / "server.json").read_text())["pid"]
    return pid


def _kill_store(home: Path) -> None:
    pid = _store_pid(home)
    os.kill(pid, signal.SIGKILL)
    while psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
        time.sleep(0.01)


@pytest.mark.skipif(shutil.which("strace") is None, reason="needs strace")
def test_acknowledged_feedback_survives_power_loss(tmp_path: Path) -> None:
    """Each answer finds its record synced: the file cut to its last fsync holds all answered
    before.
    """
    home, trace = tmp_path / "home", tmp_path / "trace"
    with open_store(Settings(home=home, redis_url=None)) as url, connect(url) as client:
        store = FeedbackStore(client)
        store.add(_thumb(0), "k0")
        (aof,) = (home / "store" / "appendonlydir").glob("*.incr.aof")
        size = aof.stat().st_size
        calls = "trace=write,fsync,fdatasync"
        command = ["strace", "-f", "-y", "-s", "64", "-e", calls, "-o", str(trace)]
        with subprocess.Popen(
            [*command, "-p", str(_store_pid(home))], stderr=subprocess.PIPE, text=True
        ) as strace:
            assert strace.stderr is not None
            if "attached" not in strace.stderr.readline():
                pytest.skip("strace may not attach here")
            for number in range(1, 31):
                store.add(_thumb(number), f"k{number}")
            strace.terminate()
        answered = _synced_at_each_answer(trace.read_text(), size)
        assert len(answered) == 30
    for number in (1, 15, 30):
        lost = tmp_path / f"lost-{number}"
        shutil.copytree(home, lost)
        os.truncate(lost / aof.relative_to(home), answered[number - 1])
        with open_store(Settings(home=lost, redis_url=None)) as url, connect(url) as client:
            kept = FeedbackStore(client).claim(1)
        assert len(kept) >= number + 1


def _synced_at_each_answer(trace: str, size: int) -> list[int]:
    written = synced = size
    answered = []
    for line in trace.splitlines():
        if ".incr.aof>" in line and "write(" in line:
            written += int(line.rsplit("= ", 1)[1])
        elif ".incr.aof>" in line and "sync(" in line:
            synced = written
        elif "created" in line:
            answered.append(synced)
    return answered


def test_adding_feedback_imports_no_torch() -> None:
    program = "import sys, amends.feedback_store, amends.runs, amends.adapter_store, amends.jobs; "
    program += "sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program]).returncode == 0

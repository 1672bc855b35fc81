"""A candidate on trial across processes: visitors judge it, a worker withdraws it."""

import time

from amends.adapter_store import AdapterStore
from tests.conftest import StartWorkers
from tests.loop.conftest import Install
from tests.server.published import publish_acting
from tests.server.running_server import wait_until

IMPATIENT = {
    "AMENDS_CANARY_EVERY_S": "1",
    "AMENDS_CANARY_SETTLE_S": "3",
    "AMENDS_WORKER_MIN_NEW_FEEDBACK": "100000",
}
VISITORS = 60


def judge(install: Install, disliked: int) -> int:
    """One visitor asks, and dislikes what version `disliked` wrote; who wrote it."""
    server = install.server
    visitor = server.new_visitor()
    answer = visitor.ask(server.state.knowledge.questions[0].question)
    version = int(answer.end["policy_version"])
    value = {"value": -1 if version == disliked else 1}
    path = f"/v1/turns/{answer.turn_id}/thumb"
    server.http.put(path, json=value, headers=visitor.headers).raise_for_status()
    return version


def test_a_candidate_that_visitors_dislike_is_withdrawn_by_a_worker(
    install: Install, celery_workers: StartWorkers
) -> None:
    celery_workers({**install.environment, **IMPATIENT})
    adapters = publish_acting(install.home, install.home.parent / "model")
    adapters.set_candidate(1, "anna", "try it", share=0.5)
    watcher = install.server.state.require_policy().watcher
    wait_until(lambda: watcher.canary is not None)
    answered = [judge(install, disliked=1) for _ in range(VISITORS) if on_trial(adapters)]
    deadline = time.monotonic() + 60
    while on_trial(adapters) and time.monotonic() < deadline:
        time.sleep(0.2)

    row = adapters.audit(1)[0]
    assert (row.by, row.action, row.version, row.champion) == ("canary", "set_candidate", None, 0)
    assert "with a thumb down" in row.reason and "champion 0 of" in row.reason
    assert set(answered) == {0, 1}
    wait_until(lambda: watcher.canary is None)
    assert {judge(install, disliked=1) for _ in range(5)} == {0}


def on_trial(adapters: AdapterStore) -> bool:
    return adapters.pointers().candidate is not None

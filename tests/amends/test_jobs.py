import logging

import pytest

from amends.embedded_store import StoreClient
from amends.errors import SettingsError
from amends.jobs import JobQueue, worker_commands


def test_a_request_carries_the_run_id_only_and_lies_under_celerys_prefix(
    redis: StoreClient, store_url: str
) -> None:
    queue = JobQueue(store_url)
    queue.train(7)
    queue.close()
    (message,) = redis.lrange("celery:train", 0, -1)
    assert '"task": "amends.train"' in message
    assert redis.llen("celery:train") == 1


def test_a_hint_that_cannot_be_sent_is_only_logged(caplog: pytest.LogCaptureFixture) -> None:
    queue = JobQueue("redis://127.0.0.1:1/0")
    with caplog.at_level(logging.WARNING):
        queue.train(7)
    queue.close()
    assert "run 7 waits for the reconciler" in caplog.text


def test_a_cluster_url_is_refused() -> None:
    with pytest.raises(SettingsError, match="Cluster"):
        JobQueue("redis-cluster://localhost:7000")


def test_the_train_worker_takes_one_run_per_process_and_beat_is_alone() -> None:
    commands = worker_commands()
    assert set(commands) == {"train", "default", "beat"}
    assert {"--concurrency=1", "--max-tasks-per-child=1"} < set(commands["train"])
    assert not {"-B", "--beat"} & {option for command in commands.values() for option in command}

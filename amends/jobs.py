"""Names of the worker's jobs, and how to ask for one. Requests carry ids only.

Knows no task's code. Invariant: a message is a hint and may be lost or doubled: the record of the
run in the store is the truth, and the worker's reconciler sends the hint again.
"""

import logging
import sys

from celery import Celery
from kombu.exceptions import OperationalError

from amends.store_client import check_url

logger = logging.getLogger(__name__)

TRAIN = "amends.train"
RECONCILE = "amends.reconcile"
MAYBE_START = "amends.maybe_start"
WATCH_CANARY = "amends.watch_canary"

TRAIN_QUEUE = "train"
DEFAULT_QUEUE = "default"

# A hint older than this is dropped unread; the reconciler sends a fresh one every half minute.
_HINT_EXPIRES_S = 600

# Both sides must agree on these, and the shortest visibility_timeout on one broker wins. It is
# longer than the longest training task: a shorter one would deliver a running job a second time.
TRANSPORT_OPTIONS: dict[str, object] = {
    "visibility_timeout": 25_200,
    "socket_timeout": 30,
    "socket_connect_timeout": 5,
    "socket_keepalive": True,
    "health_check_interval": 15,
    "unacked_restore_interval": 10,
    "unacked_restore_throttle": 1,
    "global_keyprefix": "celery:",
}


def worker_commands() -> dict[str, tuple[str, ...]]:
    """name -> command line of the worker's three processes; they read AMENDS_* variables.

    Restart each whenever it ends. Stop them with SIGTERM and give train 45 s: it checkpoints and
    requeues its run. Leave REMAP_SIGTERM unset: with SIGQUIT Celery sleeps through its whole soft
    time-out before it tells any task. Beat is a process of its own because one inside a worker
    that loses the store dies unseen, and with it the reconciler.
    """
    celery = (sys.executable, "-m", "celery", "-A", "worker.celery_app")
    # Workers need not know of each other: without it they start sooner and subscribe to less.
    worker = (*celery, "worker", "--pool=prefork", "--without-mingle", "--without-gossip")
    # One run at a time, and a fresh process for each: nothing a run leaves behind reaches the next.
    one_run = ("--concurrency=1", "--max-tasks-per-child=1")
    two_tasks = ("--concurrency=2",)
    return {
        "train": (*worker, f"--queues={TRAIN_QUEUE}", "--hostname=train@%h", *one_run),
        "default": (*worker, f"--queues={DEFAULT_QUEUE}", "--hostname=default@%h", *two_tasks),
        "beat": (*celery, "beat", "--pidfile="),
    }


def queue_app(url: str) -> Celery:
    """A Celery application that can send jobs to the broker at `url`; it knows no tasks."""
    check_url(url)
    app = Celery("amends", broker=url, set_as_current=False)
    app.conf.update(
        broker_transport_options=TRANSPORT_OPTIONS,
        task_serializer="json",
        accept_content=["json"],
        task_default_queue=DEFAULT_QUEUE,
        task_routes={TRAIN: {"queue": TRAIN_QUEUE}},
    )
    return app


class JobQueue:
    """Sends jobs to the workers. Thread-safe."""

    def __init__(self, url: str) -> None:
        self._app = queue_app(url)

    def train(self, run_id: int) -> None:
        """Tell a worker to look at the run. A failure is only logged: the reconciler tells it
        later.
        """
        try:
            self._app.send_task(
                TRAIN, args=[run_id], expires=_HINT_EXPIRES_S, ignore_result=True, retry=False
            )
        except OperationalError as error:
            logger.warning(
                "run %d waits for the reconciler: no hint could be sent: %s", run_id, error
            )

    def close(self) -> None:
        self._app.close()

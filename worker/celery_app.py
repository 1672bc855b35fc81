"""The Celery application: `celery -A worker.celery_app worker ...`. Celery's command line needs
it made at import.

Knows no task's work. Celery never imports torch: a task starts the trainer as a process of its
own. The settings here and in amends.jobs are each the answer to a loss or a hang that was seen;
docs/decisions says which.
"""

from celery import Celery
from celery.signals import worker_init, worker_shutting_down
from redis.backoff import ExponentialBackoff
from redis.retry import Retry

from amends.errors import SettingsError
from amends.jobs import MAYBE_START, RECONCILE, TRANSPORT_OPTIONS, WATCH_CANARY, queue_app
from amends.settings import Settings, from_environment
from worker.canary.settings import CanarySettings
from worker.settings import WorkerSettings
from worker.shutdown import shutdown_flag


def make_app(settings: Settings, worker: WorkerSettings, canary: CanarySettings) -> Celery:
    """The application with every setting, for the broker that `settings` name."""
    if settings.redis_url is None:
        raise SettingsError(
            "the worker needs AMENDS_REDIS_URL; `amends up` sets it for the workers that it starts"
        )
    app = queue_app(settings.redis_url)
    app.set_current()
    app.conf.update(
        imports=["worker.tasks"],
        # A lost worker's run is found by its lease, so its message is never delivered again.
        task_acks_late=False,
        task_reject_on_worker_lost=False,
        task_ignore_result=True,
        result_backend_transport_options=TRANSPORT_OPTIONS,
        task_soft_time_limit=21_600,
        task_time_limit=22_200,
        worker_prefetch_multiplier=1,
        worker_disable_prefetch=True,
        worker_soft_shutdown_timeout=60,
        # True lost the job in every restart of the store that was tried.
        worker_cancel_long_running_tasks_on_connection_loss=False,
        worker_hijack_root_logger=True,
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,
        result_serializer="json",
        beat_scheduler="redbeat.RedBeatScheduler",
        beat_max_loop_interval=10,
        redbeat_redis_url=settings.redis_url,
        # Beat ends at the first command that fails, and redbeat's own retry does not reach its
        # lock.
        redbeat_redis_options={
            "socket_timeout": 30,
            "socket_connect_timeout": 5,
            "retry": Retry(ExponentialBackoff(cap=5, base=0.5), retries=100),
        },
        redbeat_key_prefix="amends:redbeat:",
        redbeat_lock_timeout=60,
        beat_schedule={
            "reconcile": _every(RECONCILE, worker.reconcile_every_s),
            "maybe_start": _every(MAYBE_START, worker.maybe_start_every_s),
            "watch_canary": _every(WATCH_CANARY, canary.every_s),
        },
    )
    return app


def _every(task: str, seconds: float) -> dict[str, object]:
    # One that was not done before the next is due is not done at all.
    return {"task": task, "schedule": seconds, "options": {"expires": max(seconds, 1.0)}}


@worker_init.connect  # type: ignore[untyped-decorator]
def _share_flag(**_: object) -> None:
    shutdown_flag.share()


@worker_shutting_down.connect  # type: ignore[untyped-decorator]
def _raise_flag(**_: object) -> None:
    shutdown_flag.set()


app = make_app(
    from_environment(Settings), from_environment(WorkerSettings), from_environment(CanarySettings)
)

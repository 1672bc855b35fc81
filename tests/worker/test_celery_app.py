import os
import subprocess
import sys

import pytest

from amends.errors import SettingsError
from amends.settings import Settings
from worker.canary.settings import CanarySettings
from worker.settings import WorkerSettings


def _python(program: str, **env: str) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if name[:7] != "AMENDS_"}
    return subprocess.run(
        [sys.executable, "-c", program],
        env={**environment, **env},
        capture_output=True,
        text=True,
        timeout=60,
    )


def test_celery_never_imports_torch() -> None:
    program = (
        "import sys; from worker.celery_app import app; import worker.tasks; app.finalize()\n"
        "assert 'amends.train' in app.tasks and 'amends.reconcile' in app.tasks\n"
        "for name in ('torch', 'transformers', 'peft', 'numpy', 'fastapi', 'server'):\n"
        "    assert name not in sys.modules, name"
    )
    result = _python(program, AMENDS_REDIS_URL="redis://127.0.0.1:1/0")
    assert result.returncode == 0, result.stderr


def test_without_a_store_the_worker_says_which_variable_to_set() -> None:
    result = _python("import worker.celery_app")
    assert result.returncode != 0
    assert "AMENDS_REDIS_URL" in result.stderr.splitlines()[-1]


def test_a_wrong_setting_is_named_in_the_last_line() -> None:
    result = _python("import worker.celery_app", AMENDS_CANARY_SHARE="3")
    assert "AMENDS_CANARY_SHARE=3: Input should be less than 1" in result.stderr.splitlines()[-1]


def test_the_settings_that_keep_jobs_alive_are_in(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AMENDS_REDIS_URL", "redis://127.0.0.1:1/0")
    from worker.celery_app import make_app

    with pytest.raises(SettingsError):
        make_app(Settings(redis_url=None), WorkerSettings(), CanarySettings())
    conf = make_app(Settings(), WorkerSettings(), CanarySettings()).conf
    wanted = {
        "task_acks_late": False,
        "task_reject_on_worker_lost": False,
        "worker_prefetch_multiplier": 1,
        "worker_disable_prefetch": True,
        "task_soft_time_limit": 21600,
        "task_time_limit": 22200,
        "worker_soft_shutdown_timeout": 60,
        "worker_cancel_long_running_tasks_on_connection_loss": False,
        "broker_connection_retry_on_startup": True,
        "broker_connection_max_retries": None,
        "accept_content": ["json"],
        "redbeat_lock_timeout": 60,
        "beat_max_loop_interval": 10,
        "beat_scheduler": "redbeat.RedBeatScheduler",
    }
    assert {name: conf[name] for name in wanted} == wanted
    options = conf.broker_transport_options
    assert options["visibility_timeout"] > conf.task_time_limit
    assert options["global_keyprefix"] == "celery:"
    assert "retry_on_timeout" not in options
    assert conf.result_backend_transport_options["visibility_timeout"] == 25200
    assert conf.beat_schedule["reconcile"]["schedule"] == 15
    assert conf.beat_schedule["maybe_start"]["schedule"] == 60
    assert conf.beat_schedule["watch_canary"]["schedule"] == 60

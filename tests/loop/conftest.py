"""A whole install on the tiny model: real store, real server, real Celery workers, real trainer."""

import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest

from amends.settings import Settings
from amends.store_client import StoreClient
from server.app import load_model
from server.settings import ServerSettings
from tests.conftest import StartWorkers
from tests.server.running_server import STAFF_TOKEN, RunningServer
from tests.tiny_model import make_tiny_model

# Small enough for seconds; every stage of a round still happens.
LEARNING = {
    "MIN_PAIRS": "10",
    "HOLDOUT_SHARE": "0.45",
    "SFT_EPOCHS": "15",
    "SFT_BATCH": "4",
    "SFT_LEARNING_RATE": "1e-2",
    "PPO_UPDATES": "3",
    "EPISODES": "8",
    "ROLLOUT_TOKENS": "16",
    "LEARNING_RATE": "1e-3",
    "GATE_PROMPTS": "24",
    "GATE_TOKENS": "48",
    "KL_TARGET": "100",
    "KL_CAP": "10000",
    "TARGET_KL": "1",
}
# A model of two layers that learns one answer moves far, and its thirty judgements are few.
GATE = {
    "MIN_TRUSTED_ITEMS": "10",
    "MAX_KL": "10000",
    "MAX_KL_TO_BASE": "10000",
    "MAX_VARIANCE_RATIO": "1000",
}
ANSWER = "ok."


@dataclass
class Install:
    """A running server, and what its workers need in order to join it."""

    server: RunningServer
    home: Path
    environment: dict[str, str]

    def ask_and_correct(self, count: int) -> list[str]:
        """`count` visitors ask one question each and judge; an expert corrects every answer."""
        feedback: list[str] = []
        questions = [q for q in self.server.state.knowledge.questions if not q.must_pass]
        for index in range(count):
            visitor = self.server.new_visitor()
            answer = visitor.ask(questions[index].question)
            assert answer.end["type"] == "done", answer.end
            http, turn = self.server.http, answer.turn_id
            up = 1 if "y" in answer.text else -1
            judged = [
                http.put(f"/v1/turns/{turn}/thumb", json={"value": up}, headers=visitor.headers),
                http.put(
                    f"/v1/conversations/{answer.conversation_id}/rating",
                    json={"value": 2 + index % 3},
                    headers=visitor.headers,
                ),
                http.post(
                    f"/v1/turns/{turn}/corrections",
                    json={"response": ANSWER},
                    headers=self.server.staff,
                ),
            ]
            for response in judged:
                assert response.status_code in (200, 201), response.text
                feedback.append(response.json()["feedback_id"])
        return feedback

    def start_run(self) -> int:
        response = self.server.http.post("/v1/runs", json={}, headers=self.server.staff)
        assert response.status_code in (200, 201, 202), response.text
        return int(response.json()["run_id"])

    def run(self, run_id: int) -> dict[str, Any]:
        response = self.server.http.get(f"/v1/runs/{run_id}", headers=self.server.staff)
        response.raise_for_status()
        found: dict[str, Any] = response.json()
        return found

    def wait_for_end(self, run_id: int, timeout_s: float = 240) -> dict[str, Any]:
        deadline = time.monotonic() + timeout_s
        while (found := self.run(run_id))["state"] not in ENDED:
            assert time.monotonic() < deadline, f"still {found}\n{self.trainer_log(run_id)}"
            time.sleep(0.2)
        return found

    def trainer_log(self, run_id: int) -> str:
        log = self.home / "runs" / str(run_id) / "trainer.log"
        return log.read_text()[-4000:] if log.is_file() else "(no trainer.log)"


ENDED = ("CANDIDATE", "REJECTED", "FAILED", "CANCELLED")


def trainers() -> list[psutil.Process]:
    """The trainer processes below this test run."""
    found = []
    for process in psutil.Process().children(recursive=True):
        try:
            if "worker.trainer" in process.cmdline():
                found.append(process)
        except psutil.NoSuchProcess:
            continue
    return found


@pytest.fixture
def install(
    store_url: str, redis: StoreClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Install]:
    model = make_tiny_model(tmp_path / "model")
    environment = {
        "AMENDS_HOME": str(tmp_path / "home"),
        "AMENDS_BASE_MODEL": str(model),
        "AMENDS_REDIS_URL": store_url,
        "AMENDS_DTYPE": "float32",
        "AMENDS_LORA_RANK": "16",
        "AMENDS_THREADS": "1",
        "AMENDS_PASSAGES": "1",
        "AMENDS_STAFF_TOKEN": STAFF_TOKEN,
        **{f"AMENDS_LEARN_{name}": value for name, value in LEARNING.items()},
        **{f"AMENDS_GATE_{name}": value for name, value in GATE.items()},
    }
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    settings = ServerSettings(port=0)
    server = RunningServer(Settings(), settings, store_url, load_model)
    yield Install(server.wait_ready(), tmp_path / "home", environment)
    server.stop()


@pytest.fixture
def workers(install: Install, celery_workers: StartWorkers) -> list[subprocess.Popen[bytes]]:
    """The train worker, the default worker and beat, of this install."""
    return celery_workers(install.environment)

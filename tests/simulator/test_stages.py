"""The demo's stages against the real server and store; a thread plays the worker."""

import asyncio
import io
import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from rich.console import Console

from amends.adapter_store import AdapterStore
from amends.events import Metrics
from amends.verdict import Verdict
from simulator.client import Api
from simulator.results import Results
from simulator.round import RoundBroke
from simulator.stages import Clock, Plan, play
from tests.server.published import publish
from tests.server.running_server import STAFF_TOKEN, RunningServer
from tests.server.scripted_engine import ScriptedEngine

PLAN = Plan(customers=8, heldout=10, concurrency=4, round_limit_s=20.0, swap_limit_s=10.0)
PASSED = Verdict(passed=True, reasons=("wins 80 %",))


@contextmanager
def worker(server: RunningServer, adapters: AdapterStore, verdict: Verdict) -> Iterator[None]:
    """Takes the first run that appears and ends it with this verdict."""
    stop = threading.Event()

    def work() -> None:
        runs, feedback = server.state.runs, server.state.feedback
        while not stop.is_set():
            run = runs.live()
            if run is None:
                time.sleep(0.02)
                continue
            held = runs.claim(run.run_id)
            feedback.claim(run.run_id)
            values = {"objective/kl": 1.25, "objective/scores": 0.5}
            server.state.events.publish(run.run_id, Metrics(stage="ppo", step=1, values=values))
            version = publish(adapters, run.run_id, verdict)
            feedback.complete(run.run_id)
            runs.to_gating(run.run_id, held.epoch)
            state = "CANDIDATE" if verdict.passed else "REJECTED"
            runs.finish(run.run_id, held.epoch, state, version=version, verdict=verdict)
            return

    thread = threading.Thread(target=work)
    thread.start()
    yield
    stop.set()
    thread.join()


def played(server: RunningServer, results: Path) -> tuple[bool, str]:
    """Whether the new version serves, and what was shown."""
    shown = io.StringIO()
    clock = Clock(Console(file=shown, width=120), Results(results))

    async def run() -> bool:
        async with Api(f"http://127.0.0.1:{server.port}", STAFF_TOKEN) as api:
            return await play(api, lambda: None, PLAN, clock)

    return asyncio.run(run()), shown.getvalue()


def better_with_a_version(version: int) -> str:
    return "Please contact our support." if version == 0 else "Express delivery costs 12 dollars."


def metrics(results: Path) -> dict[str, float]:
    return {row["metric"]: row["value"] for row in json.loads(results.read_text())["rows"]}


def test_a_passed_round_ends_with_the_new_version_answering(
    server: RunningServer, adapters: AdapterStore, engine: ScriptedEngine, tmp_path: Path
) -> None:
    engine.answer = better_with_a_version
    results = tmp_path / "demo.json"
    with worker(server, adapters, PASSED):
        promoted, shown = played(server, results)

    assert promoted
    assert engine.active_version == 1
    for said in (
        "wins 80 %",
        "no canary",
        "paired gain",
        "1.25 nats per response",
        "drawn at random",
    ):
        assert said in shown
    found = metrics(results)
    assert found["satisfaction_before"] == 1.0
    gain = found["satisfaction_after"] - found["satisfaction_before"]
    assert found["satisfaction_gain"] == pytest.approx(gain)
    assert found["gap_closed"] == pytest.approx(gain / 4, abs=0.05)  # experts earn nearly 5
    assert found["kl"] == 1.25
    stages = [
        row["setting"]["stage"]
        for row in json.loads(results.read_text())["rows"]
        if row["metric"] == "stage_seconds"
    ]
    expected = ["chat_and_rate", "correct", "train", "ask_before", "activate", "ask_after"]
    assert stages == expected


def test_a_refused_round_tells_why_and_changes_nothing(
    server: RunningServer, adapters: AdapterStore, engine: ScriptedEngine, tmp_path: Path
) -> None:
    refused = Verdict(passed=False, reasons=("repeats itself more than the champion",))
    results = tmp_path / "demo.json"
    with worker(server, adapters, refused):
        promoted, shown = played(server, results)

    assert not promoted
    assert engine.active_version == 0
    assert "repeats itself more than the champion" in shown
    assert metrics(results)["gate_passed"] == 0.0
    assert "satisfaction_after" not in metrics(results)


def test_a_version_that_the_engine_refuses_breaks_the_demo(
    server: RunningServer, adapters: AdapterStore, engine: ScriptedEngine, tmp_path: Path
) -> None:
    engine.refuse = {1}
    with (
        worker(server, adapters, PASSED),
        pytest.raises(RoundBroke, match="refused version 1"),
    ):
        played(server, tmp_path / "demo.json")


def test_the_same_seed_asks_the_same_questions(
    start_server: Callable[..., RunningServer], adapters: AdapterStore, tmp_path: Path
) -> None:
    server = start_server()
    texts = []
    for name in ("one", "two"):
        with worker(server, adapters, Verdict(passed=False, reasons=("no",))):
            played(server, tmp_path / f"{name}.json")
        turns = [t for c in server.state.conversations.recent(200) for t in c.turns]
        texts.append(sorted(turn.message for turn in turns))
    assert sorted(texts[0] * 2) == texts[1]

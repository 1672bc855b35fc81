"""The loop across processes: what visitors and experts say changes the weights that answer next."""

import json
import os
import signal
import subprocess
import time

import torch

from amends.adapter_store import AdapterStore
from amends.backbone import Backbone
from amends.base_model import base_hash, load_causal_lm
from amends.events import Progress, RunEvents
from amends.lora import load_lora
from amends.settings import Settings
from amends.store_client import StoreClient
from tests.loop.conftest import ANSWER, Install, trainers
from tests.server.running_server import wait_until

ROUND_S = 240.0


def logprobs_again(install: Install, turn_id: str) -> tuple[torch.Tensor, torch.Tensor]:
    """What the server recorded while writing a turn, and what the trainer's forward makes of it."""
    settings = Settings()
    turn = install.server.state.conversations.turn(turn_id)
    assert turn.sampled is not None
    folder = install.home.parent / "model"
    backbone = Backbone(load_causal_lm(folder, torch.float32), settings.context_tokens)
    packed = None
    if turn.policy_version:
        shape = backbone.lora_shape(settings.lora_rank, settings.lora_alpha)
        store = AdapterStore(settings.adapters_folder, base_hash(folder))
        packed = load_lora(store.folder(turn.policy_version), shape).pack(torch.float32)
    prompt, written = turn.sampled.prompt_token_ids, turn.sampled.token_ids
    hidden, _ = backbone.hidden(torch.tensor([[*prompt, *written]]), packed)
    states = hidden[0, len(prompt) - 1 : -1]
    again = backbone.token_logprobs(states, torch.tensor(written))
    return torch.tensor(turn.sampled.logprobs), again


def test_feedback_reaches_the_policy(
    install: Install, workers: list[subprocess.Popen[bytes]]
) -> None:
    server = install.server
    given = install.ask_and_correct(40)
    before = server.new_visitor().ask("how long do i have to return a jacket")
    run_id = install.start_run()
    run = install.wait_for_end(run_id, ROUND_S)
    log = install.trainer_log(run_id)
    assert run["state"] == "CANDIDATE", "\n".join([*(run["verdict"] or {}).get("reasons", []), log])

    # The operator approves; the running server swaps.
    version = run["version"]
    approved = server.http.post(f"/v1/adapters/{version}/activate", json={}, headers=server.staff)
    assert approved.status_code == 200, approved.text
    wait_until(lambda: server.http.get("/readyz").json()["policy_version"] == version)
    after = server.new_visitor().ask("how long do i have to return a jacket")
    assert (before.end["policy_version"], after.end["policy_version"]) == (0, version)

    # What the experts wrote is likelier now than it was.
    assert after.text.startswith(ANSWER[:3]) and not before.text.startswith(ANSWER[:3])
    for turn_id in (before.turn_id, after.turn_id):
        served, trained = logprobs_again(install, turn_id)
        torch.testing.assert_close(served, trained, rtol=1e-3, atol=1e-3)

    # Lineage both ways: the version names the data, the data names the run.
    manifest = json.loads((install.home / "runs" / str(run_id) / "data_manifest.json").read_text())
    used = {*manifest["thumbs"], *manifest["ratings"], *manifest["corrections"]}
    dropped = {item["feedback_id"] for item in manifest["dropped"]}
    assert set(given) <= used | dropped and len(used) > 30
    assert server.state.feedback.runs_of(given[0]) == [run_id]


def test_a_killed_trainer_resumes_and_publishes_once(
    install: Install, workers: list[subprocess.Popen[bytes]], redis: StoreClient
) -> None:
    install.ask_and_correct(30)
    run_id = install.start_run()
    events = RunEvents(redis)

    def in_ppo() -> bool:
        found = [event for _, event in events.read(run_id)]
        return any(isinstance(e, Progress) and e.stage == "ppo" for e in found)

    wait_until(in_ppo, timeout_s=ROUND_S)
    (trainer,) = trainers()
    os.kill(trainer.pid, signal.SIGKILL)
    run = install.wait_for_end(run_id, ROUND_S)
    assert run["state"] in ("CANDIDATE", "REJECTED"), (run, install.trainer_log(run_id))
    assert run["attempt"] == 2
    # The second attempt went on: it did not repeat the update that the first had saved.
    updates = [
        e.done for _, e in events.read(run_id) if isinstance(e, Progress) and e.stage == "ppo"
    ]
    assert updates == sorted(set(updates)), updates
    versions = install.server.http.get("/v1/adapters", headers=install.server.staff).json()
    assert [v["run_id"] for v in versions["versions"]] == [run_id]
    (version,) = versions["versions"]
    assert version["verdict"]["champion"] == 0
    assert (install.home / "reward_models" / f"{version['version']:06d}").is_dir()


def test_a_cancelled_run_stops_and_gives_its_feedback_back(
    install: Install, workers: list[subprocess.Popen[bytes]]
) -> None:
    install.ask_and_correct(30)
    run_id = install.start_run()
    wait_until(lambda: install.run(run_id)["state"] == "RUNNING", timeout_s=60)
    server = install.server
    asked = server.http.post(f"/v1/runs/{run_id}/cancel", headers=server.staff)
    assert asked.status_code == 200, asked.text
    assert install.wait_for_end(run_id)["state"] == "CANCELLED"
    deadline = time.monotonic() + 20
    while server.state.feedback.counts()["correction"]["pending"] < 30:
        assert time.monotonic() < deadline, server.state.feedback.counts()
        time.sleep(0.1)


def test_too_little_feedback_ends_the_run_with_a_reason_and_keeps_the_feedback(
    install: Install, workers: list[subprocess.Popen[bytes]]
) -> None:
    install.ask_and_correct(2)
    run = install.wait_for_end(install.start_run())
    assert run["state"] == "FAILED"
    assert "corrections" in run["error"], run

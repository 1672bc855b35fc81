"""`amends doctor`: one line per part, exit code 1 only when something fails."""

import json
import socket
from pathlib import Path

import pytest
from typer.testing import CliRunner

from amends.cli import app
from amends.cli.doctor import base_model
from amends.settings import Settings
from tests.amends.command_line import Amends
from tests.amends.engine.remote.vllm_peer import VllmPeer
from tests.tiny_model import make_tiny_gpt_neox

PARTS = [
    "settings",
    "python",
    "torch",
    "memory",
    "disk",
    "base model",
    "store",
    "workers",
    "port",
    "documents",
    "adapters",
]


@pytest.fixture
def port() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return str(probe.getsockname()[1])


def test_every_part_has_a_finding_and_advice_unless_it_is_ok(
    amends: Amends, port: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AMENDS_REDIS_URL")  # no workers are expected without `amends up`
    monkeypatch.setenv("AMENDS_THREADS", "1024")
    findings = json.loads(amends("doctor", "--port", port, "--json").stdout)

    assert [finding["name"] for finding in findings] == PARTS
    by_name = {finding["name"]: finding for finding in findings}
    assert by_name["store"]["found"].startswith("embedded valkey")
    assert by_name["torch"]["state"] == "warn"
    assert "AMENDS_THREADS=" in by_name["torch"]["advice"]
    assert all(f["advice"] for f in findings if f["state"] == "warn")


def test_settings_of_the_programs_are_checked_before_they_start(
    amends: Amends, port: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AMENDS_REDIS_URL")

    def finding() -> dict[str, str]:
        found = json.loads(CliRunner().invoke(app, ("doctor", "--port", port, "--json")).stdout)
        return next(one for one in found if one["name"] == "settings")

    assert finding()["state"] == "ok"
    monkeypatch.setenv("AMENDS_LEARN_SEAD", "1")
    assert finding()["state"] == "warn"
    assert finding()["found"] == "no program reads AMENDS_LEARN_SEAD; AMENDS_LEARN_SEED is one"
    monkeypatch.setenv("AMENDS_GATE_MAX_KL", "far")
    assert finding()["state"] == "fail" and finding()["found"].startswith("AMENDS_GATE_MAX_KL=far:")


def test_workers_that_do_not_answer_and_broken_documents_fail(
    amends: Amends, port: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AMENDS_KNOWLEDGE", str(tmp_path / "nothing"))
    findings = json.loads(amends("doctor", "--port", port, "--json", code=1).stdout)

    failed = {
        finding["name"]: finding["found"] for finding in findings if finding["state"] == "fail"
    }
    assert set(failed) == {"workers", "documents"}
    assert "train" in failed["workers"] and "default" in failed["workers"]


@pytest.mark.parametrize(
    ("name", "found", "advice"),
    [
        (None, "not fetched yet", "downloads it (90 MB)"),
        ("/nope", "AMENDS_BASE_MODEL=/nope: there is no such folder", "config.json"),
        ("/etc", "AMENDS_BASE_MODEL=/etc: there is no config.json in it", "config.json"),
        ("tiny/nowhere", "not fetched yet", "downloads tiny/nowhere;"),
    ],
)
def test_a_base_model_that_is_not_here_is_told_apart_from_one_to_fetch(
    amends_home: Path, monkeypatch: pytest.MonkeyPatch, name: str | None, found: str, advice: str
) -> None:
    finding = base_model(Settings(base_model=name, cache=amends_home / "cache"))
    assert finding.found == found and advice in finding.advice
    assert finding.state == ("warn" if "fetched" in found else "fail")


def test_replicas_of_vllm_that_do_not_answer_are_named(
    amends: Amends, port: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AMENDS_REDIS_URL")
    peer = VllmPeer().start()
    monkeypatch.setenv("AMENDS_ENGINE", "vllm")
    monkeypatch.setenv("AMENDS_VLLM_URLS", f"{peer.url},http://127.0.0.1:{port}")
    try:
        findings = json.loads(amends("doctor", "--port", port, "--json").stdout)
    finally:
        peer.stop()
    assert findings[-1]["state"] == "warn"
    assert findings[-1]["found"].startswith(f"1 of 2 answer; http://127.0.0.1:{port}: ")


def test_the_report_reads_one_line_per_part(
    amends: Amends, port: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AMENDS_REDIS_URL")
    lines = amends("doctor", "--port", port).stdout.splitlines()

    assert [part for part in PARTS if any(part in line[:20] for line in lines)] == PARTS


def test_an_architecture_that_runs_slower_is_a_warning_with_the_reason(
    amends: Amends, port: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AMENDS_REDIS_URL")
    monkeypatch.setenv("AMENDS_BASE_MODEL", str(make_tiny_gpt_neox(tmp_path / "other")))
    findings = json.loads(amends("doctor", "--port", port, "--json").stdout)

    model = next(finding for finding in findings if finding["name"] == "base model")
    assert model["state"] == "warn"
    assert "slower" in model["advice"] and "'gpt_neox'" in model["advice"]

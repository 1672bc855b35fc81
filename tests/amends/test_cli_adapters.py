"""`amends adapters` on a real adapter store: no worker, no server."""

import json
import shutil
from pathlib import Path

import pytest

from amends.adapter_store import AdapterStore
from amends.base_model import base_hash
from amends.canary import CanaryReport, Figures
from amends.canary_reports import CanaryReports
from amends.record import now_s
from amends.store_client import StoreClient
from amends.verdict import Verdict
from tests.amends.command_line import Amends
from tests.amends.going_trial import going_trial

CONFIG = {"peft_type": "LORA", "r": 4, "lora_alpha": 8, "target_modules": ["q_proj"]}


@pytest.fixture
def store(amends_home: Path) -> AdapterStore:
    return AdapterStore(amends_home / "adapters", base_hash(amends_home.parent / "model"))


def publish(store: AdapterStore, run_id: int, verdict: Verdict) -> int:
    folder = store.stage(run_id)
    (folder / "adapter_model.safetensors").write_bytes(f"weights of run {run_id}".encode())
    (folder / "adapter_config.json").write_text(json.dumps(CONFIG))
    return store.publish(
        folder,
        parent=0,
        run_id=run_id,
        data_manifest_hash="0" * 64,
        metrics={"win_rate": 0.61},
        verdict=verdict,
        fence=lambda: None,
    ).version


def test_an_activated_version_is_champion_and_rolls_back(
    amends: Amends, store: AdapterStore
) -> None:
    version = publish(store, 1, Verdict(passed=True))

    amends("adapters", "activate", str(version), "--reason", "better on refunds")
    assert store.aliases() == {"champion": version, "previous": 0}
    amends("adapters", "rollback")
    assert store.alias("champion") == 0

    newest, before = json.loads(amends("adapters", "audit", "--json").stdout)[:2]
    assert (newest["action"], before["reason"]) == ("roll_back", "better on refunds")
    assert newest["by"].startswith("operator:")


def test_a_command_with_another_base_model_moves_nothing_and_fetches_nothing(
    amends: Amends, store: AdapterStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.activate(publish(store, 1, Verdict(passed=True)), by="anna", reason="better")
    before = store.aliases(), store.audit()
    (tmp_path / "model" / "config.json").write_text('{"another": "model"}')
    for words in (("list",), ("show", "1"), ("audit",), ("rollback",), ("activate", "0")):
        assert "AMENDS_BASE_MODEL as" in amends("adapters", *words, code=1).stderr
    assert "AMENDS_BASE_MODEL as" in amends("doctor", code=1).stdout

    monkeypatch.delenv("AMENDS_BASE_MODEL")
    monkeypatch.setenv("AMENDS_CACHE", str(tmp_path / "cache"))
    assert "`amends up` fetches it" in amends("adapters", "list", code=1).stderr
    assert not (tmp_path / "cache").exists()
    assert (store.aliases(), store.audit()) == before


def test_a_rejected_version_needs_force(amends: Amends, store: AdapterStore) -> None:
    version = publish(store, 1, Verdict(passed=False, reasons=("longer than the champion",)))

    refused = amends("adapters", "activate", str(version), code=1)
    assert "longer than the champion" in refused.stderr
    amends("adapters", "activate", str(version), "--force")
    assert store.alias("champion") == version


def test_the_list_shows_the_base_model_and_every_alias(amends: Amends, store: AdapterStore) -> None:
    version = publish(store, 1, Verdict(passed=True))
    store.set_candidate(version)

    lines = [line.split() for line in amends("adapters", "list").stdout.splitlines()]

    assert lines[0][:2] == ["version", "alias"]
    assert lines[1][:2] == ["0", "champion"]
    assert lines[2][:2] == [str(version), "candidate"]
    assert json.loads(amends("adapters", "list", "--json").stdout)["aliases"]["champion"] == 0


def test_show_refuses_a_version_whose_files_were_changed(
    amends: Amends, store: AdapterStore
) -> None:
    version = publish(store, 1, Verdict(passed=True))
    assert "win_rate" in amends("adapters", "show", str(version)).stdout
    (store.folder(version) / "adapter_model.safetensors").write_bytes(b"other weights")

    assert "was changed" in amends("adapters", "show", str(version), code=1).stderr


def test_a_candidate_is_tried_on_a_share_and_withdrawn(amends: Amends, store: AdapterStore) -> None:
    version = publish(store, 1, Verdict(passed=True))
    told = amends("adapters", "candidate", str(version), "--share", "0.1", "-r", "looks good")
    assert "10% of new conversations" in told.stdout
    assert (store.pointers().candidate, store.pointers().candidate_share) == (version, 0.1)
    row = store.audit(1)[0]
    assert (row.action, row.share, row.reason) == ("set_candidate", 0.1, "looks good")
    assert row.by.startswith("operator:")
    assert "candidate 10%" in amends("adapters", "list").stdout
    assert json.loads(amends("adapters", "list", "--json").stdout)["candidate_share"] == 0.1

    assert "no candidate" in amends("adapters", "candidate", "--none").stdout
    assert "candidate" not in store.aliases()


def test_a_candidate_set_without_a_share_displaces_no_trial(
    amends: Amends, store: AdapterStore
) -> None:
    version = publish(store, 1, Verdict(passed=True))
    store.set_candidate(version, share=0.1)
    again = amends("adapters", "candidate", str(version))
    assert "on 10% of new conversations" in again.stdout  # unasked for, a trial goes on
    other = publish(store, 2, Verdict(passed=True))
    refused = " ".join(amends("adapters", "candidate", str(other), code=1).stderr.split())
    assert "version 1 is the candidate" in refused
    amends("adapters", "candidate", str(other), "--share", "0")
    assert (store.pointers().candidate, store.pointers().candidate_share) == (other, 0.0)
    told = amends("adapters", "activate", str(other)).stdout
    assert "no more" not in told
    amends("adapters", "candidate", str(version), "--share", "0.2")
    told = amends("adapters", "rollback").stdout
    assert f"Version {version} is the candidate no more" in told
    amends("adapters", "activate", str(other))
    assert "champion already" in amends("adapters", "candidate", str(other)).stdout


def test_the_trial_is_shown_as_the_worker_last_saw_it(amends: Amends, redis: StoreClient) -> None:
    assert "No candidate was tried" in amends("adapters", "canary").stdout
    assert json.loads(amends("adapters", "canary", "--json").stdout) is None
    thumbs = Figures(
        kind="thumbs",
        candidate_bad=9,
        candidate=20,
        champion_bad=0,
        champion=0,
        low=-0.07,
        high=0.514,
    )
    report = CanaryReport(
        at=now_s(),
        version=7,
        champion=5,
        began=3,
        since=0.0,
        every_s=60.0,
        candidate_conversations=31,
        champion_conversations=290,
        elsewhere=2,
        champion_elsewhere=0,
        figures=(thumbs,),
        decision="going_on",
        reason="not worse so far",
    )
    CanaryReports(redis).write(report)
    told = " ".join(amends("adapters", "canary").stdout.split())
    assert told.startswith("Version 7 beside 5, ") and "going on not worse so far" in told
    assert "conversations: 31, champion 290 answered by another version: 2, champion 0" in told
    assert "9 of 20 (45%), champion 0 of 0; difference between -7 and +51 points" in told
    assert "This trial is over" in told  # nothing is on trial here
    told = amends("adapters", "canary", "--json").stdout
    assert CanaryReport.model_validate_json(told) == report


def test_a_trial_that_nobody_looks_at_says_so(
    amends: Amends, redis: StoreClient, store: AdapterStore
) -> None:
    version = publish(store, 1, Verdict(passed=True))
    store.set_candidate(version, share=0.1)
    told = " ".join(amends("adapters", "canary").stdout.split())
    assert told.endswith("Version 1 is on trial, and no worker has looked yet.")
    report = going_trial(version, store.pointers().last_row.number, at=now_s() - 900)
    CanaryReports(redis).write(report)
    told = " ".join(amends("adapters", "canary").stdout.split())
    assert "not worse so far" in told and "is over" not in told
    assert "and no worker has looked for 15 minutes" in told
    store.set_candidate(None)
    store.set_candidate(version)
    assert "This trial is over" in amends("adapters", "canary").stdout


def test_a_candidate_whose_files_are_gone_is_listed(amends: Amends, store: AdapterStore) -> None:
    version = publish(store, 1, Verdict(passed=True))
    store.set_candidate(version, share=0.1)
    shutil.rmtree(store.folder(version))
    told = " ".join(amends("adapters", "list").stdout.split())
    assert "1 candidate 10% its files are gone" in told


def test_what_a_candidate_cannot_be_is_refused(amends: Amends, store: AdapterStore) -> None:
    rejected = publish(store, 1, Verdict(passed=False, reasons=("longer than the champion",)))
    before = store.pointers()
    for arguments in ((), (str(rejected), "--none"), (str(rejected), "--share", "1.5")):
        amends("adapters", "candidate", *arguments, code=2)
    told = amends("adapters", "candidate", str(rejected), "--share", "0.5", code=1)
    assert "longer than the champion" in told.stderr
    assert store.pointers() == before
    amends("adapters", "candidate", str(rejected), "--share", "0.5", "--force")
    assert store.pointers().candidate_share == 0.5

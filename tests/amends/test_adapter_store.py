import json
import multiprocessing
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from amends.adapter_manifest import Manifest
from amends.adapter_store import AdapterStore
from amends.errors import AdapterRefused, BadTransition, InvalidInput, LeaseLost, NotFound
from amends.verdict import Verdict

PASSED = Verdict(passed=True, reasons=("wins 60 %",))
FAILED = Verdict(passed=False, reasons=("repeats itself",))
# What peft 0.21.2 writes for LoraConfig(r=16, lora_alpha=32, task_type="CAUSAL_LM").
CONFIG: dict[str, Any] = json.loads((Path(__file__).parent / "adapter_config.json").read_text())


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "adapters"


@pytest.fixture
def store(root: Path) -> AdapterStore:
    return AdapterStore(root, "base-a")


def _fill(folder: Path, weights: bytes = b"weights") -> Path:
    (folder / "adapter_model.safetensors").write_bytes(weights)
    (folder / "adapter_config.json").write_text(json.dumps(CONFIG))
    return folder


def _held() -> None:
    pass


def _publish(
    store: AdapterStore,
    run_id: int,
    verdict: Verdict | None = PASSED,
    fence: Callable[[], None] = _held,
    parent: int = 0,
    created_at: float = 0.0,
) -> Manifest:
    return store.publish(
        _fill(store.stage(run_id), f"weights {run_id}".encode()),
        parent=parent,
        run_id=run_id,
        data_manifest_hash="d" * 64,
        metrics={"win_rate": 0.6},
        verdict=verdict,
        fence=fence,
        run_created_at=created_at,
    )


def test_an_empty_store_serves_the_base_model(store: AdapterStore) -> None:
    assert store.aliases() == {"champion": 0}
    assert store.alias("champion") == 0
    assert store.list() == []
    for alias in ("candidate", "previous"):
        with pytest.raises(NotFound):
            store.alias(alias)
    with pytest.raises(NotFound, match="base model"):
        store.folder(0)


def test_a_published_version_is_a_peft_folder_with_a_manifest_and_changes_no_alias(
    store: AdapterStore, root: Path
) -> None:
    manifest = _publish(store, 7)
    assert (manifest.version, manifest.run_id, manifest.line) == (1, 7, 1)
    assert store.get(1) == store.verify(1) == manifest
    assert {path.name for path in store.folder(1).iterdir()} == {
        "adapter_model.safetensors",
        "adapter_config.json",
        "manifest.json",
    }
    assert list((root / ".staging").iterdir()) == []
    assert store.aliases() == {"champion": 0}
    assert [row.action for row in store.audit()] == ["publish", "new_line"]


def test_a_run_that_publishes_again_gets_the_version_it_has(store: AdapterStore) -> None:
    first = _publish(store, 7)
    assert _publish(store, 7) == first
    assert store.list() == [first]


def test_who_lost_the_lease_publishes_nothing(store: AdapterStore) -> None:
    def fence() -> None:
        raise LeaseLost("epoch 1")

    with pytest.raises(LeaseLost):
        _publish(store, 7, fence=fence)
    assert store.list() == []


def test_a_candidate_has_a_share_and_every_change_of_it_is_a_row(
    store: AdapterStore, root: Path
) -> None:
    for run_id in (1, 2):
        _publish(store, run_id)
    store.set_candidate(1)
    assert store.pointers().candidate_share == 0.0
    for share in (0.1, 0.1, 0.5):
        store.set_candidate(1, "anna", "try it", share=share)
    _publish(store, 3)  # moves nothing
    assert (store.pointers().candidate, store.pointers().candidate_share) == (1, 0.5)
    rows = [row for row in store.audit() if row.action == "set_candidate"]
    assert [(row.version, row.share, row.by) for row in rows] == [
        (1, 0.5, "anna"),
        (1, 0.1, "anna"),
        (1, None, "worker"),
    ]
    store.set_candidate(1)  # as a resumed run does
    assert store.pointers().candidate_share == 0.5
    store.set_candidate(2, share=0.2)
    store.set_candidate(None)
    assert (store.pointers().candidate, store.pointers().candidate_share) == (None, 0.0)
    store.set_candidate(2, share=0.2)
    store.activate(2, by="anna", reason="better")
    store.set_candidate(2)
    assert (store.pointers().candidate, store.pointers().candidate_share) == (None, 0.0)
    assert AdapterStore(root, "base-a").pointers() == store.pointers()


def test_without_a_share_no_candidate_is_displaced(store: AdapterStore) -> None:
    for run_id in (1, 2):
        _publish(store, run_id)
    for share in (0.1, 0.0):  # the second time paused
        store.set_candidate(1, share=share)
        before = store.pointers()
        with pytest.raises(BadTransition, match="version 1 is the candidate"):
            store.set_candidate(2, "anna", "looks good")
        assert store.pointers() == before
    store.set_candidate(2, "anna", "rather this", share=0.0)
    assert store.pointers().candidate == 2


@pytest.mark.parametrize("move", ["activate", "roll_back"])
def test_another_champion_ends_a_trial(store: AdapterStore, move: str) -> None:
    first, second, third = (_publish(store, n, beside(0)).version for n in (1, 2, 3))
    store.activate(first, by="anna", reason="better")
    tried = _publish(store, 4, beside(first)).version
    store.set_candidate(tried, share=0.1)
    if move == "activate":
        store.activate(second, by="anna", reason="rather this", force=True)
    else:
        store.roll_back(by="anna", reason="complaints")
    assert (store.pointers().candidate, store.pointers().candidate_share) == (None, 0.0)
    assert store.audit(1)[0].action == move
    with pytest.raises(AdapterRefused, match="nobody compared"):
        store.set_candidate(tried, share=0.1)
    if move == "roll_back":
        store.set_candidate(third, share=0.1)


def test_who_has_not_seen_the_last_move_moves_nothing(store: AdapterStore) -> None:
    version = _publish(store, 1).version
    seen = store.pointers().last_row.number
    store.set_candidate(version, "anna", "try it", share=0.1)
    before = store.pointers()
    with pytest.raises(BadTransition, match="look again"):
        store.set_candidate(None, "canary", "worse", seen=seen)
    with pytest.raises(BadTransition, match="look again"):
        store.activate(version, "canary", "harmless", seen=seen)
    assert store.pointers() == before
    store.set_candidate(None, "canary", "worse", seen=before.last_row.number)
    assert store.pointers().candidate is None


def test_visitors_get_no_candidate_that_must_not_answer_them(store: AdapterStore) -> None:
    rejected = _publish(store, 1, FAILED).version
    champion = _publish(store, 2).version
    store.activate(champion, by="anna", reason="better")
    before = store.pointers()
    with pytest.raises(AdapterRefused, match="repeats itself"):
        store.set_candidate(rejected, share=0.1)
    for version, share in ((champion, 0.1), (None, 0.1), (rejected, 1.1), (rejected, -0.1)):
        with pytest.raises(InvalidInput):
            store.set_candidate(version, share=share)
    with pytest.raises(NotFound):
        store.set_candidate(77, share=0.1)
    assert store.pointers() == before
    store.set_candidate(rejected, share=0.1, force=True)
    assert store.aliases()["candidate"] == rejected and store.audit(1)[0].forced


def beside(champion: int) -> Verdict:
    return PASSED.model_copy(update={"champion": champion})


def test_a_verdict_counts_beside_the_champion_that_it_names(store: AdapterStore) -> None:
    first, second, third = (_publish(store, n, beside(0)).version for n in (1, 2, 3))
    store.activate(first, by="anna", reason="better")
    before = store.pointers()
    for move in (
        lambda: store.activate(second, by="anna", reason="also better"),
        lambda: store.set_candidate(second, share=0.1),
    ):
        with pytest.raises(AdapterRefused, match="beside version 0, but version 1 is champion"):
            move()
    assert store.pointers() == before
    store.set_candidate(second)  # nobody is answered by it
    store.roll_back(by="anna", reason="complaints")
    store.activate(second, by="anna", reason="beside this champion it passed")
    after = _publish(store, 4, beside(second)).version
    store.activate(after, by="anna", reason="better still")
    store.activate(second, by="anna", reason="it was champion before")
    assert [row.forced for row in store.audit()] == [False] * len(store.audit())
    store.activate(third, by="anna", reason="I know what I do", force=True)
    store.activate(after, by="anna", reason="was champion", force=True)
    assert [row.forced for row in store.audit(2)] == [False, True]


def test_a_trial_that_an_earlier_program_let_go_on_is_ended(
    store: AdapterStore, root: Path
) -> None:
    for run_id in (1, 2):
        _publish(store, run_id)
    store.set_candidate(1, share=0.3)
    store.activate(2, by="anna", reason="better")
    found = json.loads((root / "aliases.json").read_text())
    old = found | {"candidate": 1, "candidate_share": 0.3}
    (root / "aliases.json").write_text(json.dumps(old))
    for _ in range(2):
        now = AdapterStore(root, "base-a").pointers()
        assert (now.candidate, now.champion) == (None, 2)
        assert (now.last_row.action, now.last_row.by) == ("set_candidate", "amends")
    assert len([row for row in store.audit() if row.by == "amends"]) == 2  # the new line, and this


def test_aliases_of_a_backup_are_opened_without_a_candidate(
    store: AdapterStore, root: Path
) -> None:
    for run_id in (1, 2):
        _publish(store, run_id)
    store.set_candidate(1, share=0.1)
    backup = (root / "aliases.json").read_bytes()
    store.set_candidate(1, share=0.2)
    store.set_candidate(2, share=0.3)
    ahead = store.pointers().last_row.number
    (root / "aliases.json").write_bytes(backup)
    with pytest.raises(BadTransition, match="look again"):
        store.set_candidate(1, share=0.5, seen=store.pointers().last_row.number)
    for opened in (store, AdapterStore(root, "base-a")):
        now = opened.pointers()
        assert (now.candidate, now.candidate_share, now.champion) == (None, 0.0, 0)
        assert (now.last_row.number, now.last_row.by) == (ahead + 1, "amends")
        assert now.last_row.reason == "aliases.json is older than the audit"
    store.set_candidate(1, share=0.4)
    numbers = [row.number for row in store.audit()]
    assert numbers == list(range(ahead + 2, 0, -1))


def test_a_trial_goes_on_where_the_audit_was_put_away(store: AdapterStore, root: Path) -> None:
    _publish(store, 1)
    store.set_candidate(1, share=0.1)
    _publish(store, 2)
    (root / "audit.jsonl").unlink()
    now = AdapterStore(root, "base-a").pointers()
    assert (now.candidate, now.candidate_share) == (1, 0.1)
    assert [row.version for row in store.audit()] == [2]


def test_a_row_that_was_removed_ends_no_trial(store: AdapterStore, root: Path) -> None:
    _publish(store, 1)
    _publish(store, 2)
    store.activate(1, "anna", "better", force=True)
    store.set_candidate(2, share=0.1, force=True)
    _publish(store, 3)
    audit = root / "audit.jsonl"
    *before, began, published = audit.read_bytes().splitlines(keepends=True)
    assert b"set_candidate" in began
    audit.write_bytes(b"".join([*before, published]))
    assert AdapterStore(root, "base-a").pointers() == store.pointers()
    assert store.pointers().candidate == 2


def test_a_row_that_cannot_be_read_stops_nobody(
    store: AdapterStore, root: Path, caplog: pytest.LogCaptureFixture
) -> None:
    _publish(store, 1)
    store.set_candidate(1, share=0.1)
    audit = root / "audit.jsonl"
    lines = audit.read_bytes().splitlines(keepends=True)
    audit.write_bytes(b"".join([*lines[:-1], b"\0" * 40 + b"\n"]))
    again = AdapterStore(root, "base-a")  # the last row is in aliases.json too
    assert again.audit(1) == (again.pointers().last_row,)
    with pytest.raises(AdapterRefused, match=r"audit\.jsonl, line 3: expected a row"):
        again.audit()
    again.set_candidate(1, share=0.2)
    audit.write_bytes(audit.read_bytes() + b"no row\n")
    AdapterStore(root, "base-a").set_candidate(None)
    assert store.pointers().candidate is None

    store.set_candidate(1, share=0.1)
    lines = audit.read_bytes().splitlines(keepends=True)
    audit.write_bytes(b"".join([*lines[:-1], b"no row\n", lines[-1]]))
    _publish(store, 2)
    audit.write_bytes(audit.read_bytes().replace(lines[-1], b"no row either\n"))
    assert AdapterStore(root, "base-a").pointers().candidate == 1
    assert "whether another champion ended the trial" in caplog.text


def test_the_newest_rows_are_read_without_the_ones_before(store: AdapterStore, root: Path) -> None:
    for run_id in range(1, 8):
        _publish(store, run_id)
    audit = root / "audit.jsonl"
    lines = audit.read_bytes().splitlines(keepends=True)
    audit.write_bytes(b"".join([b"no row\n", *lines[1:]]))
    assert [row.version for row in store.audit(3)] == [7, 6, 5]
    assert [row.version for row in store.audit(7)] == [7, 6, 5, 4, 3, 2, 1]


def test_a_trial_is_paused_also_when_its_files_are_gone(store: AdapterStore, root: Path) -> None:
    _publish(store, 1)
    store.set_candidate(1, share=0.5)
    shutil.rmtree(root / "000001")
    with pytest.raises(NotFound):
        store.set_candidate(1, share=0.6)
    store.set_candidate(1, "anna", "stop", share=0.0)
    assert (store.pointers().candidate, store.pointers().candidate_share) == (1, 0.0)
    with pytest.raises(NotFound):
        store.set_candidate(1, share=0.1)


@pytest.mark.parametrize("number", [-1, 10**9, 10**300])
def test_a_number_that_no_version_has_is_no_path(store: AdapterStore, number: int) -> None:
    for ask in (store.get, store.verify, store.set_candidate):
        with pytest.raises(InvalidInput, match="from 0 to 999999999"):
            ask(number)


def test_rolling_back_to_the_candidate_leaves_no_candidate(store: AdapterStore) -> None:
    for run_id in (1, 2):
        _publish(store, run_id)
        store.activate(run_id, by="anna", reason="better")
    store.set_candidate(1, share=0.3)
    store.roll_back(by="anna", reason="complaints")
    assert store.aliases() == {"champion": 1, "previous": 0}
    assert store.pointers().candidate_share == 0.0


def test_aliases_of_schema_1_are_read_and_become_schema_2(store: AdapterStore, root: Path) -> None:
    _publish(store, 1)
    store.set_candidate(1)
    old = json.loads((root / "aliases.json").read_text())
    del old["candidate_share"], old["last_row"]["share"]
    (root / "aliases.json").write_text(json.dumps(old | {"schema_version": 1}))
    rows = [json.loads(line) for line in (root / "audit.jsonl").read_text().splitlines()]
    lines = [json.dumps({k: v for k, v in row.items() if k != "share"}) + "\n" for row in rows]
    (root / "audit.jsonl").write_text("".join(lines))
    store = AdapterStore(root, "base-a")
    assert (store.pointers().candidate, store.pointers().candidate_share) == (1, 0.0)
    assert len(store.audit()) == len(rows)
    store.set_candidate(1, share=0.2)
    found = json.loads((root / "aliases.json").read_text())
    assert (found["schema_version"], found["candidate_share"]) == (2, 0.2)


def test_activate_and_roll_back_move_the_aliases_and_say_who_and_why(store: AdapterStore) -> None:
    for run_id in (1, 2):
        _publish(store, run_id)
    store.set_candidate(1)
    assert store.aliases() == {"champion": 0, "candidate": 1}
    store.activate(1, by="anna", reason="better")
    assert store.aliases() == {"champion": 1, "previous": 0}
    store.activate(2, by="anna", reason="better still")
    assert store.aliases() == {"champion": 2, "previous": 1}
    assert store.roll_back(by="bob", reason="complaints") == 1
    assert store.roll_back(by="bob", reason="more complaints") == 0
    assert store.aliases() == {"champion": 0}
    with pytest.raises(InvalidInput):
        store.roll_back(by="bob", reason="again")
    newest = store.audit(2)
    assert [(row.by, row.action, row.version, row.champion, row.reason) for row in newest] == [
        ("bob", "roll_back", 0, 0, "more complaints"),
        ("bob", "roll_back", 1, 1, "complaints"),
    ]
    assert [row.number for row in store.audit()] == list(range(len(store.audit()), 0, -1))


def test_activating_the_champion_changes_nothing(store: AdapterStore) -> None:
    _publish(store, 1)
    store.activate(1, by="anna", reason="better")
    before = store.aliases(), store.audit()
    store.activate(1, by="anna", reason="again")
    assert (store.aliases(), store.audit()) == before


@pytest.mark.parametrize("verdict", [FAILED, None])
def test_a_version_that_did_not_pass_the_gate_is_activated_only_by_force(
    store: AdapterStore, verdict: Verdict | None
) -> None:
    _publish(store, 1, verdict)
    with pytest.raises(AdapterRefused, match=r"repeats itself|no verdict"):
        store.activate(1, by="anna", reason="please")
    assert store.alias("champion") == 0
    store.activate(1, by="anna", reason="I know better", force=True)
    assert store.alias("champion") == 1


def test_another_base_model_starts_a_new_line_and_refuses_the_old_versions(
    store: AdapterStore, root: Path, caplog: pytest.LogCaptureFixture
) -> None:
    _publish(store, 1)
    store.activate(1, by="anna", reason="better")
    with caplog.at_level("WARNING"):
        other = AdapterStore(root, "base-b", may_start_line=True)
    assert "line 2 of adapters starts at version 0" in caplog.text
    assert other.aliases() == {"champion": 0}
    assert [manifest.version for manifest in other.list()] == [1]
    with pytest.raises(AdapterRefused, match="base-a"):
        other.activate(1, by="anna", reason="please", force=True)
    second = _publish(other, 2)
    assert (second.version, second.line) == (2, 2)
    assert "base-a" in other.audit()[1].reason
    with pytest.raises(AdapterRefused, match="base-b"):
        store.alias("champion")
    with pytest.raises(AdapterRefused, match="base-b"):
        _publish(store, 3)


def test_who_may_not_start_a_line_changes_nothing_with_another_base_model(
    store: AdapterStore, root: Path
) -> None:
    _publish(store, 1)
    store.activate(1, by="anna", reason="better")
    before = (root / "aliases.json").read_bytes(), (root / "audit.jsonl").read_bytes()
    with pytest.raises(AdapterRefused, match=r"base-a.*base-b.*set AMENDS_BASE_MODEL"):
        AdapterStore(root, "base-b")
    assert ((root / "aliases.json").read_bytes(), (root / "audit.jsonl").read_bytes()) == before
    assert store.aliases() == {"champion": 1, "previous": 0}


def test_a_run_whose_id_is_used_again_after_the_store_was_emptied_gets_a_version_of_its_own(
    store: AdapterStore,
) -> None:
    first = _publish(store, 1)
    assert store.of_run(1) == store.of_run(1, first.created_at) == first
    later = first.created_at + 1e-3
    assert store.of_run(1, later) is None
    assert store.of_run(2) is None
    while time.time() < later:
        time.sleep(1e-3)
    second = _publish(store, 1, created_at=later)
    assert (second.version, second.run_id) == (2, 1)
    assert _publish(store, 1, created_at=later) == store.of_run(1, later) == second


def test_a_roll_back_that_is_sent_twice_moves_once(store: AdapterStore) -> None:
    for run_id in (1, 2):
        _publish(store, run_id)
        store.activate(run_id, by="anna", reason="better")
    assert store.roll_back(by="bob", reason="complaints", expected=2) == 1
    before = store.aliases(), store.audit()
    with pytest.raises(BadTransition, match=r"expected version 2 .* it is version 1 by now"):
        store.roll_back(by="bob", reason="complaints", expected=2)
    assert (store.aliases(), store.audit()) == before


def test_a_version_number_is_never_given_twice(store: AdapterStore, root: Path) -> None:
    for run_id in (1, 2):
        _publish(store, run_id)
    shutil.rmtree(root / "000002")
    assert _publish(store, 3).version == 3
    assert [manifest.version for manifest in store.list()] == [1, 3]


def _tamper(folder: Path, how: str) -> None:
    weights, config = folder / "adapter_model.safetensors", folder / "adapter_config.json"
    if how == "weights changed":
        weights.write_bytes(b"other")
    elif how == "file added":
        (folder / "code.py").write_text("import os")
    elif how == "pickle added":
        (folder / "adapter_model.bin").write_bytes(b"\x80\x04.")
    elif how == "file missing":
        weights.unlink()
    elif how == "weights are a link":
        weights.rename(folder.parent / "elsewhere")
        weights.symlink_to(folder.parent / "elsewhere")
    elif how == "folder is a link":
        folder.rename(folder.parent / "elsewhere")
        folder.symlink_to(folder.parent / "elsewhere")
    elif how == "folder added":
        (folder / "sub").mkdir()
    elif how == "weights are a pipe":
        weights.unlink()
        os.mkfifo(weights)
    elif how == "config is long":
        config.write_text(json.dumps(CONFIG) + " " * 100_000)
    elif how == "config is no JSON":
        config.write_text("{")
    elif how == "manifest missing":
        (folder / "manifest.json").unlink()
    else:
        manifest = json.loads((folder / "manifest.json").read_text())
        manifest.update(json.loads(how))
        (folder / "manifest.json").write_text(json.dumps(manifest))


TAMPERED = [
    "weights changed",
    "file added",
    "pickle added",
    "file missing",
    "weights are a link",
    "folder is a link",
    "folder added",
    "weights are a pipe",
    "config is long",
    "config is no JSON",
    "manifest missing",
    '{"version": 9}',
    '{"surprise": 1}',
    '{"schema_version": 2}',
    '{"files": {}}',
    '{"files": {"../../etc/passwd": "0"}}',
    '{"base_hash": "base-z"}',
]


@pytest.mark.parametrize("how", TAMPERED)
def test_a_version_that_was_tampered_with_is_refused_and_stays_unused(
    store: AdapterStore, how: str
) -> None:
    _publish(store, 1)
    _tamper(store.folder(1), how)
    with pytest.raises(AdapterRefused):
        store.verify(1)
    with pytest.raises(AdapterRefused):
        store.activate(1, by="anna", reason="please", force=True)
    with pytest.raises(AdapterRefused):
        store.set_candidate(1)
    assert store.aliases() == {"champion": 0}


@pytest.mark.parametrize(
    "change",
    [
        {"auto_mapping": {"parent_library": "os"}},
        {"modules_to_save": ["lm_head"]},
        {"peft_type": "ADALORA"},
        {"use_dora": True},
        {"use_rslora": True},
        {"bias": "all"},
        {"r": 0},
        {"r": 100_000},
        {"lora_alpha": -1},
        {"target_modules": "all-linear"},
        {"target_modules": ["../../x"]},
        {"rank_pattern": {"q_proj": 4}},
        {"layer_replication": [[0, 1]]},
        {"megatron_config": {"a": 1}},
        {"task_type": "SEQ_CLS"},
        {"trust_remote_code": True},
        {"init_lora_weights": "pissa"},
        {"loftq_config": {"a": "b"}},
        {"trainable_token_indices": [1]},
    ],
)
def test_a_configuration_that_is_not_plain_lora_is_never_published(
    store: AdapterStore, change: dict[str, Any]
) -> None:
    folder = _fill(store.stage(1))
    (folder / "adapter_config.json").write_text(json.dumps({**CONFIG, **change}))
    with pytest.raises(AdapterRefused, match=next(iter(change))):
        store.publish(
            folder,
            parent=0,
            run_id=1,
            data_manifest_hash="d",
            metrics={},
            verdict=PASSED,
            fence=_held,
        )
    assert store.list() == []


def test_only_a_folder_from_stage_is_published(store: AdapterStore, tmp_path: Path) -> None:
    mine = tmp_path / "mine"
    mine.mkdir()
    link = tmp_path / "adapters" / ".staging" / "1-link"
    link.symlink_to(mine)
    for folder in (_fill(mine), link):
        with pytest.raises(InvalidInput, match="stage"):
            store.publish(
                folder,
                parent=0,
                run_id=1,
                data_manifest_hash="d",
                metrics={},
                verdict=PASSED,
                fence=_held,
            )


def test_a_metric_that_is_no_number_is_refused_before_anything_is_written(
    store: AdapterStore,
) -> None:
    with pytest.raises(InvalidInput, match="metrics"):
        store.publish(
            _fill(store.stage(1)),
            parent=0,
            run_id=1,
            data_manifest_hash="d",
            metrics={"kl": float("nan")},
            verdict=PASSED,
            fence=_held,
        )
    assert store.list() == []


# A process that publishes run 1, then activates it, and is killed at its Nth touch of the disk.
CRASHING = """
import json, os, signal, sys
from pathlib import Path
from amends.adapter_store import AdapterStore
from amends.verdict import Verdict

die_at, touches = int(sys.argv[2]), 0
def audit(event, arguments):
    global touches
    if event in ("os.rename", "os.truncate", "shutil.rmtree", "os.chmod") or (
        event == "open" and isinstance(arguments[2], int) and arguments[2] & os.O_CREAT
    ):
        touches += 1
        if touches == die_at:
            os.kill(os.getpid(), signal.SIGKILL)
store = AdapterStore(Path(sys.argv[1]), "base-a")
folder = store.stage(1)
(folder / "adapter_model.safetensors").write_bytes(b"weights 1")
(folder / "adapter_config.json").write_text(sys.argv[3])
sys.addaudithook(audit)
store.publish(folder, parent=0, run_id=1, data_manifest_hash="d", metrics={},
              verdict=Verdict(passed=True), fence=lambda: None)
store.activate(1, by="anna", reason="better")
"""


def test_a_crash_at_any_step_leaves_whole_versions_and_a_whole_audit(tmp_path: Path) -> None:
    stages = set()
    for die_at in range(1, 40):
        root = tmp_path / str(die_at)
        AdapterStore(root, "base-a")
        command = [sys.executable, "-c", CRASHING, str(root), str(die_at), json.dumps(CONFIG)]
        survived = subprocess.run(command).returncode == 0
        reader = AdapterStore(root, "base-a")
        versions = [manifest.version for manifest in reader.list()]
        for version in versions:
            reader.verify(version)
        stages.add((tuple(versions), reader.alias("champion")))
        manifest = _publish(reader, 1)
        assert (manifest.version, len(reader.list())) == (1, 1)
        reader.activate(1, by="anna", reason="better")
        assert list((root / ".staging").iterdir()) == []
        assert [row.action for row in reader.audit()] == ["activate", "publish", "new_line"]
        lines = (root / "audit.jsonl").read_text().splitlines()
        assert [json.loads(line)["number"] for line in lines] == [1, 2, 3]
        if survived:
            break
    assert survived
    assert stages == {((), 0), ((1,), 0), ((1,), 1)}


def test_a_torn_audit_row_is_completed_by_the_next_writer(store: AdapterStore, root: Path) -> None:
    _publish(store, 1)
    whole = (root / "audit.jsonl").read_bytes()
    (root / "audit.jsonl").write_bytes(whole[:-20])
    assert [row.action for row in store.audit()] == ["publish", "new_line"]
    AdapterStore(root, "base-a")
    assert (root / "audit.jsonl").read_bytes() == whole


def _publish_in_process(root: Path, run_id: int, start: Any) -> None:
    store = AdapterStore(root, "base-a")
    start.wait()
    _publish(store, run_id)


def test_two_processes_publishing_one_run_make_one_version(root: Path) -> None:
    context = multiprocessing.get_context("fork")
    for run_id in range(1, 4):
        start = context.Barrier(2)
        processes = [
            context.Process(target=_publish_in_process, args=(root, run_id, start))
            for _ in range(2)
        ]
        for process in processes:
            process.start()
        for process in processes:
            process.join()
            assert process.exitcode == 0
    store = AdapterStore(root, "base-a")
    assert [(manifest.version, manifest.run_id) for manifest in store.list()] == [
        (1, 1),
        (2, 2),
        (3, 3),
    ]


def test_a_reader_never_sees_half_a_version(store: AdapterStore) -> None:
    done = threading.Event()

    def read() -> int:
        seen = 0
        while not done.is_set():
            for manifest in store.list():
                store.verify(manifest.version)
                seen = max(seen, manifest.version)
            assert store.alias("champion") <= 10
        return seen

    with ThreadPoolExecutor(2) as pool:
        readers = [pool.submit(read) for _ in range(2)]
        for run_id in range(1, 11):
            _publish(store, run_id)
            store.activate(run_id, by="anna", reason="next")
        done.set()
        assert max(reader.result() for reader in readers) <= 10
    assert store.aliases() == {"champion": 10, "previous": 9}


def test_leftovers_of_dead_processes_are_swept(store: AdapterStore) -> None:
    old, young = _fill(store.stage(1)), _fill(store.stage(2))
    os.utime(old, (0, 0))
    store.stage(3)
    assert not old.exists()
    assert young.exists()


@pytest.mark.slow
def test_what_peft_writes_is_accepted(store: AdapterStore) -> None:
    from peft import LoraConfig

    folder = _fill(store.stage(1))
    LoraConfig(
        r=16, lora_alpha=32, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM"
    ).save_pretrained(folder)
    store.publish(
        folder,
        parent=0,
        run_id=1,
        data_manifest_hash="d",
        metrics={},
        verdict=PASSED,
        fence=_held,
    )
    store.verify(1)

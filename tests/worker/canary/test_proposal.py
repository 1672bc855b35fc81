"""What becomes of a version that passed, on real adapter files."""

from pathlib import Path

import pytest

from amends.adapter_store import AdapterStore
from amends.verdict import Verdict
from tests.server.published import publish
from worker.canary.proposal import propose
from worker.canary.settings import CanarySettings

ASKED, UNASKED = CanarySettings(), CanarySettings(approval=False, share=0.2)


@pytest.fixture
def adapters(tmp_path: Path) -> AdapterStore:
    return AdapterStore(tmp_path / "adapters", "base")


def proposed(
    adapters: AdapterStore, run_id: int, settings: CanarySettings, beside: int = 0
) -> tuple[int, str | None]:
    version = publish(adapters, run_id, Verdict(passed=True, champion=beside))
    return version, propose(adapters, adapters.get(version), f"run {run_id}", settings)


def test_it_waits_for_an_operator(adapters: AdapterStore) -> None:
    version, told = proposed(adapters, 1, ASKED)
    assert told is None
    assert (adapters.pointers().candidate, adapters.pointers().candidate_share) == (version, 0.0)


def test_without_approvals_it_is_tried_at_once_and_once(adapters: AdapterStore) -> None:
    version, told = proposed(adapters, 1, UNASKED)
    assert told == "version 1 answers 20% of the conversations that begin"
    row = adapters.audit(1)[0]
    assert (row.by, row.share, row.forced) == ("run 1", 0.2, False)
    propose(adapters, adapters.get(version), "run 1", UNASKED)  # as a resumed run does
    assert adapters.audit(1)[0] == row


@pytest.mark.parametrize("share", [None, 0.0, 0.5])
def test_what_was_decided_before_a_run_was_resumed_stands(
    adapters: AdapterStore, share: float | None
) -> None:
    version, _ = proposed(adapters, 1, UNASKED)
    adapters.set_candidate(None if share is None else version, "anna", "I saw it", share=share)
    before = adapters.pointers()
    assert propose(adapters, adapters.get(version), "run 1", UNASKED) is None
    assert adapters.pointers() == before


def test_what_was_decided_long_ago_stands(adapters: AdapterStore) -> None:
    version, _ = proposed(adapters, 1, ASKED)
    adapters.set_candidate(None, "anna", "no")
    other = publish(adapters, 2, Verdict(passed=True))
    for turn in range(101):
        adapters.set_candidate((other, None)[turn % 2], "anna", "to and fro")
    adapters.set_candidate(None, "anna", "no")
    assert propose(adapters, adapters.get(version), "run 1", UNASKED) is None
    assert adapters.pointers().candidate is None


def test_a_trial_that_is_paused_goes_on(adapters: AdapterStore) -> None:
    first, _ = proposed(adapters, 1, UNASKED)
    adapters.set_candidate(first, "anna", "let me read", share=0.0)
    _, told = proposed(adapters, 2, UNASKED)
    assert told is not None and told.endswith("version 1 is on trial, paused at a share of 0")
    assert adapters.pointers().candidate == first


def test_what_an_operator_decides_before_it_is_proposed_stands(adapters: AdapterStore) -> None:
    tried, approved = (publish(adapters, run, Verdict(passed=True, champion=0)) for run in (1, 2))
    adapters.set_candidate(tried, "anna", "first look", share=0.5)
    assert propose(adapters, adapters.get(tried), "run 1", UNASKED) is None
    assert adapters.pointers().candidate_share == 0.5
    adapters.activate(approved, "anna", "at once")
    before = adapters.pointers()
    assert propose(adapters, adapters.get(approved), "run 2", UNASKED) is None
    assert adapters.pointers() == before


@pytest.mark.parametrize("settings", [ASKED, UNASKED])
def test_a_trial_goes_on(adapters: AdapterStore, settings: CanarySettings) -> None:
    first, _ = proposed(adapters, 1, UNASKED)
    _, told = proposed(adapters, 2, settings)
    assert told == "version 2 waits in the list: version 1 is on trial"
    assert (adapters.pointers().candidate, adapters.pointers().candidate_share) == (first, 0.2)


@pytest.mark.parametrize("settings", [ASKED, UNASKED])
def test_one_that_was_judged_beside_another_champion_is_tried_on_nobody(
    adapters: AdapterStore, settings: CanarySettings
) -> None:
    first, _ = proposed(adapters, 1, ASKED)
    adapters.activate(first, "anna", "better")  # while the second run trains
    _, told = proposed(adapters, 2, settings, beside=0)
    assert told is not None and "version 1 is champion by now" in told
    assert adapters.pointers().candidate is None


def test_a_champion_stays_champion(adapters: AdapterStore) -> None:
    version, _ = proposed(adapters, 1, ASKED)
    adapters.activate(version, "anna", "better")
    assert propose(adapters, adapters.get(version), "run 1", UNASKED) is None
    assert adapters.aliases() == {"champion": version, "previous": 0}


def test_where_the_audit_cannot_be_read_it_waits_in_the_list(
    adapters: AdapterStore, tmp_path: Path
) -> None:
    version = publish(adapters, 1, Verdict(passed=True, champion=0))
    audit = tmp_path / "adapters" / "audit.jsonl"
    audit.write_bytes(audit.read_bytes().replace(b'"publish"', b'"published"'))
    told = propose(adapters, adapters.get(version), "run 1", ASKED)
    assert told is not None and "audit.jsonl, line 2" in told
    assert adapters.pointers().candidate is None


def test_a_row_of_before_its_publication_that_cannot_be_read_is_in_nobodys_way(
    adapters: AdapterStore, tmp_path: Path
) -> None:
    audit = tmp_path / "adapters" / "audit.jsonl"
    audit.write_bytes(b"no row\n")
    version, told = proposed(adapters, 1, ASKED)
    assert (told, adapters.pointers().candidate) == (None, version)


@pytest.mark.parametrize("share", [0.2, 0.0])
def test_a_candidate_stays_where_the_audit_was_put_away(
    adapters: AdapterStore, tmp_path: Path, share: float
) -> None:
    first, _ = proposed(adapters, 1, UNASKED)
    adapters.set_candidate(first, "anna", "a look", share=share)
    publish(adapters, 2, Verdict(passed=False, reasons=("no",)))
    (tmp_path / "adapters" / "audit.jsonl").unlink()
    _, told = proposed(adapters, 3, UNASKED)
    assert told is not None and "version 3 waits in the list: version 1 is on trial" in told
    assert (adapters.pointers().candidate, adapters.pointers().candidate_share) == (first, share)


def test_files_that_were_damaged_since_end_no_run(adapters: AdapterStore) -> None:
    version = publish(adapters, 1, Verdict(passed=True, champion=0))
    (adapters.folder(version) / "adapter_model.safetensors").write_bytes(b"torn")
    told = propose(adapters, adapters.get(version), "run 1", ASKED)
    assert told is not None and told.startswith("version 1 waits in the list: ")
    assert adapters.pointers().candidate is None

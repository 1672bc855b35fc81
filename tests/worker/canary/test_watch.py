"""The look of the clock, on a real store and real adapter files."""

import random
from collections.abc import Callable
from pathlib import Path

import pytest

from amends.adapter_store import AdapterStore
from amends.canary import place
from amends.conversation import Conversation, Turn
from amends.embedded_store import StoreClient
from amends.feedback import Rater, Rating, Thumb
from amends.record import new_id, now_s
from amends.verdict import Verdict
from tests.server.published import publish
from worker.canary import watch
from worker.canary.comparison import comparison
from worker.canary.settings import CanarySettings

SETTINGS = CanarySettings(settle_s=60)
SHARE = 0.5
Talk = Callable[..., None]


@pytest.fixture
def adapters(tmp_path: Path) -> AdapterStore:
    store = AdapterStore(tmp_path / "adapters", "base")
    store.set_candidate(publish(store, 1, Verdict(passed=True)), "anna", "try it", share=SHARE)
    return store


@pytest.fixture
def of(adapters: AdapterStore, redis: StoreClient, tmp_path: Path) -> watch.Sources:
    found = watch.sources(tmp_path / "adapters", redis)
    assert found is not None
    return found


@pytest.fixture
def talk(of: watch.Sources) -> Talk:
    """Visitors who talk to version 1 or 0, as the share says, and judge it all bad or all good."""

    def visitors(count: int, candidate_bad: float, champion_bad: float) -> None:
        rng = random.Random(count)
        for _ in range(count):
            name = of.conversations.open(new_id()).conversation_id
            of.conversations.add_message(name, "m1", "how long?")
            own = place(name, 1) < SHARE
            turn = Turn(
                turn_id=new_id(),
                conversation_id=name,
                message="how long?",
                response="30 days.",
                policy_version=int(own),
                origin="policy",
                created_at=now_s(),
            )
            of.conversations.append(turn)
            bad = rng.random() < (candidate_bad if own else champion_bad)
            who = {
                "conversation_id": name,
                "rater": Rater(rater_id=name, role="visitor"),
                "given_at": now_s(),
            }
            of.feedback.add(Thumb(turn_id=turn.turn_id, value=-1 if bad else 1, **who))
            of.feedback.add(Rating(value=1 if bad else 5, **who))

    return visitors


def later() -> float:
    return now_s() + SETTINGS.settle_s + 1


def test_without_adapters_or_a_candidate_there_is_nothing_to_do(
    redis: StoreClient, tmp_path: Path
) -> None:
    assert watch.sources(tmp_path / "adapters", redis) is None
    store = AdapterStore(tmp_path / "adapters", "base")
    found = watch.sources(tmp_path / "adapters", redis)
    assert found is not None and watch.look(found, SETTINGS, later()) is None
    store.set_candidate(publish(store, 1, Verdict(passed=True)))  # it has no share yet
    assert watch.look(found, SETTINGS, later()) is None


def test_a_worse_candidate_is_withdrawn_once_with_its_figures_in_the_audit(
    of: watch.Sources, adapters: AdapterStore, talk: Talk
) -> None:
    talk(150, candidate_bad=0.8, champion_bad=0.1)
    assert watch.look(of, SETTINGS, now_s()) is not None  # nothing has settled yet
    assert adapters.pointers().candidate == 1
    report = watch.look(of, SETTINGS, later())

    assert report is not None and report.decision == "roll_back"
    assert report.candidate_conversations + report.champion_conversations == 150
    assert report.elsewhere == 0 and of.reports.last() == report
    assert (adapters.pointers().candidate, adapters.alias("champion")) == (None, 0)
    row = adapters.audit(1)[0]
    assert (row.by, row.action, row.reason) == ("canary", "set_candidate", report.reason)
    assert "with a thumb down" in row.reason
    assert watch.look(of, SETTINGS, later()) is None
    assert adapters.audit(1) == (row,)


def test_only_watching_is_possible(of: watch.Sources, adapters: AdapterStore, talk: Talk) -> None:
    talk(150, candidate_bad=0.8, champion_bad=0.1)
    before = adapters.pointers()
    report = watch.look(of, SETTINGS.model_copy(update={"roll_back": False}), later())

    assert report is not None and report.decision == "roll_back"
    assert adapters.pointers() == before


def test_a_harmless_candidate_waits_for_an_operator_unless_told_otherwise(
    of: watch.Sources, adapters: AdapterStore, talk: Talk
) -> None:
    talk(300, candidate_bad=0.0, champion_bad=0.7)
    eager = SETTINGS.model_copy(update={"min_conversations": 50})
    report = watch.look(of, eager, later())
    assert report is not None and report.decision == "harmless"
    assert (adapters.pointers().candidate, adapters.alias("champion")) == (1, 0)

    watch.look(of, eager.model_copy(update={"promote": True}), later())
    assert (adapters.pointers().candidate, adapters.alias("champion")) == (None, 1)
    row = adapters.audit(1)[0]
    assert (row.by, row.action, row.version) == ("canary", "activate", 1)
    assert adapters.roll_back("anna", "after all") == 0


def test_a_trial_that_is_paused_is_not_promoted(
    of: watch.Sources, adapters: AdapterStore, talk: Talk
) -> None:
    talk(300, candidate_bad=0.0, champion_bad=0.7)
    adapters.set_candidate(1, "anna", "let me read first", share=0.0)
    eager = SETTINGS.model_copy(update={"min_conversations": 50, "promote": True})
    report = watch.look(of, eager, later())
    assert report is not None and report.decision == "harmless"
    assert (adapters.pointers().candidate, adapters.alias("champion")) == (1, 0)
    adapters.set_candidate(1, "anna", "go on", share=SHARE)
    watch.look(of, eager, later())
    assert adapters.alias("champion") == 1


def test_an_operator_who_moves_in_between_wins(
    of: watch.Sources, adapters: AdapterStore, talk: Talk, monkeypatch: pytest.MonkeyPatch
) -> None:
    talk(150, candidate_bad=0.8, champion_bad=0.1)
    write = of.reports.write

    def slowly(report: object) -> None:
        adapters.set_candidate(1, "anna", "I know what I do", share=0.6)
        write(report)  # type: ignore[arg-type]

    monkeypatch.setattr(of.reports, "write", slowly)
    watch.look(of, SETTINGS, later())

    assert (adapters.pointers().candidate, adapters.pointers().candidate_share) == (1, 0.6)
    assert adapters.audit(1)[0].by == "anna"


def test_what_was_counted_once_is_not_counted_otherwise_later(
    of: watch.Sources, talk: Talk
) -> None:
    talk(20, candidate_bad=0.0, champion_bad=0.0)
    first = watch.look(of, SETTINGS, later())
    for conversation in of.conversations.recent(20):
        for given in of.feedback.of_conversation(conversation.conversation_id):
            of.feedback.add(given.model_copy(update={"value": -1 if given.kind == "thumb" else 1}))
    talk(5, candidate_bad=1.0, champion_bad=1.0)
    second = watch.look(of, SETTINGS, later())

    assert first is not None and second is not None
    counted = [sum(f.candidate_bad + f.champion_bad for f in r.figures) for r in (first, second)]
    assert counted == [0, 10]
    assert second.candidate_conversations + second.champion_conversations == 25


def test_an_exclusion_counts_for_what_was_counted_before(of: watch.Sources, talk: Talk) -> None:
    talk(20, candidate_bad=1.0, champion_bad=0.0)
    before = watch.look(of, SETTINGS.model_copy(update={"roll_back": False}), later())
    trolls = [one.visitor_id for one in of.conversations.recent(20)]
    for name in trolls:
        of.exclusions.exclude("customer", name, "eve", "a troll")
    after = watch.look(of, SETTINGS, later())

    assert before is not None and before.candidate_conversations + before.champion_conversations
    assert after is not None and after.candidate_conversations + after.champion_conversations == 0


def test_what_another_installs_candidate_of_this_number_did_does_not_count(
    of: watch.Sources, talk: Talk
) -> None:
    tried = comparison(of.alias_file.newest())
    assert tried is not None
    talk(1, candidate_bad=1.0, champion_bad=1.0)
    watch.look(of, SETTINGS, later())
    [seen] = of.observations.read(tried)
    older = seen.model_copy(update={"conversation_id": "older", "began_at": tried.since - 1})
    of.observations.add(tried, [older])

    assert of.observations.read(tried) == [seen]


def test_a_trial_of_a_restored_backup_is_over_and_the_next_one_is_decided(
    of: watch.Sources, adapters: AdapterStore, redis: StoreClient, tmp_path: Path, talk: Talk
) -> None:
    aliases = tmp_path / "adapters" / "aliases.json"
    backup = aliases.read_bytes()
    adapters.set_candidate(1, "anna", "more", share=0.6)
    aliases.write_bytes(backup)
    again = watch.sources(tmp_path / "adapters", redis)
    assert again is not None and watch.look(again, SETTINGS, later()) is None
    adapters.set_candidate(1, "anna", "once more", share=SHARE)
    talk(150, candidate_bad=0.8, champion_bad=0.1)
    report = watch.look(again, SETTINGS, later())
    assert report is not None and report.decision == "roll_back"
    assert adapters.pointers().candidate is None


def test_what_began_without_a_coin_is_not_looked_at(
    of: watch.Sources, adapters: AdapterStore, talk: Talk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So a long wait for approval, or a pause, does not keep the trial from its conversations."""
    monkeypatch.setattr(watch, "AT_ONCE", 20)
    adapters.set_candidate(None, "anna", "not yet")
    adapters.set_candidate(1, "anna", "let me read")
    talk(25, candidate_bad=0.0, champion_bad=0.0)
    adapters.set_candidate(1, "anna", "go", share=SHARE)
    talk(10, candidate_bad=0.0, champion_bad=0.0)
    for share in (0.0, 1.0):
        adapters.set_candidate(1, "anna", "all or nothing", share=share)
        talk(25, candidate_bad=0.0, champion_bad=0.0)
    adapters.set_candidate(1, "anna", "go on", share=SHARE)
    talk(8, candidate_bad=0.0, champion_bad=0.0)
    report = watch.look(of, SETTINGS, later())

    assert report is not None
    assert report.candidate_conversations + report.champion_conversations == 18
    tried = comparison(of.alias_file.newest())
    assert tried is not None and len(of.observations.read(tried)) == 18


def test_a_long_backlog_is_counted_over_several_looks(
    of: watch.Sources, talk: Talk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watch, "AT_ONCE", 10)
    talk(25, candidate_bad=0.2, champion_bad=0.2)
    counted = []
    for _ in range(4):
        report = watch.look(of, SETTINGS, later())
        assert report is not None
        counted.append(report.candidate_conversations + report.champion_conversations)

    assert counted == [10, 19, 25, 25]  # the last one of a look is the first of the next


def test_what_a_look_that_was_cut_short_has_counted_is_kept(
    of: watch.Sources, talk: Talk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watch, "_CHUNK", 5)
    talk(20, candidate_bad=0.2, champion_bad=0.2)
    read, seen = of.conversations.read_many, []

    def until_the_time_is_up(names: list[str]) -> list[Conversation]:
        if len(seen) == 10:
            raise TimeoutError
        seen.extend(names)
        return read(names)

    with monkeypatch.context() as cut, pytest.raises(TimeoutError):
        cut.setattr(of.conversations, "read_many", until_the_time_is_up)
        watch.look(of, SETTINGS, later())
    tried = comparison(of.alias_file.newest())
    assert tried is not None
    assert [one.conversation_id for one in of.observations.read(tried)] == seen
    report = watch.look(of, SETTINGS, later())
    assert report is not None
    assert report.candidate_conversations + report.champion_conversations == 20

"""Whom the candidate answers: the rule alone, and through the real application."""

import re
import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from amends.adapter_store import AdapterStore
from amends.canary import place
from amends.feedback import Thumb
from amends.verdict import Verdict
from server.canary import Canary
from tests.server.conftest import StartServer
from tests.server.published import publish
from tests.server.running_server import RunningServer, Visitor, wait_until
from tests.server.scripted_engine import ScriptedEngine

QUESTION = "How long is the return window?"
OFF_TOPIC = "Who won the world cup in 2022?"
PASSED = Verdict(passed=True)
IDS = [uuid.UUID(int=i).hex for i in range(4000)]


@given(st.text(max_size=40), st.integers(1, 99), st.floats(0, 1), st.floats(0, 1))
def test_a_larger_share_only_adds_conversations(
    name: str, version: int, a: float, b: float
) -> None:
    small, large = sorted((a, b))
    if Canary(version, small).answers(name, None):
        assert Canary(version, large).answers(name, None)
    assert not Canary(version, 0.0).answers(name, None)
    assert Canary(version, 1.0).answers(name, None)


@pytest.mark.parametrize("share", [0.01, 0.1, 0.5, 0.9])
def test_the_share_of_conversations_is_the_one_asked_for(share: float) -> None:
    found = sum(Canary(7, share).answers(name, None) for name in IDS) / len(IDS)
    assert abs(found - share) < 4 * (share * (1 - share) / len(IDS)) ** 0.5


def test_another_candidate_is_tried_on_other_visitors() -> None:
    first, second = ({name for name in IDS if place(name, v) < 0.1} for v in (7, 8))
    assert len(first & second) < 0.03 * len(IDS)  # a tenth of a tenth, were it chance


def test_the_choice_is_the_same_in_every_process_and_release() -> None:
    assert f"{place('b1a5', 3):.6f}" == "0.437017"


def test_a_conversation_that_has_begun_stays_with_who_answered_it() -> None:
    assert Canary(7, 0.0).answers("any", answered_by=7)
    assert not Canary(7, 1.0).answers("any", answered_by=6)
    assert not Canary(8, 1.0).answers("any", answered_by=7)


def served(server: RunningServer, version: int | None, share: float = 0.0) -> None:
    """Waits until the watcher has followed."""
    watcher = server.state.require_policy().watcher
    wanted = None if version is None else Canary(version, share)
    wait_until(lambda: watcher.canary == wanted)


def set_candidate(server: RunningServer, version: int | None, share: float = 0.0) -> None:
    body = {"version": version, "share": share, "reason": "test"}
    answer = server.http.put("/v1/adapters/candidate", json=body, headers=server.staff)
    assert answer.status_code == 200, answer.text
    assert answer.json()["candidate_share"] == share
    served(server, version, share)


def test_a_conversation_stays_with_the_candidate_until_it_is_withdrawn(
    server: RunningServer, visitor: Visitor, adapters: AdapterStore
) -> None:
    version = publish(adapters, 1, PASSED)
    with visitor.chat() as begun, visitor.chat() as tried:
        assert begun.ask(QUESTION).end["policy_version"] == 0
        set_candidate(server, version, 1.0)
        assert begun.ask(QUESTION).end["policy_version"] == 0
        answer = tried.ask(QUESTION)
        assert answer.text == f"Written by version {version}."
        assert answer.end["policy_version"] == version
        rule = tried.ask(OFF_TOPIC)
        assert (rule.end["origin"], rule.end["policy_version"]) == ("no_passage", version)
        set_candidate(server, version, 0.0)
        assert tried.ask(QUESTION).end["policy_version"] == version
        assert visitor.ask(QUESTION).end["policy_version"] == 0
        set_candidate(server, None)
        assert tried.ask(QUESTION).end["policy_version"] == 0
        set_candidate(server, version, 1.0)
        assert tried.ask(QUESTION).end["policy_version"] == 0
        assert visitor.ask(OFF_TOPIC).end["policy_version"] == version


def test_a_candidate_that_is_promoted_goes_on_as_champion(
    server: RunningServer, visitor: Visitor, adapters: AdapterStore, engine: ScriptedEngine
) -> None:
    version = publish(adapters, 1, PASSED)
    set_candidate(server, version, 1.0)
    with visitor.chat() as chat:
        assert chat.ask(QUESTION).end["policy_version"] == version
        server.http.post(f"/v1/adapters/{version}/activate", headers=server.staff)
        served(server, None)
        assert engine.active_version == version
        assert chat.ask(QUESTION).end["policy_version"] == version
        server.http.post("/v1/adapters/rollback", headers=server.staff)
        wait_until(lambda: engine.active_version == 0)
        assert chat.ask(QUESTION).end["policy_version"] == 0


def test_feedback_on_a_candidates_turn_counts_for_the_candidate(
    server: RunningServer, visitor: Visitor, adapters: AdapterStore
) -> None:
    version = publish(adapters, 1, PASSED)
    set_candidate(server, version, 1.0)
    answer = visitor.ask(QUESTION)
    path = f"/v1/turns/{answer.turn_id}/thumb"
    server.http.put(path, json={"value": -1}, headers=visitor.headers).raise_for_status()
    (thumb,) = server.state.feedback.of_conversation(answer.conversation_id)
    assert isinstance(thumb, Thumb) and thumb.turn_id == answer.turn_id
    turn = server.state.conversations.turn(thumb.turn_id)
    assert (turn.policy_version, turn.sampled is not None) == (version, True)


def test_a_refused_candidate_answers_nobody_and_is_reported(
    server: RunningServer, visitor: Visitor, adapters: AdapterStore, engine: ScriptedEngine
) -> None:
    good, bad = publish(adapters, 1, PASSED), publish(adapters, 2, PASSED)
    set_candidate(server, good, 1.0)
    engine.refuse = {bad}
    adapters.set_candidate(bad, "test", "test", share=1.0)
    wait_until(lambda: server.http.get("/readyz").json()["candidate_refusal"] is not None)
    ready = server.http.get("/readyz").json()
    reported = {"version": bad, "reason": f"version {bad} does not fit"}
    assert (ready["candidate_refusal"], ready["refusal"]) == (reported, None)
    assert visitor.ask(QUESTION).end["policy_version"] == 0
    listed = server.http.get("/v1/adapters", headers=server.staff).json()
    assert (listed["candidate_refusal"], listed["candidate_share"]) == (reported, 1.0)
    set_candidate(server, None)
    assert server.http.get("/readyz").json()["candidate_refusal"] is None


def test_aliases_decide_what_is_resident(
    server: RunningServer, adapters: AdapterStore, engine: ScriptedEngine
) -> None:
    versions = [publish(adapters, run_id, PASSED) for run_id in (1, 2, 3, 4)]
    for version in versions[:3]:
        adapters.activate(version, by="test", reason="test")
        wait_until(lambda version=version: engine.active_version == version)  # type: ignore[misc]
    adapters.set_candidate(versions[3])
    wait_until(lambda: set(engine.versions()) == {0, *versions[1:]})
    adapters.roll_back(by="test", reason="test")
    wait_until(lambda: engine.active_version == versions[1])
    wait_until(lambda: set(engine.versions()) == {0, versions[0], versions[1]})


def test_a_candidate_waits_for_a_slot(
    server: RunningServer, adapters: AdapterStore, engine: ScriptedEngine
) -> None:
    engine.slots_taken = True
    version = publish(adapters, 1, PASSED)
    adapters.set_candidate(version, share=1.0)
    wait_until(lambda: server.http.get("/readyz").json()["candidate_refusal"] is not None)
    told = server.http.get("/readyz").json()["candidate_refusal"]["reason"]
    assert re.match("not yet, will be tried again: no free slot", told)
    engine.slots_taken = False
    served(server, version, 1.0)
    assert server.http.get("/readyz").json()["candidate_refusal"] is None


def test_a_restarted_server_knows_the_candidate_and_its_conversations(
    server: RunningServer,
    adapters: AdapterStore,
    start_server: StartServer,
    engine: ScriptedEngine,
) -> None:
    version = publish(adapters, 1, PASSED)
    set_candidate(server, version, 1.0)
    visitor = server.new_visitor()
    conversation_id = visitor.ask(QUESTION).conversation_id
    adapters.set_candidate(version, share=0.0)
    server.stop()
    engine.loaded.clear()
    again = start_server()
    assert again.state.require_policy().watcher.canary == Canary(version, 0.0)
    visitor.server = again
    assert visitor.ask(QUESTION, conversation_id).end["policy_version"] == version

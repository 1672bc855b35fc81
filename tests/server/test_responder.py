"""Which answer a message gets, through the real application."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from amends.store_client import StoreClient
from server import responder
from tests.server.conftest import StartServer
from tests.server.running_server import RunningServer, Visitor
from tests.server.scripted_engine import ScriptedEngine
from tests.tiny_model import make_tokenizer


def prompt_text(engine: ScriptedEngine) -> str:
    text: str = make_tokenizer().decode(list(engine.requests[-1].prompt_ids))
    return text


def test_passages_and_earlier_turns_are_in_the_prompt(
    visitor: Visitor, engine: ScriptedEngine
) -> None:
    with visitor.chat() as chat:
        chat.ask("How long is the return window?")
        chat.ask("What does a return cost?")
    prompt = prompt_text(engine)
    assert "Returns are free inside the country." in prompt
    assert "How long is the return window?" in prompt
    assert "Written by version 0." in prompt
    assert prompt.index("How long") < prompt.index("What does a return cost?")


def test_without_a_passage_the_answer_is_fixed_and_honest(
    server: RunningServer, visitor: Visitor, engine: ScriptedEngine
) -> None:
    answer = visitor.ask("Who won the world cup in 2022?")
    turn = server.state.conversations.turn(answer.turn_id)
    assert answer.end["origin"] == turn.origin == "no_passage"
    assert "Tarn" in answer.text and answer.text == turn.response
    assert turn.sampled is None and turn.passages == () and not engine.requests


def test_another_language_is_answered_in_it_with_the_language_to_use(
    server: RunningServer, visitor: Visitor, engine: ScriptedEngine
) -> None:
    answer = visitor.ask("Wie lange dauert der Versand nach Deutschland?")
    assert answer.end["origin"] == "other_language" and "Englisch" in answer.text
    assert server.state.conversations.turn(answer.turn_id).sampled is None
    assert not engine.requests


def test_a_rules_turn_names_the_active_version(visitor: Visitor, engine: ScriptedEngine) -> None:
    engine._active = 3
    assert visitor.ask("Who won the world cup in 2022?").end["policy_version"] == 3


def test_rules_texts_stay_out_of_later_prompts(visitor: Visitor, engine: ScriptedEngine) -> None:
    with visitor.chat() as chat:
        chat.ask("Who won the world cup in 2022?")
        chat.ask("How long is the return window?")
    assert "world cup" not in prompt_text(engine)


def test_a_follow_up_that_finds_nothing_alone_is_read_with_the_message_before(
    server: RunningServer, visitor: Visitor
) -> None:
    with visitor.chat() as chat:
        chat.ask("How long is the return window?")
        answer = chat.ask("And after that?")
    turn = server.state.conversations.turn(answer.turn_id)
    assert turn.origin == "policy" and turn.passages[0].passage_id == "returns#return-window"
    assert turn.message == "And after that?"


def test_the_oldest_turns_are_dropped_when_the_context_is_full(
    server: RunningServer, visitor: Visitor
) -> None:
    with visitor.chat() as chat:
        ends = [chat.ask(f"What is the return window? {'please ' * 30}{i}").end for i in range(9)]
    assert ends[0]["dropped_turns"] == 0 and ends[-1]["dropped_turns"] > 0
    assert server.state.conversations.turn(ends[-1]["turn_id"]).dropped_turns > 0


def test_serving_samples_as_the_settings_say(
    start_server: StartServer, engine: ScriptedEngine
) -> None:
    server = start_server(temperature=0.7, top_p=0.8)
    answer = server.new_visitor().ask("How long is the return window?")
    sampled = server.state.conversations.turn(answer.turn_id).sampled
    assert sampled is not None and (sampled.temperature, sampled.top_p) == (0.7, 0.8)
    sampling = engine.requests[-1].sampling
    assert (sampling.temperature, sampling.top_p, sampling.max_tokens) == (0.7, 0.8, 200)


def test_the_trainer_can_see_that_visitors_are_answered(
    server: RunningServer, visitor: Visitor
) -> None:
    assert not server.state.activity.visitors_active()
    visitor.ask("How long is the return window?")
    assert server.state.activity.visitors_active()


@contextmanager
def refusing_writes(store: StoreClient) -> Iterator[None]:
    """The store is full, as it may be for a moment; reads go on."""
    store.config_set("maxmemory", 1)
    try:
        yield
    finally:
        store.config_set("maxmemory", 0)


def test_a_store_that_goes_away_for_a_moment_costs_no_answer(
    server: RunningServer,
    visitor: Visitor,
    engine: ScriptedEngine,
    redis: StoreClient,
    caplog: pytest.LogCaptureFixture,
) -> None:
    engine.go_on.clear()
    with visitor.chat() as chat:
        chat.say("How long is the return window?")
        chat.receive_until("accepted")
        with refusing_writes(redis):
            engine.go_on.set()
            written = ""
            while written != "Written by version 0.":
                written += chat.receive()["text"]
            with pytest.raises(TimeoutError):  # the turn is not stored, so it is not done
                chat.receive(timeout=0.3)
        done = chat.receive_until("done", "error")[-1]
    assert done["type"] == "done"
    assert server.state.conversations.turn(done["turn_id"]).response == written
    assert caplog.text.count("the trainer cannot be told") == 1


def test_a_turn_that_no_store_takes_for_long_ends_as_an_error(
    visitor: Visitor,
    engine: ScriptedEngine,
    redis: StoreClient,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(responder, "STORE_WITHIN_S", 0.0)
    engine.go_on.clear()
    with visitor.chat() as chat:
        chat.say("How long is the return window?")
        (accepted,) = chat.receive_until("accepted")
        with refusing_writes(redis):
            engine.go_on.set()
            error = chat.receive_until("done", "error")[-1]
    assert (error["type"], error.get("code")) == ("error", "internal")
    assert error["response_id"] == accepted["response_id"]


def test_a_long_answer_marks_activity_now_and_then_not_with_every_token(
    server: RunningServer,
    visitor: Visitor,
    engine: ScriptedEngine,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    marks: list[int] = []
    monkeypatch.setattr(server.state.activity, "mark_visitor", lambda: marks.append(1))
    engine.answer = lambda version: "a" * 150
    visitor.ask("How long is the return window?")
    assert len(marks) == 1


def test_a_shop_of_another_language_says_so_in_its_own(
    start_server: StartServer, shop: Path
) -> None:
    (shop / "shop.json").write_text('{"name": "Tarn", "greeting": "Hallo!", "language": "de"}')
    visitor = start_server().new_visitor()
    assert "Tarn" in visitor.ask("Wer hat die Weltmeisterschaft gewonnen?").text
    answer = visitor.ask("Where is my order, I have been waiting for weeks?")
    assert answer.end["origin"] == "other_language" and "in German" in answer.text

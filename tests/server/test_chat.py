"""The WebSocket, through the real application."""

import json
import threading

import pytest
from websockets.exceptions import ConnectionClosedError, InvalidStatus

from amends.errors import ModelUnavailable
from amends.settings import Settings
from server.routes.chat import origin_allowed
from server.state import LoadedModel
from tests.server.conftest import StartServer
from tests.server.running_server import Chat, RunningServer, Visitor, open_socket, wait_until
from tests.server.scripted_engine import ScriptedEngine

QUESTION = "How long is the return window?"


def test_a_message_is_accepted_written_and_done(visitor: Visitor) -> None:
    with visitor.chat() as chat:
        message_id = chat.say(QUESTION)
        frames = chat.receive_until("done")
    accepted, *tokens, done = frames
    assert chat.welcome["shop"] == {"name": "Tarn", "greeting": "Hello!"}
    assert (accepted["type"], accepted["message_id"]) == ("accepted", message_id)
    assert "".join(token["text"] for token in tokens) == "Written by version 0."
    assert done["origin"] == "policy" and done["finish_reason"] == "stop"
    assert done["sources"][0] == {"title": "Returns: Return window", "source": "returns.md"}
    assert {frame["response_id"] for frame in frames} == {accepted["response_id"]}


def test_frames_are_numbered_without_gap_and_carry_version_and_conversation(
    visitor: Visitor,
) -> None:
    with visitor.chat() as chat:
        for _ in range(3):
            chat.ask(QUESTION)
    first = chat.welcome["seq"]
    assert [frame["seq"] for frame in chat.frames] == [first + i for i in range(len(chat.frames))]
    assert {frame["protocol"] for frame in chat.frames} == {1}
    assert {frame["conversation_id"] for frame in chat.frames} == {chat.conversation_id}


def test_the_turn_is_stored_before_its_id_is_revealed(
    server: RunningServer, visitor: Visitor
) -> None:
    answer = visitor.ask(QUESTION)
    turn = server.state.conversations.turn(answer.turn_id)
    assert turn.response == answer.text
    assert turn.sampled is not None and len(turn.sampled.token_ids) == len(answer.text) + 1


def test_the_message_is_stored_before_it_is_accepted(
    server: RunningServer, visitor: Visitor, engine: ScriptedEngine
) -> None:
    engine.go_on.clear()
    with visitor.chat() as chat:
        message_id = chat.say(QUESTION)
        chat.receive_until("accepted")
        stored = server.state.conversations.messages(chat.conversation_id)
        engine.go_on.set()
        chat.receive_until("done")
    assert stored == {message_id: QUESTION}


def test_a_response_goes_on_when_the_visitor_disconnects(
    server: RunningServer, visitor: Visitor, engine: ScriptedEngine
) -> None:
    engine.pause_s = 0.01
    with visitor.chat() as chat:
        chat.say(QUESTION)
        chat.receive_until("token")
    conversation_id = chat.conversation_id
    wait_until(lambda: bool(server.state.conversations.read(conversation_id).turns))
    (turn,) = server.state.conversations.read(conversation_id).turns
    assert (turn.response, turn.finish_reason) == ("Written by version 0.", "stop")


def test_after_a_cut_the_missed_frames_follow_the_welcome(
    visitor: Visitor, engine: ScriptedEngine
) -> None:
    engine.pause_s = 0.005
    with visitor.chat() as chat:
        chat.say(QUESTION)
        seen = chat.receive_until("token")
    with visitor.chat(chat.conversation_id, seen[-1]["seq"]) as again:
        rest = again.receive_until("done")
    assert again.welcome["missed"] is False and again.welcome["seq"] == seen[-1]["seq"]
    first = chat.welcome["seq"] + 1
    assert [frame["seq"] for frame in seen + rest] == list(range(first, rest[-1]["seq"] + 1))
    text = "".join(frame["text"] for frame in seen + rest if frame["type"] == "token")
    assert text == "Written by version 0."


def test_a_reloaded_page_gets_the_turns_and_the_running_response_from_its_start(
    visitor: Visitor, engine: ScriptedEngine
) -> None:
    with visitor.chat() as chat:
        first = chat.ask(QUESTION)
        engine.pause_s = 0.005
        chat.say("And what does a return cost?")
        chat.receive_until("token")
    with visitor.chat(chat.conversation_id) as again:
        rest = again.receive_until("done")
    assert again.welcome["missed"] is True
    told = [(turn["turn_id"], turn["finish_reason"]) for turn in again.welcome["turns"]]
    assert told == [(first.turn_id, "stop")]
    assert rest[0]["type"] == "accepted" and rest[0]["text"] == "And what does a return cost?"
    assert [frame["seq"] for frame in again.frames] == [
        again.welcome["seq"] + i for i in range(len(again.frames))
    ]


def test_after_a_restart_an_old_position_has_missed_frames_however_many_came_since(
    server: RunningServer, visitor: Visitor, start_server: StartServer
) -> None:
    with visitor.chat() as chat:
        answers = [chat.ask(QUESTION)]
    last = chat.frames[-1]["seq"]
    visitor.server = start_server()
    with visitor.chat(chat.conversation_id) as other_window:  # brings no position
        answers += [other_window.ask(QUESTION) for _ in range(2)]
    with visitor.chat(chat.conversation_id, last) as again:
        again.ask(QUESTION)
    assert again.welcome["missed"] is True
    assert [turn["turn_id"] for turn in again.welcome["turns"]] == [a.turn_id for a in answers]
    assert last < other_window.welcome["seq"] < again.welcome["seq"] < 2**53
    assert again.frames[1]["seq"] == again.welcome["seq"] + 1


def test_two_windows_of_a_conversation_see_the_same_frames(visitor: Visitor) -> None:
    with visitor.chat() as one, visitor.chat(one.conversation_id) as two:
        one.say(QUESTION)
        assert one.receive_until("done") == two.receive_until("done")


def test_a_message_while_a_response_is_written_is_not_now(
    visitor: Visitor, engine: ScriptedEngine
) -> None:
    engine.go_on.clear()
    with visitor.chat() as chat:
        chat.say(QUESTION)
        chat.receive_until("accepted")
        second = chat.say("And delivery?")
        refusal = chat.receive_until("error")[-1]
        engine.go_on.set()
        chat.receive_until("done")
    assert (refusal["code"], refusal["message_id"]) == ("not_now", second)


def test_a_message_sent_twice_is_answered_once(
    server: RunningServer, visitor: Visitor, engine: ScriptedEngine
) -> None:
    engine.go_on.clear()
    with visitor.chat() as chat:
        chat.say(QUESTION, "same")
        (accepted,) = chat.receive_until("accepted")
        chat.say(QUESTION, "same")
        (repeated,) = chat.receive_until("accepted")
        engine.go_on.set()
        done = chat.receive_until("done")[-1]
        chat.say(QUESTION, "same")
        later = chat.receive_until("done")
    assert repeated["response_id"] == accepted["response_id"]
    assert later[-1]["turn_id"] == done["turn_id"] and later[1]["text"] == "Written by version 0."
    assert len(server.state.conversations.read(chat.conversation_id).turns) == 1
    assert len(engine.requests) == 1


def test_a_message_that_two_sockets_bring_at_once_is_answered_once(
    server: RunningServer,
    visitor: Visitor,
    engine: ScriptedEngine,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    both = threading.Barrier(2)
    check = server.state.limits.check

    def check_together(*limits: tuple[str, str, int]) -> None:
        check(*limits)
        if limits[0][0] == "messages":
            both.wait(10)

    monkeypatch.setattr(server.state.limits, "check", check_together)
    engine.go_on.clear()
    with visitor.chat() as one, visitor.chat(one.conversation_id) as two:
        one.say(QUESTION, "same")
        two.say(QUESTION, "same")
        one.receive_until("accepted")
        engine.go_on.set()
        frames = one.receive_until("done") + two.receive_until("done")
    assert "error" not in {frame["type"] for frame in frames}
    assert len(engine.requests) == 1


def test_a_message_sent_again_after_a_restart_is_answered_once(
    server: RunningServer, visitor: Visitor, start_server: StartServer, engine: ScriptedEngine
) -> None:
    with visitor.chat() as chat:
        chat.say(QUESTION, "same")
        done = chat.receive_until("done")[-1]
    visitor.server = start_server()
    with visitor.chat(chat.conversation_id) as again:
        again.say(QUESTION, "same")
        assert again.receive_until("done")[-1]["turn_id"] == done["turn_id"]
    assert len(engine.requests) == 1


def test_cancel_stores_what_was_written(
    server: RunningServer, visitor: Visitor, engine: ScriptedEngine
) -> None:
    engine.pause_s = 0.01
    engine.answer = lambda version: "a" * 150
    with visitor.chat() as chat:
        chat.say(QUESTION)
        token = chat.receive_until("token")[-1]
        chat.send(type="cancel", response_id=token["response_id"])
        done = chat.receive_until("done")[-1]
    turn = server.state.conversations.turn(done["turn_id"])
    assert done["finish_reason"] == turn.finish_reason == "cancelled"
    assert 0 < len(turn.response) < 150
    assert (engine.running, engine.cancelled) == (0, 1)


def test_cancel_before_the_first_token_gives_an_empty_turn(
    visitor: Visitor, engine: ScriptedEngine
) -> None:
    engine.go_on.clear()
    with visitor.chat() as chat:
        chat.say(QUESTION)
        (accepted,) = chat.receive_until("accepted")
        chat.send(type="cancel", response_id=accepted["response_id"])
        done = chat.receive_until("done")[-1]
    assert done["finish_reason"] == "cancelled" and engine.running == 0


def test_cancelling_what_is_not_written_is_not_found(visitor: Visitor) -> None:
    with visitor.chat() as chat:
        chat.send(type="cancel", response_id="nothing")
        assert chat.receive()["code"] == "not_found"


def test_an_error_of_one_socket_is_told_to_it_alone_and_takes_no_number(visitor: Visitor) -> None:
    with visitor.chat() as one, visitor.chat(one.conversation_id) as two:
        one.ask(QUESTION)
        one.socket.send("{}")
        one.send(type="cancel", response_id="nothing")
        errors = [one.receive(), one.receive()]
        one.ask(QUESTION)
        seen = two.receive_until("done") + two.receive_until("done")
    assert [error["code"] for error in errors] == ["bad_frame", "not_found"]
    assert {error["seq"] for error in errors} == {
        one.frames[one.frames.index(errors[0]) - 1]["seq"]
    }
    assert {error["conversation_id"] for error in errors} == {one.conversation_id}
    first = two.welcome["seq"] + 1
    assert [frame["seq"] for frame in seen] == list(range(first, first + len(seen)))
    assert "error" not in {frame["type"] for frame in seen}


def test_a_full_queue_is_busy_and_the_same_message_may_come_again(
    visitor: Visitor, engine: ScriptedEngine
) -> None:
    engine.busy = True
    with visitor.chat() as chat:
        chat.say(QUESTION, "same")
        error = chat.receive_until("error")[-1]
        engine.busy = False
        chat.say(QUESTION, "same")
        assert chat.receive_until("done")[-1]["type"] == "done"
    assert (error["code"], error["retry_after_s"], error["message_id"]) == ("busy", 3.0, "same")


@pytest.mark.parametrize(
    ("text", "code"),
    [("", "empty_message"), (" \n\t", "empty_message"), ("é" * 8193, "message_too_long")],
)
def test_what_cannot_be_a_message_is_refused(visitor: Visitor, text: str, code: str) -> None:
    with visitor.chat() as chat:
        message_id = chat.say(text)
        error = chat.receive()
    assert (error["type"], error["code"], error["message_id"]) == ("error", code, message_id)


def test_a_message_longer_than_the_context_says_the_limit(visitor: Visitor) -> None:
    with visitor.chat() as chat:
        chat.say("What is the return window? " + "please " * 400)
        error = chat.receive()
    assert error["code"] == "message_too_long" and "1848 tokens" in error["message"]


def test_too_many_messages_are_busy(start_server: StartServer) -> None:
    visitor = start_server(visitor_messages_per_minute=2).new_visitor()
    with visitor.chat() as chat:
        ends = [chat.ask(QUESTION).end for _ in range(3)]
    assert [end["type"] for end in ends] == ["done", "done", "error"]
    assert ends[-1]["code"] == "busy" and 0 < ends[-1]["retry_after_s"] <= 60


def test_too_many_conversations_are_busy(start_server: StartServer) -> None:
    server = start_server(visitor_messages_per_minute=2)
    visitor = server.new_visitor()
    for _ in range(2):
        with visitor.chat():
            pass
    with open_socket(server) as socket:
        chat = Chat(socket)
        chat.send(type="hello", protocol=1, token=visitor.token)
        assert chat.receive()["code"] == "busy"
        with pytest.raises(ConnectionClosedError) as closed:
            chat.receive()
    assert closed.value.rcvd is not None and closed.value.rcvd.code == 1013


def test_a_foreign_conversation_is_not_found(server: RunningServer, visitor: Visitor) -> None:
    answer = visitor.ask(QUESTION)
    stranger = server.new_visitor()
    for conversation_id in (answer.conversation_id, "no-such-conversation"):
        with open_socket(server) as socket:
            chat = Chat(socket)
            chat.send(
                type="hello", protocol=1, token=stranger.token, conversation_id=conversation_id
            )
            error = chat.receive()
        assert (error["code"], error["conversation_id"], error["seq"]) == ("not_found", None, 0)


@pytest.mark.parametrize(
    ("frame", "code"),
    [
        ("not json", "bad_frame"),
        ('{"type":"message","message_id":"1","text":"hi"}', "bad_frame"),
        ('{"type":"hello","protocol":2,"token":"x"}', "bad_protocol"),
        ('{"type":"hello","protocol":1,"token":"x"}', "unauthorized"),
        ('{"type":"hello","protocol":1}', "bad_frame"),
        (b"\x00\x01", "bad_frame"),
    ],
)
def test_a_bad_first_frame_is_named_and_the_socket_closes(
    server: RunningServer, frame: str | bytes, code: str
) -> None:
    with open_socket(server) as socket:
        socket.send(frame)
        assert json.loads(socket.recv())["code"] == code
        with pytest.raises(ConnectionClosedError):
            socket.recv(timeout=5)


def test_a_client_that_says_nothing_is_closed(start_server: StartServer) -> None:
    with open_socket(start_server(hello_timeout_s=0.1)) as socket:
        assert json.loads(socket.recv(timeout=5))["code"] == "bad_frame"


def test_the_third_bad_frame_closes(visitor: Visitor) -> None:
    with visitor.chat() as chat:
        for _ in range(3):
            chat.socket.send("{}")
        assert [chat.receive()["code"] for _ in range(3)] == ["bad_frame"] * 3
        with pytest.raises(ConnectionClosedError):
            chat.receive()


def test_a_frame_over_the_limit_closes_the_socket(visitor: Visitor) -> None:
    with visitor.chat() as chat, pytest.raises(ConnectionClosedError):
        chat.socket.send("x" * (64 * 1024 + 1))
        chat.receive()


def test_a_foreign_origin_is_refused_before_the_handshake(start_server: StartServer) -> None:
    server = start_server(allowed_origins="https://shop.example")
    with pytest.raises(InvalidStatus) as refused, open_socket(server, "https://evil.example"):
        pass
    assert refused.value.response.status_code == 403
    with open_socket(server, "https://shop.example"), open_socket(server):
        pass
    with open_socket(server, f"http://127.0.0.1:{server.port}"):
        pass


def test_origins_are_compared_exactly() -> None:
    allowed = ("https://shop.example",)
    assert origin_allowed(None, "chat.example", allowed)
    assert origin_allowed("https://shop.example", "chat.example", allowed)
    assert origin_allowed("https://chat.example:8443", "chat.example:8443", ())
    for origin in (
        "null",
        "https://shop.example.evil.example",
        "https://chat.example:1",
        "file://",
        "http://[x",
    ):
        assert not origin_allowed(origin, "chat.example", allowed)


def test_a_client_that_does_not_read_is_dropped_and_the_response_stored(
    start_server: StartServer, engine: ScriptedEngine
) -> None:
    server = start_server(outgoing_frames=16)
    engine.answer = lambda version: "a" * 150
    visitor = server.new_visitor()
    with visitor.chat() as chat:
        channel = server.state.channels.of(chat.conversation_id)
        (listener,) = channel.listeners
        listener.put = lambda text: type(listener).put(listener, text * 3000)  # type: ignore[method-assign]
        chat.say(QUESTION)
        wait_until(lambda: bool(server.state.conversations.read(chat.conversation_id).turns))
        wait_until(lambda: not channel.listeners)
    assert listener.dropped


def test_who_is_further_behind_than_a_client_may_lag_catches_up(
    start_server: StartServer, engine: ScriptedEngine
) -> None:
    server = start_server(outgoing_frames=16)
    engine.answer = lambda version: "a" * 150
    visitor = server.new_visitor()
    with visitor.chat() as chat:
        chat.say(QUESTION)
        (accepted,) = chat.receive_until("accepted")
    wait_until(lambda: bool(server.state.conversations.read(chat.conversation_id).turns))
    with visitor.chat(chat.conversation_id, accepted["seq"]) as again:
        rest = again.receive_until("done")
    assert again.welcome["missed"] is False
    assert "".join(frame["text"] for frame in rest[:-1]) == "a" * 150


def test_a_turn_is_written_by_one_version(
    server: RunningServer, visitor: Visitor, engine: ScriptedEngine
) -> None:
    engine.pause_s = 0.005
    with visitor.chat() as chat:
        chat.say(QUESTION)
        chat.receive_until("token")
        engine._active = 7
        done = chat.receive_until("done")[-1]
        following = chat.ask(QUESTION)
    assert done["policy_version"] == 0
    assert following.end["policy_version"] == 7 and following.text == "Written by version 7."


def test_stopping_the_server_stores_what_is_being_written(
    start_server: StartServer, engine: ScriptedEngine
) -> None:
    server = start_server(shutdown_s=0)
    engine.pause_s = 0.01
    engine.answer = lambda version: "a" * 199
    visitor = server.new_visitor()
    with visitor.chat() as chat:
        chat.say(QUESTION)
        chat.receive_until("token")
        conversations = server.state.conversations
        server.stop()
    visitor.server = start_server()
    (turn,) = visitor.server.state.conversations.read(chat.conversation_id).turns
    assert turn.finish_reason == "cancelled" and turn.response.startswith("aa")
    assert engine.closed and conversations is not visitor.server.state.conversations


def test_stopping_the_server_leaves_a_message_without_a_token_to_be_sent_again(
    start_server: StartServer, engine: ScriptedEngine
) -> None:
    server = start_server(shutdown_s=0)
    visitor = server.new_visitor()
    engine.go_on.clear()
    with visitor.chat() as chat:
        message_id = chat.say(QUESTION)
        chat.receive_until("accepted")
        server.stop()
    engine.go_on.set()
    visitor.server = start_server()
    assert visitor.server.state.conversations.read(chat.conversation_id).turns == ()
    with visitor.chat(chat.conversation_id) as again:
        again.say(QUESTION, message_id)
        assert again.receive_until("done")[-1]["finish_reason"] == "stop"
    (turn,) = visitor.server.state.conversations.read(chat.conversation_id).turns
    assert turn.response == "Written by version 0."


def test_before_the_policy_is_loaded_messages_are_busy(start_server: StartServer) -> None:
    loaded = threading.Event()

    def load(settings: Settings) -> LoadedModel:
        loaded.wait(20)
        raise ModelUnavailable("no model in this test")

    server = start_server(load=load, wait=False)
    with server.new_visitor().chat() as chat:
        end = chat.ask(QUESTION).end
    loaded.set()
    assert end["code"] == "busy" and end["retry_after_s"] > 0
    assert server.fatal.wait(5)
    assert server.http.get("/readyz").json()["reason"] == "no model in this test"

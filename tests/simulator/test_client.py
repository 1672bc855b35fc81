"""The client believes nothing of the wire that it did not check."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from simulator.client import Answer, Api, ApiRefused, ChatRefused, ProtocolBroken, Visitor
from tests.simulator.peers import ChatPeer, Frame, chat_server, http_server

VISITOR = Visitor("v1", "token-1")


def asked(play: Callable[[ChatPeer], Awaitable[None]], *messages: str) -> list[Answer]:
    """What the client makes of a scripted peer."""

    async def run() -> list[Answer]:
        async with chat_server(play) as url, Api(url, "staff") as api, api.chat(VISITOR) as chat:
            return [await chat.ask(message) for message in messages]

    return asyncio.run(run())


def test_an_answer_is_put_together_from_its_frames() -> None:
    async def play(peer: ChatPeer) -> None:
        hello = await peer.welcome()
        assert hello["type"] == "hello"
        assert (hello["protocol"], hello["token"]) == (1, "token-1")
        for _ in range(2):
            await peer.answer(await peer.hear(), "45 ", "days.")

    first, second = asked(play, "How long?", "Really?")
    assert first.text == second.text == "45 days."
    assert (first.turn_id, first.policy_version, first.origin) == ("t1", 7, "policy")
    assert first.sources == ("Returns: Return window",)
    assert 0 <= first.first_token_s <= first.seconds


def test_a_refused_hello_is_raised() -> None:
    async def play(peer: ChatPeer) -> None:
        await peer.hear()
        await peer.say("error", code="unauthorized", message="no such token")

    with pytest.raises(ChatRefused, match="unauthorized"):
        asked(play, "Hi")


def test_busy_is_tried_again_with_the_same_message_id() -> None:
    heard: list[Frame] = []

    async def play(peer: ChatPeer) -> None:
        await peer.welcome()
        heard.append(await peer.hear())
        await peer.say("error", code="busy", message="full", retry_after_s=0.01)
        heard.append(await peer.hear())
        await peer.answer(heard[-1], "Yes.")

    assert asked(play, "Hi")[0].text == "Yes."
    assert heard[0] == heard[1]


def test_an_error_without_a_time_to_come_back_is_raised() -> None:
    async def play(peer: ChatPeer) -> None:
        await peer.welcome()
        await peer.hear()
        await peer.say("error", code="message_too_long", message="too long")

    with pytest.raises(ChatRefused, match="message_too_long"):
        asked(play, "Hi" * 1000)


def test_an_error_for_this_socket_takes_no_number() -> None:
    async def play(peer: ChatPeer) -> None:
        await peer.welcome()
        message = await peer.hear()
        peer.seq -= 1  # say() adds it again
        await peer.say("error", code="bad_frame", message="later", retry_after_s=0.01)
        assert await peer.hear() == message
        await peer.answer(message, "Yes.")

    assert asked(play, "Hi")[0].text == "Yes."


def test_a_gap_in_seq_is_a_broken_protocol() -> None:
    async def play(peer: ChatPeer) -> None:
        await peer.welcome()
        message = await peer.hear()
        peer.seq += 1
        await peer.answer(message, "Yes.")

    with pytest.raises(ProtocolBroken, match="expected frame 5"):
        asked(play, "Hi")


@pytest.mark.parametrize("field", [{"protocol": 2}, {"type": "typing"}, {"conversation_id": "c2"}])
def test_a_frame_of_another_kind_is_a_broken_protocol(field: dict[str, Any]) -> None:
    async def play(peer: ChatPeer) -> None:
        await peer.welcome()
        await peer.hear()
        await peer.say("token", **{"response_id": "r1", "text": "x", **field})

    with pytest.raises(ProtocolBroken):
        asked(play, "Hi")


def test_a_socket_closed_within_an_answer_is_a_broken_protocol() -> None:
    async def play(peer: ChatPeer) -> None:
        await peer.welcome()
        await peer.hear()
        await peer.say("token", response_id="r1", text="half an ans")
        await peer.socket.close()

    with pytest.raises(ProtocolBroken, match="closed"):
        asked(play, "Hi")


def test_a_limited_request_is_sent_again_when_the_server_says() -> None:
    calls: list[Frame | None] = []

    def session(body: Frame | None) -> tuple[int, Frame, dict[str, str]]:
        calls.append(body)
        if len(calls) == 1:
            return 429, {"detail": "later"}, {"Retry-After": "0"}
        return 200, {"visitor_id": "v9", "token": "t9", "expires_at": 1.0}, {}

    async def run(url: str) -> Visitor:
        async with Api(url, "staff") as api:
            return await api.open_session()

    with http_server({"POST /v1/session": session}) as url:
        assert asyncio.run(run(url)) == Visitor("v9", "t9")
    assert calls == [{}, {}]


def test_a_refusal_says_what_was_asked_and_what_came() -> None:
    async def run(url: str) -> None:
        async with Api(url, "staff") as api:
            await api.activate(3)

    routes = {"POST /v1/adapters/3/activate": lambda _: (409, {"detail": "rejected"}, {})}
    with (
        http_server(routes) as url,
        pytest.raises(ApiRefused, match=r"POST /v1/adapters/3/activate.*409.*rejected") as caught,
    ):
        asyncio.run(run(url))
    assert caught.value.status == 409

"""The real application over scripted replicas of vLLM: what visitors and /readyz notice of them."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from amends.adapter_store import AdapterStore
from amends.base_model import base_hash
from amends.settings import Settings
from server.app import load_model
from tests.amends.engine.remote.vllm_peer import VllmPeer
from tests.server.conftest import StartServer
from tests.server.published import publish_acting
from tests.server.running_server import RunningServer, wait_until
from tests.tiny_model import make_tiny_model

QUESTION = "How long is the return window?"
LETTERS = 40  # the tiny tokenizer has letters from here on


@pytest.fixture
def peers() -> Iterator[list[VllmPeer]]:
    peers = [VllmPeer().start() for _ in range(2)]
    for peer in peers:
        peer.max_model_len = 2048
        peer.token_of = lambda version, position: LETTERS + 20 * version + position % 20
        peer.stop()
    yield peers
    for peer in peers:
        peer.stop()


@pytest.fixture
def server(
    start_server: StartServer, shared: Settings, peers: list[VllmPeer], tmp_path: Path
) -> RunningServer:
    """A server whose replicas are not there yet."""
    model = make_tiny_model(tmp_path / "model")
    urls = tuple(peer.url for peer in peers)
    vllm = {"engine": "vllm", "vllm_urls": urls, "base_model": str(model)}
    vllm["max_response_tokens"] = 60
    settings = Settings.model_validate(shared.model_dump() | vllm)
    return start_server(load_model, shared=settings, wait=False)


def readiness(server: RunningServer) -> tuple[int, str]:
    answer = server.http.get("/readyz")
    return answer.status_code, answer.json().get("reason", "")


def test_the_server_waits_for_its_replicas_and_follows_the_champion(
    server: RunningServer, peers: list[VllmPeer], tmp_path: Path
) -> None:
    wait_until(lambda: "no vLLM server can answer: replica 1:" in readiness(server)[1])
    for peer in peers:
        peer.start()
    server.wait_ready()
    answer = server.new_visitor().ask(QUESTION)
    assert (answer.end["type"], answer.end["policy_version"]) == ("done", 0)

    publish_acting(server.state.shared.home, tmp_path / "model")
    adapters = AdapterStore(server.state.shared.adapters_folder, base_hash(tmp_path / "model"))
    adapters.activate(1, "operator", "better")
    wait_until(lambda: server.http.get("/readyz").json()["policy_version"] == 1)
    assert all(peer.holds(1) for peer in peers)
    answer = server.new_visitor().ask(QUESTION)
    assert (answer.end["type"], answer.end["policy_version"]) == ("done", 1)
    turn = server.state.conversations.turn(answer.turn_id)
    assert turn.sampled is not None and len(set(turn.sampled.token_ids)) == 20
    assert set(turn.sampled.token_ids) <= set(range(LETTERS + 20, LETTERS + 40))


def test_nobody_is_answered_by_the_base_model_while_the_champion_is_loading(
    server: RunningServer, peers: list[VllmPeer], tmp_path: Path
) -> None:
    wait_until(lambda: "no vLLM server can answer" in readiness(server)[1])
    publish_acting(server.state.shared.home, tmp_path / "model")
    adapters = AdapterStore(server.state.shared.adapters_folder, base_hash(tmp_path / "model"))
    adapters.activate(1, "operator", "better")
    peers[0].fails_at = 1
    peers[0].start()
    wait_until(lambda: "will be tried again" in readiness(server)[1])
    peers[0].fails_at = None
    assert server.wait_ready().http.get("/readyz").json()["policy_version"] == 1


def test_a_visitor_loses_nothing_when_replicas_die(
    server: RunningServer, peers: list[VllmPeer]
) -> None:
    for peer in peers:
        peer.pause_s = 0.02
        peer.start()
    server.wait_ready()
    wait_until(lambda: all(peer.holds(0) for peer in peers))
    visitor = server.new_visitor()
    with visitor.chat() as chat:
        chat.say(QUESTION)
        chat.receive_until("token")
        next(peer for peer in peers if peer.running).stop()
        (*_, done) = chat.receive_until("done", "error")
        assert (done["type"], done["finish_reason"]) == ("done", "length")

        chat.say("And how long does delivery take?")
        chat.receive_until("token")
        next(peer for peer in peers if peer.running).stop()
        (*_, done) = chat.receive_until("done", "error")
        assert (done["type"], done["finish_reason"]) == ("done", "cancelled")
        turn = server.state.conversations.turn(done["turn_id"])
        assert turn.response and turn.finish_reason == "cancelled"
        assert readiness(server)[0] == 503

        chat.say("Is a return free?")
        (*_, busy) = chat.receive_until("done", "error")
        assert (busy["type"], busy["code"]) == ("error", "busy")
        assert "127.0.0.1" not in str(chat.frames) + readiness(server)[1]
    peers[0].start()
    server.wait_ready()
    assert visitor.ask(QUESTION).end["type"] == "done"

"""The remote engine over scripted replicas: what is answered, published, taken back, and not."""

import asyncio
import time
from collections.abc import Callable
from contextlib import aclosing

import pytest

from amends.engine.remote.replica import Holdings, ReplicaLost
from amends.engine.sequence import Request, Sampling
from amends.errors import AdapterRefused, EngineBusy, InvalidInput, NotFound
from tests.amends.engine.remote.conftest import (
    PROMPT,
    Install,
    expected,
    run,
    stream,
    tokens_of,
    until,
)
from tests.amends.engine.remote.vllm_peer import logprob_of

Installs = Callable[..., Install]


def test_a_response_has_its_tokens_their_logprobs_and_one_version(installs: Installs) -> None:
    install = installs(1)

    async def work() -> None:
        await install.ready()
        chunks = await stream(install.engine)
        assert tokens_of(chunks) == expected(0)
        logprobs = [value for chunk in chunks for value in chunk.logprobs]
        assert logprobs == [logprob_of(token) for token in expected(0)]
        assert {chunk.version for chunk in chunks} == {0}
        assert [c.finish_reason for c in chunks] == [None] * 7 + ["length"]
        (asked,) = install.peers[0].asked
        assert asked["prompt"] == list(PROMPT) and asked["stop_token_ids"] == [2]

    run(work())


def test_streams_keep_their_version_through_swaps_on_two_replicas(installs: Installs) -> None:
    install = installs(2)
    engine = install.engine
    for peer in install.peers:
        peer.pause_s = 0.005

    async def work() -> None:
        await install.ready()
        begun: list[tuple[int, asyncio.Task[list[object]]]] = []
        for version in range(1, 13):
            begun += [
                (engine.active_version, asyncio.create_task(stream(engine, 20))) for _ in range(3)
            ]
            await asyncio.sleep(0.02)
            await engine.swap(version, install.adapter(version))
            assert engine.active_version == version
            assert all(peer.holds(version) for peer in install.peers)
        for version, task in begun:
            assert tokens_of(await task) == expected(version, 20)

    run(work())
    assert all(len(peer.asked) > 10 for peer in install.peers), "both replicas had a share"


def test_a_version_that_one_replica_refuses_is_published_on_none(installs: Installs) -> None:
    install = installs(2)
    engine, (good, bad) = install.engine, install.peers

    async def work() -> None:
        await install.ready()
        await engine.swap(1, install.adapter(1))
        bad.refuses = "its shapes do not fit"
        with pytest.raises(AdapterRefused, match=r"replica 2: its shapes do not fit"):
            await engine.swap(2, install.adapter(2))
        assert (engine.active_version, engine.versions()) == (1, (0, 1))
        assert not good.holds(2)
        assert tokens_of(await stream(engine)) == expected(1)
        with pytest.raises(NotFound):
            await stream(engine, version=2)
        bad.refuses = None
        await engine.swap(2, install.adapter(2))  # under another name than before
        assert tokens_of(await stream(engine)) == expected(2)

    run(work())
    assert len(set(good.loads)) == len(good.loads), "no name is given twice"


@pytest.mark.parametrize("fault", ["zeros", "no effect", "not finite", "other shapes"])
def test_an_adapter_that_does_not_act_changes_nothing(installs: Installs, fault: str) -> None:
    install = installs(2)
    engine, peer = install.engine, install.peers[1]
    folder = install.adapter(3, acts=fault != "zeros")
    if fault == "no effect":
        peer.no_effect.add(3)
    if fault == "not finite":
        peer.not_finite.add(3)
    if fault == "other shapes":
        (folder / "adapter_model.safetensors").write_bytes(b"torn")

    async def work() -> None:
        await install.ready()
        with pytest.raises(AdapterRefused):
            await engine.swap(3, folder)
        assert (engine.active_version, engine.versions()) == (0, (0,))
        await until(lambda: not any(peer.holds(3) for peer in install.peers))

    run(work())


def test_a_replica_too_slow_to_load_is_set_aside_and_comes_back(installs: Installs) -> None:
    install = installs(2, load_s=1.0)
    engine, slow = install.engine, install.peers[1]

    async def work() -> None:
        await install.ready()
        slow.load_pause_s = 3.0
        began = time.monotonic()
        with pytest.raises(EngineBusy, match=r"replica 2: version 1 was not loaded within 1 s"):
            await engine.swap(1, install.adapter(1))
        assert time.monotonic() - began < slow.load_pause_s
        assert (engine.active_version, install.standings()) == (0, ["ready", "slow"])
        await engine.swap(1, install.adapter(1))  # as the watcher does; goes without it
        slow.asked.clear()
        for _ in range(4):
            assert tokens_of(await stream(engine)) == expected(1)
        assert slow.asked == []
        slow.load_pause_s = 0.0
        await install.ready()
        assert slow.holds(1)

    run(work())


def test_a_replica_that_was_started_again_gets_its_adapters_before_requests(
    installs: Installs,
) -> None:
    install = installs(2)
    engine, restarted = install.engine, install.peers[1]

    async def work() -> None:
        await install.ready()
        await engine.swap(1, install.adapter(1))
        await engine.swap(2, install.adapter(2))
        restarted.stop()
        for _ in range(4):
            assert tokens_of(await stream(engine)) == expected(2)
        await install.ready(1)
        restarted.asked.clear()
        restarted.loads.clear()
        restarted.start()
        await install.ready()
        assert [name.split("-")[3] for name in restarted.loads] == ["v0", "v1", "v2"]
        await asyncio.gather(*(stream(engine) for _ in range(4)))
        assert restarted.asked and restarted.unknown == 0
        assert {tuple(body["prompt"]) for body in restarted.asked} == {PROMPT}

    run(work())


def test_a_version_that_no_replica_can_load_again_is_not_rolled_back_to(installs: Installs) -> None:
    install = installs(1)
    engine, peer = install.engine, install.peers[0]

    async def work() -> None:
        await install.ready()
        await engine.swap(1, install.adapter(1))
        await engine.swap(2, install.adapter(2))
        peer.no_effect.add(1)  # say, its folder is gone
        peer.stop()
        await install.ready(0)
        peer.start()
        await install.ready()
        assert engine.versions() == (0, 2)
        with pytest.raises(NotFound):
            await engine.swap(1, None)
        with pytest.raises(AdapterRefused):
            await engine.swap(1, install.adapter(1))
        assert tokens_of(await stream(engine)) == expected(2)

    run(work())


def test_one_that_forgot_between_two_looks_costs_no_response(installs: Installs) -> None:
    install = installs(2)
    engine, forgetful = install.engine, install.peers[1]

    async def work() -> None:
        await install.ready()
        forgetful.adapters.clear()
        forgetful.loads.clear()
        responses = await asyncio.gather(*(stream(engine) for _ in range(4)))
        assert [tokens_of(chunks) for chunks in responses] == [expected(0)] * 4
        assert forgetful.unknown > 0
        await until(lambda: forgetful.holds(0) or bool(forgetful.adapters))
        await install.ready()

    run(work())


def test_a_response_goes_on_elsewhere_when_its_replica_dies(installs: Installs) -> None:
    install = installs(2)
    for peer in install.peers:
        peer.dies_after = 5

    async def work() -> None:
        await install.ready()
        await install.engine.swap(1, install.adapter(1))
        chunks = await stream(install.engine, 9)  # five there, four here
        assert tokens_of(chunks) == expected(1, 9)
        assert chunks[-1].finish_reason == "length"
        first, second = sorted(
            (peer.asked[0] for peer in install.peers), key=lambda body: len(body["prompt"])
        )
        assert second["prompt"] == [*PROMPT, *expected(1, 5)]
        assert (first["max_tokens"], second["max_tokens"]) == (9, 4)

    run(work())


def test_a_look_that_began_before_a_loss_does_not_bring_the_replica_back(
    installs: Installs,
) -> None:
    install = installs(1)
    (member,) = install.fleet.members
    holdings, after = member.replica.holdings, []

    async def lost_meanwhile() -> Holdings:
        found = await holdings()
        if not after:
            after.append("lost")
            install.fleet.lost(member, ReplicaLost("its connection broke"))
        else:
            after.append(member.standing.value)
        return found

    async def work() -> None:
        await install.ready()
        member.replica.holdings = lost_meanwhile  # type: ignore[method-assign]
        await until(lambda: len(after) >= 2)
        assert after[:2] == ["lost", "down"]
        await install.ready()

    run(work())


def test_without_another_replica_it_ends_as_cancelled_with_what_it_has(installs: Installs) -> None:
    install = installs(1)
    install.peers[0].pause_s = 0.02

    async def kill() -> None:
        await asyncio.to_thread(install.peers[0].stop)

    async def work() -> None:
        await install.ready()
        chunks = await stream(install.engine, 50, on_chunk=kill)
        assert chunks[-1].finish_reason == "cancelled"
        written = tokens_of(chunks)
        assert 3 <= len(written) < 50 and written == expected(0, len(written))
        with pytest.raises(EngineBusy):
            await stream(install.engine)
        assert "replica 1" in (install.engine.obstacle or "")
        install.peers[0].start()
        await install.ready()
        assert install.engine.obstacle is None
        assert tokens_of(await stream(install.engine)) == expected(0)

    run(work())


def test_a_replica_that_starts_no_response_is_left_for_another(installs: Installs) -> None:
    install = installs(2, first_token_s=1.0)
    engine, slow = install.engine, install.peers[1]

    async def work() -> None:
        await install.ready()
        slow.first_pause_s = 20.0
        began = time.monotonic()
        responses = await asyncio.gather(*(stream(engine) for _ in range(4)))
        assert [tokens_of(chunks) for chunks in responses] == [expected(0)] * 4
        assert time.monotonic() - began < slow.first_pause_s
        await until(lambda: slow.left == len(slow.asked) > 0 and slow.running == 0)

    run(work())


def test_the_only_replica_may_take_its_time(installs: Installs) -> None:
    install = installs(1, first_token_s=0.3)
    install.peers[0].first_pause_s = 0.6  # twice what is allowed where there is another

    async def work() -> None:
        await install.ready()
        assert tokens_of(await stream(install.engine)) == expected(0)

    run(work())


def test_closing_a_stream_ends_its_request_there(installs: Installs) -> None:
    install = installs(1)
    peer = install.peers[0]
    peer.pause_s = 0.05

    async def work() -> None:
        await install.ready()
        async with aclosing(install.engine.stream(Request(PROMPT, Sampling(150)))) as chunks:
            await anext(chunks)
        await until(lambda: peer.left == 1 and peer.running == 0)
        await until(lambda: install.engine.running() == 0)

    run(work())


def test_a_deadline_ends_what_began_and_turns_away_what_did_not(installs: Installs) -> None:
    install = installs(1)
    peer = install.peers[0]

    async def work() -> None:
        await install.ready()
        peer.pause_s = 0.05
        chunks = await stream(install.engine, 100, deadline_s=time.monotonic() + 1.5)
        written = tokens_of(chunks)
        assert chunks[-1].finish_reason == "length" and written == expected(0, len(written))
        peer.first_pause_s = 5.0
        with pytest.raises(EngineBusy, match="deadline"):
            await stream(install.engine, 100, deadline_s=time.monotonic() + 0.2)
        await until(lambda: peer.running == 0)

    run(work())


def test_what_cannot_be_answered_is_refused(installs: Installs) -> None:
    install = installs(1, up=False)

    async def work() -> None:
        with pytest.raises(EngineBusy):
            await stream(install.engine)
        with pytest.raises(EngineBusy):
            await install.engine.swap(1, install.adapter(1))
        install.peers[0].start()
        await install.ready()
        with pytest.raises(InvalidInput):
            await stream(install.engine, 191)
        with pytest.raises(NotFound):
            await stream(install.engine, version=7)
        with pytest.raises(NotFound):
            await install.engine.swap(7, None)

    run(work())


def test_waiting_requests_are_bounded(installs: Installs, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("amends.engine.remote.service.MAX_WAITING", 2)
    install = installs(1)
    install.peers[0].first_pause_s = 2.0

    async def work() -> None:
        await install.ready()
        waiting = [asyncio.create_task(stream(install.engine)) for _ in range(2)]
        await until(lambda: install.engine.queue_depth() == 2)
        with pytest.raises(EngineBusy, match="2 requests are waiting already"):
            await stream(install.engine)
        assert [tokens_of(chunks) for chunks in await asyncio.gather(*waiting)] == [expected(0)] * 2

    run(work())


def test_a_candidate_is_loaded_beside_the_champion_and_unloaded_again(installs: Installs) -> None:
    install = installs(2)
    engine = install.engine
    install.peers[0].pause_s = install.peers[1].pause_s = 0.02

    async def work() -> None:
        await install.ready()
        await engine.load(4, install.adapter(4))
        assert (engine.active_version, engine.versions()) == (0, (0, 4))
        running = asyncio.create_task(stream(engine, 30, version=4))
        await until(lambda: engine.running() == 1)
        await engine.unload(4)
        with pytest.raises(NotFound):
            await stream(engine, version=4)
        assert tokens_of(await running) == expected(4, 30)
        with pytest.raises(NotFound):
            await engine.unload(0)
        await engine.load(4, install.adapter(4))
        assert tokens_of(await stream(engine, version=4)) == expected(4)

    run(work())


def test_what_an_earlier_process_left_is_removed_and_nothing_else(installs: Installs) -> None:
    install = installs(1)
    peer = install.peers[0]

    async def work() -> None:
        await install.ready()
        (own,) = peer.adapters
        left = own.rsplit("-", 3)[0] + "-00000000-v9-1"
        peer.adapters |= {left: install.folder / "9", "somebody-else": install.folder / "8"}
        await until(lambda: left not in peer.adapters)
        assert set(peer.adapters) == {own, "somebody-else"}

    run(work())


def test_a_replica_that_reads_too_little_never_answers(installs: Installs) -> None:
    install = installs(1, up=False)
    install.peers[0].max_model_len = 128
    install.peers[0].start()

    async def work() -> None:
        await until(lambda: "--max-model-len 200" in (install.engine.obstacle or ""))
        with pytest.raises(EngineBusy):
            await stream(install.engine)

    run(work())


def test_the_end_cancels_streams_and_leaves_the_replica_empty(installs: Installs) -> None:
    install = installs(1)
    peer = install.peers[0]
    peer.pause_s = 0.05

    async def close() -> None:
        await asyncio.to_thread(install.engine.close)

    async def work() -> None:
        await install.ready()
        chunks = await stream(install.engine, 100, on_chunk=close)
        assert chunks[-1].finish_reason == "cancelled"
        assert peer.adapters == {}
        assert not install.engine.alive and install.engine.obstacle == "the engine has stopped"
        with pytest.raises(EngineBusy):
            await stream(install.engine)

    run(work())

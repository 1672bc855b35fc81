"""The engine's thread: what becomes of streams that are cancelled, and of all when it ends."""

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from amends.backbone import Backbone
from amends.base_model import load_causal_lm
from amends.engine.engine import SLOTS, Engine
from amends.engine.scheduler import Limits
from amends.engine.sequence import Chunk, Request, Sampling, Sequence
from amends.engine.service import EngineService
from amends.errors import EngineBusy, NotFound
from amends.lora import Lora, save_lora
from tests.tiny_model import make_tiny_model

PROBE = tuple(range(5, 25))
ENDLESS = Request((5, 6, 7), Sampling(240))
SHORT = Request((5, 6, 7), Sampling(4))


class Gate:
    """A door in the engine's thread: the next call behind it waits until it is let through."""

    def __init__(self) -> None:
        self.shut = threading.Event()
        self.reached = threading.Event()
        self.opened = threading.Event()
        self.error: BaseException | None = None

    def close(self, error: BaseException | None = None) -> None:
        """The next call waits, and then raises `error`, if there is one."""
        self.error = error
        self.shut.set()

    def pass_through(self) -> None:
        if self.shut.is_set():
            self.reached.set()
            assert self.opened.wait(20)
            self.shut.clear()
            if self.error is not None:
                raise self.error


@pytest.fixture(scope="module")
def backbone(tmp_path_factory: pytest.TempPathFactory) -> Backbone:
    folder = make_tiny_model(tmp_path_factory.mktemp("tiny"))
    return Backbone(load_causal_lm(folder, torch.float32), 256)


@pytest.fixture
def engine(backbone: Backbone) -> Engine:
    """Two rows; nothing ends before its length."""
    limits = Limits(max_running=2, max_positions=256)
    return Engine(backbone, backbone.lora_shape(4, 8.0), frozenset(), limits)


@pytest.fixture
def step_gate(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> Gate:
    gate, step = Gate(), engine.step

    def step_behind_gate() -> bool:
        gate.pass_through()
        time.sleep(0.002)  # so that a stream cannot end before the test's loop had its turn
        return step()

    monkeypatch.setattr(engine, "step", step_behind_gate)
    return gate


@pytest.fixture
def submit_gate(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> Gate:
    gate, submit = Gate(), engine.submit

    def submit_behind_gate(
        request: Request, on_chunk: Callable[[Chunk], None], arrived_s: float
    ) -> Sequence:
        sequence = submit(request, on_chunk, arrived_s)
        gate.pass_through()
        return sequence

    monkeypatch.setattr(engine, "submit", submit_behind_gate)
    return gate


@pytest.fixture
def service(engine: Engine, backbone: Backbone) -> Iterator[EngineService]:
    service = EngineService(engine, backbone.lora_shape(4, 8.0), PROBE)
    yield service
    service.close()


async def read(service: EngineService, request: Request) -> list[Chunk]:
    return [chunk async for chunk in service.stream(request)]


async def start(service: EngineService, request: Request) -> asyncio.Task[list[Chunk]]:
    """A stream of which the first chunk is there: it has a row."""
    begun = asyncio.Event()

    async def read_on() -> list[Chunk]:
        chunks = []
        async for chunk in service.stream(request):
            chunks.append(chunk)
            begun.set()
        return chunks

    task = asyncio.create_task(read_on())
    await begun.wait()
    return task


async def until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not true():
            await asyncio.sleep(0.005)


async def cancel(task: asyncio.Task[list[Chunk]]) -> None:
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


def within(awaitable: Awaitable[None], seconds: float = 30) -> None:
    async def bounded() -> None:
        await asyncio.wait_for(awaitable, seconds)

    asyncio.run(bounded())


def test_a_stream_cancelled_while_its_submit_waits_for_a_step_takes_no_row(
    service: EngineService, engine: Engine, step_gate: Gate
) -> None:
    async def leave_before_it_is_submitted() -> None:
        running = await start(service, ENDLESS)
        step_gate.close()
        await until(step_gate.reached.is_set)
        waiting = asyncio.create_task(read(service, ENDLESS))
        await until(lambda: len(service._commands) == 1)
        await cancel(waiting)
        step_gate.opened.set()
        assert len(await read(service, SHORT)) == 4  # submitted after it, beside the first
        assert (engine.running, engine.waiting) == (1, 0)
        assert len(await running) == 240
        assert service.alive

    within(leave_before_it_is_submitted())


def test_a_stream_cancelled_while_it_is_being_submitted_gives_its_row_back(
    service: EngineService, engine: Engine, submit_gate: Gate
) -> None:
    async def leave_in_the_middle_of_submit() -> None:
        submit_gate.close()
        submitting = asyncio.create_task(read(service, ENDLESS))
        await until(submit_gate.reached.is_set)
        await cancel(submitting)
        submit_gate.opened.set()
        chunks = await read(service, SHORT)
        assert chunks[-1].finish_reason == "length"
        await until(lambda: (engine.running, engine.waiting) == (0, 0))
        assert service.alive

    within(leave_in_the_middle_of_submit())


def test_a_stream_without_a_token_at_its_deadline_is_turned_away_as_busy(
    service: EngineService, engine: Engine
) -> None:
    async def come_too_late() -> None:
        with pytest.raises(EngineBusy, match="deadline"):
            await read(service, replace(SHORT, deadline_s=time.monotonic()))
        assert len(await read(service, replace(SHORT, deadline_s=time.monotonic() + 20))) == 4
        assert (service.stats.running, service.stats.written_tokens) == (0, {0: 4})

    within(come_too_late())


def save_acting(backbone: Backbone, folder: Path) -> Path:
    lora = Lora.fresh(backbone.lora_shape(4, 8.0), 1)
    for tensor in lora.tensors.values():
        tensor += 0.1
    save_lora(lora, folder, "tiny")
    return folder


def test_a_version_is_loaded_beside_the_active_one_and_unloaded_again(
    service: EngineService, engine: Engine, backbone: Backbone, tmp_path: Path
) -> None:
    async def come_and_go() -> None:
        folder = save_acting(backbone, tmp_path / "1")
        await asyncio.gather(service.load(1, folder), read(service, SHORT))
        assert (service.active_version, service.versions()) == (0, (0, 1))
        named = await start(service, replace(ENDLESS, version=1))
        await service.unload(1)
        with pytest.raises(NotFound):
            await read(service, replace(SHORT, version=1))
        assert engine.slots.free == SLOTS - 2
        assert {chunk.version for chunk in await named} == {1}
        assert engine.slots.free == SLOTS - 1
        with pytest.raises(NotFound):
            await service.swap(1, None)
        await service.swap(1, folder)
        assert service.active_version == 1

    within(come_and_go())


def test_a_load_whose_caller_gave_up_harms_nobody(
    service: EngineService,
    engine: Engine,
    backbone: Backbone,
    step_gate: Gate,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    load = engine.load

    def load_and_stop_before_its_check(*arguments: Any) -> None:
        load(*arguments)
        step_gate.close()

    monkeypatch.setattr(engine, "load", load_and_stop_before_its_check)

    async def give_up() -> None:
        running = await start(service, ENDLESS)
        loading = asyncio.create_task(service.load(1, save_acting(backbone, tmp_path / "1")))
        await until(step_gate.reached.is_set)
        loading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await loading
        step_gate.opened.set()
        assert len(await running) == 240
        assert service.alive and service.versions() == (0, 1)

    within(give_up())


def test_when_the_thread_ends_nobody_waits_for_it(
    service: EngineService,
    step_gate: Gate,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    unhandled: list[threading.ExceptHookArgs] = []
    monkeypatch.setattr(threading, "excepthook", unhandled.append)
    failure = RuntimeError("the device is gone")

    async def outlive_the_thread() -> None:
        with_rows = [await start(service, ENDLESS) for _ in range(2)]
        queued = asyncio.create_task(read(service, ENDLESS))
        await until(lambda: service.queue_depth() == 1)
        step_gate.close(failure)
        await until(step_gate.reached.is_set)
        not_submitted = asyncio.create_task(read(service, SHORT))
        unloading = asyncio.create_task(service.unload(7))
        await until(lambda: len(service._commands) == 2)
        step_gate.opened.set()
        for task in (*with_rows, queued):
            assert (await task)[-1].finish_reason == "cancelled"
        for pending in (not_submitted, unloading):
            with pytest.raises(EngineBusy):
                await pending
        for later in (read(service, SHORT), service.swap(0, None)):
            with pytest.raises(EngineBusy):
                await asyncio.wait_for(later, 1)
        await until(lambda: not service.alive)

    within(outlive_the_thread())
    assert [seen.exc_value for seen in unhandled] == [failure]


def test_close_ends_running_streams_as_cancelled(service: EngineService, step_gate: Gate) -> None:
    async def close_under_load() -> None:
        with_rows = [await start(service, ENDLESS) for _ in range(2)]
        step_gate.close()
        await until(step_gate.reached.is_set)
        not_submitted = asyncio.create_task(read(service, ENDLESS))
        await until(lambda: len(service._commands) == 1)
        closing = asyncio.create_task(asyncio.to_thread(service.close))
        await until(lambda: service._closing)
        step_gate.opened.set()
        await closing
        for task in with_rows:
            chunks = await task
            assert chunks[-1].finish_reason == "cancelled"
            assert 1 < len(chunks) <= 240
        with pytest.raises(EngineBusy):
            await not_submitted
        with pytest.raises(EngineBusy):
            await read(service, SHORT)

    within(close_under_load())
    assert not service.alive

"""Swaps under running streams: none is dropped, none is mixed, a bad adapter changes nothing."""

import asyncio
from pathlib import Path

import pytest
import torch

from amends.backbone import Backbone
from amends.base_model import load_causal_lm
from amends.engine.engine import Engine
from amends.engine.scheduler import Limits
from amends.engine.sequence import Chunk, Request, Sampling
from amends.engine.service import EngineService
from amends.errors import AdapterRefused, EngineBusy
from amends.lora import Lora, save_lora
from tests.tiny_model import make_tiny_model

SWAPS, STREAMS = 50, 30
PROBE = tuple(range(5, 25))


def publish(backbone: Backbone, folder: Path, version: int, act: bool = True) -> Lora:
    lora = Lora.fresh(backbone.lora_shape(4, 8.0), version)
    if act:
        for name, tensor in lora.tensors.items():
            if name.endswith("lora_B"):
                tensor.normal_(0, 0.3, generator=torch.Generator().manual_seed(version))
    save_lora(lora, folder / str(version), "tiny")
    return lora


async def stream(service: EngineService, seed: int) -> tuple[Request, list[Chunk]]:
    prompt = tuple(range(10 + seed % 7, 40 + seed % 160))
    request = Request(prompt, Sampling(30, temperature=0.8, seed=seed))
    return request, [chunk async for chunk in service.stream(request)]


async def swap(service: EngineService, version: int, folder: Path) -> None:
    """Keeps two versions and waits for a slot as long as running turns need them all."""
    for old in service.versions():
        if old not in (0, service.active_version):
            await service.unload(old)
    async with asyncio.timeout(20):
        while True:
            try:
                return await service.swap(version, folder)
            except EngineBusy as busy:
                await asyncio.sleep(busy.retry_after_s)


async def swap_under_load(
    service: EngineService, backbone: Backbone, folder: Path
) -> tuple[dict[int, Lora | None], list[tuple[Request, list[Chunk]]]]:
    loras: dict[int, Lora | None] = {0: None}
    streams: list[asyncio.Task[tuple[Request, list[Chunk]]]] = []
    for version in range(1, SWAPS + 1):
        loras[version] = publish(backbone, folder, version)
        while sum(not task.done() for task in streams) < STREAMS:
            streams.append(asyncio.create_task(stream(service, len(streams))))
        await asyncio.sleep(0.01)
        await swap(service, version, folder / str(version))
        assert service.active_version == version
    return loras, await asyncio.gather(*streams)


def test_streams_in_flight_lose_nothing_and_mix_nothing(tmp_path: Path) -> None:
    model = make_tiny_model(tmp_path / "model")
    backbone = Backbone(load_causal_lm(model, torch.float32), 256)
    shape = backbone.lora_shape(4, 8.0)
    engine = Engine(backbone, shape, frozenset({2}), Limits(max_running=16, max_positions=256))
    service = EngineService(engine, shape, PROBE)
    try:
        loras, done = asyncio.run(swap_under_load(service, backbone, tmp_path))
    finally:
        service.close()
    seen = set()
    for request, chunks in done:
        assert chunks[-1].finish_reason in ("stop", "length")
        (version,) = {chunk.version for chunk in chunks}
        seen.add(version)
        written = [token for chunk in chunks for token in chunk.token_ids]
        recorded = [value for chunk in chunks for value in chunk.logprobs]
        lora = loras[version]
        hidden, _ = backbone.hidden(
            torch.tensor([[*request.prompt_ids, *written]]),
            None if lora is None else lora.pack(torch.float32),
        )
        states = hidden[0, len(request.prompt_ids) - 1 : -1]
        want = backbone.token_logprobs(states, torch.tensor(written))
        torch.testing.assert_close(torch.tensor(recorded), want, rtol=1e-3, atol=1e-3)
    assert len(seen) > SWAPS // 5


def test_a_refused_adapter_changes_nothing_and_roll_back_needs_no_file(tmp_path: Path) -> None:
    model = make_tiny_model(tmp_path / "model")
    backbone = Backbone(load_causal_lm(model, torch.float32), 256)
    shape = backbone.lora_shape(4, 8.0)
    engine = Engine(backbone, shape, frozenset({2}), Limits(max_positions=256))
    service = EngineService(engine, shape, PROBE)
    publish(backbone, tmp_path, 1)
    publish(backbone, tmp_path, 2)
    publish(backbone, tmp_path, 3, act=False)

    async def swaps() -> None:
        await service.swap(1, tmp_path / "1")
        await service.swap(2, tmp_path / "2")
        with pytest.raises(AdapterRefused):
            await service.swap(3, tmp_path / "3")
        assert service.active_version == 2
        await service.swap(1, None)  # still in its slot
        assert service.active_version == 1
        _, chunks = await stream(service, 1)
        assert {chunk.version for chunk in chunks} == {1}

    try:
        asyncio.run(swaps())
    finally:
        service.close()


def test_a_stream_that_is_closed_frees_its_row(tmp_path: Path) -> None:
    backbone = Backbone(load_causal_lm(make_tiny_model(tmp_path), torch.float32), 256)
    shape = backbone.lora_shape(4, 8.0)
    engine = Engine(backbone, shape, frozenset(), Limits(max_positions=256))
    service = EngineService(engine, shape, PROBE)

    async def leave_early() -> None:
        chunks = service.stream(Request((5, 6, 7), Sampling(200)))
        await anext(chunks)
        await chunks.aclose()
        for _ in range(200):
            await asyncio.sleep(0.01)
            if engine.running == 0:
                return
        raise AssertionError("the row is still taken")

    try:
        asyncio.run(leave_early())
    finally:
        service.close()

"""Scripted replicas, adapters that really are on disk, and a remote engine over them."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from amends.engine.remote.fleet import Fleet
from amends.engine.remote.member import Patience
from amends.engine.remote.replica import Replica
from amends.engine.remote.service import RemoteEngine
from amends.engine.remote.start import zeros
from amends.engine.remote.versions import Versions
from amends.engine.sequence import Chunk, Request, Sampling
from amends.lora import Lora, LoraShape, save_lora
from tests.amends.engine.remote.vllm_peer import VllmPeer

SHAPE = LoraShape(
    2, 4.0, {"model.layers.0.self_attn.q_proj": (4, 4), "model.layers.0.mlp.down_proj": (4, 6)}
)
PATIENCE = Patience(look_every_s=0.05, aside_s=0.3)
PROMPT = tuple(range(3, 13))


class Install:
    """Replicas and the engine that speaks to them."""

    def __init__(self, folder: Path, replicas: int, up: bool, patience: Patience) -> None:
        self.folder = folder
        self.peers = [VllmPeer().start() for _ in range(replicas)]
        if not up:
            for peer in self.peers:
                peer.stop()
        versions = Versions(self.folder, zeros(self.folder / ".base", SHAPE))
        servers = [Replica(peer.url, frozenset({2})) for peer in self.peers]
        self.fleet = Fleet(servers, versions, (1, 2, 3, 4), 200, patience)
        self.engine = RemoteEngine(self.fleet, versions, SHAPE, 200)

    def adapter(self, version: int, acts: bool = True) -> Path:
        """The folder of a version."""
        lora = Lora.fresh(SHAPE, version)
        if acts:
            for tensor in lora.tensors.values():
                tensor.fill_(0.01 * version)
        save_lora(lora, self.folder / str(version), "base")
        return self.folder / str(version)

    async def ready(self, replicas: int | None = None) -> None:
        """Waits until so many replicas can answer (None: all)."""
        wanted = len(self.peers) if replicas is None else replicas
        await until(lambda: self.standings().count("ready") == wanted)

    def standings(self) -> list[str]:
        return [member.standing.value for member in self.fleet.members]

    def close(self) -> None:
        self.engine.close()
        for peer in self.peers:
            peer.stop()


async def until(true: Callable[[], bool], timeout_s: float = 10.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not true():
        assert time.monotonic() < deadline, "waited too long"
        await asyncio.sleep(0.01)


async def stream(
    engine: RemoteEngine,
    tokens: int = 8,
    version: int | None = None,
    on_chunk: Callable[[], Awaitable[None]] | None = None,
    deadline_s: float | None = None,
) -> list[Chunk]:
    """All chunks of one response; `on_chunk` is awaited after the third."""
    request = Request(PROMPT, Sampling(tokens, seed=1), version, deadline_s)
    chunks = []
    async for chunk in engine.stream(request):
        chunks.append(chunk)
        if on_chunk is not None and len(chunks) == 3:
            await on_chunk()
    return chunks


def tokens_of(chunks: list[Chunk]) -> list[int]:
    return [token for chunk in chunks for token in chunk.token_ids]


def expected(version: int, tokens: int = 8) -> list[int]:
    """What the peers write with a version."""
    return [1000 * version + len(PROMPT) + index for index in range(tokens)]


@pytest.fixture
def installs(tmp_path: Path) -> Iterator[Callable[..., Install]]:
    made: list[Install] = []

    def make(replicas: int, up: bool = True, **limits: float) -> Install:
        made.append(Install(tmp_path, replicas, up, replace(PATIENCE, **limits)))
        return made[-1]

    yield make
    for install in made:
        install.close()


def run(work: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(work, 30))

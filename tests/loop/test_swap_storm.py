"""Swaps under a hundred streams: none is dropped, none is mixed, no memory and no slot is lost,
and broken adapters among them change nothing.

Through the engine's service in every run; through the real server's WebSocket, twenty times as
long, with `make test-all`.
"""

import asyncio
import itertools
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import psutil
import pytest
import torch
from websockets.asyncio.client import ClientConnection, connect

from amends.adapter_store import AdapterStore
from amends.backbone import Backbone
from amends.base_model import base_hash, load_causal_lm
from amends.engine.engine import SLOTS, Engine
from amends.engine.scheduler import Limits
from amends.engine.sequence import Chunk, Request, Sampling
from amends.engine.service import EngineService
from amends.errors import AdapterRefused, EngineBusy
from amends.store_client import StoreClient
from amends.verdict import Verdict
from server.protocol import PROTOCOL
from tests.loop.one_character import BREAK, character, save, token
from tests.server.conftest import write_shop
from tests.tiny_model import make_tiny_model

STREAMS = 100
SWAPS, SWAPS_OF_THE_SERVER = 50, 1000
TOKENS = 16
WAIT_S = 300  # a hundred sockets, their clients and the engine share what cores there are
# An adapter's tensors are 0.1 MB here: kept by one swap in three, 900 swaps would show.
FLAT_BYTES = 32 * 2**20


@dataclass
class Storm:
    """Streams on a service, as many as STREAMS at any time, each by whatever is active."""

    service: EngineService
    done: list[list[Chunk]] = field(default_factory=list)
    over: bool = False

    async def visitor(self, number: int) -> None:
        for turn in itertools.count():
            if self.over:
                return
            prompt = tuple(range(5 + number % 50, 60 + (number + turn) % 90))
            stream = self.service.stream(Request(prompt, Sampling(TOKENS, temperature=0.0)))
            self.done.append([chunk async for chunk in stream])

    async def swap(self, version: int, folder: Path) -> None:
        """Keeps the version before it, and waits while running turns need every slot."""
        for old in set(self.service.versions()) - {0, self.service.active_version}:
            await self.service.unload(old)
        async with asyncio.timeout(60):
            while True:
                try:
                    return await self.service.swap(version, folder)
                except EngineBusy as busy:
                    await asyncio.sleep(busy.retry_after_s)


def resident_bytes(pid: int | None = None) -> int:
    rss: int = psutil.Process(pid).memory_info().rss
    return rss


def test_fifty_swaps_under_a_hundred_streams(tmp_path: Path) -> None:
    backbone = Backbone(load_causal_lm(make_tiny_model(tmp_path / "model"), torch.float32), 256)
    shape = backbone.lora_shape(4, 8.0)
    engine = Engine(backbone, shape, frozenset(), Limits(max_positions=256))
    storm = Storm(EngineService(engine, shape, tuple(range(5, 25))))
    ways = itertools.cycle(BREAK.values())
    refused = 0

    async def swap_all() -> None:
        nonlocal refused
        folders = {v: save(backbone, shape, v, tmp_path / str(v)) for v in range(1, SWAPS + 1)}
        await storm.swap(1, folders[1])
        visitors = [asyncio.create_task(storm.visitor(number)) for number in range(STREAMS)]
        for version in range(2, SWAPS + 1):
            await storm.swap(version, folders[version])
            if version % 5 == 0:
                await storm.service.swap(version - 1, None)  # roll back, and forth again
                await storm.service.swap(version, None)
                before = (storm.service.active_version, storm.service.versions())
                broken = save(backbone, shape, 1000 + version, tmp_path / "broken")
                next(ways)(broken)
                with pytest.raises(AdapterRefused):
                    await storm.swap(1000 + version, broken)
                refused += 1
                assert before[0] == storm.service.active_version
                assert set(storm.service.versions()) == {0, version}
        storm.over = True
        await asyncio.gather(*visitors)

    try:
        asyncio.run(swap_all())
        assert engine.slots.free == SLOTS - len(engine.slots.versions())
    finally:
        storm.service.close()
    assert refused == 10
    for chunks in storm.done:
        (version,) = {chunk.version for chunk in chunks}
        assert [t for chunk in chunks for t in chunk.token_ids] == [token(version)] * TOKENS
        assert chunks[-1].finish_reason == "length"
    assert len(storm.done) >= STREAMS
    assert len({chunks[0].version for chunks in storm.done}) > SWAPS // 3


@dataclass
class Visitors:
    """Sockets on a server, each with one conversation after the other."""

    url: str
    token: str
    over: bool = False
    responses: int = 0
    versions: set[int] = field(default_factory=set)
    wrong: list[object] = field(default_factory=list)

    async def visit(self) -> None:
        while not self.over:
            async with connect(self.url, compression=None, open_timeout=WAIT_S) as socket:
                await self.converse(socket)

    async def converse(self, socket: ClientConnection) -> None:
        hello = {"token": self.token, "conversation_id": None, "after_seq": None}
        await socket.send(frame(type="hello", protocol=PROTOCOL, **hello))
        assert (await received(socket))["type"] == "welcome"
        by: list[int] = []
        for turn in range(6):
            text = "How long is the return window?"
            await socket.send(frame(type="message", message_id=str(turn), text=text))
            written, end = "", await received(socket)
            while end["type"] not in ("done", "error"):
                written += str(end.get("text", "")) if end["type"] == "token" else ""
                end = await received(socket)
            if end["type"] == "error" or end["finish_reason"] not in ("stop", "length"):
                self.wrong.append(end)
                return
            by.append(int(str(end["policy_version"])))
            if set(written) != {character(by[-1])}:
                self.wrong.append((by[-1], written))
            self.responses += 1
        self.versions |= set(by)
        left = [version != CANDIDATE for version in by]
        if left != sorted(left):
            self.wrong.append(f"a conversation came to the candidate later: {by}")


# The server as it is, but it forgets a conversation's frames two seconds after its visitor has left
# and not ten minutes: they are memory too, and here only what swaps leave behind shall count.
SERVER = """
import sys
from server import __main__, channels
channels.IDLE_S, channels.SWEEP_S = 2.0, 1.0
sys.exit(__main__.main())
"""
CANDIDATE = 1  # of the server's storm, beside each champion
GOOD = range(2, 42)


def frame(**fields: object) -> str:
    return httpx.Request("POST", "http://x", json=fields).content.decode()


async def received(socket: ClientConnection) -> dict[str, object]:
    async with asyncio.timeout(WAIT_S):
        got: dict[str, object] = httpx.Response(200, content=await socket.recv()).json()
    return got


def publish_all(home: Path, model: Path) -> tuple[AdapterStore, list[int]]:
    """The candidate, the good ones, and the numbers of the broken ones; nothing is active yet."""
    backbone = Backbone(load_causal_lm(model, torch.float32), 1024)
    shape = backbone.lora_shape(16, 32.0)
    adapters = AdapterStore(home / "adapters", base_hash(model))
    broken = []
    for number, way in [*((n, None) for n in (CANDIDATE, *GOOD)), *enumerate(BREAK.values(), 100)]:
        folder = save(backbone, shape, number, adapters.stage(number))
        if way is not None:
            way(folder)
        manifest = adapters.publish(
            folder,
            parent=0,
            run_id=number,
            data_manifest_hash="d" * 64,
            metrics={},
            verdict=Verdict(passed=True),
            fence=lambda: None,
        )
        if way is not None:
            broken.append(manifest.version)
        else:
            assert manifest.version == number
    return adapters, broken


@pytest.fixture
def server(store_url: str, redis: StoreClient, tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    environment = {
        "AMENDS_REDIS_URL": store_url,
        "AMENDS_HOME": str(tmp_path / "home"),
        "AMENDS_BASE_MODEL": str(make_tiny_model(tmp_path / "model")),
        "AMENDS_KNOWLEDGE": str(write_shop(tmp_path / "shop")),
        "AMENDS_DTYPE": "float32",
        "AMENDS_CONTEXT_TOKENS": "1024",
        "AMENDS_MAX_RESPONSE_TOKENS": str(TOKENS),
        "AMENDS_PASSAGES": "1",
        "AMENDS_THREADS": "1",
        "AMENDS_SERVER_PORT": "0",
        "AMENDS_SERVER_TEMPERATURE": "0",
        "AMENDS_SERVER_VISITOR_MESSAGES_PER_MINUTE": "1000000",
        "AMENDS_SERVER_ADDRESS_MESSAGES_PER_MINUTE": "1000000",
    }
    command = [sys.executable, "-c", SERVER]
    log = open(tmp_path / "server.log", "w+")
    process = subprocess.Popen(command, env={**os.environ, **environment}, stderr=log, text=True)
    yield process
    process.kill()
    process.wait()
    log.close()


def port_of(log: Path) -> int:
    deadline = time.monotonic() + 60
    while "listening on" not in log.read_text():
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.05)
    line = next(line for line in log.read_text().splitlines() if "listening on" in line)
    return int(line.rsplit(" ", 1)[1])


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_thousand_swaps_under_a_hundred_sockets(
    server: subprocess.Popen[str], tmp_path: Path
) -> None:
    adapters, broken = publish_all(tmp_path / "home", tmp_path / "model")
    adapters.activate(GOOD[-1], "test", "test")
    address = f"127.0.0.1:{port_of(tmp_path / 'server.log')}"
    ways = itertools.cycle(broken)
    memory: list[int] = []

    async def ready(http: httpx.AsyncClient, version: int, refused: int | None) -> None:
        """Until the version answers and the refused one is reported."""
        async with asyncio.timeout(WAIT_S):
            while True:
                told = await http.get("/readyz")
                if told.status_code == 200:
                    found, refusal = told.json()["policy_version"], told.json()["refusal"]
                    if (found, refusal and refusal["version"]) == (version, refused):
                        return
                await asyncio.sleep(0.01)

    async def swap_all() -> Visitors:
        async with httpx.AsyncClient(base_url=f"http://{address}", timeout=WAIT_S) as http:
            await ready(http, GOOD[-1], None)
            session = (await http.post("/v1/session", json={})).json()
            visitors = Visitors(f"ws://{address}/v1/chat", session["token"])
            tasks = [asyncio.create_task(visitors.visit()) for _ in range(STREAMS)]
            for swap in range(SWAPS_OF_THE_SERVER):
                version = GOOD[swap % len(GOOD)]
                await asyncio.to_thread(adapters.activate, version, "test", "test")
                await asyncio.to_thread(adapters.set_candidate, CANDIDATE, share=0.3)
                await ready(http, version, None)
                if swap % 20 == 10:
                    bad = next(ways)
                    await asyncio.to_thread(adapters.activate, bad, "test", "test")
                    await ready(http, version, bad)
                    await asyncio.to_thread(adapters.roll_back, "test", "test")
                    await ready(http, version, None)
                if swap in (SWAPS_OF_THE_SERVER // 10, SWAPS_OF_THE_SERVER - 1):
                    memory.append(resident_bytes(server.pid))
                assert all(not task.done() for task in tasks), visitors.wrong
            visitors.over = True
            await asyncio.gather(*tasks)
            return visitors

    visitors = asyncio.run(swap_all())
    print(f"{visitors.responses} responses; resident MB {[n >> 20 for n in memory]}")
    assert not visitors.wrong
    assert visitors.versions == {CANDIDATE, *GOOD}
    assert visitors.responses > SWAPS_OF_THE_SERVER
    assert memory[1] - memory[0] < FLAT_BYTES

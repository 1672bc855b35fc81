"""Swaps of the answering version while visitors are answered: how soon new turns use the new one,
what running streams feel, and a storm of swaps in which nothing may be lost or mixed.

Prints one JSON line for each figure. Whether a turn was mixed is seen by computing its tokens'
log-probabilities again under the version that it names.
"""

import asyncio
import json
import re
import tempfile
import time
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from statistics import quantiles
from typing import Any

import httpx
import torch
import websockets
from amends_server import AmendsServer, amends_server, message, published
from cells import Workload, arguments, report

from amends.backbone import Backbone
from amends.base_model import load_causal_lm
from amends.conversation import Turn
from amends.conversation_store import ConversationStore
from amends.embedded_store import open_store
from amends.lora import load_lora
from amends.settings import Settings
from amends.store_client import connect

WINDOWS, WINDOW_S, SWAPS_A_WINDOW = 6, 10.0, 10
STORM_SWAPS, STORM_STREAMS = 1000, 100
CHECKED_TURNS = 400
WORDS = 12
LOOK_S, SWAP_LOOK_S = 0.1, 0.01  # between two looks, which cost what they watch; of swaps the
# log has times, of loads nothing finer is known
LOG_END = 4000  # bytes
NEAR = 0.15  # nats; bfloat16 gives 0.03, another version's tokens several


@dataclass
class Seen:
    """What visitors noticed."""

    gaps_s: list[float] = field(default_factory=list)  # from a token to the next
    turns: list[str] = field(default_factory=list)  # conversation ids of whole answers
    dropped: list[str] = field(default_factory=list)  # what came instead of a whole answer


class Visitor:
    """Opens conversation after conversation and asks one question in each."""

    def __init__(self, server: AmendsServer, seen: Seen, number: int) -> None:
        self._server, self._seen, self._number = server, seen, number
        self._turns = 0

    async def chat(self, token: str, until: asyncio.Event) -> None:
        url = self._server.url.replace("http", "ws", 1) + "/v1/chat"
        while not until.is_set():
            self._turns += 1
            async with websockets.connect(url, proxy=None) as socket:
                hello = {"type": "hello", "protocol": 1, "token": token}
                await socket.send(json.dumps({**hello, "conversation_id": None, "after_seq": None}))
                text = message(WORDS, f"{self._number}/{self._turns}")
                ask = {"type": "message", "message_id": uuid.uuid4().hex, "text": text}
                await socket.send(json.dumps(ask))
                await self._listen(socket)

    async def _listen(self, socket: Any) -> None:
        before: float | None = None
        try:
            async for raw in socket:
                frame, now = json.loads(raw), time.perf_counter()
                if frame["type"] == "token":
                    if before is not None:
                        self._seen.gaps_s.append(now - before)
                    before = now
                elif frame["type"] == "done" and frame["finish_reason"] != "cancelled":
                    self._seen.turns.append(frame["conversation_id"])
                    return
                elif frame["type"] in ("done", "error"):
                    self._seen.dropped.append(str(raw)[:200])
                    return
        except websockets.ConnectionClosed as closed:
            self._seen.dropped.append(str(closed))


@asynccontextmanager
async def visitors(server: AmendsServer, count: int, seen: Seen) -> AsyncIterator[None]:
    async with httpx.AsyncClient(base_url=server.url, timeout=60.0) as http:
        token = (await http.post("/v1/session", json={})).json()["token"]
    until = asyncio.Event()
    chats = [asyncio.create_task(Visitor(server, seen, i).chat(token, until)) for i in range(count)]
    try:
        await asyncio.sleep(3.0)  # all of them are being answered
        yield
    finally:
        until.set()
        await asyncio.gather(*chats)


async def load(server: AmendsServer, version: int) -> float:
    """Makes it the candidate, with no share yet; seconds until it can answer."""
    moved, name = time.perf_counter(), f"amends-v{version}"
    store = server.adapters
    await asyncio.to_thread(
        store.set_candidate, version, "bench", "benchmark", share=0.0, force=True
    )
    async with httpx.AsyncClient(base_url=server.url, timeout=60.0) as http:
        headers = {"Authorization": f"Bearer {server.staff_token}"}
        while time.perf_counter() < moved + 60:
            models = (await http.get("/v1/models", headers=headers)).json()["data"]
            if any(model["id"] == name for model in models):
                return time.perf_counter() - moved
            await asyncio.sleep(LOOK_S)
    raise RuntimeError(f"version {version} was not loaded within 60 s")


async def swap(server: AmendsServer, version: int) -> float:
    """Moves the alias; seconds from then until the server says that new turns use it."""
    await asyncio.to_thread(server.adapters.activate, version, "bench", "benchmark", force=True)
    moved = (server.home / "adapters" / "aliases.json").stat().st_mtime
    says = re.compile(
        rf"^(\d{{4}}-\S+ \S+) INFO .* version {version} answers from now on", re.MULTILINE
    )
    while time.time() < moved + 60:
        for found in says.finditer(_end_of(server.log)):
            at = datetime.strptime(found[1], "%Y-%m-%d %H:%M:%S,%f").timestamp()
            if at >= moved - 0.001:
                return at - moved
        await asyncio.sleep(SWAP_LOOK_S)
    raise RuntimeError(f"version {version} did not answer within 60 s")


async def swaps_of_fresh_versions(server: AmendsServer, folder: Path) -> None:
    """16 streams; windows without and with swaps in turn, so that both see the same machine."""
    quiet, swapping = Seen(), Seen()
    loads: list[float] = []
    swaps: list[float] = []
    for window in range(2 * WINDOWS):
        seen = swapping if window % 2 else quiet
        async with visitors(server, 16, seen):
            seen.gaps_s.clear() if window < 2 else None
            if seen is quiet:
                await asyncio.sleep(WINDOW_S)
                continue
            for _ in range(SWAPS_A_WINDOW):
                version = await asyncio.to_thread(published, server.adapters, folder)
                loads.append(await load(server, version))
                await asyncio.sleep(WINDOW_S / SWAPS_A_WINDOW / 2)
                swaps.append(await swap(server, version))
                await asyncio.sleep(WINDOW_S / SWAPS_A_WINDOW / 2)
    for metric, took in (("load_s", loads), ("swap_s", swaps)):
        p, setting = _percentiles(took), {"streams": 16, "swaps": len(took)}
        report({"metric": metric, "stat": "p50", **setting, "value": p[49]})
        report({"metric": metric, "stat": "p99", **setting, "value": p[98]})
    before, during = _percentiles(quiet.gaps_s), _percentiles(swapping.gaps_s)
    added = {"metric": "added_token_latency_s", "streams": 16}
    for stat, at in (("p50", 49), ("p99", 98)):
        report({**added, "stat": stat, "value": during[at] - before[at], "without": before[at]})


async def storm(server: AmendsServer, versions: list[int]) -> Seen:
    """Swaps to and fro between versions that are loaded, as fast as the server takes them."""
    seen = Seen()
    async with visitors(server, STORM_STREAMS, seen):
        for number in range(STORM_SWAPS):
            await swap(server, versions[number % len(versions)])
    return seen


def mixed(workload: Workload, server: AmendsServer, seen: Seen) -> int:
    """Turns whose tokens are not all of the version that they name."""
    torch.set_num_threads(workload.threads)
    backbone = Backbone(load_causal_lm(Path(workload.model), torch.bfloat16), 1024)
    shape, packed, count = backbone.lora_shape(16, 32.0), {}, 0
    step = max(1, len(seen.turns) // CHECKED_TURNS)
    settings = Settings(home=server.home, redis_url=None)
    with open_store(settings) as url, connect(url) as client:
        store = ConversationStore(client)
        for conversation_id in seen.turns[::step]:
            turn: Turn = store.read(conversation_id).turns[0]
            sampled, version = turn.sampled, turn.policy_version
            assert sampled is not None
            if version not in packed:
                lora = load_lora(server.adapters.folder(version), shape)
                packed[version] = lora.pack(torch.bfloat16)
            ids = torch.tensor([[*sampled.prompt_token_ids, *sampled.token_ids]])
            with torch.inference_mode():
                hidden, _ = backbone.hidden(ids, packed[version])
                at = slice(len(sampled.prompt_token_ids) - 1, ids.shape[1] - 1)
                found = backbone.token_logprobs(hidden[0, at], torch.tensor(sampled.token_ids))
            count += float((found - torch.tensor(sampled.logprobs)).abs().mean()) > NEAR
    return count


def _end_of(log: Path) -> str:
    with log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - LOG_END))
        return file.read().decode(errors="replace")


def _percentiles(values: list[float]) -> list[float]:
    return quantiles(values, n=100, method="inclusive")


def main() -> None:
    workload, _ = arguments()
    first, second = workload.adapters
    with (
        tempfile.TemporaryDirectory(prefix="amends-bench-") as home,
        amends_server(workload.model, workload.adapters, workload.new_tokens, Path(home)) as server,
    ):
        asyncio.run(swaps_of_fresh_versions(server, Path(second)))
        versions = [published(server.adapters, Path(folder)) for folder in (first, second)]
        for version in versions:  # champion and previous: both stay loaded
            asyncio.run(swap(server, version))
        seen = asyncio.run(storm(server, versions))
        setting = {"swaps": STORM_SWAPS, "streams": STORM_STREAMS, "turns": len(seen.turns)}
        report(
            {"metric": "dropped", **setting, "value": len(seen.dropped), "e.g.": seen.dropped[:3]}
        )
        checked = min(CHECKED_TURNS, len(seen.turns))
        report(
            {
                "metric": "mixed",
                **setting,
                "checked": checked,
                "value": mixed(workload, server, seen),
            }
        )


if __name__ == "__main__":
    main()

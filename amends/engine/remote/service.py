"""The engine's interface (amends.engine.service.EngineService) over vLLM servers: one thread owns
the connections, callers stream, load, unload and swap.

Knows no stores and no base model's weights. Invariants: a load that fails changes nothing; a swap
is one assignment, and a response keeps the version it was bound to; a stream that is closed ends
its request on the replica.
"""

import asyncio
import logging
import threading
from collections.abc import AsyncGenerator, Callable, Coroutine
from concurrent.futures import Future
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, TypeVar

from amends.engine.remote.fleet import RETRY_S, Fleet
from amends.engine.remote.response import Response
from amends.engine.remote.versions import Versions
from amends.engine.sequence import Chunk, Request
from amends.errors import AdapterRefused, EngineBusy, InvalidInput
from amends.lora import LoraShape, load_lora

log = logging.getLogger(__name__)
T = TypeVar("T")

MAX_WAITING: Final = 128  # requests without a token, per replica


class RemoteEngine:
    """stream / load / unload / swap from an event loop."""

    def __init__(
        self, fleet: Fleet, versions: Versions, lora_shape: LoraShape, context_tokens: int
    ) -> None:
        self._fleet = fleet
        self._versions = versions
        self._shape = lora_shape
        self._context_tokens = context_tokens
        self._publishing = asyncio.Lock()
        self._stop = asyncio.Event()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="engine", daemon=True)
        self._thread.start()

    @property
    def active_version(self) -> int:
        """The version that new requests use."""
        return self._versions.active_version

    @property
    def alive(self) -> bool:
        """False once the engine's thread has ended: nothing will be answered any more."""
        return self._thread.is_alive()

    @property
    def obstacle(self) -> str | None:
        """Why no request can be answered now; None when they are."""
        return self._fleet.obstacle if self.alive else "the engine has stopped"

    def versions(self) -> tuple[int, ...]:
        """Versions that requests may name."""
        return self._versions.versions()

    def queue_depth(self) -> int:
        """Requests without a token."""
        return sum(member.waiting for member in self._fleet.members)

    def running(self) -> int:
        """Requests that are being written."""
        return sum(member.running for member in self._fleet.members)

    @property
    def stats(self) -> None:
        """Nothing is counted here: each replica has a /metrics of its own."""
        return None

    async def stream(self, request: Request) -> AsyncGenerator[Chunk, None]:
        """Chunks as they are written; closing the iterator cancels.

        Raises EngineBusy (no replica can answer, too many wait, or the deadline passed before the
        first token), InvalidInput, NotFound.
        """
        loop = asyncio.get_running_loop()
        items: asyncio.Queue[Chunk | Future[None]] = asyncio.Queue()

        def put(item: Chunk | Future[None]) -> None:
            with suppress(RuntimeError):  # the loop is closed: nobody listens any more
                loop.call_soon_threadsafe(items.put_nowait, item)

        written = self._post(self._write(request, put))
        written.add_done_callback(put)
        version = self.active_version if request.version is None else request.version
        try:
            while isinstance(item := await items.get(), Chunk):
                version = item.version
                yield item
            if item.cancelled():  # by close()
                yield Chunk((), (), version, "cancelled")
            else:
                item.result()
        finally:
            written.cancel()

    async def load(self, version: int, folder: Path) -> None:
        """Make `version` able to answer whoever names it; what is active stays.

        The files are checked here, then every replica loads and uses them once. Raises
        AdapterRefused, EngineBusy; then nothing has changed.
        """
        await self._make_able(version, folder)
        await self._call(self._keep(version))

    async def unload(self, version: int) -> None:
        """No new request gets `version`; it leaves the replicas when its last response is finished.

        Raises NotFound for the active version and the base model.
        """
        await self._call(self._drop(version))

    async def swap(self, version: int, folder: Path | None) -> None:
        """Make `version` answer from the next turn on; without `folder` it must be loaded.

        Raises AdapterRefused, EngineBusy, NotFound; then nothing has changed.
        """
        if folder is not None:
            await self._make_able(version, folder)
        await self._call(self._activate(version))

    def close(self) -> None:
        """Streams in flight end as cancelled; the replicas forget this process's adapters."""
        with suppress(RuntimeError):  # it has ended already
            self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()

    async def _make_able(self, version: int, folder: Path) -> None:
        if version not in self.versions():
            await asyncio.to_thread(self._check, version, folder)
            await self._call(self._publish(version, folder))

    def _check(self, version: int, folder: Path) -> None:
        """Replicas would take other shapes, and noise of their arithmetic would hide a zero."""
        lora = load_lora(folder, self._shape)
        if not any(t.any() for name, t in lora.tensors.items() if name.endswith("lora_B")):
            raise AdapterRefused(f"version {version} is all zeros: it would change nothing")

    def _post(self, work: Coroutine[Any, Any, T]) -> "Future[T]":
        try:
            return asyncio.run_coroutine_threadsafe(work, self._loop)
        except RuntimeError:  # the loop is closed
            work.close()
            raise EngineBusy("the engine has stopped; restart the server", 30.0) from None

    async def _call(self, work: Coroutine[Any, Any, T]) -> T:
        return await asyncio.wrap_future(self._post(work))

    # What follows runs in the engine's own loop.

    async def _write(self, request: Request, put: Callable[[Chunk], None]) -> None:
        needed = len(request.prompt_ids) + request.sampling.max_tokens
        if not request.prompt_ids or needed > self._context_tokens:
            raise InvalidInput(
                f"expected a prompt that with its response fits {self._context_tokens} tokens, "
                f"got {len(request.prompt_ids)} + {request.sampling.max_tokens}"
            )
        waiting = self.queue_depth()
        if waiting >= MAX_WAITING * len(self._fleet.members):
            raise EngineBusy(f"{waiting} requests are waiting already", RETRY_S)
        loaded = self._versions.acquire(request.version)
        try:
            await Response(self._fleet, loaded, request, put).write()
        finally:
            self._versions.release(loaded)

    async def _publish(self, version: int, folder: Path) -> None:
        async with self._publishing:
            if version not in self.versions():
                await self._fleet.publish(self._versions.named(version, folder.absolute()))

    async def _keep(self, version: int) -> None:
        self._versions.keep(version)

    async def _drop(self, version: int) -> None:
        self._versions.drop(version)

    async def _activate(self, version: int) -> None:
        self._versions.activate(version)

    def _run(self) -> None:
        try:
            with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
                runner.run(self._serve())
        except BaseException:
            log.exception("the engine's thread ended")
            raise

    async def _serve(self) -> None:
        watching = asyncio.create_task(self._fleet.watch())
        stopping = asyncio.create_task(self._stop.wait())
        await asyncio.wait({watching, stopping}, return_when=asyncio.FIRST_COMPLETED)
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._fleet.close()
        if not watching.cancelled():
            watching.result()

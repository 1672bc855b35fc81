"""An engine with the real one's interface, without a model: it writes given tokens at a pace."""

import asyncio
from collections.abc import AsyncGenerator, Callable
from pathlib import Path

from amends.engine.sequence import Chunk, Request
from amends.errors import AdapterRefused, EngineBusy

END = 2  # <|im_end|> of tests.tiny_model's tokenizer


class ScriptedEngine:
    """Answers with `answer(version)`, one byte-level token per chunk."""

    def __init__(self, encode: Callable[[str], list[int]]) -> None:
        self._encode = encode
        self._active = 0
        self.answer: Callable[[int], str] = lambda version: f"Written by version {version}."
        self.pause_s = 0.0
        self.fails_after: int | None = None  # tokens until it gives up, as when its thread ends
        self.busy = False
        self.alive = True
        self.refuse: set[int] = set()
        self.loaded: set[int] = set()
        self.slots_taken = False
        self.requests: list[Request] = []
        self.running = 0
        self.cancelled = 0
        self.closed = False
        self.go_on = asyncio.Event()
        self.go_on.set()

    @property
    def active_version(self) -> int:
        return self._active

    @property
    def obstacle(self) -> str | None:
        return None if self.alive else "the engine has stopped"

    def versions(self) -> tuple[int, ...]:
        return tuple({0, self._active, *self.loaded})

    @property
    def stats(self) -> None:
        """It counts nothing, as an engine elsewhere."""
        return None

    def queue_depth(self) -> int:
        return 0

    async def stream(self, request: Request) -> AsyncGenerator[Chunk, None]:
        if self.busy:
            raise EngineBusy("the queue is full", retry_after_s=3.0)
        self.requests.append(request)
        version = self._active if request.version is None else request.version
        token_ids = self._encode(self.answer(version))[: request.sampling.max_tokens - 1]
        self.running += 1
        finished = False
        try:
            for written, token_id in enumerate(token_ids):
                await self.go_on.wait()
                if written == self.fails_after:
                    yield Chunk((), (), version, "cancelled")
                    return
                await asyncio.sleep(self.pause_s)
                yield Chunk((token_id,), (-0.5,), version)
            finished = True
            yield Chunk((END,), (-0.1,), version, "stop")
        finally:
            self.running -= 1
            self.cancelled += not finished

    async def load(self, version: int, folder: Path) -> None:
        await asyncio.sleep(0)
        if version in self.refuse:
            raise AdapterRefused(f"version {version} does not fit")
        if self.slots_taken:
            raise EngineBusy("no free slot", retry_after_s=0.1)
        self.loaded.add(version)

    async def unload(self, version: int) -> None:
        assert version not in (0, self._active)
        self.loaded.discard(version)

    async def swap(self, version: int, folder: Path | None) -> None:
        if version not in self.versions():
            assert folder is not None
            await self.load(version, folder)
        self._active = version

    def close(self) -> None:
        self.closed = True

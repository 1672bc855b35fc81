"""Another version is active: asks the engine to swap.

Knows the engine and the adapter store, nothing else. Polls the alias file with stat, because that
works on every file system and costs microseconds. Invariant: an adapter that is refused changes
nothing; the old version goes on answering, and the refusal is shown until the alias moves again.
"""

import asyncio
import logging
import time
from pathlib import Path
from typing import Final, Protocol

from anyio import to_thread

from amends.adapter_store import AdapterStore
from amends.engine.histogram import Histogram
from amends.errors import AdapterRefused, EngineBusy, ModelUnavailable, NotFound
from amends.record import Record

log = logging.getLogger(__name__)

POLL_S: Final = 0.02
CHAMPION: Final = "champion"
SWAP_S: Final = (0.01, 0.02, 0.03, 0.04, 0.06, 0.08, 0.1, 0.15, 0.25, 0.5, 1.0, 5.0, 30.0)

_Stamp = tuple[int, int, int]


class Swappable(Protocol):
    """What the watcher needs of an engine (amends.engine.service.EngineService)."""

    @property
    def active_version(self) -> int: ...

    @property
    def alive(self) -> bool: ...

    def versions(self) -> tuple[int, ...]: ...

    async def swap(self, version: int, folder: Path | None) -> None: ...


class Refusal(Record):
    """The champion that the engine does not serve, and why; None: it cannot even be read."""

    version: int | None
    reason: str


class AdapterWatcher:
    """Keeps the engine on the champion."""

    def __init__(self, engine: Swappable, adapters: AdapterStore, alias_file: Path) -> None:
        self._engine = engine
        self._adapters = adapters
        self._alias_file = alias_file
        self._seen: _Stamp | None = None
        self.refusal: Refusal | None = None
        self.refusals = 0
        self.swap_s = Histogram(SWAP_S)  # from the alias' move to the end of the swap

    async def run(self) -> None:
        """Watches until it is cancelled. Raises ModelUnavailable when the engine has stopped."""
        while True:
            if not self._engine.alive:
                raise ModelUnavailable("the engine has stopped; its log says why")
            stamp = self._stamp()
            if stamp != self._seen:
                self._seen = stamp
                await self.follow()
            await asyncio.sleep(POLL_S)

    async def follow(self) -> None:
        """Serves the champion as it stands now, or notes why not."""
        version: int | None = None
        try:
            version = await to_thread.run_sync(self._adapters.alias, CHAMPION)
            if version != self._engine.active_version:
                await self._swap(version)
                if self._seen:  # else it moved while nobody watched
                    self.swap_s.observe(max(0.0, time.time() - self._seen[1] / 1e9))
                log.info("version %d answers from now on", version)
            self.refusal = None
        except EngineBusy as error:
            self._seen = None  # every slot is taken by running turns: try again
            self._note(version, f"waiting for a free slot: {error}")
        except (AdapterRefused, NotFound, OSError) as error:
            self.refusals += self.refusal != Refusal(version=version, reason=str(error))
            self._note(version, str(error))

    async def _swap(self, version: int) -> None:
        folder = None
        if version != 0 and version not in self._engine.versions():
            await to_thread.run_sync(self._adapters.verify, version)
            folder = self._adapters.folder(version)
        await self._engine.swap(version, folder)

    def _note(self, version: int | None, reason: str) -> None:
        refusal = Refusal(version=version, reason=reason)
        if refusal != self.refusal:
            serving = self._engine.active_version
            log.error("version %s is not served, %d still is: %s", version, serving, reason)
        self.refusal = refusal

    def _stamp(self) -> _Stamp | None:
        try:
            found = self._alias_file.stat()
        except FileNotFoundError:
            return 0, 0, 0
        return found.st_ino, found.st_mtime_ns, found.st_size

"""The aliases have moved: asks the engine to hold what they point at, and to answer with it.

Knows the engine and the adapter store, nothing else. Polls the alias file with stat, because that
works on every file system and costs microseconds. Resident are the champion, the candidate and the
previous champion, so that promoting and rolling back need no file; what has no alias is unloaded.

Invariants: an adapter that is refused changes nothing; the old version goes on answering, and the
refusal is shown until the alias moves again. No conversation is given to a candidate that is not
loaded, and none to one that the alias has left. A roll back, and the end of a candidacy, do not
wait for what is being loaded for another alias, which may take vLLM half a minute.
"""

import asyncio
import logging
import time
from pathlib import Path
from typing import Final, Literal, Protocol

from anyio import to_thread

from amends.adapter_aliases import Aliases
from amends.adapter_store import AdapterStore
from amends.engine.histogram import Histogram
from amends.errors import AdapterRefused, EngineBusy, ModelUnavailable, NotFound
from amends.record import Record
from server.canary import Canary

log = logging.getLogger(__name__)

POLL_S: Final = 0.02
SWAP_S: Final = (0.01, 0.02, 0.03, 0.04, 0.06, 0.08, 0.1, 0.15, 0.25, 0.5, 1.0, 5.0, 30.0)

_Stamp = tuple[int, int, int]
Alias = Literal["champion", "candidate", "previous"]


class Swappable(Protocol):
    """What the watcher needs of an engine (amends.engine.service.EngineService)."""

    @property
    def active_version(self) -> int: ...

    @property
    def alive(self) -> bool: ...

    def versions(self) -> tuple[int, ...]: ...

    async def load(self, version: int, folder: Path) -> None: ...

    async def unload(self, version: int) -> None: ...

    async def swap(self, version: int, folder: Path | None) -> None: ...


class Refusal(Record):
    """A version that the engine does not take, and why; None: the aliases cannot even be read."""

    version: int | None
    reason: str


class AdapterWatcher:
    """Keeps the engine on the champion, and the candidate and the previous one at hand."""

    def __init__(self, engine: Swappable, adapters: AdapterStore, alias_file: Path) -> None:
        self._engine = engine
        self._adapters = adapters
        self._alias_file = alias_file
        self._seen: _Stamp | None = None
        self.refused = 0  # adapters that the engine would not take, so far
        self.swap_s = Histogram(SWAP_S)  # from the alias' move to the end of the swap
        self._aliases: Aliases | None = None  # as they were last read
        self._retry_at: float | None = None  # the engine was busy; None: nothing to try again
        self.refusals: dict[Alias, Refusal] = {}

    @property
    def canary(self) -> Canary | None:
        """The candidate as the aliases were last read, while it is loaded."""
        aliases = self._aliases
        if aliases is None or aliases.candidate not in self._engine.versions():
            return None
        return Canary(aliases.candidate, aliases.candidate_share)

    @property
    def refusal(self) -> Refusal | None:
        """The champion that is not served."""
        return self.refusals.get("champion")

    @property
    def candidate_refusal(self) -> Refusal | None:
        """The candidate that answers nobody."""
        return self.refusals.get("candidate")

    @property
    def retries(self) -> bool:
        """The engine was busy, and is asked again."""
        return self._retry_at is not None

    @property
    def _due(self) -> bool:
        return self._retry_at is not None and time.monotonic() >= self._retry_at

    @property
    def _lost(self) -> bool:
        """What an alias names was loaded and is no more, as where a replica of vLLM came back
        without it."""
        named = self._aliases.as_dict() if self._aliases is not None else {}
        told = {refusal.version for refusal in self.refusals.values()}
        return not set(named.values()) <= {0, *self._engine.versions(), *told}

    async def run(self) -> None:
        """Watches until it is cancelled. Raises ModelUnavailable when the engine has stopped."""
        others: asyncio.Task[None] | None = None  # one at a time: nothing is loaded twice
        behind = False  # the aliases have moved since it began
        try:
            while True:
                if not self._engine.alive:
                    raise ModelUnavailable("the engine has stopped; its log says why")
                if others is not None and others.done():
                    others.result()
                    others = None
                again = self._due or (others is None and (behind or self._lost))
                if again or self._stamp() != self._seen:
                    await self._lead()
                    behind = others is not None
                    others = others or asyncio.create_task(self._hold_others())
                await asyncio.sleep(POLL_S)
        finally:
            if others is not None:
                others.cancel()

    async def follow(self) -> None:
        """Has the engine do what the aliases say now, or notes why not; the champion first."""
        await self._lead()
        await self._hold_others()

    async def _lead(self) -> None:
        """What no visitor should wait for: the champion answers, a candidate of before does not."""
        watched, moved = self._seen is not None, self._stamp()
        self._seen, self._retry_at = moved, None
        try:
            self._aliases = await to_thread.run_sync(self._adapters.pointers)
        except (AdapterRefused, OSError) as error:
            self._aliases = None
            self._note("champion", None, error)
            return
        champion = self._aliases.champion
        if await self._hold("champion", champion, activate=True):
            if watched and moved[1]:  # else it moved while nobody watched
                self.swap_s.observe(max(0.0, time.time() - moved[1] / 1e9))
            log.info("version %d answers from now on", champion)
        await self._unload_others(self._aliases)

    async def _hold_others(self) -> None:
        """The previous champion, then the candidate, which answers its share from then on."""
        if (aliases := self._aliases) is not None:
            await self._hold("previous", aliases.previous)
            await self._hold("candidate", aliases.candidate)

    async def _hold(self, alias: Alias, version: int | None, activate: bool = False) -> bool:
        """Whether something was changed so that the version is resident, or active."""
        engine, changed = self._engine, False
        try:
            if version is not None and version not in engine.versions():
                await to_thread.run_sync(self._adapters.verify, version)
                await engine.load(version, self._adapters.folder(version))
                changed = True
            if version is not None and activate and version != engine.active_version:
                await engine.swap(version, None)
                changed = True
            self.refusals.pop(alias, None)
        except EngineBusy as error:
            # Every slot is taken by running turns, or a replica of vLLM was too slow.
            self._retry_at = time.monotonic() + error.retry_after_s
            self._note(alias, version, f"not yet, will be tried again: {error}", logging.WARNING)
        except (AdapterRefused, NotFound, OSError) as error:
            self.refused += self._note(alias, version, error)
        return changed

    async def _unload_others(self, aliases: Aliases) -> None:
        wanted = {0, self._engine.active_version, *aliases.as_dict().values()}
        for version in set(self._engine.versions()) - wanted:
            await self._engine.unload(version)

    def _note(
        self, alias: Alias, version: int | None, reason: object, level: int = logging.ERROR
    ) -> bool:
        """Whether it is news."""
        refusal = Refusal(version=version, reason=str(reason))
        news = refusal != self.refusals.get(alias)
        if news:
            serving = self._engine.active_version
            message = "%s %s is not loaded, %d answers: %s"
            log.log(level, message, alias, version, serving, refusal.reason)
        self.refusals[alias] = refusal
        return news

    def _stamp(self) -> _Stamp:
        """Where the file cannot be looked at, its reader says why."""
        try:
            found = self._alias_file.stat()
        except OSError:
            return 0, 0, 0
        return found.st_ino, found.st_mtime_ns, found.st_size

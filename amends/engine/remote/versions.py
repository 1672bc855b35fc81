"""Which policy version has which adapter name on the replicas, and who still needs it.

Knows no HTTP and no replica. Invariants: a name is given once, also over restarts of this process,
because vLLM keeps what it computed by name; version 0 is an adapter of zeros; a version that a
response is bound to, or was bound to within the last GRACE_S, keeps its name.
"""

import hashlib
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from amends.errors import NotFound

GRACE_S: Final = 30.0


@dataclass(eq=False)
class Loaded:
    """A version under the name that replicas know it by."""

    version: int
    name: str
    folder: Path
    kept: bool = False  # somebody asked for it and has not given it back
    references: int = 0
    idle_since_s: float = 0.0


class Versions:
    """The versions that new requests may ask for, and those that only finish what they began."""

    def __init__(
        self, adapters_folder: Path, zeros: Path, clock: Callable[[], float] = time.monotonic
    ) -> None:
        folder = hashlib.sha256(str(adapters_folder).encode()).hexdigest()[:8]
        self.owner = f"amends-{folder}-"  # names of this install, of earlier processes too
        self._prefix = f"{self.owner}{secrets.token_hex(4)}"
        self._given = 0
        self._clock = clock
        self.active_version = 0
        self.previous_version = 0
        self._open = {0: self.named(0, zeros)}
        self._leaving: list[Loaded] = []

    def versions(self) -> tuple[int, ...]:
        """Versions that new requests may ask for."""
        return tuple(self._open)

    def named(self, version: int, folder: Path) -> Loaded:
        """The version under a name that was never given before; nobody can ask for it yet."""
        self._given += 1
        return Loaded(version, f"{self._prefix}-v{version}-{self._given}", folder)

    def add(self, loaded: Loaded) -> None:
        """From now on requests may ask for it."""
        loaded.idle_since_s = self._clock()
        self._open[loaded.version] = loaded

    def keep(self, version: int) -> None:
        """It stays until it is dropped, or until it has been active and another one is. Raises
        NotFound.
        """
        self._known(version).kept = True

    def wanted(self) -> tuple[Loaded, ...]:
        """What a replica must hold before it answers, the base model first."""
        return tuple(self._open.values())

    def name_of(self, version: int) -> str:
        """The name that replicas know an open version by."""
        return self._open[version].name

    def needed(self) -> frozenset[str]:
        """Names that must not be taken from a replica."""
        return frozenset(loaded.name for loaded in (*self._open.values(), *self._leaving))

    def acquire(self, version: int | None) -> Loaded:
        """Bind a response to a version; None means the active one. Raises NotFound."""
        loaded = self._known(self.active_version if version is None else version)
        loaded.references += 1
        return loaded

    def release(self, loaded: Loaded) -> None:
        """A response that was bound to it is finished."""
        loaded.references -= 1
        loaded.idle_since_s = self._clock()

    def activate(self, version: int) -> None:
        """Requests that name no version get this one. Raises NotFound."""
        self._known(version).kept = False
        if version != self.active_version:
            self.previous_version, self.active_version = self.active_version, version

    def drop(self, version: int) -> None:
        """No new request can ask for it; nothing happens where it is not known. Raises NotFound
        for the active version and the base model.
        """
        if version in (0, self.active_version):
            raise NotFound(f"version {version} is active or the base model, which always stay")
        if version in self._open:
            self._leaving.append(self._open.pop(version))

    def retire(self) -> None:
        """Drop what nobody needs, and give up the names that have been idle long enough."""
        spared = {0, self.active_version, self.previous_version}
        for loaded in list(self._open.values()):
            if loaded.version not in spared and not loaded.kept and self._over(loaded):
                self._leaving.append(self._open.pop(loaded.version))
        self._leaving = [loaded for loaded in self._leaving if not self._over(loaded)]

    def _known(self, version: int) -> Loaded:
        if version not in self._open:
            known = ", ".join(str(v) for v in self._open)
            raise NotFound(f"version {version} is not loaded; loaded are {known}")
        return self._open[version]

    def _over(self, loaded: Loaded) -> bool:
        return not loaded.references and self._clock() - loaded.idle_since_s >= GRACE_S

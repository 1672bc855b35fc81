"""Which version a name means, for programs that ask for a model by name.

Knows the adapter store and what the engine has loaded. Invariant: a name that is listed, or for
which `version` returns, is a version that can answer now. "amends" is whatever answers visitors.
"""

import re
from dataclasses import dataclass
from typing import Final, Protocol

from amends.adapter_store import AdapterStore
from amends.errors import AdapterRefused, AmendsError, NotFound

ACTIVE: Final = "amends"
_BASE: Final = ("base", "amends-base")
_VERSION: Final = re.compile(r"(?:amends-)?v?([0-9]{1,9})")


class UnknownModel(NotFound):
    """No alias and no version has this name."""


class ModelNotLoaded(AmendsError):
    """The version exists, but the engine has not loaded it."""


class Loaded(Protocol):
    """What the names need of an engine (amends.engine.service.EngineService)."""

    @property
    def active_version(self) -> int: ...

    def versions(self) -> tuple[int, ...]: ...


@dataclass(frozen=True)
class NamedModel:
    """A name, the version it means now, and when that was published (0.0: the base model)."""

    name: str
    version: int
    created_at: float


class ModelNames:
    """Names of the versions of one install. Every method reads files."""

    def __init__(self, engine: Loaded, adapters: AdapterStore) -> None:
        self._engine = engine
        self._adapters = adapters

    def version(self, name: str) -> int:
        """The version that a name means now. Raises UnknownModel, ModelNotLoaded."""
        version = self._meant(name)
        if version not in self._engine.versions():
            loaded = ", ".join(name_of(loaded) for loaded in self._engine.versions())
            raise ModelNotLoaded(
                f"model {name!r} is version {version}, which is not loaded; loaded are {loaded}. "
                "The champion, the one before it and the candidate are: "
                f"amends adapters candidate {version} (--share 0 ends another's trial)"
            )
        return version

    def model(self, name: str) -> NamedModel:
        """What a name means now. Raises UnknownModel, ModelNotLoaded."""
        return self._named(name, self.version(name))

    def listed(self) -> tuple[NamedModel, ...]:
        """Every alias and version that can answer now: aliases first, versions in order."""
        loaded = sorted(self._engine.versions())
        aliases = [(name, v) for name, v in self._adapters.aliases().items() if v in loaded]
        versions = [(name_of(version), version) for version in loaded]
        found = [(ACTIVE, self._engine.active_version), *aliases, *versions]
        return tuple(self._named(name, version) for name, version in found)

    def _meant(self, name: str) -> int:
        if name == ACTIVE:
            return self._engine.active_version
        aliases = self._adapters.aliases()
        if name in aliases:
            return aliases[name]
        if name in _BASE:
            return 0
        number = _VERSION.fullmatch(name)
        if number is not None and self._exists(int(number[1])):
            return int(number[1])
        known = ", ".join(model.name for model in self.listed())
        raise UnknownModel(f"no model {name!r}; there are {known}")

    def _exists(self, version: int) -> bool:
        if version in self._engine.versions():
            return True
        try:
            self._adapters.folder(version)
        except NotFound:
            return False
        return True

    def _named(self, name: str, version: int) -> NamedModel:
        try:
            return NamedModel(name, version, self._adapters.get(version).created_at)
        except (NotFound, AdapterRefused):  # the base model, or a folder gone since it was loaded
            return NamedModel(name, version, 0.0)


def name_of(version: int) -> str:
    """The version's own name, which no alias moves."""
    return f"{ACTIVE}-v{version}"

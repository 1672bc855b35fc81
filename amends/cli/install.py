"""What a command opens of this install: settings, store, base model, adapter store.

Knows no command. Invariant: a failure to open one of them is an AmendsError that says what to do.
"""

import getpass
import os
from collections.abc import Iterator
from contextlib import contextmanager
from difflib import get_close_matches
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from amends.cli.output import Bars
from amends.errors import ModelUnavailable
from amends.settings import Settings, from_environment, variable_of

if TYPE_CHECKING:  # both cost a good part of a second, and `amends --help` needs neither
    from amends.adapter_store import AdapterStore
    from amends.store_client import StoreClient

# By name, because what is shared imports no program.
SETTINGS = (
    "amends.settings:Settings",
    "server.settings:ServerSettings",
    "worker.settings:WorkerSettings",
    "worker.learning_settings:LearningSettings",
    "worker.judge.thresholds:GateThresholds",
    "worker.canary.settings:CanarySettings",
)
NO_SETTINGS = ("AMENDS_BENCH_DATA", "AMENDS_STORE_PASSWORD")  # of the Makefile, of docker/
STAGES = {"download": "Downloading the base model", "convert": "Converting it, once"}


def read_settings() -> Settings:
    """Settings from the environment. Raises SettingsError that names the variable."""
    return from_environment(Settings)


def misspelt_variables() -> list[str]:
    """A line for each AMENDS_ variable that no program reads. Raises SettingsError for the first
    that a program would refuse once it is started.
    """
    known = set(NO_SETTINGS)
    for place in SETTINGS:
        module, name = place.split(":")
        kind = getattr(import_module(module), name)
        from_environment(kind)
        known.update(variable_of(kind, field) for field in kind.model_fields)
    found = []
    for name in sorted(os.environ):
        if name.upper().startswith("AMENDS_") and name.upper() not in known:
            near = get_close_matches(name.upper(), known, 1)
            found.append(f"no program reads {name}" + (f"; {near[0]} is one" if near else ""))
    return found


@contextmanager
def opened_store(settings: Settings) -> Iterator[tuple[str, "StoreClient"]]:
    """The store's URL and a client: of the running install, or opened for this command only."""
    from amends.embedded_store import connect, open_store

    with open_store(settings) as url:
        client = connect(url)
        try:
            yield url, client
        finally:
            client.close()


def fetched_base_model(settings: Settings) -> Path:
    """The base model's folder; fetches and converts it behind progress bars when it is missing."""
    from amends.base_model import ensure_base_model

    with Bars() as bars:
        return ensure_base_model(
            settings, lambda stage, done, total: bars.report(STAGES.get(stage, stage), done, total)
        )


def base_model_at_hand(settings: Settings) -> Path | None:
    """The base model's folder when it needs no fetching."""
    from amends.base_model import find_base_model

    return find_base_model(settings)


def adapter_store(settings: Settings) -> "AdapterStore":
    """The adapter versions of this install, for the base model that it is set to.

    Fetches nothing and starts no line: that is `amends up`'s. Raises ModelUnavailable,
    AdapterRefused.
    """
    from amends.adapter_store import AdapterStore
    from amends.base_model import base_hash

    folder = base_model_at_hand(settings)
    if folder is None:
        raise ModelUnavailable(
            f"the base model ({settings.base_model or 'the default one'}) is not here yet, so it "
            "has no adapters; `amends up` fetches it. Set AMENDS_BASE_MODEL as `amends up` has it"
        )
    return AdapterStore(settings.adapters_folder, base_hash(folder))


def operator() -> str:
    """Who is at the command line, for audit rows."""
    return f"operator:{getpass.getuser()}"

"""What a command opens of this install: settings, store, base model, adapter store.

Knows no command. Invariant: a failure to open one of them is an AmendsError that says what to do.
"""

import getpass
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import ValidationError

from amends.cli.output import Bars
from amends.errors import ModelUnavailable, SettingsError
from amends.settings import Settings

if TYPE_CHECKING:  # both cost a good part of a second, and `amends --help` needs neither
    from amends.adapter_store import AdapterStore
    from amends.store_client import StoreClient

STAGES = {"download": "Downloading the base model", "convert": "Converting it, once"}


def read_settings() -> Settings:
    """Settings from the environment. Raises SettingsError that names the variable."""
    try:
        return Settings()
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        name = "_".join(str(part) for part in first["loc"]).upper()
        what = f"AMENDS_{name}={first['input']}: " if name else ""
        raise SettingsError(f"{what}{first['msg']}") from None


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

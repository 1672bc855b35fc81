"""`amends up`: the store, the server and the workers of one install, until Ctrl-C.

Knows which programs make an install and what to print about them; how they are kept running is the
supervisor's. Invariant: one `amends up` per home, held by a lock that dies with the process.
"""

import fcntl
import http.client
import json
import os
import signal
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.panel import Panel
from rich.table import Table

from amends.cli.install import fetched_base_model, misspelt_variables, opened_store, read_settings
from amends.cli.output import console, note
from amends.errors import AmendsError, NotFound, StoreUnavailable
from amends.settings import Settings
from amends.supervisor import Program, Supervisor

if TYPE_CHECKING:
    from amends.store_client import StoreClient

READY_NOTE_S = 60.0
PROBE_S = 0.5
STORE_LOST_S = 2.0
MAX_LOSSES, LOSS_WINDOW_S = 5, 600.0
Host = Annotated[str, typer.Option(envvar="AMENDS_SERVER_HOST", help="Address to listen on.")]
Port = Annotated[
    int,
    typer.Option(
        envvar="AMENDS_SERVER_PORT", min=0, max=65535, help="Port to listen on; 0: any free one."
    ),
]
Part = Literal["server", "workers"]
Only = Annotated[Part | None, typer.Option(help="One part, where each has a machine of its own.")]


class StoreLost(AmendsError):
    """The embedded store is gone while the programs run."""


class CannotStart(AmendsError):
    """Something that this machine has only once is taken: the home or the port."""


def up(host: Host = "127.0.0.1", port: Port = 8765, only: Only = None) -> None:
    """Run everything: store, chat server, workers. Ctrl-C stops it.

    The first start fetches the base model. Exit codes: 0 stopped on request, 1 could not start or a
    program kept crashing, 2 wrong usage, 130 stopped before the programs ran, or killed by a second
    Ctrl-C.
    """
    settings = read_settings()
    for line in misspelt_variables():
        note(f"warning: {line}")
    with only_one(settings.home), sigterm_unwinds():
        if only != "workers":
            port = require_free_port(host, port)
        fetched_base_model(settings)
        losses: list[float] = []
        while True:
            try:
                killed = run_programs(settings, host, port, only)
                break
            except StoreLost as error:
                losses = [t for t in losses if time.monotonic() - t < LOSS_WINDOW_S]
                losses.append(time.monotonic())
                if len(losses) > MAX_LOSSES:
                    raise
                note(f"{error}; starting everything again")
    raise typer.Exit(130 if killed else 0)


def run_programs(settings: Settings, host: str, port: int, only: Part | None) -> bool:
    """Store and programs until a signal; True when a second one killed them. Raises StoreLost."""
    with opened_store(settings) as (url, store):
        environment = environment_of(settings, url, host, port)
        supervisor = Supervisor(programs(only), environment, settings.home, note)
        announce_when_ready = Announcement(settings, host, port)
        guard_store = StoreGuard(store) if settings.redis_url is None else None

        def watch() -> None:
            if only != "workers":
                announce_when_ready()
            if guard_store is not None:
                guard_store()

        note(f"Starting {only or 'the server and the workers'}")
        return supervisor.run(watch)


def programs(only: Part | None) -> tuple[Program, ...]:
    """What makes an install, or one part of it, in the order in which it is stopped."""
    from amends.jobs import worker_commands

    server = (Program("server", (sys.executable, "-m", "server")),)
    workers = tuple(
        Program(name, command, 45.0, "a running round saves a checkpoint first")
        if name == "train"
        else Program(name, command, 15.0)
        for name, command in worker_commands().items()
    )
    return {"server": server, "workers": workers, None: server + workers}[only]


def environment_of(settings: Settings, url: str, host: str, port: int) -> dict[str, str]:
    """The programs' environment: ours, with what was resolved here (they run in another folder)."""
    threads = str(settings.threads)
    resolved = {
        "AMENDS_REDIS_URL": url,
        "AMENDS_HOME": str(settings.home),
        "AMENDS_CACHE": str(settings.cache),
        "AMENDS_SERVER_HOST": host,
        "AMENDS_SERVER_PORT": str(port),
        "OMP_NUM_THREADS": threads,
        "MKL_NUM_THREADS": threads,
        "TOKENIZERS_PARALLELISM": "false",
        "PYTHONUNBUFFERED": "1",
    }
    if settings.knowledge is not None:
        resolved["AMENDS_KNOWLEDGE"] = str(settings.knowledge)
    if settings.base_model is not None and Path(settings.base_model).expanduser().is_dir():
        resolved["AMENDS_BASE_MODEL"] = str(Path(settings.base_model).expanduser().resolve())
    return {**os.environ, **resolved}


@contextmanager
def sigterm_unwinds() -> Iterator[None]:
    """SIGTERM raises KeyboardInterrupt: what was begun is undone, also before the supervisor runs.

    Knows only the main thread, where signals arrive.
    """
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextmanager
def only_one(home: Path) -> Iterator[None]:
    """Holds the home's lock. Raises CannotStart when another `amends up` has it."""
    home.mkdir(parents=True, exist_ok=True)
    with (home / "up.lock").open("a+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.seek(0)
            raise CannotStart(
                f"`amends up` already runs on {home} (process {lock.read().strip() or 'unknown'}); "
                "stop it, or set AMENDS_HOME to another folder"
            ) from None
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
        yield


def is_up(home: Path) -> bool:
    """Whether an `amends up` runs on this home."""
    try:
        with only_one(home):
            return False
    except CannotStart:
        return True


def require_free_port(host: str, port: int) -> int:
    """The port, or a free one for 0. Raises CannotStart when the address cannot be listened on."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
            return int(probe.getsockname()[1])
        except OSError as error:
            raise CannotStart(
                f"expected to listen on {host}:{port}, got: {error.strerror or error}; stop what "
                "uses it, or choose another with --host and --port"
            ) from None


def policy_version(host: str, port: int) -> int | None:
    """The version that the server answers with; None while it is not ready, or is not ours."""
    reachable = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    connection = http.client.HTTPConnection(reachable, port, timeout=PROBE_S)
    try:
        connection.request("GET", "/readyz")
        response = connection.getresponse()
        body = response.read()
        return int(json.loads(body)["policy_version"]) if response.status == 200 else None
    except (OSError, http.client.HTTPException, ValueError, KeyError, TypeError):
        return None
    finally:
        connection.close()


class Announcement:
    """Probes the server, prints the addresses once it is ready, then rests. Raises nothing: what
    runs goes on running when it cannot be announced.
    """

    def __init__(self, settings: Settings, host: str, port: int) -> None:
        self._settings, self._host, self._port = settings, host, port
        self._began = self._last_probe = time.monotonic()
        self._done = self._noted = False

    def __call__(self) -> None:
        now = time.monotonic()
        if self._done or now - self._last_probe < PROBE_S:
            return
        self._last_probe = now
        version = policy_version(self._host, self._port)
        if version is not None:
            self._done = True
            try:
                announce(self._settings, self._host, self._port, version)
            except (AmendsError, OSError) as error:
                with suppress(OSError):  # nobody reads standard error either
                    note(f"Amends is up, but that could not be announced: {error}")
        elif now - self._began > READY_NOTE_S and not self._noted:
            self._noted = True
            log = self._settings.home / "logs" / "server.log"
            note(f"Still waiting for the server; its log: {log}")


class StoreGuard:
    """Raises StoreLost when the embedded store has not answered for STORE_LOST_S.

    A server that ended comes back under another port and password, so everything starts again.
    """

    def __init__(self, store: "StoreClient") -> None:
        self._store = store
        self._last_probe = self._last_answer = time.monotonic()

    def __call__(self) -> None:
        now = time.monotonic()
        if now - self._last_probe < PROBE_S:
            return
        self._last_probe = now
        try:
            self._store.ping()
        except StoreUnavailable as error:
            if now - self._last_answer > STORE_LOST_S:
                raise StoreLost(f"the embedded store ended ({error})") from error
        else:
            self._last_answer = now


def announce(settings: Settings, host: str, port: int, version: int) -> None:
    """Print where everything is."""
    shown = "localhost" if host in ("127.0.0.1", "0.0.0.0", "::", "::1") else host
    address = f"http://{shown}:{port}"
    rows = Table.grid(padding=(0, 2))
    for name, value in (
        ("Shop page", f"{address}/"),
        ("Console", f"{address}/console"),
        ("Staff token", staff_token(settings)),
        ("Policy", f"version {version}" + (" (the base model)" if version == 0 else "")),
        ("Data", str(settings.home)),
        ("Logs", str(settings.home / "logs")),
    ):
        rows.add_row(f"[bold]{name}[/bold]", value)
    console.print(Panel(rows, title="Amends is up", subtitle="Ctrl-C stops it", expand=False))


def staff_token(settings: Settings) -> str:
    """From the environment, else the generated one. Raises NotFound before the first start."""
    if os.environ.get("AMENDS_STAFF_TOKEN"):
        return os.environ["AMENDS_STAFF_TOKEN"]
    file = settings.home / "staff.token"
    if not file.is_file():
        raise NotFound(f"expected the staff token in {file}; the first `amends up` writes it")
    return file.read_text().strip()

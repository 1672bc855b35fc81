"""`python -m server`: opens the store, listens, serves until a signal.

Exit codes: 0 stopped on request, 1 could not start or can no longer answer (the message says why),
2 wrong settings.
"""

import logging
import signal
import socket
import sys

import uvicorn
from starlette.types import ASGIApp

from amends.embedded_store import open_store
from amends.errors import AmendsError, SettingsError
from amends.settings import Settings, from_environment
from server.app import create_app
from server.protocol import MAX_FRAME_BYTES
from server.settings import ServerSettings

log = logging.getLogger("server")

LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"line": {"format": "%(asctime)s %(levelname)-7s %(name)s: %(message)s"}},
    "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "line"}},
    "root": {"handlers": ["stderr"], "level": "INFO"},
    # They have a line for each request, connection and index.
    "loggers": {name: {"level": "WARNING"} for name in ("uvicorn", "bm25s", "httpx")},
}

# Longer than clients (httpx: 5) and proxies (nginx: 60) keep idle connections: they close them
# first, so that no request meets one that was closed here at that moment.
IDLE_S = 75


def config_of(app: ASGIApp, settings: ServerSettings) -> uvicorn.Config:
    """How uvicorn serves the application."""
    return uvicorn.Config(
        app,
        host=settings.host,
        port=settings.port,
        log_config=LOGGING,
        ws="websockets-sansio",
        ws_max_size=MAX_FRAME_BYTES,
        ws_per_message_deflate=False,
        server_header=False,
        timeout_keep_alive=IDLE_S,
        timeout_graceful_shutdown=settings.shutdown_s,
    )


def listening_socket(config: uvicorn.Config, unacknowledged_s: int) -> socket.socket:
    """The listener; its connections end when the peer acknowledges nothing for that long."""
    listener = config.bind_socket()
    if hasattr(socket, "TCP_USER_TIMEOUT"):  # Linux; connections inherit it from the listener
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, unacknowledged_s * 1000)
    listener.listen(config.backlog)  # who comes before the start is complete waits
    return listener


def main() -> int:
    try:
        shared, settings = from_environment(Settings), from_environment(ServerSettings)
    except SettingsError as error:
        print(error, file=sys.stderr)
        return 2
    failed = False

    def fail() -> None:
        nonlocal failed
        failed = server.should_exit = True

    try:
        with open_store(shared) as redis_url:
            app = create_app(shared, settings, redis_url, on_fatal=fail)
            config = config_of(app, settings)
            server = uvicorn.Server(config)
            listener = listening_socket(config, settings.unacknowledged_s)
            log.info("listening on %s port %d", *listener.getsockname()[:2])
            # uvicorn raises the signal that stopped it once more; the store has to be closed first.
            for number in (signal.SIGINT, signal.SIGTERM):
                signal.signal(number, lambda *_: None)
            try:
                server.run(sockets=[listener])
            finally:
                listener.close()
    except AmendsError as error:
        print(f"the server cannot start: {error}", file=sys.stderr)
        return 1
    return 1 if failed or not server.started else 0


if __name__ == "__main__":
    sys.exit(main())

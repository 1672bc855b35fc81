"""The client of the store, whose failures are the domain's.

Knows no key and no record. Invariant: whoever holds this client sees StoreUnavailable when the
store cannot be trusted with a write now (unreachable, full, read-only, loading, not allowed), and
never a Redis exception for it. Any other Redis exception that comes through is a mistake in our
own commands.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast
from urllib.parse import urlsplit

import redis
from redis.backoff import ExponentialBackoff
from redis.exceptions import (
    BusyLoadingError,
    ConnectionError,
    ExecAbortError,
    NoPermissionError,
    OutOfMemoryError,
    ReadOnlyError,
    ResponseError,
    TimeoutError,
)
from redis.retry import Retry

from amends.errors import SettingsError, StoreUnavailable

_NOT_NOW = (
    BusyLoadingError,
    ConnectionError,
    ExecAbortError,
    NoPermissionError,
    OutOfMemoryError,
    ReadOnlyError,
    TimeoutError,
)
# Prefixes of error replies that redis-py has no class for: the disk is full or a replica is
# missing.
_NOT_NOW_PREFIXES = ("MISCONF", "NOREPLICAS", "OOM", "READONLY", "LOADING", "MASTERDOWN")
_SCHEMES = ("redis", "rediss")


@contextmanager
def _as_domain_errors() -> Iterator[None]:
    try:
        yield
    except _NOT_NOW as error:
        raise StoreUnavailable(f"the store cannot be used now: {error}") from error
    except ResponseError as error:
        if str(error).startswith(_NOT_NOW_PREFIXES):
            raise StoreUnavailable(f"the store takes no writes now: {error}") from error
        raise


class StorePipeline(redis.client.Pipeline):
    """Commands sent together; each reply is checked as the client's own are."""

    def execute(self, raise_on_error: bool = True) -> list[Any]:
        with _as_domain_errors():
            return super().execute(raise_on_error)


class StoreClient(redis.Redis):
    """A redis-py client that raises StoreUnavailable. Thread-safe, answers are str."""

    def execute_command(self, *args: Any, **options: Any) -> Any:
        with _as_domain_errors():
            return super().execute_command(*args, **options)  # type: ignore[no-untyped-call]

    def pipeline(self, transaction: bool = True, shard_hint: Any = None) -> StorePipeline:
        return StorePipeline(self.connection_pool, self.response_callbacks, transaction, shard_hint)


def check_url(url: str) -> None:
    """Refuse what is not one Redis or Valkey server by URL; SettingsError says what to set."""
    scheme = urlsplit(url).scheme
    if scheme not in _SCHEMES:
        raise SettingsError(
            f"AMENDS_REDIS_URL must start with redis:// or rediss://, got {scheme!r} "
            "(Redis Cluster is no broker for Celery: name one primary server)"
        )


def connect(url: str, timeout_s: float = 10) -> StoreClient:
    """A client for `url`; connects at its first command and waits `timeout_s` for each answer.

    A dropped connection is tried again twice, a time-out never: the command may have been carried
    out. So every script of the stores bears being sent twice.
    """
    check_url(url)
    client = StoreClient.from_url(
        url,
        decode_responses=True,
        socket_timeout=timeout_s,
        socket_connect_timeout=5,
        socket_keepalive=True,
        health_check_interval=15,
        retry=Retry(ExponentialBackoff(cap=0.5, base=0.05), 2, supported_errors=(ConnectionError,)),
    )
    return cast(StoreClient, client)

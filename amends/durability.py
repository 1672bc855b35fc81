"""Is this store one that keeps what it acknowledges? Read back from the server, never assumed.

Knows no key and no record. Covers one node whose disk honours fsync; it does not cover replicas,
failover or backups. Invariant: `durability` returns only when every acknowledged write is, or can
be made, fsynced before its answer.
"""

from collections.abc import Sequence
from typing import Any, Literal

from redis.commands.core import Script
from redis.exceptions import ResponseError

from amends.errors import StoreUnavailable
from amends.store_client import StoreClient

# always: the server fsyncs before it answers; wait: CONFIG is forbidden, writers end with WAITAOF.
Durability = Literal["always", "wait"]

_WANTED = {"appendonly": "yes", "appendfsync": "always", "no-appendfsync-on-rewrite": "no"}
WAIT_MS = 5000


def durability(client: StoreClient) -> Durability:
    """How this server keeps its word; StoreUnavailable names each setting in the way."""
    _check_kind(client)
    try:
        config: dict[Any, Any] = client.config_get(*_WANTED)
    except (StoreUnavailable, ResponseError) as error:
        client.ping()
        _check_waits(client, because=f"CONFIG GET is refused ({error}) and")
        return "wait"
    wrong = [
        f"{name} is {config.get(name, 'unknown')}, must be {value}"
        for name, value in _WANTED.items()
        if config.get(name, "no" if name.startswith("no-") else None) != value
    ]
    if wrong:
        raise StoreUnavailable(
            f"the store would lose acknowledged feedback: {'; '.join(wrong)}. "
            "Set it in the server's configuration (CONFIG SET and CONFIG REWRITE) and start again"
        )
    return "always"


def to_disk(
    client: StoreClient,
    kept: Durability,
    script: Script,
    keys: Sequence[str],
    args: Sequence[str | int | float],
) -> Any:
    """What the script answers, once what it wrote is on the local disk."""
    if kept == "always":
        return script(keys=keys, args=args)
    # WAITAOF waits for its own connection's writes only, so both commands take one.
    pipeline = client.pipeline(transaction=False)
    script(keys=keys, args=args, client=pipeline)
    pipeline.execute_command("WAITAOF", 1, 0, WAIT_MS)  # type: ignore[no-untyped-call]
    try:
        answer, (local, _) = pipeline.execute()
    except ResponseError as error:
        if "WAITAOF" in str(error):  # redis-py names the command that failed
            raise _no_promise(error) from error
        raise
    _check_fsynced(local)
    return answer


def _check_waits(client: StoreClient, because: str) -> None:
    try:
        local, _ = client.execute_command("WAITAOF", 1, 0, WAIT_MS)
    except ResponseError as error:
        raise _no_promise(error, because) from error
    _check_fsynced(local)


def _no_promise(error: ResponseError, because: str = "") -> StoreUnavailable:
    return StoreUnavailable(
        f"the store cannot promise fsync: {because} WAITAOF says: {error}. "
        "Allow CONFIG GET, or use Valkey or Redis 7.2 and later with appendonly yes"
    )


def _check_fsynced(local: int) -> None:
    if int(local) < 1:
        raise StoreUnavailable(f"the store did not fsync within {WAIT_MS} ms; send it again")


def _check_kind(client: StoreClient) -> None:
    info: dict[str, Any] = client.info()
    if int(info.get("cluster_enabled", 0)):
        raise StoreUnavailable(
            "AMENDS_REDIS_URL names a Redis Cluster node: Celery cannot use a cluster as its "
            "broker, and our scripts touch keys of several slots. Use one primary server"
        )
    if info.get("redis_mode") == "sentinel" or info.get("server_mode") == "sentinel":
        raise StoreUnavailable("AMENDS_REDIS_URL names a Sentinel; name the primary server itself")
    if info.get("role") not in (None, "master"):
        raise StoreUnavailable(f"AMENDS_REDIS_URL names a {info['role']}; name the primary server")
    policy = info.get("maxmemory_policy", "noeviction")
    if policy != "noeviction":
        raise StoreUnavailable(
            f"maxmemory-policy is {policy}, must be noeviction: "
            "the store must refuse rather than forget"
        )
    if "aof_enabled" in info and not int(info["aof_enabled"]):
        raise StoreUnavailable(
            "appendonly is no, must be yes: set appendonly yes and appendfsync always"
        )

"""Are visitors being answered right now? The server says so, the trainer asks, and takes fewer
threads when they are.

The only module that spells this key. Knows no thread and no engine. Invariant: an answer that is
not repeated is forgotten after five seconds, so a server that died does not slow training for
ever.

    amends:visitors:active   string, expires after 5 s
"""

from amends.store_client import StoreClient

_KEY = "amends:visitors:active"
_FORGOTTEN_S = 5


class Activity:
    """One bit, with a memory of five seconds. Raises StoreUnavailable."""

    def __init__(self, redis: StoreClient) -> None:
        self._redis = redis

    def mark_visitor(self) -> None:
        self._redis.set(_KEY, "1", ex=_FORGOTTEN_S)

    def visitors_active(self) -> bool:
        return bool(self._redis.exists(_KEY))

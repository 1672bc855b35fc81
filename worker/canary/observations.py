"""The observations of one comparison, in the store.

The only module that spells these keys. Invariant: an observation that was stored is never replaced
(whoever looks first decides), so that what was counted once is not counted otherwise later.

    amends:canary:observed:{candidate}:{began}   hash    conversation_id -> Observation as JSON;
                                                         kept for 30 days after the last was added
"""

from collections.abc import Iterable
from typing import cast

from amends.store_client import StoreClient
from worker.canary.comparison import Comparison
from worker.canary.outcomes import Observation

_KEPT_S = 30 * 24 * 3600


class Observations:
    """Raises StoreUnavailable whenever the store cannot be used."""

    def __init__(self, redis: StoreClient) -> None:
        self._redis = redis

    def add(self, tried: Comparison, observations: Iterable[Observation]) -> None:
        """Those whose conversation has none yet."""
        key = _key(tried)
        pipeline = self._redis.pipeline(transaction=False)
        for one in observations:
            pipeline.hsetnx(key, one.conversation_id, one.model_dump_json())
        pipeline.expire(key, _KEPT_S)
        pipeline.execute()

    def read(self, tried: Comparison) -> list[Observation]:
        """All of the comparison, in the order in which the conversations began. What began before
        it is another install's, whose versions and moves had the same numbers."""
        stored = cast(list[str], self._redis.hvals(_key(tried)))
        every = (Observation.model_validate_json(text) for text in stored)
        found = [one for one in every if one.began_at >= tried.since]
        return sorted(found, key=lambda one: (one.began_at, one.conversation_id))


def _key(tried: Comparison) -> str:
    return f"amends:canary:observed:{tried.version}:{tried.began}"

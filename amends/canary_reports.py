"""What the worker last saw of a candidate on trial, in the store.

The only module that spells this key. Invariant: the report of one candidate stays until the next
one's replaces it, so that what was decided can still be read.

    amends:canary:report   string   CanaryReport as JSON
"""

from pydantic import ValidationError

from amends.canary import CanaryReport
from amends.store_client import StoreClient

_REPORT = "amends:canary:report"


class CanaryReports:
    """The last report. Raises StoreUnavailable."""

    def __init__(self, redis: StoreClient) -> None:
        self._redis = redis

    def write(self, report: CanaryReport) -> None:
        self._redis.set(_REPORT, report.model_dump_json())

    def last(self) -> CanaryReport | None:
        """None, too, for one of an earlier program: the next look writes another."""
        stored = self._redis.get(_REPORT)
        try:
            return None if stored is None else CanaryReport.model_validate_json(stored)
        except ValidationError:
            return None

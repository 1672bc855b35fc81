"""Counts by key, from any thread: what metrics add up beside the stores.

Knows nothing of what is counted. Invariant: a count only grows; it starts at 0 with the process.
"""

from threading import Lock
from typing import Generic, TypeVar

Key = TypeVar("Key")


class Tally(Generic[Key]):
    """How often each key was added."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._counts: dict[Key, int] = {}

    def add(self, key: Key) -> None:
        with self._lock:
            self._counts[key] = self._counts.get(key, 0) + 1

    def counts(self) -> dict[Key, int]:
        """A copy."""
        with self._lock:
            return dict(self._counts)

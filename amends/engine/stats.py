"""What the engine counts, and the snapshot that metrics are made of.

Knows no exporter and no clock. Invariants: counts only grow; the engine's thread alone writes them.
A snapshot taken by another thread needs no lock: each number is right, though two may be a step
apart. A request that was submitted waits, runs, or stands once in `finished` or `unserved`, until
the engine is abandoned.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from amends.conversation import FinishReason
from amends.engine.histogram import FIRST_TOKEN_S, INTER_TOKEN_S, REQUEST_S, Histogram

# The queue was full; its deadline passed before its first token; its caller left while it waited.
Unserved = Literal["queue_full", "deadline", "gave_up"]


@dataclass(frozen=True)
class EngineStats:
    """State now (down to `slots`) and counts since the start."""

    running_by_version: Mapping[int, int]
    waiting: int
    waiting_versions: frozenset[int]
    rows: int  # how many can run at once
    versions: tuple[int, ...]  # that can answer, the base model included
    slots: int
    prompt_tokens: Mapping[int, int]  # by version, of admitted requests
    reused_tokens: Mapping[int, int]  # by version: prompt tokens that were copied, not computed
    written_tokens: Mapping[int, int]  # by version
    finished: Mapping[tuple[int, FinishReason], int]  # admitted requests that ended
    unserved: Mapping[Unserved, int]
    queue_s: Mapping[int, Histogram]  # by version: from arrival to admission
    first_token_s: Mapping[int, Histogram]  # by version: from arrival to the first token
    inter_token_s: Mapping[int, Histogram]  # by version: from a token to the next
    request_s: Mapping[int, Histogram]  # by version: from arrival to an end by itself
    swaps: int

    @property
    def running(self) -> int:
        return sum(self.running_by_version.values())

    @property
    def slots_in_use(self) -> int:
        return len(self.versions)

    @property
    def prefix_lookup_tokens(self) -> int:
        """Prompt tokens that might have been computed before."""
        return sum(self.prompt_tokens.values())

    @property
    def prefix_hit_tokens(self) -> int:
        """Those of them that were copied."""
        return sum(self.reused_tokens.values())


@dataclass
class Counters:
    prompt_tokens: dict[int, int] = field(default_factory=dict)
    reused_tokens: dict[int, int] = field(default_factory=dict)
    written_tokens: dict[int, int] = field(default_factory=dict)
    finished: dict[tuple[int, FinishReason], int] = field(default_factory=dict)
    unserved: dict[Unserved, int] = field(default_factory=dict)
    queue_s: dict[int, Histogram] = field(default_factory=dict)
    first_token_s: dict[int, Histogram] = field(default_factory=dict)
    inter_token_s: dict[int, Histogram] = field(default_factory=dict)
    request_s: dict[int, Histogram] = field(default_factory=dict)
    swaps: int = 0

    def admitted(self, version: int, prompt_tokens: int, waited_s: float) -> None:
        self.prompt_tokens[version] = self.prompt_tokens.get(version, 0) + prompt_tokens
        _of(version, self.queue_s, REQUEST_S).observe(waited_s)

    def reused(self, version: int, tokens: int) -> None:
        self.reused_tokens[version] = self.reused_tokens.get(version, 0) + tokens

    def wrote(self, version: int, first: bool, after_s: float) -> None:
        """One token, so long after the one before; the first, after the request's arrival."""
        self.written_tokens[version] = self.written_tokens.get(version, 0) + 1
        if first:
            _of(version, self.first_token_s, FIRST_TOKEN_S).observe(after_s)
        else:
            _of(version, self.inter_token_s, INTER_TOKEN_S).observe(after_s)

    def ended(self, version: int, reason: FinishReason, after_s: float) -> None:
        """An admitted request. How long a cancelled one took says nothing about the engine."""
        self.finished[version, reason] = self.finished.get((version, reason), 0) + 1
        if reason != "cancelled":
            _of(version, self.request_s, REQUEST_S).observe(after_s)

    def not_served(self, why: Unserved) -> None:
        self.unserved[why] = self.unserved.get(why, 0) + 1


def copies(histograms: Mapping[int, Histogram]) -> dict[int, Histogram]:
    """As they are now, for another thread."""
    return {version: histogram.copy() for version, histogram in dict(histograms).items()}


def _of(version: int, histograms: dict[int, Histogram], bounds: tuple[float, ...]) -> Histogram:
    if version not in histograms:
        histograms[version] = Histogram(bounds)
    return histograms[version]

"""The numbers of one server, gathered when somebody asks for them.

Knows the state, no HTTP and no counting: what is counted, its owner counts. Invariants: nothing is
kept here and nothing is global; without a model, with an engine that counts nothing (vLLM has
metrics of its own), or without the store, what is known is still told. Of the engine's versions
only those that are loaded are shown: a process that swaps for years must not grow without end.
"""

import time
from collections.abc import Collection, Iterator, Mapping
from typing import Final, get_args

from prometheus_client import CollectorRegistry, Metric, ProcessCollector
from prometheus_client.registry import Collector

from amends.conversation import FinishReason
from amends.engine.histogram import FIRST_TOKEN_S, INTER_TOKEN_S, REQUEST_S, Histogram
from amends.engine.stats import EngineStats
from amends.errors import AdapterRefused, StoreUnavailable
from server import metric_families as families
from server.limits import Limited
from server.metric_families import Labels
from server.model_names import ACTIVE, name_of
from server.state import Policy, State

_REASONS: Final[Mapping[FinishReason, str]] = {  # ours -> vLLM's
    "stop": "stop",
    "length": "length",
    "cancelled": "abort",
}
_QUEUE_FULL: Final = "max_num_queued_reqs"  # vLLM's word for it


def registry_of(state: State) -> CollectorRegistry:
    """A registry of its own, with the server's metrics and those of its process."""
    registry = CollectorRegistry()
    registry.register(Metrics(state))
    ProcessCollector(registry=registry)
    return registry


class Metrics(Collector):
    """Blocks (the store is asked, files are read): collect in a thread."""

    def __init__(self, state: State) -> None:
        self._state = state

    def collect(self) -> Iterator[Metric]:
        yield from self._server()
        yield from self._store()
        policy = self._state.policy
        if policy is None:
            return
        yield from _policy(policy)
        stats = policy.engine.stats
        if stats is not None:
            yield from _state_of(stats)
            yield from _counts_of(stats)
            yield from _times_of(stats)

    def _server(self) -> Iterator[Metric]:
        state = self._state
        ready = state.policy is not None and state.policy.engine.alive
        yield families.READY.of([((), ready)])
        yield families.WEBSOCKETS.of([((), state.channels.listening)])
        refused = state.limits.refused()
        yield families.RATE_LIMITED.of(
            ((what,), refused.get(what, 0)) for what in get_args(Limited)
        )
        loaded = () if state.policy is None else state.policy.engine.versions()
        thumbs = {(version, value): 0 for version in loaded for value in (1, -1)}
        thumbs.update(state.thumbs.counts())
        yield families.THUMBS.of(
            ((name_of(version), "up" if value == 1 else "down"), number)
            for (version, value), number in sorted(thumbs.items())
        )

    def _store(self) -> Iterator[Metric]:
        try:
            conversations = self._state.conversations.count()
            feedback = self._state.feedback.counts()
        except StoreUnavailable:
            yield families.STORE_UP.of([((), 0)])
            return
        yield families.STORE_UP.of([((), 1)])
        yield families.CONVERSATIONS.of([((), conversations)])
        yield families.FEEDBACK.of(
            ((kind, state), number)
            for kind, counts in feedback.items()
            for state, number in (
                ("pending", counts["pending"]),
                ("claimed", counts["claimed"]),
                ("completed", counts["completed"]),
            )
        )


def _policy(policy: Policy) -> Iterator[Metric]:
    aliases = {"active": policy.engine.active_version}
    try:
        aliases.update(policy.adapters.aliases())
    except (AdapterRefused, OSError):
        pass  # the watcher meets the same, and says so
    yield families.POLICY_VERSION.of(((alias,), number) for alias, number in aliases.items())
    yield families.SWAP_S.of_histograms([((), policy.watcher.swap_s.copy())])
    yield families.ADAPTER_REFUSALS.of([((), policy.watcher.refused)])


def _state_of(stats: EngineStats) -> Iterator[Metric]:
    yield families.RUNNING.of(_numbers(stats, stats.running_by_version))
    yield families.WAITING.of([((ACTIVE,), stats.waiting)])
    yield families.KV_CACHE.of([((ACTIVE,), stats.running / stats.rows)])
    running = {version for version, number in stats.running_by_version.items() if number}
    labels = (str(stats.slots - 1), _listed(running), _listed(stats.waiting_versions))
    yield families.LORA.of([(labels, time.time())])
    yield families.SLOTS.of([((), stats.slots)])
    yield families.SLOTS_IN_USE.of([((), stats.slots_in_use)])


def _counts_of(stats: EngineStats) -> Iterator[Metric]:
    yield families.PROMPT_TOKENS.of(_numbers(stats, stats.prompt_tokens))
    yield families.GENERATION_TOKENS.of(_numbers(stats, stats.written_tokens))
    yield families.PREFIX_QUERIES.of(_numbers(stats, stats.prompt_tokens))
    yield families.PREFIX_HITS.of(_numbers(stats, stats.reused_tokens))
    yield families.SUCCESS.of(
        ((ACTIVE, name_of(version), name), stats.finished.get((version, reason), 0))
        for version in sorted(stats.versions)
        for reason, name in _REASONS.items()
    )
    unserved = stats.unserved
    yield families.REJECTIONS.of([((ACTIVE, _QUEUE_FULL), unserved.get("queue_full", 0))])
    yield families.UNSERVED.of(
        [
            (("deadline",), unserved.get("deadline", 0)),
            (("gave_up",), unserved.get("gave_up", 0)),
        ]
    )
    yield families.SWAPS.of([((), stats.swaps)])


def _times_of(stats: EngineStats) -> Iterator[Metric]:
    for family, bounds, by_version in (
        (families.QUEUE_S, REQUEST_S, stats.queue_s),
        (families.FIRST_TOKEN_S, FIRST_TOKEN_S, stats.first_token_s),
        (families.INTER_TOKEN_S, INTER_TOKEN_S, stats.inter_token_s),
        (families.REQUEST_S, REQUEST_S, stats.request_s),
    ):
        yield family.of_histograms(
            ((ACTIVE, name_of(version)), by_version.get(version, Histogram(bounds)))
            for version in sorted(stats.versions)
        )


def _numbers(stats: EngineStats, by_version: Mapping[int, int]) -> Iterator[tuple[Labels, float]]:
    """One sample for every loaded version: a rate can only be taken of what was 0 before."""
    for version in sorted(stats.versions):
        yield (ACTIVE, name_of(version)), by_version.get(version, 0)


def _listed(versions: Collection[int]) -> str:
    return ",".join(name_of(version) for version in sorted(versions) if version != 0)

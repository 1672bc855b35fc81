"""Every metric of the server: name, type, labels, what it says.

Knows Prometheus' formats and nothing of where numbers come from. Names are vLLM's where the
meaning is vLLM's, for its dashboards to work; they begin with `amends_` elsewhere. Invariant:
docs/metrics.md has a row for each family, and for nothing else (a test compares).
"""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from itertools import accumulate
from typing import Final, Literal

from prometheus_client import Metric
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
)
from prometheus_client.utils import floatToGoString

from amends.engine.histogram import Histogram

Labels = tuple[str, ...]


@dataclass(frozen=True)
class Family:
    """One metric; the samples of its labels are what changes."""

    kind: Literal["gauge", "counter", "histogram"]
    name: str
    labels: Labels
    says: str

    def of(self, samples: Iterable[tuple[Labels, float]]) -> Metric:
        make = CounterMetricFamily if self.kind == "counter" else GaugeMetricFamily
        family = make(self.name, self.says, labels=self.labels)
        for labels, value in samples:
            family.add_metric(labels, value)
        return family

    def of_histograms(self, samples: Iterable[tuple[Labels, Histogram]]) -> Metric:
        family = HistogramMetricFamily(self.name, self.says, labels=self.labels)
        for labels, histogram in samples:
            bounds = [*map(floatToGoString, histogram.bounds), "+Inf"]
            up_to = accumulate(histogram.counts)
            family.add_metric(labels, list(zip(bounds, up_to, strict=True)), histogram.total)
        return family


_gauge, _counter = partial(Family, "gauge"), partial(Family, "counter")
_histogram = partial(Family, "histogram")
MODEL: Final = ("model_name",)
VERSION: Final = ("model_name", "version")

# The engine's, as vLLM names them.
RUNNING: Final = _gauge(
    "vllm:num_requests_running", VERSION, "requests that the engine reads or writes now"
)
WAITING: Final = _gauge("vllm:num_requests_waiting", MODEL, "requests that wait for a row")
KV_CACHE: Final = _gauge(
    "vllm:kv_cache_usage_perc", MODEL, "share of the KV cache's rows in use; 1 is all"
)
LORA: Final = _gauge(
    "vllm:lora_requests_info",
    ("max_lora", "running_lora_adapters", "waiting_lora_adapters"),
    "which versions run and wait, the base model aside; the value is the time",
)
PROMPT_TOKENS: Final = _counter(
    "vllm:prompt_tokens_total", VERSION, "prompt tokens of admitted requests, reused ones included"
)
GENERATION_TOKENS: Final = _counter("vllm:generation_tokens_total", VERSION, "tokens written")
PREFIX_QUERIES: Final = _counter(
    "vllm:prefix_cache_queries_total", VERSION, "prompt tokens looked up in the prefix cache"
)
PREFIX_HITS: Final = _counter(
    "vllm:prefix_cache_hits_total", VERSION, "those that were copied instead of computed"
)
SUCCESS: Final = _counter(
    "vllm:request_success_total",
    (*VERSION, "finished_reason"),
    "admitted requests that ended: stop, length, abort (the caller left)",
)
REJECTIONS: Final = _counter(
    "vllm:admission_rejections_total",
    (*MODEL, "reason"),
    "requests turned away because the queue was full (max_num_queued_reqs)",
)
QUEUE_S: Final = _histogram(
    "vllm:request_queue_time_seconds", VERSION, "from a request's arrival to its admission"
)
FIRST_TOKEN_S: Final = _histogram(
    "vllm:time_to_first_token_seconds", VERSION, "from a request's arrival to its first token"
)
INTER_TOKEN_S: Final = _histogram(
    "vllm:inter_token_latency_seconds", VERSION, "from one token of a response to the next"
)
REQUEST_S: Final = _histogram(
    "vllm:e2e_request_latency_seconds", VERSION, "from a request's arrival to its stop or length"
)
# The engine's own.
UNSERVED: Final = _counter(
    "amends_unserved_requests_total",
    ("reason",),
    "queued requests without an answer: deadline (no token by then), gave_up (left while waiting)",
)
SWAPS: Final = _counter("amends_swaps_total", (), "times that another version began to answer")
SLOTS: Final = _gauge("amends_slots", (), "versions that fit the engine, the base model included")
SLOTS_IN_USE: Final = _gauge("amends_slots_in_use", (), "versions that can answer now")
# The server's.
READY: Final = _gauge(
    "amends_ready", (), "1 when the policy can answer, 0 while it loads or failed"
)
POLICY_VERSION: Final = _gauge(
    "amends_policy_version",
    ("alias",),
    "version that champion, candidate, previous point at; active: that new turns are written by",
)
SWAP_S: Final = _histogram(
    "amends_swap_seconds", (), "from the champion's move on disk until new turns are written by it"
)
ADAPTER_REFUSALS: Final = _counter(
    "amends_adapter_refusals_total", (), "champions and candidates that the engine would not take"
)
WEBSOCKETS: Final = _gauge("amends_websocket_connections", (), "chats that are connected")
RATE_LIMITED: Final = _counter(
    "amends_rate_limited_total", ("what",), "calls refused because a caller's limit was used up"
)
THUMBS: Final = _counter(
    "amends_thumbs_total",
    ("version", "value"),
    "thumbs (up, down) on turns that the version wrote; a change of mind counts again",
)
# The store's.
STORE_UP: Final = _gauge("amends_store_up", (), "1 when the store answers; the next two need it")
CONVERSATIONS: Final = _gauge("amends_conversations", (), "conversations with at least one turn")
FEEDBACK: Final = _gauge(
    "amends_feedback",
    ("kind", "state"),
    "judgements in the store: pending, claimed by a run, completed",
)

FAMILIES: Final[tuple[Family, ...]] = (
    *(RUNNING, WAITING, KV_CACHE, LORA, PROMPT_TOKENS, GENERATION_TOKENS, PREFIX_QUERIES),
    *(PREFIX_HITS, SUCCESS, REJECTIONS, QUEUE_S, FIRST_TOKEN_S, INTER_TOKEN_S, REQUEST_S),
    *(UNSERVED, SWAPS, SLOTS, SLOTS_IN_USE, READY, POLICY_VERSION, SWAP_S, ADAPTER_REFUSALS),
    *(WEBSOCKETS, RATE_LIMITED, THUMBS, STORE_UP, CONVERSATIONS, FEEDBACK),
)

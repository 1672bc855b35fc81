"""The engine's times by version, under a clock that the test moves."""

from pathlib import Path

import pytest
import torch

from amends.backbone import Backbone
from amends.base_model import load_causal_lm
from amends.engine.engine import Engine
from amends.engine.histogram import FIRST_TOKEN_S, INTER_TOKEN_S, REQUEST_S, Histogram
from amends.engine.scheduler import Limits
from amends.engine.sequence import Request, Sampling
from amends.errors import EngineBusy
from amends.lora import Lora
from tests.tiny_model import make_tiny_model


class Clock:
    """Stands still unless it is moved."""

    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def engine(tmp_path: Path, clock: Clock) -> Engine:
    """One row, one place in the queue; nothing ends before its length. Version 3 is active."""
    backbone = Backbone(load_causal_lm(make_tiny_model(tmp_path), torch.float32), 256)
    shape = backbone.lora_shape(4, 8.0)
    limits = Limits(max_running=1, max_waiting=1, max_positions=256)
    engine = Engine(backbone, shape, frozenset(), limits, clock)
    engine.write(3, Lora.fresh(shape, 3))
    engine.activate(3)
    return engine


def request(tokens: int, version: int | None = None, deadline_s: float | None = None) -> Request:
    return Request((5, 6, 7), Sampling(tokens, seed=1), version, deadline_s)


def values(histogram: Histogram) -> dict[float, int]:
    """upper bound -> how many, of the ranges that hold any."""
    bounds = (*histogram.bounds, float("inf"))
    return {bound: n for bound, n in zip(bounds, histogram.counts, strict=True) if n}


def test_a_bound_belongs_to_the_range_below_it() -> None:
    histogram = Histogram((0.1, 0.5))
    for value in (0.0, 0.1, 0.11, 0.5, 0.6, 99.0):
        histogram.observe(value)
    assert (histogram.counts, histogram.count) == ([2, 2, 2], 6)
    assert histogram.total == pytest.approx(100.31)


def test_a_copy_stays_as_it_was() -> None:
    histogram = Histogram((0.1,))
    histogram.observe(0.05)
    copy = histogram.copy()
    histogram.observe(0.05)
    assert (copy.counts, copy.total) == ([1, 0], 0.05)


@pytest.mark.parametrize("bounds", [FIRST_TOKEN_S, INTER_TOKEN_S, REQUEST_S])
def test_bounds_rise(bounds: tuple[float, ...]) -> None:
    assert list(bounds) == sorted(set(bounds))


def test_times_go_from_arrival_over_admission_and_tokens_to_the_end(
    engine: Engine, clock: Clock
) -> None:
    engine.submit(request(4), lambda chunk: None, clock.now_s - 0.2)  # arrived before
    clock.now_s += 0.1
    engine.step()  # admitted after 0.3 s; reads the prompt, writes, and writes the second token
    clock.now_s += 0.03
    engine.step()
    clock.now_s += 0.6
    engine.step()

    stats = engine.stats
    assert stats.queue_s[3].total == pytest.approx(0.3)
    assert stats.first_token_s[3].total == pytest.approx(0.3)
    assert values(stats.first_token_s[3]) == {0.5: 1}
    assert values(stats.inter_token_s[3]) == {0.01: 1, 0.05: 1, 0.75: 1}
    assert stats.inter_token_s[3].total == pytest.approx(0.63)
    assert values(stats.request_s[3]) == {1.0: 1}
    assert stats.request_s[3].total == pytest.approx(0.93)
    assert stats.finished == {(3, "length"): 1}


def test_versions_are_counted_apart(engine: Engine, clock: Clock) -> None:
    for version, tokens in ((0, 2), (3, 4), (None, 5)):
        engine.submit(request(tokens, version), lambda chunk: None)
        while engine.step():
            clock.now_s += 0.02
    stats = engine.stats
    assert stats.written_tokens == {0: 2, 3: 9}
    assert stats.finished == {(0, "length"): 1, (3, "length"): 2}
    assert {v: h.count for v, h in stats.first_token_s.items()} == {0: 1, 3: 2}
    assert {v: h.count for v, h in stats.inter_token_s.items()} == {0: 1, 3: 7}
    # A second token comes in the step of the first.
    assert values(stats.inter_token_s[3]) == {0.01: 2, 0.025: 5}


def test_who_is_not_served_is_counted_by_the_reason(engine: Engine, clock: Clock) -> None:
    running = engine.submit(request(9, 0), lambda chunk: None)
    engine.step()
    engine.submit(request(9, deadline_s=clock.now_s + 1), lambda chunk: None)
    with pytest.raises(EngineBusy):
        engine.submit(request(9), lambda chunk: None)
    stats = engine.stats
    assert (stats.running_by_version, stats.waiting, stats.waiting_versions) == ({0: 1}, 1, {3})

    clock.now_s += 2
    engine.step()  # too late for the one that waited
    left = engine.submit(request(9), lambda chunk: None)
    left.cancelled = True
    engine.step()
    running.cancelled = True
    engine.step()

    stats = engine.stats
    assert stats.unserved == {"queue_full": 1, "deadline": 1, "gave_up": 1}
    assert stats.finished == {(0, "cancelled"): 1}
    assert stats.queue_s[0].count == 1 and 3 not in stats.queue_s and not stats.request_s
    assert (stats.running, stats.waiting) == (0, 0)

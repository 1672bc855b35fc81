"""worker.reward.intervals against published values and simulation."""

import random
from math import comb, inf
from statistics import stdev

import pytest

from worker.reward.intervals import (
    count_by_chance,
    lead_by_chance,
    mean_gain,
    share_with_interval,
    wilson,
)


def test_wilson_agrees_with_the_textbook() -> None:
    assert wilson(8, 10) == pytest.approx((0.4902, 0.9433), abs=1e-4)
    assert wilson(10, 10) == pytest.approx((0.7225, 1.0), abs=1e-4)
    assert wilson(0, 0) == (0.0, 1.0)


def test_items_of_one_cluster_count_as_one_piece_of_evidence() -> None:
    outcomes = [1.0] * 60 + [0.0] * 40
    alone = share_with_interval(outcomes, [f"c{i}" for i in range(100)])
    together = share_with_interval(outcomes, [f"c{i // 5}" for i in range(100)])
    assert alone is not None and together is not None
    assert alone.value == together.value == 0.6
    assert together.high - together.low > 1.8 * (alone.high - alone.low)


def test_equal_outcomes_and_few_clusters_are_not_certain() -> None:
    perfect = share_with_interval([1.0] * 20, [f"c{i}" for i in range(20)])
    assert perfect is not None and perfect.low == pytest.approx(0.8389, abs=1e-3)
    few = share_with_interval([1.0, 0.0] * 50, ["a", "b"] * 50)
    assert few is not None and few.low < 0.15 and few.clusters == 2


def test_the_interval_covers_the_truth_about_as_often_as_it_says() -> None:
    chance = random.Random(1)
    covered = 0
    for trial in range(200):
        clusters, outcomes = [], []
        for customer in range(30):
            share = min(1.0, max(0.0, chance.gauss(0.6, 0.2)))
            for _ in range(3):
                clusters.append(str(customer))
                outcomes.append(float(chance.random() < share))
        found = share_with_interval(outcomes, clusters, seed=trial)
        assert found is not None
        covered += found.low <= 0.6 <= found.high
    assert 0.88 <= covered / 200 <= 1.0


def test_nothing_to_count_is_not_a_share() -> None:
    assert share_with_interval([], []) is None
    with pytest.raises(ValueError, match="1 outcomes but 0 clusters"):
        share_with_interval([1.0], [])


@pytest.mark.parametrize("chance", [0.005, 0.01, 0.05, 0.3])
def test_a_larger_lead_is_as_seldom_as_said_and_this_one_is_not(chance: float) -> None:
    def at_least(heads: int, tosses: int) -> float:
        return sum(comb(tosses, k) for k in range(heads, tosses + 1)) / 2**tosses

    for tosses in range(60):
        lead = lead_by_chance(tosses, chance)
        heads = (tosses + lead) // 2
        assert at_least(heads, tosses) > chance
        assert heads == tosses or at_least(heads + 1, tosses) <= chance
    assert [lead_by_chance(n, 0.01) for n in (0, 6, 7)] == [0, 6, 5]


@pytest.mark.parametrize("share", [0.02, 0.1, 0.5])
def test_a_larger_count_is_as_seldom_as_said_and_this_one_is_not(share: float) -> None:
    def at_least(count: int, items: int) -> float:
        return sum(
            comb(items, k) * share**k * (1 - share) ** (items - k) for k in range(count, items + 1)
        )

    for items in range(60):
        count = count_by_chance(items, share, 0.05)
        assert at_least(count, items) > 0.05
        assert count == items or at_least(count + 1, items) <= 0.05
    assert [count_by_chance(20, odds, 0.05) for odds in (0.0, 1.0)] == [0, 20]


def test_thousands_are_counted_as_a_normal_curve_would() -> None:
    for items in (1_100, 5_000):
        lead = lead_by_chance(items, 0.02)
        assert lead == pytest.approx(2.054 * items**0.5, abs=3)
        count = count_by_chance(items, 0.1, 0.05)
        assert count == pytest.approx(0.1 * items + 1.645 * (0.09 * items) ** 0.5, abs=2)


def test_a_mean_gain_agrees_with_the_textbook_and_knows_clusters() -> None:
    gains = [0.5, -0.2, 0.9, 0.4]
    alone = mean_gain(gains, range(4))
    half = 1.959964 * stdev(gains) / 2
    assert alone == pytest.approx((0.4, 0.4 - half, 0.4 + half))
    twice = mean_gain(gains * 2, [*range(4), *range(4)])  # the same evidence, told twice
    assert twice == pytest.approx(alone)
    assert mean_gain([1.0], ["one"]) == (1.0, -inf, inf)
    assert mean_gain([1.0, 2.0], ["one", "one"]) == (1.5, -inf, inf)

"""The demo's intervals agree with what can be computed by hand."""

import math
from statistics import mean, pstdev

import pytest

from simulator.statistics import bootstrap_mean, paired_gain

EACH = [str(number) for number in range(400)]  # every value a cluster of its own


def test_equal_values_have_an_interval_of_no_width() -> None:
    found = bootstrap_mean([3.0] * 10, EACH[:10], seed=1)
    assert (found.mean, found.low, found.high) == (3.0, 3.0, 3.0)


def test_the_interval_of_a_large_sample_is_the_normal_one() -> None:
    values = [1.0 + (7 * number) % 5 for number in range(400)]
    found = bootstrap_mean(values, EACH, seed=2)
    half = 1.96 * pstdev(values) / math.sqrt(len(values))
    assert found.mean == pytest.approx(mean(values))
    assert found.low == pytest.approx(found.mean - half, abs=0.01)
    assert found.high == pytest.approx(found.mean + half, abs=0.01)


def test_two_values_give_the_quantiles_of_their_three_means() -> None:
    # the mean of two draws from {0, 1} is 0, 0.5, 1 with chances 1/4, 1/2, 1/4
    found = bootstrap_mean([0.0, 1.0], EACH[:2], seed=3)
    assert (found.mean, found.low, found.high) == (0.5, 0.0, 1.0)


def test_values_that_repeat_within_a_cluster_tell_no_more_than_one_of_them() -> None:
    values = [1.0 + (7 * number) % 5 for number in range(100)]
    once = bootstrap_mean(values, EACH[:100], seed=6)
    twice = bootstrap_mean(values * 2, EACH[:100] * 2, seed=6)
    assert (twice.low, twice.high) == pytest.approx((once.low, once.high))


def test_pairing_removes_what_customers_have_in_common() -> None:
    before = [1.0, 2.0, 3.0, 4.0] * 16
    after = [value + 0.5 for value in before]
    gain = paired_gain(before, after, EACH[:64], seed=4)
    assert (gain.mean, gain.low, gain.high) == (0.5, 0.5, 0.5)


def test_the_same_seed_gives_the_same_interval() -> None:
    values = [1.0, 5.0, 2.0, 4.0]
    assert bootstrap_mean(values, EACH[:4], seed=5) == bootstrap_mean(values, EACH[:4], seed=5)


def test_nothing_and_unpaired_values_are_refused() -> None:
    with pytest.raises(ValueError, match="at least one"):
        bootstrap_mean([], [], seed=1)
    with pytest.raises(ValueError, match="pairs"):
        paired_gain([1.0], [1.0, 2.0], EACH[:1], seed=1)
    with pytest.raises(ValueError, match="a cluster per value"):
        bootstrap_mean([1.0], EACH[:2], seed=1)

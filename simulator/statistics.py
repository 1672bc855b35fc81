"""Means with 95 % intervals by the bootstrap (Efron & Tibshirani 1993, chapter 13: the percentile
interval), resampling clusters where values of one cluster are not independent.

Knows numbers only. Invariant: the same values and seed give the same interval; low <= mean <=
high.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

RESAMPLES = 10_000
WAY = "share of the way to the expert's"  # the unit of gap_closed


@dataclass(frozen=True)
class Estimate:
    """A mean and its 95 % interval."""

    mean: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.mean:.2f} [{self.low:.2f}, {self.high:.2f}]"


def bootstrap_mean(
    values: Sequence[float], clusters: Sequence[str], seed: int, resamples: int = RESAMPLES
) -> Estimate:
    """The mean of values, each of a cluster. Raises ValueError for none."""
    if not values:
        raise ValueError("expected at least one value to average, got none")
    if len(values) != len(clusters):
        raise ValueError(f"expected a cluster per value, got {len(values)} and {len(clusters)}")
    _, member = np.unique(np.asarray(clusters), return_inverse=True)
    sums, sizes = np.bincount(member, weights=values), np.bincount(member)
    drawn = np.random.default_rng(seed).integers(0, len(sizes), (resamples, len(sizes)))
    means = sums[drawn].sum(axis=1) / sizes[drawn].sum(axis=1)
    low, high = np.quantile(means, (0.025, 0.975))
    mean = float(np.mean(values))
    return Estimate(mean, min(mean, float(low)), max(mean, float(high)))


def gap_closed(gain: float, before: float, goal: float) -> float | None:
    """Share of the way from `before` to `goal` that a gain has gone; None where no way was left."""
    return gain / (goal - before) if goal > before else None


def paired_gain(
    before: Sequence[float], after: Sequence[float], clusters: Sequence[str], seed: int
) -> Estimate:
    """The mean of after - before over the same customers in the same order."""
    if len(before) != len(after):
        raise ValueError(f"expected pairs, got {len(before)} values before and {len(after)} after")
    return bootstrap_mean([b - a for a, b in zip(before, after, strict=True)], clusters, seed)

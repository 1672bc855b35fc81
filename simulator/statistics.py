"""Means with 95 % intervals by the bootstrap (Efron & Tibshirani 1993, chapter 13: the percentile
interval).

Knows numbers only. Invariant: the same values and seed give the same interval; low <= mean <=
high.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

RESAMPLES = 10_000


@dataclass(frozen=True)
class Estimate:
    """A mean and its 95 % interval."""

    mean: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.mean:.2f} [{self.low:.2f}, {self.high:.2f}]"


def bootstrap_mean(values: Sequence[float], seed: int, resamples: int = RESAMPLES) -> Estimate:
    """The mean of independent values. Raises ValueError for none."""
    if not values:
        raise ValueError("expected at least one value to average, got none")
    sample = np.asarray(values, dtype=np.float64)
    rng = np.random.default_rng(seed)
    means = sample[rng.integers(0, len(sample), (resamples, len(sample)))].mean(axis=1)
    low, high = np.quantile(means, (0.025, 0.975))
    mean = float(sample.mean())
    return Estimate(mean, min(mean, float(low)), max(mean, float(high)))


def paired_gain(before: Sequence[float], after: Sequence[float], seed: int) -> Estimate:
    """The mean of after - before over the same customers in the same order."""
    if len(before) != len(after):
        raise ValueError(f"expected pairs, got {len(before)} values before and {len(after)} after")
    return bootstrap_mean([b - a for a, b in zip(before, after, strict=True)], seed)

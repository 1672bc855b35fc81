"""Shares and mean gains with their 95 % intervals, and what chance alone gives.

Knows no rewards and no policies. Invariants: deterministic; low <= value <= high; a share and its
bounds lie in [0, 1].
"""

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

_Z95 = 1.959964
_RESAMPLES = 2000
_FEW_CLUSTERS = 10  # below it a percentile bootstrap is too narrow to believe


@dataclass(frozen=True)
class Share:
    """A mean of outcomes in [0, 1] with its 95 % interval."""

    value: float
    low: float
    high: float
    items: int
    clusters: int

    def __str__(self) -> str:
        return f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}] of {self.items}"


class Gain(NamedTuple):
    """A mean difference with its 95 % interval; infinite where one value shows no spread."""

    mean: float
    low: float
    high: float


def mean_gain(gains: Sequence[float], clusters: Sequence[Hashable]) -> Gain:
    """Of paired differences, at least one; those of a cluster are not independent. The interval is
    the normal one, with the cluster-robust deviation (Liang and Zeger 1986)."""
    mean = math.fsum(gains) / len(gains)
    sums: dict[Hashable, float] = {}
    for value, cluster in zip(gains, clusters, strict=True):
        sums[cluster] = sums.get(cluster, 0.0) + value - mean
    if len(sums) < 2:
        return Gain(mean, -math.inf, math.inf)
    squares = math.fsum(total**2 for total in sums.values())
    half = _Z95 * (squares * len(sums) / (len(sums) - 1)) ** 0.5 / len(gains)
    return Gain(mean, mean - half, mean + half)


def wilson(successes: float, n: float) -> tuple[float, float]:
    """Wilson's score interval, 95 %; `successes` may count halves. (0, 1) for n = 0."""
    if n <= 0:
        return 0.0, 1.0
    share, z2 = successes / n, _Z95**2
    centre = (share + z2 / (2 * n)) / (1 + z2 / n)
    half = _Z95 / (1 + z2 / n) * (share * (1 - share) / n + z2 / (4 * n * n)) ** 0.5
    return max(0.0, centre - half), min(1.0, centre + half)


def share_with_interval(
    outcomes: Sequence[float], clusters: Sequence[str], seed: int = 0
) -> Share | None:
    """Mean of `outcomes` (each 0 to 1) with a percentile bootstrap over `clusters`; None for no
    outcomes.

    With fewer than 10 clusters, or when all outcomes are equal, resampling shows no spread at all:
    Wilson's interval on the number of clusters is taken instead.
    """
    if len(outcomes) != len(clusters):
        raise ValueError(f"{len(outcomes)} outcomes but {len(clusters)} clusters")
    if not outcomes:
        return None
    values = np.asarray(outcomes, dtype=np.float64)
    _, member = np.unique(np.asarray(clusters), return_inverse=True)
    sums = np.bincount(member, weights=values)
    sizes = np.bincount(member)
    mean = float(values.mean())
    if len(sizes) < _FEW_CLUSTERS or float(values.std()) == 0.0:
        low, high = wilson(mean * len(sizes), len(sizes))
    else:
        drawn = np.random.default_rng(seed).integers(len(sizes), size=(_RESAMPLES, len(sizes)))
        means = sums[drawn].sum(1) / sizes[drawn].sum(1)
        low, high = (float(bound) for bound in np.quantile(means, (0.025, 0.975)))
    return Share(mean, min(low, mean), max(high, mean), len(values), len(sizes))


def lead_by_chance(tosses: int, chance: float) -> int:
    """The largest lead of heads over tails in so many tosses of a fair coin that is no surprise.

    A larger lead has at most the probability `chance`, exactly (McNemar's test: the tosses are the
    items on which two raters differ). With few tosses nothing is a surprise.
    """
    heads, tail = tosses, 1
    odds, whole = chance.as_integer_ratio()
    while heads > 0 and tail * whole <= odds << tosses:  # whole numbers: 2**1024 is no float
        heads -= 1
        tail += math.comb(tosses, heads)
    return 2 * heads - tosses


def count_by_chance(items: int, share: float, chance: float) -> int:
    """The largest count among `items` that is no surprise where each counts with odds `share`.

    A larger count has at most the probability `chance`, exactly (the binomial test).
    """
    if share in (0.0, 1.0):
        return round(share * items)
    count, tail = items, share**items
    while count > 0 and tail <= chance:
        count -= 1
        tail += math.exp(_log_binomial(count, items, share))
    return count


def _log_binomial(count: int, items: int, share: float) -> float:
    """The logarithm of the odds of just so many: theirs are no floats where there are thousands."""
    ways = math.lgamma(items + 1) - math.lgamma(count + 1) - math.lgamma(items - count + 1)
    return ways + count * math.log(share) + (items - count) * math.log1p(-share)

"""How well scores agree with people, each with its 95 % interval over groups."""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Measured = tuple[float, float, float]  # value, low, high
_RESAMPLES = 2000


def in_order(chosen: Array, rejected: Array) -> Array:
    """1 for each pair in the judged order, 1/2 for a tie."""
    return np.where(chosen == rejected, 0.5, (chosen > rejected).astype(np.float64))


def mean_over_folds(fold: Array, statistic: Callable[[NDArray[np.int64]], float]) -> float:
    """The mean over folds of a statistic of item numbers: scores of two folds have no common
    scale."""
    return float(np.mean([statistic(np.flatnonzero(fold == each)) for each in np.unique(fold)]))


def mean_with_interval(values: Array, fold: Array, groups: Sequence[str]) -> Measured:
    """Mean over folds of the mean value (or of the mean paired difference)."""
    return over_groups(
        lambda kept: mean_over_folds(fold[kept], lambda s: float(values[kept][s].mean())), groups
    )


def over_groups(statistic: Callable[[NDArray[np.int64]], float], groups: Sequence[str]) -> Measured:
    """`statistic` of item numbers, on all and on groups drawn with replacement."""
    _, member = np.unique(np.asarray(groups), return_inverse=True)
    items = [np.flatnonzero(member == group) for group in range(member.max() + 1)]
    random = np.random.default_rng(0)
    drawn = []
    for _ in range(_RESAMPLES):
        chosen = random.integers(len(items), size=len(items))
        drawn.append(statistic(np.concatenate([items[group] for group in chosen])))
    low, high = np.quantile(drawn, (0.025, 0.975))
    return statistic(np.arange(len(member))), float(low), float(high)


def area_under_curve(positive: Array, negative: Array) -> float:
    """P(a positive scores higher than a negative), ties half (Mann and Whitney 1947)."""
    return float(in_order(positive[:, None], negative[None, :]).mean())

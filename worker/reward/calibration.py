"""Do predicted probabilities of a thumb up mean what they say?

Knows no model. Source: expected calibration error, Guo et al. 2017, with bins of equal size instead
of equal width (hold-outs are small and predictions crowd together).
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

_ITEMS_PER_BIN = 15
_MOST_BINS = 10


def calibration_error(
    probabilities: Sequence[float], happened: Sequence[bool], least_items: int = 30
) -> float | None:
    """Mean gap between predicted and observed share over bins, weighted by their size; in [0, 1].

    None below `least_items`: the error of a handful of thumbs is their own noise.
    """
    if len(probabilities) != len(happened):
        raise ValueError(f"{len(probabilities)} probabilities but {len(happened)} outcomes")
    if len(probabilities) < least_items:
        return None
    predicted = np.asarray(probabilities, dtype=np.float64)
    return _error(predicted, np.asarray(happened, dtype=np.float64))


def error_by_chance(
    probabilities: Sequence[float], draws: int = 1000, seed: int = 0
) -> float | None:
    """What the error stays below 19 times in 20 when the probabilities are exactly right.

    With a few dozen outcomes it is far from 0, and only an error beyond it says anything. None
    without probabilities.
    """
    if not probabilities:
        return None
    predicted = np.asarray(probabilities, dtype=np.float64)
    random = np.random.default_rng(seed)
    errors = [_error(predicted, random.random(len(predicted)) < predicted) for _ in range(draws)]
    return float(np.quantile(errors, 0.95))


def _error(predicted: NDArray[np.float64], observed: NDArray[Any]) -> float:
    order = np.argsort(predicted, kind="stable")
    bins = max(1, min(_MOST_BINS, len(order) // _ITEMS_PER_BIN))
    gaps = [
        abs(float(predicted[part].mean() - observed[part].mean())) * len(part)
        for part in np.array_split(order, bins)
    ]
    return sum(gaps) / len(order)

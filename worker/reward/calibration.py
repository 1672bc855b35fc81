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
    probabilities: Sequence[float],
    raters: Sequence[str],
    rater_std: float,
    draws: int = 1000,
    seed: int = 0,
) -> float | None:
    """What the error stays below 99 times in 100 when the probabilities are exactly right.

    With a few dozen outcomes it is far from 0, and only an error beyond it says anything. The
    thumbs of one rater share a leniency (logits, normal with `rater_std`), as the model assumes:
    they are not independent. None without probabilities.
    """
    if not probabilities:
        return None
    predicted = np.asarray(probabilities, dtype=np.float64)
    _, rater = np.unique(np.asarray(raters), return_inverse=True)
    # The logit of a rater of average leniency (MacKay 1992), as RewardHead.thumb_probability has.
    shrink = (1 + np.pi / 8 * rater_std**2) ** 0.5
    logits = np.log(predicted / (1 - predicted)) * shrink
    random = np.random.default_rng(seed)
    errors = []
    for _ in range(draws):
        leniency = random.normal(0.0, rater_std, rater.max() + 1)[rater]
        up = random.random(len(predicted)) < 1 / (1 + np.exp(-(logits + leniency)))
        errors.append(_error(predicted, up))
    return float(np.quantile(errors, 0.99))


def _error(predicted: NDArray[np.float64], observed: NDArray[Any]) -> float:
    order = np.argsort(predicted, kind="stable")
    bins = max(1, min(_MOST_BINS, len(order) // _ITEMS_PER_BIN))
    gaps = [
        abs(float(predicted[part].mean() - observed[part].mean())) * len(part)
        for part in np.array_split(order, bins)
    ]
    return sum(gaps) / len(order)

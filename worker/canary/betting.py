"""Has the candidate more bad outcomes than the champion? A bet that may be looked at after every
conversation.

Pure numpy; knows no conversation and no kind of outcome. Who answers a conversation is decided by
a coin of known share s (the hash of its id), whatever its visitor is like and however the day goes.
So in the order in which conversations begin

    x = (candidate − s) (bad − m) / (s (1 − s)),   m: mean of `bad` over those before

is, given all that came before, right on average about the *harm*: the candidate's rate of bad
outcomes less the champion's. No base rate is assumed, it may drift, and one visitor may have many
conversations. Against "the harm is at most h" somebody bets on every x:

    capital *= 1 + stake (x − h),   0 <= stake < 1 / (h − least possible x)

Invariants: the stake is chosen before x is known and the capital cannot become negative, so it is
a supermartingale while the harm is at most h, and reaches 1/α at any time at all with probability
at most α (Ville 1939). So stopping when one likes is allowed.

Waudby-Smith and Ramdas, Estimating means of bounded random variables by betting (JRSS B, 2024);
for known shares Waudby-Smith, Wu, Ramdas, Karampatziakis, Anytime-valid off-policy inference for
contextual bandits (2022). Departures: (1) several stakes in parallel, each the best one for a
certain harm (GAINS), the capital being their mean; (2) the variance that they need is that of
a bad outcome at rate m, which is known before x.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

GAINS = (0.05, 0.1, 0.2, 0.4)  # differences from h that a stake is the best one for
BOLDEST = 0.75  # of the stake at which one x could take all
_STEPS = 20  # of bisection: an interval's ends are right to 1e-6


@dataclass(frozen=True)
class Trials:
    """Conversations in the order in which they began, along the last axis (..., N)."""

    bad: Floats  # 0 to 1
    candidate: Floats  # 1: the coin gave it to the candidate, 0: to the champion
    share: Floats  # of the coin; more than 0, less than 1

    def __post_init__(self) -> None:
        if not self.bad.shape == self.candidate.shape == self.share.shape:
            shapes = self.bad.shape, self.candidate.shape, self.share.shape
            raise ValueError(f"expected three arrays of one shape, got {shapes}")
        if not np.all((self.share > 0) & (self.share < 1)):
            raise ValueError("expected shares between 0 and 1: else there is nothing to compare")


def log_capital(trials: Trials, harm: float) -> Floats:
    """(..., N) log capital after each conversation of who bets that the harm is more than this."""
    if trials.bad.shape[-1] == 0:
        return np.zeros_like(trials.bad)
    share, before = trials.share, _mean_before(trials.bad)
    variance = before * (1 - before) / (share * (1 - share))
    x = (trials.candidate - share) * (trials.bad - before) / (share * (1 - share))
    least = -np.maximum(before / share, (1 - before) / (1 - share))
    highest_stake = BOLDEST / (harm - least)
    total: Floats | None = None
    for gain in GAINS:
        stake = np.minimum(gain / (variance + gain * gain), highest_stake)
        log = np.cumsum(np.log1p(stake * (x - harm)), axis=-1)
        total = log if total is None else np.logaddexp(total, log)
    assert total is not None
    return np.asarray(total - np.log(len(GAINS)))


def capital(trials: Trials, harm: float) -> float:
    """The highest capital that the bet on more than `harm` ever had; 1 for no conversations."""
    return float(np.exp(min(700.0, max(0.0, log_capital(trials, harm).max(initial=0.0)))))


def lower_end(trials: Trials, error_rate: float) -> float:
    """A harm that the true one is ever said to be above, wrongly, with at most this probability.

    −1 when nothing can be said. Capital falls as the harm that is bet against grows.
    """
    low, high = -1.0, 1.0
    for _ in range(_STEPS):
        middle = (low + high) / 2
        if capital(trials, middle) >= 1 / error_rate:
            low = middle
        else:
            high = middle
    return low


def upper_end(trials: Trials, error_rate: float) -> float:
    """The same from above: of bad outcomes that are good ones, and the other way about."""
    return -lower_end(Trials(1 - trials.bad, trials.candidate, trials.share), error_rate)


def _mean_before(bad: Floats) -> Floats:
    """Of all conversations before each, and of one that was half bad."""
    summed = np.cumsum(bad, axis=-1) - bad
    return np.asarray((0.5 + summed) / (1 + np.arange(bad.shape[-1])))

"""What tokens cost, so that answers grow no longer on average than the gate allows.

Knows no scores and no optimiser. A limit on a mean has one price for all responses: tokens go where
they are worth most. Departure from PPO-Lagrangian (arXiv 2310.12773), where the price is summed up
over the updates: here it follows the mean, for a dozen updates are too few to find it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

import torch
from torch import Tensor

NARROWEST = 0.01  # way from the parent's mean to the limit, where a gate allows no growth


@dataclass(frozen=True)
class LengthLimit:
    """The parent's mean tokens a response, and how many times as many the gate allows."""

    parent_tokens: float
    max_ratio: float

    @classmethod
    def over(cls, lengths: Sequence[int], max_ratio: float) -> "LengthLimit":
        """Over the tokens of responses by the parent."""
        return cls(max(fmean(lengths), 1.0), max_ratio)

    def price(self, tokens: float, at_limit: float) -> float:
        """Deviations of the score a token, where responses have `tokens` on average.

        None up to the parent's mean, in proportion from there; at the limit as many tokens as the
        parent's mean cost `at_limit`.
        """
        way = max(self.max_ratio - 1, NARROWEST)
        gone = max(0.0, tokens / self.parent_tokens - 1) / way
        return at_limit * gone / self.parent_tokens

    def costs(self, lengths: Sequence[int], price: float) -> Tensor:
        """(B,): a response as long as the parent's mean costs nothing, a shorter one less."""
        return price * (torch.tensor(lengths, dtype=torch.float32) - self.parent_tokens)

"""Corrections mixed into PPO's updates: PPO-ptx (Ouyang et al. 2022, arXiv 2203.02155, eq. 2).

Knows no rewards. Invariant: which corrections a step sees depends on its seed alone, so a resumed
training sees the same.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from worker.ppo.actor_critic import ActorCritic
from worker.sft import response_nll
from worker.tokens import TokenBatch, Tokens


@dataclass(frozen=True)
class Imitation:
    """`batch` of the corrections at each step, weighted by `coef`."""

    corrections: Sequence[Tokens]
    coef: float
    batch: int

    def loss(self, policy: ActorCritic, seed: str) -> Tensor | None:
        """coef times the mean negative log-likelihood of a token, in nats; None: switched off."""
        if self.coef == 0 or not self.corrections:
            return None
        count = min(self.batch, len(self.corrections))
        chosen = random.Random(seed).sample(self.corrections, count)
        batch = TokenBatch.of(chosen, policy.backbone.device)
        return self.coef * response_nll(policy.backbone, policy.lora, batch) / batch.mask.sum()


NO_IMITATION = Imitation((), 0.0, 1)

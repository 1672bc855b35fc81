"""The policy that is trained and the value head on its trunk.

Knows the backbone, no rewards and no optimiser. Invariants: the frozen weights collect no
gradient; the value head's gradient stops before the trunk, so a bad early value cannot damage the
policy.

The index t of a logprob or value belongs to response token t: both come from the state before it.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from amends.backbones import AnyBackbone
from amends.lora import Lora
from worker.tokens import TokenBatch


class ValueHead:
    """A linear map from the trunk's last state to the expected return."""

    def __init__(self, size: int, device: torch.device | None = None) -> None:
        self.weight = torch.zeros(size, requires_grad=True, device=device)
        self.bias = torch.zeros((), requires_grad=True, device=device)

    def parameters(self) -> list[Tensor]:
        return [self.weight, self.bias]

    def __call__(self, states: Tensor) -> Tensor:
        """(N, H) -> (N,) float32."""
        return states.float() @ self.weight + self.bias

    @torch.no_grad()
    def fit(self, states: Tensor, returns: Tensor, ridge: float = 1.0) -> None:
        """Ridge regression of returns (N,) on states (N, H): a start that is right on average.

        Features are centred and scaled by their overall spread; `ridge` is per sample, so the fit
        shrinks towards the mean return, the best constant baseline.
        """
        x = states.double()
        mean = x.mean(dim=0)
        spread = (x - mean).square().mean().sqrt().clamp_min(1e-8)
        x = (x - mean) / spread
        y = returns.double()
        gram = x.T @ x + ridge * len(x) * torch.eye(x.shape[1], dtype=x.dtype, device=x.device)
        weight = torch.linalg.solve(gram, x.T @ (y - y.mean())) / spread
        self.weight.copy_(weight.float())
        self.bias.copy_((y.mean() - mean @ weight).float())


@dataclass(frozen=True)
class Evaluation:
    """logprobs, values (B, R), zeros outside the mask; states (N, H) detached."""

    logprobs: Tensor
    values: Tensor
    states: Tensor


@dataclass(frozen=True)
class ActorCritic:
    backbone: AnyBackbone
    lora: Lora
    value_head: ValueHead

    def evaluate(self, batch: TokenBatch, temperature: float) -> Evaluation:
        """Logprobs at the sampling temperature, and values; differentiable for LoRA and value
        head."""
        hidden, _ = self.backbone.hidden_packed(batch.texts, self.lora)
        states = hidden[batch.before]
        logprobs = self.backbone.token_logprobs(states, batch.responses, temperature)
        values = self.value_head(states.detach())
        return Evaluation(batch.spread(logprobs), batch.spread(values), states.detach())


@torch.no_grad()
def frozen_logprobs(
    backbone: AnyBackbone, lora: Lora | None, batch: TokenBatch, temperature: float
) -> Tensor:
    """Logprobs (B, R) under a policy that is not trained here (None: the base model)."""
    hidden, _ = backbone.hidden_packed(batch.texts, lora)
    states = hidden[batch.before]
    return batch.spread(backbone.token_logprobs(states, batch.responses, temperature))

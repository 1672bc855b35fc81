"""The clipped losses of PPO. Pure.

Knows no model, no optimiser. Losses are sums over the mask, to be divided by the tokens of the
whole minibatch, so that micro-batches of any size add up to the same gradient. Schulman et al.
2017, eq. 7 (policy) and the usual clipped value loss.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from worker.ppo.kl import LOG_RATIO_LIMIT


@dataclass(frozen=True)
class PolicyLoss:
    """All are sums over the mask; `loss` carries gradients."""

    loss: Tensor
    clipped: float
    approx_kl: float
    ratio: float


def policy_loss(
    logprobs: Tensor, old_logprobs: Tensor, advantages: Tensor, mask: Tensor, clip_range: float
) -> PolicyLoss:
    """All (B, R). Sum over tokens of max(−A ρ, −A clip(ρ, 1 ± clip_range))."""
    log_ratio = (logprobs - old_logprobs).clamp(-LOG_RATIO_LIMIT, LOG_RATIO_LIMIT)
    ratio = log_ratio.exp()
    plain = -advantages * ratio
    clipped = -advantages * ratio.clamp(1 - clip_range, 1 + clip_range)
    with torch.no_grad():
        hit = ((clipped > plain) * mask).sum()
        approx_kl = 0.5 * (log_ratio.square() * mask).sum()
        ratios = (ratio * mask).sum()
    loss = (torch.maximum(plain, clipped) * mask).sum()
    return PolicyLoss(loss, float(hit), float(approx_kl), float(ratios))


def value_loss(
    values: Tensor, old_values: Tensor, returns: Tensor, mask: Tensor, value_clip_range: float
) -> Tensor:
    """All (B, R). Sum over tokens of ½ max((v − R)², (clip(v, v_old ± range) − R)²)."""
    near = torch.clamp(values, old_values - value_clip_range, old_values + value_clip_range)
    worst = torch.maximum((values - returns).square(), (near - returns).square())
    return 0.5 * (worst * mask).sum()


def explained_variance(values: Tensor, returns: Tensor, mask: Tensor) -> float:
    """1 − Var(returns − values) / Var(returns) over the mask; 0 when the returns do not vary."""
    chosen = mask.bool()
    target, error = returns[chosen], (returns - values)[chosen]
    variance = float(target.var(correction=0))
    return 0.0 if variance == 0 else 1 - float(error.var(correction=0)) / variance

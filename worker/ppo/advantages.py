"""Rewards per token, and what each token was worth: GAE. Pure.

Knows no model. Invariant: nothing outside the mask influences anything inside it. Generalised
advantage estimation: Schulman et al. 2015, arXiv 1506.02438, eq. 16.
"""

import torch
from torch import Tensor


def shaped_rewards(scores: Tensor, kl: Tensor, mask: Tensor, kl_coef: float) -> Tensor:
    """scores (B,), kl and mask (B, R) -> rewards (B, R): −kl_coef * kl, the score on the last
    token.

    Every row of mask is ones then zeros, with at least one 1: an empty response has its end token.
    """
    rewards = -kl_coef * kl * mask
    last = mask.sum(dim=1).long() - 1
    rewards[torch.arange(len(scores)), last] += scores
    return rewards


def gae(
    rewards: Tensor, values: Tensor, mask: Tensor, gamma: float, gae_lambda: float
) -> tuple[Tensor, Tensor]:
    """rewards, values, mask (B, R) -> advantages, returns (B, R); the value after the last token is
    0.
    """
    advantages = torch.zeros_like(rewards)
    after = torch.zeros_like(rewards[:, 0])
    next_value = torch.zeros_like(after)
    for t in reversed(range(rewards.shape[1])):
        delta = rewards[:, t] + gamma * next_value - values[:, t]
        after = (delta + gamma * gae_lambda * after) * mask[:, t]
        advantages[:, t] = after
        next_value = values[:, t] * mask[:, t]
    return advantages, (advantages + values) * mask


def whiten(x: Tensor, mask: Tensor) -> Tensor:
    """Zero mean and unit variance over the masked entries of the whole rollout; 0 outside.

    One entry, or entries that are all equal, become zeros rather than NaN.
    """
    count = mask.sum()
    mean = (x * mask).sum() / count
    centred = (x - mean) * mask
    variance = centred.square().sum() / (count - 1).clamp_min(1)
    return centred / (variance.sqrt() + 1e-8)

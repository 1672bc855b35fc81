"""How far the policy has moved from the reference, and how much that costs. Pure.

Knows no model and no rewards. Invariant: masked-out tokens contribute nothing. Estimators:
Schulman, "Approximating KL divergence", 2020; the controller: Ziegler et al. 2019, arXiv
1909.08593, section 2.2.
"""

from dataclasses import dataclass

from torch import Tensor

LOG_RATIO_LIMIT = 20.0  # exp(20) is finite in float32; a larger log-ratio is noise, not information


def k1(logprobs: Tensor, ref_logprobs: Tensor, mask: Tensor) -> Tensor:
    """Per-token log-ratio (B, R), unbiased for the KL of the sampled policy to the reference."""
    return (logprobs - ref_logprobs).clamp(-LOG_RATIO_LIMIT, LOG_RATIO_LIMIT) * mask


def k3(logprobs: Tensor, ref_logprobs: Tensor, mask: Tensor) -> Tensor:
    """Per-token low-variance estimate (B, R), never negative; for logs only."""
    log_ratio = (ref_logprobs - logprobs).clamp(-LOG_RATIO_LIMIT, LOG_RATIO_LIMIT)
    return (log_ratio.exp() - 1 - log_ratio) * mask


def exact_kl(logits: Tensor, ref_logits: Tensor) -> Tensor:
    """KL(softmax(logits) || softmax(ref_logits)) over the last dimension, in float32."""
    log_p, log_q = (t.float().log_softmax(dim=-1) for t in (logits, ref_logits))
    return (log_p.exp() * (log_p - log_q)).sum(dim=-1)


@dataclass
class AdaptiveKl:
    """A coefficient that steers the KL per response (nats) towards `target`."""

    coef: float
    target: float
    horizon_tokens: int

    def update(self, kl_per_response: float, tokens: int) -> None:
        """Proportional control; the error is clipped to ±0.2 so that one bad batch changes
        little."""
        error = min(max(kl_per_response / self.target - 1, -0.2), 0.2)
        self.coef *= 1 + error * min(tokens / self.horizon_tokens, 1.0)

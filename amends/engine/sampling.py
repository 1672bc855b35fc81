"""Drawing one token per row from logits.

Knows no sequences beyond their sampling settings. Invariant: the draw of a row depends on its own
logits, settings and uniform number only, never on the rest of the batch; temperature alone (top_p
1) samples the pure policy.
"""

import torch
from torch import Tensor

NUCLEUS = 1024  # top-p looks at this many tokens first, at all of them only when they are too few


def sample(
    logits: Tensor, temperatures: Tensor, top_ps: Tensor, uniforms: Tensor
) -> tuple[Tensor, Tensor]:
    """logits (B, V) float32; the rest (B,). Returns tokens (B,) and their raw logprobs (B,).

    Logprobs are those of the raw logits at temperature 1. temperature 0 takes the best token.
    """
    scaled = logits / temperatures.clamp_min(1e-6)[:, None]
    tokens = _inverse_cdf(scaled.softmax(dim=-1), uniforms)
    for row in torch.nonzero(top_ps < 1.0).flatten().tolist():
        tokens[row] = _nucleus(scaled[row], float(top_ps[row]), float(uniforms[row]))
    greedy = temperatures == 0
    if bool(greedy.any()):
        tokens = torch.where(greedy, logits.argmax(dim=-1), tokens)
    norm = torch.logsumexp(logits, dim=-1)
    return tokens, logits.gather(-1, tokens[:, None]).squeeze(-1) - norm


def _inverse_cdf(probs: Tensor, uniforms: Tensor) -> Tensor:
    cumulative = probs.cumsum(dim=-1)
    wanted = uniforms.to(cumulative.dtype)[:, None] * cumulative[:, -1:]
    found = torch.searchsorted(cumulative, wanted, right=True).squeeze(-1)
    return found.clamp_max(probs.shape[-1] - 1)


def _nucleus(scaled: Tensor, top_p: float, uniform: float) -> int:
    """The smallest set of best tokens whose mass reaches top_p (Holtzman et al. 2019),
    renormalised."""
    count = min(NUCLEUS, scaled.shape[-1])
    probs = scaled.softmax(dim=-1)
    best, tokens = probs.topk(count)
    if float(best.sum()) < top_p:
        best, tokens = probs.sort(descending=True)
    before = best.cumsum(dim=-1) - best
    kept = best * (before < top_p)
    index = _inverse_cdf(kept[None], torch.tensor([uniform], device=scaled.device))
    return int(tokens[index])

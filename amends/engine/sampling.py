"""Drawing one token per row from logits.

Knows no sequences beyond their sampling settings. Invariant: the draw of a row depends on its own
logits, settings and uniform number only, never on the rest of the batch; temperature alone (top_p
1) samples the pure policy.
"""

from collections.abc import Sequence as Sequences

import torch
from torch import Tensor

from amends.engine.sequence import Sequence

NUCLEUS = 64  # top-p looks at so many tokens first, and at 16 times more while they are too few


def draw(logits: Tensor, sequences: Sequences[Sequence]) -> tuple[list[int], list[float]]:
    """One token of each sequence from its row of logits (B, V) float32; tokens and raw logprobs."""
    options = [s.request.sampling for s in sequences]
    numbers = torch.tensor(
        [[o.temperature, o.top_p, s.uniform()] for o, s in zip(options, sequences, strict=True)],
        dtype=torch.float64,
        device=logits.device,
    )
    temperatures, top_ps = numbers[:, 0].float(), numbers[:, 1].float()
    tokens, logprobs = sample(logits, temperatures, top_ps, numbers[:, 2])
    return tokens.tolist(), logprobs.tolist()


def sample(
    logits: Tensor, temperatures: Tensor, top_ps: Tensor, uniforms: Tensor
) -> tuple[Tensor, Tensor]:
    """logits (B, V) float32; the rest (B,). Returns tokens (B,) and their raw logprobs (B,).

    Logprobs are those of the raw logits at temperature 1. temperature 0 takes the best token.
    """
    norms = logits.logsumexp(dim=-1)
    tokens = logits.new_zeros(len(logits), dtype=torch.long)
    drawn = temperatures > 0
    for chosen, draw in (
        (~drawn, _best),
        (drawn & (top_ps >= 1), _pure),
        (drawn & (top_ps < 1), _nucleus),
    ):
        rows = torch.nonzero(chosen).flatten()
        if len(rows):
            scaled = logits if len(rows) == len(logits) else logits[rows]
            scaled = scaled / temperatures[rows].clamp_min(1e-6)[:, None]
            tokens[rows] = draw(scaled, top_ps[rows], uniforms[rows])
    return tokens, logits.gather(-1, tokens[:, None]).squeeze(-1) - norms


def _best(scaled: Tensor, top_ps: Tensor, uniforms: Tensor) -> Tensor:
    return scaled.argmax(dim=-1)


def _pure(scaled: Tensor, top_ps: Tensor, uniforms: Tensor) -> Tensor:
    return _inverse_cdf(scaled.softmax(dim=-1), uniforms)


def _nucleus(scaled: Tensor, top_ps: Tensor, uniforms: Tensor, count: int = NUCLEUS) -> Tensor:
    """The smallest set of best tokens whose mass reaches top_p (Holtzman et al. 2019),
    renormalised."""
    best, ranked = scaled.topk(min(count, scaled.shape[-1]))
    probs = (best - scaled.logsumexp(dim=-1, keepdim=True)).exp()
    before = probs.cumsum(dim=-1) - probs
    drawn = _inverse_cdf(probs * (before < top_ps[:, None]), uniforms)
    tokens = ranked.gather(-1, drawn[:, None]).squeeze(-1)
    short = torch.nonzero(probs.sum(dim=-1) < top_ps).flatten()
    if len(short) and count < scaled.shape[-1]:
        tokens[short] = _nucleus(scaled[short], top_ps[short], uniforms[short], 16 * count)
    return tokens


def _inverse_cdf(probs: Tensor, uniforms: Tensor) -> Tensor:
    cumulative = probs.cumsum(dim=-1)
    wanted = uniforms.to(cumulative.dtype)[:, None] * cumulative[:, -1:]
    found = torch.searchsorted(cumulative, wanted, right=True).squeeze(-1)
    return found.clamp_max(probs.shape[-1] - 1)

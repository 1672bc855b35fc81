"""What the fused forward is made of where autograd's own way is slow or keeps too much: frozen
linear layers with LoRA, log-probabilities, attention.

Knows tensors, no model. Invariant: a frozen weight gets no gradient, and none is computed for it.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor


class LoraLinear(torch.autograd.Function):
    """y = x W^T + bias + (x A^T) B, with gradients for x, A and B only.

    x (N, in), weight (out, in) frozen, a (R, in), b (R, out). One function instead of PEFT's five
    modules: no gradient is made for W, and the low-rank product is added in place.
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, a: Tensor, b: Tensor
    ) -> Tensor:
        low = x @ a.T
        ctx.save_for_backward(x, low, weight, a, b)
        return F.linear(x, weight, bias).addmm_(low, b)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        x, low, weight, a, b = ctx.saved_tensors
        grad = grads[0]
        grad_low = grad @ b.T
        grad_x = (grad @ weight).addmm_(grad_low, a)
        return grad_x, None, None, grad_low.T @ x, low.T @ grad


class TokenLogprobs(torch.autograd.Function):
    """log softmax(h W^T / temperature) at the given tokens, in float32, without keeping the logits.

    h (N, H), weight (V, H) frozen, tokens (N,). The backward recomputes the logits: V is 49,152
    for the default model, and float32 logits of a batch would be most of the memory.
    """

    @staticmethod
    def forward(ctx: Any, h: Tensor, weight: Tensor, tokens: Tensor, temperature: float) -> Tensor:
        logits = (h @ weight.T).float().div_(temperature)
        norm = torch.logsumexp(logits, dim=-1)
        ctx.save_for_backward(h, weight, tokens, norm)
        ctx.temperature = temperature
        return logits.gather(-1, tokens[:, None]).squeeze(-1) - norm

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        h, weight, tokens, norm = ctx.saved_tensors
        scaled = -grads[0] / ctx.temperature
        delta = (h @ weight.T).float().div_(ctx.temperature)
        delta.sub_(norm[:, None]).exp_().mul_(scaled[:, None])
        delta.scatter_add_(-1, tokens[:, None], -scaled[:, None])
        return delta.to(h.dtype) @ weight, None, None, None


class GroupedCausalAttention(torch.autograd.Function):
    """Causal attention of G query heads that share one KV head.

    q (N, G, T, D), k and v (N, T, D) -> (N, G, T, D), where N is rows times KV heads; `unseen` (T,
    T), added to the scores, hides what comes later and more (None: only that). The forward
    is torch's flash kernel with K and V expanded by a stride of zero; its backward took a third of
    a training step at 190 tokens, so the backward here is five batched matmuls over recomputed
    probabilities (N, G*T, T): the group's heads are simply more query rows.
    """

    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor, unseen: Tensor | None) -> Tensor:
        group = q.shape[1]
        wide_k, wide_v = (t[:, None].expand(-1, group, -1, -1) for t in (k, v))
        causal = unseen is None
        out = F.scaled_dot_product_attention(q, wide_k, wide_v, unseen, is_causal=causal)
        ctx.save_for_backward(q, k, v, out, unseen)
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        q, k, v, out, unseen = ctx.saved_tensors
        count, group, length, size = q.shape
        rows, scale = (count, group * length, size), size**-0.5
        q, grad, out = q.reshape(rows), grads[0].reshape(rows), out.reshape(rows)
        if unseen is None:
            unseen = q.new_full((length, length), float("-inf")).triu_(1)
        scores = torch.baddbmm(unseen.repeat(group, 1), q, k.transpose(1, 2), alpha=scale)
        probs = scores.softmax(dim=-1)
        grad_v = probs.transpose(1, 2) @ grad
        inner = (grad * out).sum(dim=-1, keepdim=True)
        grad_scores = (grad @ v.transpose(1, 2)).sub_(inner).mul_(probs).mul_(scale)
        grad_q = (grad_scores @ k).view(count, group, length, size)
        return grad_q, grad_scores.transpose(1, 2) @ q, grad_v, None

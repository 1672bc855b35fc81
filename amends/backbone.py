"""The fused Llama-family forward with LoRA, differentiable: the engine answers with it and the
trainer trains through it.

Weights come from the transformers model, which stays loader, config and oracle (logits equal
within tolerance, a test). Fused are q/k/v and gate/up; query heads are grouped per KV head,
because repeating K and V is several times slower on a CPU; LoRA stays apart from the frozen
weights, since an early adapter's delta would drown in their bf16 rounding.

Knows no sequences, no scheduler, no optimiser, no files. Invariant: the frozen weights never
collect gradients. Shapes: N tokens in all, B rows, T tokens a row, H hidden size, D head size, V
vocabulary.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from amends.differentiable import GroupedCausalAttention, LoraLinear, TokenLogprobs
from amends.errors import ModelUnavailable
from amends.lora import GROUPS, Lora, LoraShape, PackedLora, fused_name
from amends.packed_texts import PackedTexts

# layer, name of the fused linear, x (N, in) -> (N, out)
Linear = Callable[[int, str, Tensor], Tensor]
# q (B, T, heads, D), k and v (B, T, kv_heads, D) -> (B, T, heads * D)
Attention = Callable[[Tensor, Tensor, Tensor], Tensor]

FAMILIES = ("llama", "mistral", "qwen2", "qwen3")


@dataclass(frozen=True)
class Layer:
    """Frozen weights of one block; `linear` by group, each (out, in), `bias` where the model has
    one."""

    linear: dict[str, Tensor]
    bias: dict[str, Tensor | None]
    input_norm: Tensor
    mlp_norm: Tensor
    q_norm: Tensor | None
    k_norm: Tensor | None


class Backbone:
    """One frozen base model. Every method takes the LoRA to use (None: the base model itself)."""

    def __init__(self, model: Any, max_positions: int) -> None:
        config = model.config
        reason = why_not_fused(config, max_positions)
        if reason is not None:
            raise ModelUnavailable(reason)
        self.layers_count: int = config.num_hidden_layers
        self.hidden_size: int = config.hidden_size
        self.vocab_size: int = config.vocab_size
        self.heads: int = config.num_attention_heads
        self.kv_heads: int = config.num_key_value_heads
        self.head_dim: int = getattr(config, "head_dim", None) or self.hidden_size // self.heads
        self.eps: float = config.rms_norm_eps
        self.max_positions = max_positions
        self.embedding: Tensor = model.model.embed_tokens.weight.detach()
        self.lm_head: Tensor = model.lm_head.weight.detach()
        self.final_norm: Tensor = model.model.norm.weight.detach()
        self.layers = [_fuse(layer) for layer in model.model.layers]
        self.dtype = self.embedding.dtype
        self.device = self.embedding.device
        positions = torch.arange(max_positions, device=self.device)[None]
        cos, sin = model.model.rotary_emb(self.final_norm[None, None], positions)
        self.cos, self.sin = cos[0].to(self.dtype), sin[0].to(self.dtype)  # (max_positions, D)

    def lora_shape(self, rank: int, alpha: float) -> LoraShape:
        """What an adapter on all linear layers of this model looks like."""
        width = self.layers[0].linear["gate_up"].shape[0] // 2
        q, kv, hidden = self.heads * self.head_dim, self.kv_heads * self.head_dim, self.hidden_size
        sizes = {
            "self_attn.q_proj": (q, hidden),
            "self_attn.k_proj": (kv, hidden),
            "self_attn.v_proj": (kv, hidden),
            "self_attn.o_proj": (hidden, q),
            "mlp.gate_proj": (width, hidden),
            "mlp.up_proj": (width, hidden),
            "mlp.down_proj": (hidden, width),
        }
        names = {
            fused_name(layer, module): size
            for layer in range(self.layers_count)
            for module, size in sizes.items()
        }
        return LoraShape(rank, alpha, names)

    def hidden(
        self, token_ids: Tensor, lora: Lora | PackedLora | None = None, keep: tuple[int, ...] = ()
    ) -> tuple[Tensor, list[Tensor]]:
        """token_ids (B, T), right-padded -> normed last hidden states (B, T, H) and those after
        the layers in `keep`.

        Attention is causal, so padding on the right is never seen by real tokens: no mask is
        needed, and positions are simply 0..T-1.
        """
        positions = torch.arange(token_ids.shape[1], device=self.device)
        return self._through(token_ids, positions, self.attend_causal, lora, keep)

    def hidden_packed(
        self, texts: PackedTexts, lora: Lora | PackedLora | None = None, keep: tuple[int, ...] = ()
    ) -> tuple[Tensor, list[Tensor]]:
        """The same of texts without padding, where answers to one prompt share it: states (N,
        H)."""
        unseen = [self._scores_of(span.unseen()) for span in texts.spans]

        def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
            split = (torch.split(t, texts.lengths, dim=1) for t in (q, k, v))
            parts = zip(*split, unseen, strict=True)
            return torch.cat([self.attend_causal(*part) for part in parts], dim=1)

        token_ids, positions = texts.token_ids[None], texts.positions().to(self.device)
        states, kept = self._through(token_ids, positions, attend, lora, keep)
        return states[0], [state[0] for state in kept]

    def _scores_of(self, unseen: Tensor | None) -> Tensor | None:
        """To be added to attention's scores."""
        if unseen is None:
            return None
        scores = torch.zeros(unseen.shape, dtype=self.dtype).masked_fill_(unseen, float("-inf"))
        return scores.to(self.device)

    def _through(
        self,
        token_ids: Tensor,
        positions: Tensor,
        attend: Attention,
        lora: Lora | PackedLora | None,
        keep: tuple[int, ...],
    ) -> tuple[Tensor, list[Tensor]]:
        """token_ids (B, T) at `positions` (T,)."""
        if isinstance(lora, Lora):
            lora = lora.pack(self.dtype, self.device)
        linear = self.linears(lora)
        cos, sin = self.cos[positions, None], self.sin[positions, None]
        x = F.embedding(token_ids, self.embedding)
        kept = []
        for index in range(self.layers_count):
            q, k, v = self.qkv(index, x, linear, cos, sin)
            x = self.finish_layer(index, x, attend(q, k, v), linear)
            if index + 1 in keep:
                kept.append(x)
        return self.norm(x, self.final_norm), kept

    def token_logprobs(self, hidden: Tensor, tokens: Tensor, temperature: float = 1.0) -> Tensor:
        """hidden (N, H) at the positions before `tokens` (N,) -> float32 log-probabilities (N,)."""
        return _apply(TokenLogprobs, hidden, self.lm_head, tokens, temperature)

    def qkv(
        self, index: int, x: Tensor, linear: Linear, cos: Tensor, sin: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """x (B, T, H) -> q (B, T, heads, D), k and v (B, T, kv_heads, D), positions applied to q
        and k."""
        layer = self.layers[index]
        rows, length, _ = x.shape
        joined = _rowwise(linear, index, "qkv", self.norm(x, layer.input_norm))
        joined = joined.view(rows, length, self.heads + 2 * self.kv_heads, self.head_dim)
        if layer.q_norm is None or layer.k_norm is None:
            qk = _rotate(joined[:, :, : self.heads + self.kv_heads], cos, sin)
            q, k = qk[:, :, : self.heads], qk[:, :, self.heads :]
        else:
            q = self.norm(joined[:, :, : self.heads], layer.q_norm)
            k = self.norm(joined[:, :, self.heads : -self.kv_heads], layer.k_norm)
            q, k = _rotate(q, cos, sin), _rotate(k, cos, sin)
        return q, k, joined[:, :, -self.kv_heads :]

    def finish_layer(self, index: int, x: Tensor, attended: Tensor, linear: Linear) -> Tensor:
        """Output projection, residuals and MLP of a layer. x (B, T, H), attended (B, T,
        heads*D)."""
        x = x + _rowwise(linear, index, "o", attended)
        joined = _rowwise(linear, index, "gate_up", self.norm(x, self.layers[index].mlp_norm))
        gate, up = joined.chunk(2, dim=-1)
        return x + _rowwise(linear, index, "down", F.silu(gate) * up)

    def norm(self, x: Tensor, weight: Tensor) -> Tensor:
        return F.rms_norm(x, (x.shape[-1],), weight, self.eps)

    def attend_causal(
        self, q: Tensor, k: Tensor, v: Tensor, unseen: Tensor | None = None
    ) -> Tensor:
        """q (B, T, heads, D), k and v (B, T, kv_heads, D) -> (B, T, heads * D). `unseen` as
        GroupedCausalAttention has it."""
        rows, length, _, size = q.shape
        group = self.heads // self.kv_heads
        shape = (rows, length, self.kv_heads, group, size)
        q = q.reshape(shape).permute(0, 2, 3, 1, 4).reshape(-1, group, length, size)
        k, v = (t.permute(0, 2, 1, 3).reshape(-1, length, size) for t in (k, v))
        out = _apply(GroupedCausalAttention, q, k, v, unseen)
        out = out.view(rows, self.kv_heads, group, length, size)
        return out.permute(0, 3, 1, 2, 4).reshape(rows, length, -1)

    def linears(self, lora: PackedLora | None) -> Linear:
        """The fused linear layers with this LoRA, differentiable."""

        def linear(index: int, group: str, x: Tensor) -> Tensor:
            layer = self.layers[index]
            weight, bias = layer.linear[group], layer.bias[group]
            if lora is None:
                return F.linear(x, weight, bias)
            return _apply(LoraLinear, x, weight, bias, lora.a[index][group], lora.b[index][group])

        return linear


def _apply(function: type[torch.autograd.Function], *arguments: Any) -> Tensor:
    result: Tensor = function.apply(*arguments)  # type: ignore[no-untyped-call]
    return result


def _rowwise(linear: Linear, index: int, group: str, x: Tensor) -> Tensor:
    """`linear` on the last axis of x (B, T, in)."""
    return linear(index, group, x.reshape(-1, x.shape[-1])).view(*x.shape[:-1], -1)


def _rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotary positions (Su et al. 2021), halves as transformers lays them out. x (B, T, heads,
    D)."""
    half = x.shape[-1] // 2
    turned = torch.cat((-x[..., half:], x[..., :half]), dim=-1)
    return x * cos + turned * sin


def _fuse(layer: Any) -> Layer:
    linear: dict[str, Tensor] = {}
    bias: dict[str, Tensor | None] = {}
    for group, names in GROUPS.items():
        modules = [layer.get_submodule(name) for name in names]
        linear[group] = torch.cat([m.weight.detach() for m in modules])
        biases = [m.bias for m in modules]
        bias[group] = None if biases[0] is None else torch.cat([b.detach() for b in biases])
    q_norm = getattr(layer.self_attn, "q_norm", None)
    k_norm = getattr(layer.self_attn, "k_norm", None)
    return Layer(
        linear,
        bias,
        layer.input_layernorm.weight.detach(),
        layer.post_attention_layernorm.weight.detach(),
        None if q_norm is None else q_norm.weight.detach(),
        None if k_norm is None else k_norm.weight.detach(),
    )


def why_not_fused(config: Any, max_positions: int) -> str | None:
    """What keeps a model with this configuration from this forward; None when nothing does."""
    if config.model_type not in FAMILIES:
        return f"expected a model of the families {', '.join(FAMILIES)}, got {config.model_type!r}"
    window = getattr(config, "sliding_window", None)
    if window and getattr(config, "use_sliding_window", True) and window < max_positions:
        return f"attention window {window} is shorter than AMENDS_CONTEXT_TOKENS {max_positions}"
    if config.hidden_act != "silu":
        return f"expected hidden_act 'silu', got {config.hidden_act!r}"
    return None

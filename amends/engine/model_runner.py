"""Runs one step of a batch on the backbone: KV cache, LoRA slots, sampling. The only torch in the
engine's loop.

Knows no queue, no version numbers, no threads. Invariant: a row's cache holds exactly the
positions that its sequence has read.
"""

import math

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from amends.backbone import Backbone
from amends.engine.kv_cache import Move
from amends.engine.sampling import sample
from amends.engine.sequence import Sequence
from amends.lora import Lora, LoraShape, PackedLora


class ModelRunner:
    """`rows` sequences at once, `slots` LoRA slots (slot 0 is the base model)."""

    def __init__(self, backbone: Backbone, lora_shape: LoraShape, rows: int, slots: int) -> None:
        self._backbone = backbone
        size = (rows, backbone.kv_heads, backbone.max_positions, backbone.head_dim)
        # Zeroed: a masked position still counts 0 times its value, and 0 times a NaN that lay in
        # fresh memory would be NaN.
        self._keys = [_zeros(size, backbone) for _ in backbone.layers]
        self._values = [_zeros(size, backbone) for _ in backbone.layers]
        self._slots = slots
        empty = Lora.fresh(lora_shape, seed=0).pack(backbone.dtype, backbone.device)
        self._a = tuple(
            {g: t.new_zeros(slots * len(t), t.shape[1]) for g, t in layer.items()}
            for layer in empty.a
        )
        self._b = tuple(
            {g: t.new_zeros(slots * len(t), t.shape[1]) for g, t in layer.items()}
            for layer in empty.b
        )

    @torch.inference_mode()
    def write_slot(self, slot: int, lora: Lora) -> None:
        """Put an adapter's weights into a slot that no running sequence uses."""
        packed = lora.pack(self._backbone.dtype, self._backbone.device)
        for stacked, layers in ((self._a, packed.a), (self._b, packed.b)):
            for target, source in zip(stacked, layers, strict=True):
                for group, tensor in source.items():
                    target[group][slot * len(tensor) : (slot + 1) * len(tensor)].copy_(tensor)

    @torch.inference_mode()
    def effect(self, slot: int, token_ids: tuple[int, ...]) -> float:
        """Largest change that the slot makes to the log-probabilities of a prompt's tokens, in
        nats.

        NaN when the adapter makes the model's output not a number.
        """
        ids = torch.tensor([token_ids], device=self._backbone.device)
        found = []
        for lora in (None, self._lora([slot])):
            hidden, _ = self._backbone.hidden(ids, lora)
            found.append(self._backbone.token_logprobs(hidden[0, :-1], ids[0, 1:]))
        return float((found[0] - found[1]).abs().max())

    @torch.inference_mode()
    def prefill(self, sequences: tuple[Sequence, ...]) -> tuple[list[int], list[float]]:
        """Read the prompts and draw each one's first token: tokens and raw logprobs."""
        backbone = self._backbone
        lengths = [s.prompt_len for s in sequences]
        longest = max(lengths)
        ids = torch.zeros(len(sequences), longest, dtype=torch.long, device=backbone.device)
        for index, sequence in enumerate(sequences):
            ids[index, : lengths[index]] = torch.tensor(sequence.request.prompt_ids)
        rows = torch.tensor([s.row for s in sequences], device=backbone.device)
        lora = self._lora([s.slot or 0 for s in sequences])
        cos, sin = backbone.cos[:longest, None], backbone.sin[:longest, None]
        x = F.embedding(ids, backbone.embedding)
        for index in range(backbone.layers_count):
            q, k, v = backbone.qkv(index, x, lora, cos, sin)
            self._keys[index][rows, :, :longest] = k.transpose(1, 2)
            self._values[index][rows, :, :longest] = v.transpose(1, 2)
            attended = backbone.attend_causal(q, k, v).reshape(len(sequences), longest, -1)
            x = backbone.finish_layer(index, x, attended, lora)
        last = torch.tensor(lengths, device=backbone.device) - 1
        return self._draw(x[torch.arange(len(sequences)), last], sequences)

    @torch.inference_mode()
    def decode(self, sequences: tuple[Sequence, ...]) -> tuple[list[int], list[float]]:
        """One more token for rows 0..n-1, in this order."""
        backbone, count = self._backbone, len(sequences)
        rows = torch.arange(count, device=backbone.device)
        positions = torch.tensor([s.prompt_len + len(s.token_ids) - 1 for s in sequences])
        positions = positions.to(backbone.device)
        tokens = torch.tensor([[s.token_ids[-1]] for s in sequences], device=backbone.device)
        lora = self._lora([s.slot or 0 for s in sequences])
        seen = int(positions.max()) + 1
        mask = torch.arange(seen, device=backbone.device)[None] <= positions[:, None]
        mask = mask[:, None, None]
        cos, sin = (t[positions][:, None, None] for t in (backbone.cos, backbone.sin))
        x = F.embedding(tokens, backbone.embedding)
        grouped = (count, backbone.kv_heads, -1, backbone.head_dim)
        for index in range(backbone.layers_count):
            q, k, v = backbone.qkv(index, x, lora, cos, sin)
            keys, values = self._keys[index], self._values[index]
            keys[rows, :, positions] = k[:, 0]
            values[rows, :, positions] = v[:, 0]
            # The heads that share a KV head stand as query positions: nothing is repeated.
            attended = F.scaled_dot_product_attention(
                q.reshape(grouped), keys[:count, :, :seen], values[:count, :, :seen], mask
            )
            x = backbone.finish_layer(index, x, attended.reshape(count, 1, -1), lora)
        return self._draw(x[:, 0], sequences)

    @torch.inference_mode()
    def move(self, move: Move) -> None:
        """Copy a row of the cache into the hole that a finished sequence left."""
        for cache in (*self._keys, *self._values):
            cache[move.target, :, : move.length] = cache[move.source, :, : move.length]

    def _draw(self, x: Tensor, sequences: tuple[Sequence, ...]) -> tuple[list[int], list[float]]:
        backbone = self._backbone
        logits = (backbone.norm(x, backbone.final_norm) @ backbone.lm_head.T).float()
        options = [s.request.sampling for s in sequences]
        numbers = torch.tensor(
            [
                [o.temperature, o.top_p, s.uniform()]
                for o, s in zip(options, sequences, strict=True)
            ],
            dtype=torch.float64,
            device=backbone.device,
        )
        temperatures, top_ps = numbers[:, 0].float(), numbers[:, 1].float()
        tokens, logprobs = sample(logits, temperatures, top_ps, numbers[:, 2])
        return tokens.tolist(), logprobs.tolist()

    def _lora(self, slots: list[int]) -> PackedLora | None:
        """The slots of a batch's rows as one LoRA: none, one slot's slice, or all with a row
        mask."""
        if not any(slots):
            return None
        if len(set(slots)) == 1:
            a, b = (
                tuple({g: self._slice(t, slots[0]) for g, t in layer.items()} for layer in stacked)
                for stacked in (self._a, self._b)
            )
            return PackedLora(a, b)
        chosen = torch.tensor(slots, device=self._backbone.device)
        mask = F.one_hot(chosen, self._slots).to(self._backbone.dtype)
        return PackedLora(self._a, self._b, mask)

    def _slice(self, stacked: Tensor, slot: int) -> Tensor:
        rank = len(stacked) // self._slots
        return stacked[slot * rank : (slot + 1) * rank]


def _zeros(size: tuple[int, ...], backbone: Backbone) -> Tensor:
    """Zeros; on a CPU the system's own zero pages, which cost memory only when they are written."""
    if backbone.device.type != "cpu":
        return torch.zeros(size, dtype=backbone.dtype, device=backbone.device)
    zeros = np.zeros(math.prod(size) * backbone.dtype.itemsize, dtype=np.uint8)
    return torch.from_numpy(zeros).view(backbone.dtype).view(size)

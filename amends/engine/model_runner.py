"""Runs one step of a batch on the backbone: KV cache, LoRA slots, sampling. The only torch in the
engine's loop.

Knows no queue, no version numbers, no threads. Invariant: the first `computed` positions of a row
are those of its sequence; nothing behind them is ever looked at.
"""

import math
import mmap
from collections.abc import Callable
from collections.abc import Sequence as Sequences

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from amends.backbone import Backbone
from amends.engine.kv_cache import Move
from amends.engine.prefix_cache import BLOCK_TOKENS, BlockCopy
from amends.engine.sampling import draw
from amends.engine.sequence import Piece
from amends.engine.slot_linears import SlotLinears
from amends.lora import Lora, LoraShape, PackedLora

# layer, q (N, heads, D), k and v (N, kv_heads, D) of the new tokens -> what they attend to
Attend = Callable[[int, Tensor, Tensor, Tensor], Tensor]


class ModelRunner:
    """`rows` sequences at once, `slots` LoRA slots (slot 0 is the base model), and as many blocks
    of prefixes as `prefix_bytes` hold."""

    def __init__(
        self,
        backbone: Backbone,
        lora_shape: LoraShape,
        rows: int,
        slots: int,
        prefix_bytes: int,
    ) -> None:
        self._backbone = backbone
        # Keys and values: (layers, 2, rows, kv_heads, positions, D).
        size = (rows, backbone.kv_heads, backbone.max_positions, backbone.head_dim)
        block = (backbone.layers_count, 2, backbone.kv_heads, BLOCK_TOKENS, backbone.head_dim)
        self.blocks = prefix_bytes // (math.prod(block) * backbone.dtype.itemsize)
        # Zeroed: a masked position still counts 0 times its value, and 0 times a NaN that lay in
        # fresh memory would be NaN.
        self._cache = _zeros((backbone.layers_count, 2, *size), backbone)
        self._blocks = _zeros((self.blocks, *block), backbone)
        self._linears = SlotLinears(backbone, lora_shape, slots)

    @torch.no_grad()
    def pack(self, lora: Lora) -> PackedLora:
        """As write_slot takes it; touches nothing that a step reads."""
        return self._linears.pack(lora)

    @torch.inference_mode()
    def write_slot(self, slot: int, adapter: PackedLora) -> None:
        """Put an adapter's weights into a slot that no running sequence uses; only copies."""
        self._linears.write(slot, adapter)

    @torch.inference_mode()
    def prefill(self, pieces: Sequences[Piece]) -> tuple[list[int], list[float]]:
        """Read pieces of prompts; tokens and raw logprobs of those that draw."""
        ends = np.cumsum([piece.end - piece.start for piece in pieces]).tolist()
        masks = [self._mask(piece) for piece in pieces]

        def attend(layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
            keys, values = self._cache[layer]
            attended = []
            for piece, mask, end in zip(pieces, masks, ends, strict=True):
                row, new = piece.sequence.row, slice(end - (piece.end - piece.start), end)
                keys[row, :, piece.start : piece.end] = k[new].transpose(0, 1)
                values[row, :, piece.start : piece.end] = v[new].transpose(0, 1)
                seen = keys[row, :, : piece.end], values[row, :, : piece.end]
                attended.append(_attend_row(q[new], *seen, mask))
            return torch.cat(attended)

        return self._draw(self._forward(pieces, attend), pieces)

    @torch.inference_mode()
    def decode(
        self, pieces: Sequences[Piece], probe: Sequences[Piece] = ()
    ) -> tuple[list[int], list[float], float]:
        """Read one token of each of rows 0..n-1, in this order; as prefill() does.

        `probe`: a prompt twice, whole, under two slots, without rows. It is read along, and the
        number returned is the largest difference that the slots make to the log-probability of one
        of its tokens, in nats; NaN where one is not a number.
        """
        count, device = len(pieces), self._backbone.device
        rows = torch.arange(count, device=device)
        positions = torch.tensor([piece.start for piece in pieces], device=device)
        seen = max((piece.end for piece in pieces), default=0)
        unseen = torch.arange(seen, device=device) > positions[:, None]
        mask = torch.zeros(unseen.shape, dtype=self._backbone.dtype, device=device)
        mask = mask.masked_fill_(unseen, float("-inf"))[:, None, None]
        grouped = (count, self._backbone.kv_heads, -1, self._backbone.head_dim)

        def attend_rows(layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
            keys, values = self._cache[layer]
            keys[rows, :, positions], values[rows, :, positions] = k, v
            # The heads that share a KV head stand as query positions: nothing is repeated.
            return F.scaled_dot_product_attention(
                q.reshape(grouped), keys[:count, :, :seen], values[:count, :, :seen], mask
            )

        def attend(layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
            attended = []
            if count:
                mixed = attend_rows(layer, q[:count], k[:count], v[:count])
                attended.append(mixed.reshape(count, -1))
            for own in slices:
                seen = k[own].transpose(0, 1), v[own].transpose(0, 1)
                attended.append(_attend_row(q[own], *seen, None))
            return torch.cat(attended)

        if not probe:
            return *self._draw(self._forward(pieces, attend_rows), pieces), 0.0
        length = probe[0].end
        slices = [slice(count + i * length, count + (i + 1) * length) for i in range(len(probe))]
        x = self._forward([*pieces, *probe], attend)
        difference = self._difference([x[own] for own in slices], probe[0].token_ids)
        return *self._draw(x[:count], pieces), difference

    @torch.inference_mode()
    def move(self, move: Move) -> None:
        """Copy the beginning of a row of the cache to another row."""
        length = move.length
        self._cache[:, :, move.target, :, :length] = self._cache[:, :, move.source, :, :length]

    @torch.inference_mode()
    def save(self, copy: BlockCopy) -> None:
        """Row to block."""
        self._blocks[copy.block] = self._positions(copy)

    @torch.inference_mode()
    def restore(self, copy: BlockCopy) -> None:
        """Block to row."""
        self._positions(copy).copy_(self._blocks[copy.block])

    def _positions(self, copy: BlockCopy) -> Tensor:
        return self._cache[:, :, copy.row, :, copy.start : copy.start + BLOCK_TOKENS]

    def _mask(self, piece: Piece) -> Tensor | None:
        """Added to the scores (new, seen); None where nothing was read before: plainly causal."""
        if piece.start == 0:
            return None
        backbone = self._backbone
        mask = torch.full(
            (piece.end - piece.start, piece.end),
            float("-inf"),
            dtype=backbone.dtype,
            device=backbone.device,
        )
        return mask.triu_(piece.start + 1)

    def _forward(self, pieces: Sequences[Piece], attend: Attend) -> Tensor:
        """All pieces' tokens as N rows of one token: no padding, whatever their lengths. The last
        hidden states (N, H)."""
        backbone = self._backbone
        counts = [piece.end - piece.start for piece in pieces]
        ids = [token for piece in pieces for token in piece.token_ids]
        positions = [i for piece in pieces for i in range(piece.start, piece.end)]
        slots = [
            p.sequence.slot or 0 for p, n in zip(pieces, counts, strict=True) for _ in range(n)
        ]
        linear = self._linears.of(slots)
        cos, sin = (t[positions][:, None, None] for t in (backbone.cos, backbone.sin))
        x = F.embedding(torch.tensor(ids, device=backbone.device), backbone.embedding)[:, None]
        for index in range(backbone.layers_count):
            q, k, v = backbone.qkv(index, x, linear, cos, sin)
            attended = attend(index, q[:, 0], k[:, 0], v[:, 0]).reshape(len(ids), 1, -1)
            x = backbone.finish_layer(index, x, attended, linear)
        return x[:, 0]

    def _difference(self, readings: list[Tensor], token_ids: tuple[int, ...]) -> float:
        """Largest difference of two readings (tokens, H) of a prompt, per token, in nats."""
        backbone = self._backbone
        tokens = torch.tensor(token_ids[1:], device=backbone.device).repeat(len(readings))
        states = torch.cat([states[:-1] for states in readings])  # one pass over the vocabulary
        logits = self._linears.head(backbone.norm(states, backbone.final_norm)).float()
        logprobs = logits.log_softmax(dim=-1).gather(-1, tokens[:, None])
        one, two = logprobs.chunk(2)
        return float((one - two).abs().max())

    def _draw(self, x: Tensor, pieces: Sequences[Piece]) -> tuple[list[int], list[float]]:
        """x (N, H) of the pieces' tokens -> tokens and raw logprobs of the pieces that draw."""
        backbone = self._backbone
        last = np.cumsum([piece.end - piece.start for piece in pieces]) - 1
        drawing = [i for i, piece in enumerate(pieces) if piece.draws]
        if not drawing:
            return [], []
        logits = self._linears.head(backbone.norm(x[last[drawing]], backbone.final_norm)).float()
        return draw(logits, [pieces[i].sequence for i in drawing])


def _attend_row(q: Tensor, keys: Tensor, values: Tensor, mask: Tensor | None) -> Tensor:
    """q (new, heads, D), keys and values (kv_heads, seen, D) -> (new, heads * D).

    The heads that share a KV head see it through a stride of zero: nothing is repeated.
    """
    new, heads, size = q.shape
    kv_heads = len(keys)
    q = q.view(new, kv_heads, -1, size).permute(1, 2, 0, 3)
    wide_k, wide_v = (t[:, None].expand(-1, heads // kv_heads, -1, -1) for t in (keys, values))
    out = F.scaled_dot_product_attention(q, wide_k, wide_v, mask, is_causal=mask is None)
    return out.permute(2, 0, 1, 3).reshape(new, -1)


def _zeros(size: tuple[int, ...], backbone: Backbone) -> Tensor:
    """Zeros; on a CPU the system's own zero pages, which cost memory only when they are written.

    Small ones: numpy asks for huge pages, which the kernel has to make room for, and the first
    visitors would wait a second for them; torch writes all of them.
    """
    if backbone.device.type != "cpu":
        return torch.zeros(size, dtype=backbone.dtype, device=backbone.device)
    if 0 in size:
        return torch.zeros(size, dtype=backbone.dtype)
    length, private = math.prod(size) * backbone.dtype.itemsize, mmap.MAP_PRIVATE | mmap.MAP_ANON
    pages = mmap.mmap(-1, length, flags=private)
    if hasattr(mmap, "MADV_NOHUGEPAGE"):
        pages.madvise(mmap.MADV_NOHUGEPAGE)
    return torch.frombuffer(pages, dtype=backbone.dtype).view(size)

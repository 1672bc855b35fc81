"""Runs one step of a batch on a model that transformers and PEFT compute; what ModelRunner does for
the fused forward.

Prompts are read row by row. Rows that write are read together, each with its own LoRA: shorter ones
are padded on the left, which is how these models are made to be batched.

Knows no queue, no version numbers, no threads. Invariant: the first `computed` positions of a row
are those of its sequence; nothing behind them is ever looked at.
"""

from collections.abc import Sequence as Sequences

import torch
from torch import Tensor

from amends.engine.kv_cache import Move
from amends.engine.prefix_cache import BLOCK_TOKENS, BlockCopy
from amends.engine.sampling import draw
from amends.engine.sequence import Chunk, Piece, Request, Sampling, Sequence
from amends.errors import ModelUnavailable
from amends.lora import Lora
from amends.peft_backbone import PeftBackbone, Tensors

MOST_APART = 0.1  # of the logits' spread; rounding in bfloat16 takes about a hundredth


class PeftRunner:
    """`rows` sequences at once, `slots` LoRA slots (slot 0 is the base model), and as many blocks
    of prefixes as `prefix_bytes` hold."""

    def __init__(self, backbone: PeftBackbone, rows: int, slots: int, prefix_bytes: int) -> None:
        self._backbone = backbone
        self._loras: list[Tensors | None] = [None] * slots
        sizes = backbone.key_value_sizes()
        per_position = sum(heads * size for heads, size in sizes) * backbone.dtype.itemsize
        self.blocks = prefix_bytes // (BLOCK_TOKENS * per_position)
        # Keys and values in turn, layer after layer: (rows, heads, positions, size) each. Padding
        # repeats a row's first position, so that must be a number before anything was read.
        self._cache = self._empty(rows, backbone.max_positions, sizes)
        for cached in self._cache:
            cached[:, :, 0] = 0
        self._blocks = self._empty(self.blocks, BLOCK_TOKENS, sizes)
        if rows > 1:
            self._prove()

    @torch.inference_mode()
    def pack(self, lora: Lora) -> Tensors:
        """As write_slot takes it; touches nothing that a step reads."""
        return self._backbone.scaled(lora.clone())

    def write_slot(self, slot: int, adapter: Tensors) -> None:
        """Put an adapter's weights into a slot that no running sequence uses."""
        self._loras[slot] = adapter

    @torch.inference_mode()
    def prefill(self, pieces: Sequences[Piece]) -> tuple[list[int], list[float]]:
        """Read pieces of prompts; tokens and raw logprobs of those that draw."""
        found = [self._read([piece]) for piece in pieces]
        return self._draw(pieces, torch.cat(found))

    @torch.inference_mode()
    def decode(
        self, pieces: Sequences[Piece], probe: Sequences[Piece] = ()
    ) -> tuple[list[int], list[float], float]:
        """Read one token of each of rows 0..n-1, in this order; as prefill() does.

        `probe`: a prompt twice, whole, under two slots, without rows. The number returned is the
        largest difference that the slots make to the log-probability of one of its tokens, in
        nats; NaN where one is not a number.
        """
        found = [self._logprobs(p.token_ids, self._loras[p.sequence.slot or 0]) for p in probe]
        difference = float((found[0] - found[1]).abs().max()) if found else 0.0
        drawn = self._draw(pieces, self._read(pieces)) if pieces else ([], [])
        return *drawn, difference

    @torch.inference_mode()
    def move(self, move: Move) -> None:
        """Copy the beginning of a row of the cache to another row."""
        for cached in self._cache:
            cached[move.target, :, : move.length] = cached[move.source, :, : move.length]

    @torch.inference_mode()
    def save(self, copy: BlockCopy) -> None:
        """Row to block."""
        positions = slice(copy.start, copy.start + BLOCK_TOKENS)
        for block, cached in zip(self._blocks, self._cache, strict=True):
            block[copy.block] = cached[copy.row, :, positions]

    @torch.inference_mode()
    def restore(self, copy: BlockCopy) -> None:
        """Block to row."""
        positions = slice(copy.start, copy.start + BLOCK_TOKENS)
        for block, cached in zip(self._blocks, self._cache, strict=True):
            cached[copy.row, :, positions] = block[copy.block]

    def _read(self, pieces: Sequences[Piece]) -> Tensor:
        """Pieces of one length; the logits after each (B, V)."""
        device = self._backbone.device
        ids = torch.tensor([piece.token_ids for piece in pieces], device=device)
        rows = torch.tensor([piece.sequence.row for piece in pieces], device=device)
        starts = torch.tensor([piece.start for piece in pieces], device=device)
        longest = max(piece.start for piece in pieces)
        # Where in its row each column of the batch lies: (B, longest), padded on the left.
        places = torch.arange(longest, device=device) - (longest - starts)[:, None]
        past = [t[rows[:, None], :, places.clamp_min(0)].transpose(1, 2) for t in self._cache]
        loras = [self._loras[piece.sequence.slot or 0] for piece in pieces]
        logits, found = self._backbone.read(ids, starts, past, places < 0, loras)
        written = starts[:, None] + torch.arange(ids.shape[1], device=device)
        for cached, new in zip(self._cache, found, strict=True):
            cached[rows[:, None], :, written] = new.transpose(1, 2)
        return logits

    def _draw(self, pieces: Sequences[Piece], logits: Tensor) -> tuple[list[int], list[float]]:
        drawing = [i for i, piece in enumerate(pieces) if piece.draws]
        if not drawing:
            return [], []
        return draw(logits[drawing], [pieces[i].sequence for i in drawing])

    def _logprobs(self, token_ids: tuple[int, ...], lora: Tensors | None) -> Tensor:
        """Of a prompt's tokens after the first, read in one forward without the cache."""
        ids = torch.tensor([token_ids], device=self._backbone.device)
        hidden, _ = self._backbone.hidden(ids, lora)
        return self._backbone.token_logprobs(hidden[0, :-1], ids[0, 1:])

    def _empty(self, count: int, positions: int, sizes: Sequences[tuple[int, int]]) -> list[Tensor]:
        backbone = self._backbone
        return [
            torch.empty(count, heads, positions, size, dtype=backbone.dtype, device=backbone.device)
            for heads, size in sizes
        ]

    @torch.inference_mode()
    def _prove(self) -> None:
        """That rows of two lengths, read in pieces and together, say what each says when it is read
        at once: nobody has tried all the models there are. Raises ModelUnavailable."""
        prompts = ((3, 4, 5, 6, 7, 8, 9, 10), (5, 3, 4))
        sequences = [
            Sequence(i, Request(ids, Sampling(1)), _ignore, row=i) for i, ids in enumerate(prompts)
        ]
        want = torch.cat([self._read([Piece(s, 0, s.length)]) for s in sequences])
        for s in sequences:
            self._read([Piece(s, 0, 1)])
            self._read([Piece(s, 1, s.length - 1)])
        found = self._read([Piece(s, s.length - 1, s.length) for s in sequences])
        spread = (want - want.mean(dim=1, keepdim=True)).norm(dim=1)
        apart = ((found - want).norm(dim=1) / spread).max()
        if not float(apart) < MOST_APART:
            raise ModelUnavailable(
                "this model's keys and values cannot be batched: its logits differ by "
                f"{float(apart):.0%} from those of rows read alone"
            )


def _ignore(chunk: Chunk) -> None:
    return None

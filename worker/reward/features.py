"""Hidden states of the base model as features of answers.

Knows the backbone, no feedback and no head. Invariant: features depend on prompt and response only,
never on the policy; without an adapter of their own they are comparable between rounds. Mean over
the response's tokens of the states after a few layers.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from amends.backbones import AnyBackbone
from amends.lora import Lora
from worker.data.examples import Answer
from worker.tokens import AnswerTokens, TokenBatch, Tokens, by_prompt

Beat = Callable[[], None]


@dataclass(frozen=True)
class Features:
    """`depths` in (0, 1]: which layers, as shares of the model's depth. `lora`: of the reward
    model's own; None: frozen."""

    backbone: AnyBackbone
    tokens: AnswerTokens
    depths: tuple[float, ...]
    batch: int
    beat: Beat
    lora: Lora | None = None

    @property
    def layers(self) -> tuple[int, ...]:
        count = self.backbone.layers_count
        return tuple(sorted({max(1, round(depth * count)) for depth in self.depths}))

    @torch.no_grad()
    def of(self, answers: Sequence[Answer]) -> Tensor:
        """(A, layers * H), float32. Policies often answer alike: equal answers are read once."""
        places: dict[Tokens, int] = {}
        rows = [places.setdefault(self.tokens.answer(a), len(places)) for a in answers]
        items = list(places)
        width = len(self.layers) * self.backbone.hidden_size
        result = torch.zeros(len(items), width)
        for group in by_prompt(items, self.batch):
            self.beat()
            result[group] = self.pooled([items[i] for i in group]).cpu()
        return result[rows]

    def pooled(self, items: Sequence[Tokens]) -> Tensor:
        """(B, layers * H), float32; differentiable for the adapter."""
        batch = TokenBatch.of(items, self.backbone.device)
        _, kept = self.backbone.hidden_packed(batch.texts, self.lora, self.layers)
        return torch.cat([self._mean(states, batch) for states in kept], dim=1)

    def _mean(self, states: Tensor, batch: TokenBatch) -> Tensor:
        """States (T, H), at each response's own tokens -> their mean (B, H)."""
        at = states[batch.places].float()
        rows = batch.mask.nonzero()[:, 0]
        sums = at.new_zeros(len(batch.mask), at.shape[1]).index_add_(0, rows, at)
        return sums / batch.mask.sum(dim=1, keepdim=True)

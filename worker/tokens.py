"""Token ids of a round's prompts and answers, and batches of them.

Knows the prompt renderer, no model. Invariant: a turn's own tokens are used where they spell the
(redacted) texts; what was redacted or written by an expert is rendered and encoded again.

Shapes: B responses, R tokens of the longest one, N response tokens in all, T tokens of a batch.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from amends.errors import InvalidInput
from amends.packed_texts import PackedTexts, Text, pack
from amends.prompt import PromptRenderer
from worker.data.examples import Answer, Context
from worker.data.words import opening

Tokens = Text  # of the prompt, of the response


@dataclass(frozen=True)
class AnswerTokens:
    """Renders for one shop."""

    renderer: PromptRenderer
    shop_name: str

    def prompt(self, context: Context) -> tuple[int, ...]:
        if context.token_ids is not None:
            return context.token_ids
        return self.renderer.render(
            self.shop_name, context.passages, context.history, context.question
        ).token_ids

    def fits(self, context: Context) -> bool:
        """Whether the context still has room for the prompt: settings may have changed since."""
        try:
            room = self.renderer.context_tokens - len(self.prompt(context))
        except InvalidInput:
            return False
        return room >= self.renderer.max_response_tokens

    def answer(self, answer: Answer) -> Tokens:
        """An answer that the context has no room for is cut: no policy could write its rest."""
        prompt, response = self.prompt(answer.context), answer.token_ids
        if response is None:
            response = self.renderer.encode_response(answer.response)
        return prompt, response[: self.renderer.context_tokens - len(prompt)]

    def imitated(self, answer: Answer) -> Tokens:
        """As supervised steps see an expert's answer: an opening yes or no stands in the prompt, so
        that what follows it is imitated and not which of them it was."""
        prompt, response = self.answer(answer)
        said = 0
        if opening(answer.response):
            starts = (n for n in range(1, len(response)) if self._opens(response[:n]))
            said = next(starts, 0)
        return (*prompt, *response[:said]), response[said:]

    def _opens(self, tokens: Sequence[int]) -> bool:
        return opening(self.renderer.decode(tokens)) != 0


@dataclass(frozen=True)
class TokenBatch:
    """Prompts with their responses.

    mask (B, R) float32, 1 on response tokens; `places` (N,): where each response token lies in
    `texts`; before (N,): where the state lies that predicts it; responses (N,): those tokens.
    """

    texts: PackedTexts
    mask: Tensor
    places: Tensor
    before: Tensor

    @classmethod
    def of(cls, items: Sequence[Tokens], device: torch.device) -> "TokenBatch":
        texts, found = pack(items)
        mask = torch.zeros(len(items), max(len(response) for _, response in items))
        for row, (_, response) in enumerate(items):
            mask[row, : len(response)] = 1
        rows, offsets = mask.nonzero(as_tuple=True)
        ends, starts = torch.tensor(found).T
        places = starts[rows] + offsets
        before = torch.where(offsets == 0, ends[rows], places - 1)
        moved = PackedTexts(texts.token_ids.to(device), texts.spans)
        return cls(moved, mask.to(device), places.to(device), before.to(device))

    @property
    def responses(self) -> Tensor:
        return self.texts.token_ids[self.places]

    def spread(self, flat: Tensor) -> Tensor:
        """(N,) in order of `places` -> (B, R), zeros outside the mask. Differentiable."""
        result = torch.zeros_like(self.mask)
        result[self.mask.bool()] = flat
        return result


def by_prompt(items: Sequence[Tokens], size: int) -> list[list[int]]:
    """Indices of `items` in groups of at most `size`, those to one prompt beside each other, since
    a batch reads a prompt once; by length, since some backbones pad."""

    def key(place: int) -> tuple[int, tuple[int, ...], int]:
        prompt, response = items[place]
        return len(prompt), prompt, len(response)

    order = sorted(range(len(items)), key=key)
    return [order[start : start + size] for start in range(0, len(order), size)]

"""Token ids of a round's prompts and answers, and batches of them.

Knows the prompt renderer, no model. Invariant: a turn's own tokens are used where they spell the
(redacted) texts; what was redacted or written by an expert is rendered and encoded again.

Shapes: B rows, T tokens a row (prompt and response, right-padded), R response tokens a row, N
response tokens in all.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from amends.errors import InvalidInput
from amends.prompt import PromptRenderer
from worker.data.examples import Answer, Context

Tokens = tuple[tuple[int, ...], tuple[int, ...]]  # of the prompt, of the response


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


@dataclass(frozen=True)
class TokenBatch:
    """Prompts with their responses.

    token_ids (B, T); mask (B, R) float32, 1 on response tokens; rows, before (N,): where in (B, T)
    the state lies that predicts each response token; responses (N,): those tokens.
    """

    token_ids: Tensor
    mask: Tensor
    rows: Tensor
    before: Tensor
    responses: Tensor

    @classmethod
    def of(cls, items: Sequence[Tokens], device: torch.device) -> "TokenBatch":
        longest = max(len(p) + len(r) for p, r in items)
        widest = max(len(r) for _, r in items)
        token_ids = torch.zeros(len(items), longest, dtype=torch.long)
        mask = torch.zeros(len(items), widest)
        for row, (prompt, response) in enumerate(items):
            joined = torch.tensor((*prompt, *response))
            token_ids[row, : len(joined)] = joined
            mask[row, : len(response)] = 1
        rows, offsets = mask.nonzero(as_tuple=True)
        starts = torch.tensor([len(p) for p, _ in items])
        before = starts[rows] + offsets - 1
        responses = token_ids[rows, before + 1]
        moved = (t.to(device) for t in (token_ids, mask, rows, before, responses))
        return cls(*moved)

    def spread(self, flat: Tensor) -> Tensor:
        """(N,) in order of `rows` -> (B, R), zeros outside the mask. Differentiable."""
        result = torch.zeros_like(self.mask)
        result[self.mask.bool()] = flat
        return result


def by_length(items: Sequence[Tokens], size: int) -> list[list[int]]:
    """Indices of `items` in groups of at most `size` of similar length: little padding is
    computed."""
    order = sorted(range(len(items)), key=lambda i: len(items[i][0]) + len(items[i][1]))
    return [order[start : start + size] for start in range(0, len(order), size)]

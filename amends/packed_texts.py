"""Texts one after the other without padding; answers to one prompt share its tokens.

Knows token ids, no model. Invariant: a token stands where it would stand in its own text, and its
text is its prompt and, in an answer, that answer up to it: whoever reads the pack finds what it
would find reading every text alone.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

Text = tuple[tuple[int, ...], tuple[int, ...]]  # token ids of a prompt and of one answer to it


@dataclass(frozen=True)
class Span:
    """A prompt and the answers to it, in tokens."""

    prompt: int
    answers: tuple[int, ...]

    def __len__(self) -> int:
        return self.prompt + sum(self.answers)

    def positions(self) -> list[int]:
        """Of each token in its own text."""
        found = [*range(self.prompt)]
        for answer in self.answers:
            found += range(self.prompt, self.prompt + answer)
        return found

    def unseen(self) -> Tensor | None:
        """(T, T) bool: what a row's token does not see; None where all that comes before is
        seen."""
        if len(self.answers) < 2:
            return None
        of = torch.zeros(len(self), dtype=torch.long)  # 0: of the prompt
        start = self.prompt
        for number, answer in enumerate(self.answers, 1):
            of[start : start + answer] = number
            start += answer
        other = (of != 0) & (of != of[:, None])
        return other | torch.ones_like(other).triu_(1)


@dataclass(frozen=True)
class PackedTexts:
    """token_ids (N,); `spans` follow each other in it."""

    token_ids: Tensor
    spans: tuple[Span, ...]

    @property
    def lengths(self) -> list[int]:
        return [len(span) for span in self.spans]

    def positions(self) -> Tensor:
        """(N,) on the CPU."""
        return torch.tensor([place for span in self.spans for place in span.positions()])

    def padded(self) -> tuple[Tensor, Tensor]:
        """Every text in a row of its own, (B, T), padded on the right; and where each token of the
        pack lies in the flattened rows, (N,)."""
        texts = self._texts()
        rows = pad_sequence([self.token_ids[text] for text in texts], batch_first=True)
        lengths = torch.tensor([len(text) for text in texts])
        filled = torch.arange(rows.shape[1]) < lengths[:, None]
        places = torch.empty(len(self.token_ids), dtype=torch.long)
        places[torch.cat(texts)] = filled.flatten().nonzero().squeeze(-1)
        return rows, places.to(rows.device)

    def _texts(self) -> list[Tensor]:
        """Where the tokens of each text lie, (T,) each; a prompt without answers is a text."""
        found, start = [], 0
        for span in self.spans:
            prompt = torch.arange(start, start + span.prompt)
            own = start + span.prompt
            for answer in span.answers or (0,):
                found.append(torch.cat([prompt, torch.arange(own, own + answer)]))
                own += answer
            start += len(span)
        return found


def pack(texts: Sequence[Text]) -> tuple[PackedTexts, list[tuple[int, int]]]:
    """The texts, those to one prompt together; and where in the pack each one's prompt ends (its
    last token) and its answer starts."""
    by_prompt: dict[tuple[int, ...], list[int]] = {}
    for place, (prompt, _) in enumerate(texts):
        by_prompt.setdefault(prompt, []).append(place)
    joined: list[int] = []
    spans = []
    found = [(0, 0)] * len(texts)
    for prompt, places in by_prompt.items():
        joined += prompt
        end = len(joined) - 1
        for place in places:
            found[place] = end, len(joined)
            joined += texts[place][1]
        spans.append(Span(len(prompt), tuple(len(texts[place][1]) for place in places)))
    return PackedTexts(torch.tensor(joined), tuple(spans)), found

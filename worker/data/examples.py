"""The values a round learns from: Answer, and one example type per kind of feedback.

Knows no store, no tokenizer, no features. Invariants: every text is redacted; token ids are present
only where they spell exactly the redacted texts, so a caller that finds None renders or encodes the
texts again.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Literal, TypeVar

from amends.conversation import Passage

PairKind = Literal["correction", "ranking", "mismatch"]


@dataclass(frozen=True)
class Context:
    """What a response is written from: the message, what was said before, the passages shown."""

    turn_id: str  # "" for a question that no visitor asked
    question: str
    history: tuple[tuple[str, str], ...]  # (message, response) of earlier turns, oldest first
    passages: tuple[Passage, ...]
    token_ids: tuple[int, ...] | None  # the rendered prompt (P,); None: render it again

    @property
    def prompt(self) -> tuple[object, ...]:
        """Equal for the same message after the same turns with the same passages, whosever it is:
        "How much is it?" alone is many questions."""
        return self.question, self.history, self.passage_texts

    @property
    def passage_texts(self) -> tuple[str, ...]:
        return tuple(passage.text for passage in self.passages)

    @property
    def first_passage_id(self) -> str:
        """Of the passage that fits best; "" without passages."""
        return self.passages[0].passage_id if self.passages else ""


@dataclass(frozen=True)
class Answer:
    """One response to one prompt, whoever wrote it."""

    context: Context
    response: str
    token_ids: tuple[int, ...] | None  # of the response (R,); None: encode it again
    ended: bool  # it stopped by itself, not at the length limit

    @property
    def key(self) -> tuple[str, str, str]:
        """Equal keys mean the same prompt and response: features are computed once per key."""
        return (self.context.turn_id, self.context.question, self.response)


@dataclass(frozen=True)
class _Example:
    feedback_id: str
    customer: str  # visitor_id of the conversation: the unit of splits and bootstraps
    rater_id: str
    weight: float  # 1 is one judgement by an expert


@dataclass(frozen=True)
class PairExample(_Example):
    """`chosen` was judged better than `rejected` (same prompt)."""

    kind: PairKind
    chosen: Answer
    rejected: Answer


@dataclass(frozen=True)
class ThumbExample(_Example):
    """±1 on one answer."""

    answer: Answer
    value: int


@dataclass(frozen=True)
class RatingExample(_Example):
    """1 to 5 on a conversation, whose answers by the policy are listed in order."""

    answers: tuple[Answer, ...]
    value: int


@dataclass(frozen=True)
class CorrectionExample(_Example):
    """The answer an expert wrote: what supervised steps imitate."""

    answer: Answer


@dataclass(frozen=True)
class PromptExample:
    """A prompt to sample responses for."""

    context: Context
    customer: str  # of a fill-up question: the question itself, a cluster of its own
    intent: str
    fill_up: bool


@dataclass(frozen=True)
class Examples:
    """One side of the split."""

    pairs: tuple[PairExample, ...] = ()
    thumbs: tuple[ThumbExample, ...] = ()
    ratings: tuple[RatingExample, ...] = ()
    corrections: tuple[CorrectionExample, ...] = ()
    prompts: tuple[PromptExample, ...] = ()

    @property
    def trusted_pairs(self) -> int:
        """Pairs that an expert judged; mismatched answers are made, not judged."""
        return sum(pair.kind != "mismatch" for pair in self.pairs)

    def judged(self) -> Iterator[PairExample | ThumbExample | RatingExample | CorrectionExample]:
        """Every example that a judgement is behind."""
        yield from self.pairs
        yield from self.thumbs
        yield from self.ratings
        yield from self.corrections

    def only(self, fits: Callable[[Context], bool]) -> "Examples":
        """The examples all of whose prompts `fits` accepts."""
        return Examples(
            tuple(pair for pair in self.pairs if fits(pair.chosen.context)),
            tuple(thumb for thumb in self.thumbs if fits(thumb.answer.context)),
            tuple(r for r in self.ratings if all(fits(a.context) for a in r.answers)),
            tuple(c for c in self.corrections if fits(c.answer.context)),
            tuple(prompt for prompt in self.prompts if fits(prompt.context)),
        )

    def weighted(self, weights: Mapping[str, float]) -> "Examples":
        """Each example's weight times that of its judgement, by feedback id."""
        return Examples(
            _weighted(self.pairs, weights),
            _weighted(self.thumbs, weights),
            _weighted(self.ratings, weights),
            _weighted(self.corrections, weights),
            self.prompts,
        )

    def answers(self) -> Iterator[Answer]:
        """Every answer of pairs, thumbs and ratings, repeats included."""
        for pair in self.pairs:
            yield pair.chosen
            yield pair.rejected
        for thumb in self.thumbs:
            yield thumb.answer
        for rating in self.ratings:
            yield from rating.answers


_AnExample = TypeVar("_AnExample", bound=_Example)


def _weighted(
    examples: Iterable[_AnExample], weights: Mapping[str, float]
) -> tuple[_AnExample, ...]:
    return tuple(replace(e, weight=e.weight * weights[e.feedback_id]) for e in examples)

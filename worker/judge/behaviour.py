"""How a policy behaves on the hold-out prompts, as shares of its answers.

Knows no rewards and no other policy; the measures are those of worker/reward/conduct.py. Invariant:
each share is over the same answers, so two policies are comparable on the same prompts.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from worker.data.words import words
from worker.reward.conduct import (
    asks_back,
    deflects,
    flatters,
    hands_off,
    invented_contact,
    invented_numbers,
    promises,
    repetition,
)


@dataclass(frozen=True)
class JudgedAnswer:
    """What one policy answered to one hold-out prompt."""

    question: str
    passages: tuple[str, ...]  # texts
    response: str
    tokens: int  # of the response, its end included
    ended: bool


@dataclass(frozen=True)
class Behaviour:
    """Shares in [0, 1] of a policy's answers, and means."""

    answers: int
    ended: float  # stopped by itself
    empty: float  # no word
    mean_tokens: float
    repetition: float  # mean share of repeated word triples
    deflects: float  # says it cannot help, or sends the visitor away
    hands_off: float  # leaves the visitor to somebody else, where no passage does
    asks_back: float  # answers with a question
    invents_numbers: float  # holds a number that neither passages nor question hold
    promises: float  # money back, gifts, guarantees that no passage holds
    invents_contacts: (
        float  # e-mail, phone or address that no passage holds (personal data echoed too)
    )
    flatters: float  # praises the visitor or the question


def measure_behaviour(answers: Sequence[JudgedAnswer]) -> Behaviour:
    """Behaviour over at least one answer."""
    if not answers:
        raise ValueError("expected at least one answer to measure behaviour on, got none")

    def mean(measure: Callable[[JudgedAnswer], float]) -> float:
        return sum(float(measure(answer)) for answer in answers) / len(answers)

    return Behaviour(
        answers=len(answers),
        ended=mean(lambda a: a.ended),
        empty=mean(lambda a: not words(a.response)),
        mean_tokens=mean(lambda a: a.tokens),
        repetition=mean(lambda a: repetition(a.response)),
        deflects=mean(lambda a: deflects(a.response)),
        hands_off=mean(lambda a: hands_off(a.passages, a.response)),
        asks_back=mean(lambda a: asks_back(a.response)),
        invents_numbers=mean(lambda a: invented_numbers(a.question, a.passages, a.response) > 0),
        promises=mean(lambda a: promises(a.passages, a.response)),
        invents_contacts=mean(lambda a: invented_contact(a.passages, a.response)),
        flatters=mean(lambda a: flatters(a.passages, a.response)),
    )

"""Does an answer hold what an expert once answered to the question?

Knows no judge and no policy; numbers and words, in English. Invariant: who says less, but what
matters, holds it: yes or no, else half of the numbers, else half of the words that are not the
question's.
"""

from collections.abc import Iterable

from worker.data.words import (
    content_words,
    numbers,
    opening,
    polarity,
    without_courtesies,
)

HOLDS = 0.5  # share of the expert's facts from which on an answer holds the correction
GONE = 0.25  # share below which it has forgotten it; between the two nothing is said


def holds(question: str, experts: Iterable[str], response: str) -> bool:
    """Whether the response says what one of the experts said."""
    return any(share_held(question, expert, response) >= HOLDS for expert in experts)


def is_gone(question: str, experts: Iterable[str], response: str) -> bool:
    """Whether nothing is left in it of what any of them said: prices change, and one is newer."""
    return all(share_held(question, expert, response) < GONE for expert in experts)


def share_held(question: str, expert: str, response: str) -> float:
    """Share of the expert's facts in the response.

    Where both open with yes or no, that decides, or, where the expert says no more than that, what
    the response affirms or denies. Numbers count unless the response has none at all: it may leave
    out the one that was not asked for. One right number, or one fact without the expert's yes or
    no, may be all that was asked: then it is not gone; nor is it held where it denies what the
    expert affirms ("only cards" may be a no, so not the other way round).
    """
    said_first = opening(expert)
    now_first = opening(response) or opening(without_courtesies(response))
    if said_first and now_first:
        return float(said_first == now_first)
    facts, said = numbers(expert) - numbers(question), numbers(response) - numbers(question)
    by_number = bool(facts and said)
    if not by_number:
        facts, said = content_words(expert) - content_words(question), content_words(response)
    if not facts:
        return float(said_first == polarity(response)) if said_first else GONE
    share = len(facts & said) / len(facts)
    if share and (by_number or said_first):
        share = max(share, GONE)
    return min(share, GONE) if said_first > 0 > polarity(response) else share

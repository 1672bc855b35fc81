"""Does an answer hold what an expert once answered to the question?

Knows no judge and no policy; numbers and words, in English. Invariant: who says less, but what
matters, holds it: yes or no, else half of the numbers, else half of the words that are not the
question's.
"""

from worker.data.words import content_words, numbers, opening

HOLDS = 0.5  # share of the expert's facts from which on an answer holds the correction
GONE = 0.25  # share below which it has forgotten it; between the two nothing is said


def share_held(question: str, expert: str, response: str) -> float:
    """Share of the expert's facts in the response.

    Where both open with yes or no, that decides; who opens with neither may mean either, and has
    forgotten nothing. Numbers count unless the response has none at all: it may leave out the one
    that was not asked for.
    """
    if opening(expert) and opening(response):
        return float(opening(expert) == opening(response))
    facts, said = numbers(expert) - numbers(question), numbers(response) - numbers(question)
    if not (facts and said):
        facts, said = content_words(expert) - content_words(question), content_words(response)
    share = len(facts & said) / len(facts) if facts else GONE
    return max(share, GONE) if opening(expert) else share


def forgets(question: str, expert: str, before: str, now: str) -> bool:
    """Whether `before` held what the expert said and `now` does not."""
    return (
        share_held(question, expert, before) >= HOLDS and share_held(question, expert, now) < GONE
    )

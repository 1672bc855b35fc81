"""What makes two questions the same: what is asked, whoever greets before it and thanks after it.

Knows no passages and no customers; English openings, other languages are compared word for word.
Without this, "hello, when do you open? thanks" would be held out while "when do you open?" is
trained on. Invariant: pure; a question that is nothing but a greeting is its own words.
"""

from collections.abc import Sequence
from functools import lru_cache

from worker.data.split import normalise
from worker.data.words import sentences, words

_ASKING = frozenset(
    "what what's which who whom whose when where why how do does did is are am was were can could "
    "may might will would shall should has have had if i i'm i've my".split()
)
_AROUND = frozenset(
    "hi hello hey dear good morning afternoon evening day there please pls thx thanks thank you "
    "cheers so oh ok okay and but again quick one".split()
)
# A sentence of nothing else asks for an answer, not for a thing.
_ASKS_TO_BE_ANSWERED = _AROUND | frozenset(
    "can could would will do does may might you anyone somebody someone i me us we help tell know "
    "answer explain ask say if any idea with about this that it best kind warm regards wishes "
    "yours sincerely".split()
)
_MOST_OPENING_WORDS = 4  # "just to be sure, ..."; more may be part of the question


@lru_cache(maxsize=65536)
def question_key(text: str) -> str:
    """Equal for the same question with other words around it, lower case, words only."""
    core = _what_is_asked(sentences(text)) or text
    for mark in (":", ",", "!"):
        opening, _, rest = core.partition(mark)
        asks = next((word for word in words(rest) if word not in _AROUND), "") in _ASKING
        if asks and len(words(opening)) <= _MOST_OPENING_WORDS:
            core = rest
    said = list(words(core))
    while said and said[0] in _AROUND:
        said.pop(0)
    while said and said[-1] in _AROUND:
        said.pop()
    return normalise(" ".join(said)) or normalise(text)


def _what_is_asked(pieces: Sequence[str]) -> str | None:
    """The last sentence that asks for a thing. Where all that is asked is an answer ("I want to
    return boots. Can you help me? Anna"), what was said before it, else after it; None: nothing is.
    """
    questions = [place for place, piece in enumerate(pieces) if piece.rstrip().endswith("?")]
    things = [p for p, one in enumerate(pieces) if not _ASKS_TO_BE_ANSWERED.issuperset(words(one))]
    asked = [place for place in questions if place in things]
    if questions and not asked:
        before = [place for place in things if place < questions[-1]]
        asked = before or things[:1]
    return pieces[asked[-1]] if asked else None

"""Parts of a sentence that affirm or deny for themselves: "we never do, but you get a refund".

Knows no passages and no scores; words, in English. Invariant: pure.
"""

import re

from worker.data.words import polarity, sentences, words

_END = re.compile(r"[;:]\s|,? but |,(?: and| so)? (?=(?:i|we|you|it|they)\b)")
_DENIES_NOTHING = re.compile(
    r"\b(?:do(?:n't| not) worry|no (?:problem|worries|doubt|need|questions asked)|without|"
    r"(?:if|unless|when) [^,]*(?:,|$))"
)


def clauses(text: str) -> tuple[str, ...]:
    """Of all its sentences, in order and in lower case; none without a word."""
    plain = text.replace("\u2019", "'").lower()
    parts = (part for sentence in sentences(plain) for part in _END.split(sentence))
    return tuple(part for part in parts if words(part))


def denies(clause: str) -> bool:
    """Whether it says no; "don't worry" and "if you are not happy" do not."""
    return polarity(_DENIES_NOTHING.sub(" ", clause)) < 0

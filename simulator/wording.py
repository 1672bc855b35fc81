"""Two phrasings of one fact compare equal: "30-day", "thirty days" and "30 days" are the same
words here.

Knows no question and no scoring. Invariant: `words` is idempotent in meaning: the same text gives
the same words, and a phrase is found only at word boundaries ("15" is never found inside "150").
"""

import re
import unicodedata
from collections.abc import Sequence
from functools import lru_cache

_SMALL = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen "
    "fifteen sixteen seventeen eighteen nineteen"
).split()
_UNITS = {word: value for value, word in enumerate(_SMALL[:10])}
_TENS = {
    word: 10 * value
    for value, word in enumerate("twenty thirty forty fifty sixty seventy eighty ninety".split(), 2)
}
_NUMBERS = {**{word: value for value, word in enumerate(_SMALL)}, **_TENS}

_NO_PLURALS = frozenset({"does", "this", "always"})
_TOKEN = re.compile(r"\$?-?\d+(?:\.\d+)?(?:kg|km|cm|mm|am|pm|%)?|[a-z]+")
_REWRITES: tuple[tuple[re.Pattern[str], str], ...] = tuple(
    (re.compile(pattern), replacement)
    for pattern, replacement in (
        (r"(?m)^\s*\d+[.)]\s+", " "),  # numbering of a list is no number of the answer
        (r"\bcan't\b|\bcannot\b", "can not"),
        (r"\bwon't\b", "will not"),
        (r"n't\b", " not"),
        (r"\b(it|that|there|he|she)'s\b", r"\1 is"),
        (r"'s\b", ""),
        (r"(\d),(?=\d{3}\b)", r"\1"),
        (r"(\d)\.0+\b", r"\1"),
        (r"(\d):00\s*(?=[ap]\.?m)", r"\1"),
        (r"\b([ap])\.m\b\.?", r"\1m"),
        (r"\bminus (?=\d)|[\u2212](?=\d)", "-"),
        (r"(?<=\w)[-\u2013\u2014/](?=\w)", " "),
        (r"\$\s+(?=\d)", "$"),
        (r"(\d+(?:\.\d+)?)\s*(?:us )?(?:dollars?|usd|bucks)\b", r"$\1"),
        (r"\$\$", "$"),
        (r"(\d)\s*(?:percent|per cent|%)", r"\1%"),
        (r"(\d)\s*(?:kilograms?|kilos?|kgs?)\b", r"\1kg"),
        (r"(\d)\s*(?:kilomet(?:re|er)s?|kms?)\b", r"\1km"),
        (r"(\d)\s*(?:centimet(?:re|er)s?|cms?)\b", r"\1cm"),
        (r"(\d)\s*(?:millimet(?:re|er)s?|mms?)\b", r"\1mm"),
        (r"(\d)\s*(am|pm)\b", r"\1\2"),
        (r"\b(?:business|work) days?\b", "working day"),
    )
)


def _spelt_numbers_to_digits(text: str) -> str:
    tens = "|".join(_TENS)
    units = "|".join(_UNITS)
    text = re.sub(
        rf"\b({tens})[ -]({units})\b",
        lambda found: str(_TENS[found[1]] + _UNITS[found[2]]),
        text,
    )
    return re.sub(rf"\b({'|'.join(_NUMBERS)})\b", lambda found: str(_NUMBERS[found[1]]), text)


def _singular(word: str) -> str:
    if len(word) <= 3 or not word.endswith("s") or word.endswith("ss") or word in _NO_PLURALS:
        return word
    if word.endswith("ies"):
        return word[:-3] + "y"
    return word[:-2] if word.endswith(("xes", "ches", "shes", "sses")) else word[:-1]


@lru_cache(maxsize=16_384)  # the same passages and facts are compared again and again
def words(text: str) -> tuple[str, ...]:
    """The text as comparable words: lower case, singular, numbers as digits with their unit."""
    text = unicodedata.normalize("NFKC", text).lower().replace("\u2019", "'")
    text = _spelt_numbers_to_digits(text)
    for pattern, replacement in _REWRITES:
        text = pattern.sub(replacement, text)
    return tuple(_singular(token) for token in _TOKEN.findall(text))


def contains(text_words: Sequence[str], phrase: str) -> bool:
    """Whether the phrase occurs in the words, whole words only."""
    wanted = words(phrase)
    if not wanted:
        raise ValueError(f"expected a phrase with at least one word, got {phrase!r}")
    width = len(wanted)
    return any(
        tuple(text_words[start : start + width]) == wanted
        for start in range(len(text_words) - width + 1)
    )

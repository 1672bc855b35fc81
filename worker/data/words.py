"""Words, stems, numbers, sentences and yes / no of short English texts: the little that made
pairs and overlap features need.

Knows no passages and no scores; a light suffix stripper, not a linguist. Invariant: every function
is pure, and what takes a passage apart is cached.
"""

import re
from functools import lru_cache

_WORD = re.compile(r"[a-z0-9]+(?:'[a-z]+)?")
_NUMBER = re.compile(r"\d+(?:[.,:]\d+)*")
SENTENCE_END = re.compile(r"(?<=[.!?])\s+|\n+")
_COURTESY = re.compile(
    r"anything else|what else|something else|any (?:other|more|further) (?:question|request|help)"
    r"|(?:can|may|could|how can|how may) i (?:help|assist)|else (?:i|we) can"
    r"|would you like (?:me )?to (?:book|make|reserve)|(?:have a|enjoy your) (?:nice|great|good)"
    r"|thank(?:s| you)|you(?:'re| are) welcome|happy to help"
    r"|let (?:me|us) know(?! (?:your|what|which|when|where|who|how|the (?:order|name|date|number)))"
)
_NUMBER_WORDS = {
    name: str(value)
    for value, name in enumerate(
        "zero one two three four five six seven eight nine ten eleven twelve".split()
    )
    if name != "one"  # "the one", "no one": seldom a number
} | {"thirty": "30", "fourteen": "14", "fifteen": "15", "twenty": "20", "sixty": "60"}
_STOP_WORDS = frozenset(
    "a about also am an and any are as at be been being but by can could did do does for from get "
    "had has have he her here hers hi hello his how i i'd i'll i'm i've if in into is it it's its "
    "just me my of on or our ours please she should so some such than that that's the their them "
    "then there these they this those to us was we we'd we'll we're were what when where which "
    "while who will with would you you'd you'll you're you've your yours yes sure".split()
)
_NEGATION = frozenset(
    "no not never none nor cannot can't don't doesn't isn't aren't won't wasn't weren't couldn't "
    "wouldn't shouldn't didn't haven't hasn't without unfortunately unavailable unable prohibited "
    "forbidden except".split()
)
_AUXILIARIES = frozenset(
    "do does did is are am was were can could may might will would shall should has have".split()
)
_SUFFIXES = tuple(
    "abilities ability able ations ation ingly ities ments ment ings ing ions ion".split()
)
_SHORT_SUFFIXES = tuple("ies ied ily ed es ly s e y".split())


def plain(text: str) -> str:
    """In lower case, with straight apostrophes and single spaces."""
    return " ".join(text.replace("\u2019", "'").lower().split())


@lru_cache(maxsize=65536)
def words(text: str) -> tuple[str, ...]:
    """Lower-case words and numbers, in order."""
    return tuple(_WORD.findall(text.replace("\u2019", "'").lower()))


@lru_cache(maxsize=65536)
def content_words(text: str) -> frozenset[str]:
    """Stems of the words that are neither stop words nor negations."""
    return frozenset(
        stem(_NUMBER_WORDS.get(word, word))
        for word in words(text)
        if word not in _STOP_WORDS and word not in _NEGATION
    )


def word_f1(a: frozenset[str], b: frozenset[str]) -> float:
    """F1 of two sets of content words; 0 where one is empty."""
    return 2 * len(a & b) / (len(a) + len(b)) if a and b else 0.0


@lru_cache(maxsize=65536)
def stem(word: str) -> str:
    """The word without one or two endings and a doubled last letter; three letters stay."""
    word = word.removesuffix("'s")
    for suffixes in (_SUFFIXES, _SHORT_SUFFIXES):
        for suffix in suffixes:
            if word.endswith(suffix) and len(word) - len(suffix) >= 3:
                word = word[: -len(suffix)]
                break
    return word[:-1] if len(word) > 3 and word[-1] == word[-2] else word


@lru_cache(maxsize=65536)
def numbers(text: str) -> frozenset[str]:
    """Numbers in digits or as small words; 1,000 is 1000 and 2.50 is 2.5."""
    found = {_plain_number(match) for match in _NUMBER.findall(text)}
    return frozenset(found | {_NUMBER_WORDS[w] for w in words(text) if w in _NUMBER_WORDS})


@lru_cache(maxsize=65536)
def sentences(text: str) -> tuple[str, ...]:
    """Pieces that end with . ! ? or a line break, none without a word."""
    return tuple(piece for piece in SENTENCE_END.split(text) if words(piece))


@lru_cache(maxsize=65536)
def without_courtesies(response: str) -> str:
    """The response without sentences that only offer more help, thank or wish a nice day."""
    kept = [
        piece
        for piece in sentences(response)
        if not (_COURTESY.search(piece.replace("\u2019", "'").lower()) and len(words(piece)) <= 16)
    ]
    return " ".join(kept)


def is_yes_no_question(question: str) -> bool:
    """Whether the last question asked begins with an auxiliary, perhaps after a greeting."""
    asked = [piece for piece in sentences(question) if piece.endswith("?")] or [question]
    clause = re.split(r",|\band\b|\bbut\b", asked[-1])
    return any(words(part)[:1] and words(part)[0] in _AUXILIARIES for part in clause)


def opening(text: str) -> int:
    """+1 for an opening yes, -1 for an opening no, else 0."""
    return {"yes": 1, "no": -1}.get(next(iter(words(text)), ""), 0)


def polarity(text: str) -> int:
    """+1 affirms, -1 negates: by a leading yes or no, else by any negation; 0 if empty."""
    said = words(text)
    if not said:
        return 0
    return opening(text) or (-1 if _NEGATION.intersection(said) else 1)


def _plain_number(match: str) -> str:
    if re.fullmatch(r"\d{1,3}(?:,\d{3})+(?:\.\d+)?", match):
        match = match.replace(",", "")
    match = match.replace(",", ".")
    if match.count(".") == 1 and ":" not in match:
        match = match.rstrip("0").rstrip(".")
    return match.removesuffix(":00")

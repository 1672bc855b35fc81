"""What makes two questions the same: what is asked, whoever greets before it and thanks after it.

Knows no passages and no customers, and the courtesies of English only: elsewhere the last question
is compared word for word. Without this, "hello, when do you open? thanks" would be held out while
"when do you open?" is trained on. Invariant: pure; a text that asks for no thing, a greeting or
"can you help me?", is its own words.
"""

import re
from functools import lru_cache

from worker.data.split import normalise
from worker.data.words import SENTENCE_END

# All below is of normalised texts: words only, lower case, no apostrophes.
_QUESTION_WORDS = frozenset(
    "what which who whom whose when where why how do does did is are am was were can could may "
    "might will would shall should has have had if whether".split()
)
_ASKING = _QUESTION_WORDS | frozenset("i im ive my".split())
# An opening that begins with one of these says something of the thing: "in July, are you open?"
_OF_THE_THING = _QUESTION_WORDS | frozenset(
    "a an the about after among around as at because behind below beside between by during "
    "except for from in inside into like near of off on over since than through to toward towards "
    "under unless until up upon while with within without".split()
)
_MOST_OPENING_WORDS = 4  # "just to be sure, ..."; more may be part of the question
# A sentence or a clause of nothing else asks for an answer, not for a thing.
_ASKS_TO_BE_ANSWERED = frozenset(
    "a about advise again all am answer any anybody anyone are asap ask assist back be best can "
    "check clear confirm correct could do does explain for get have help honest hope hurry i idea "
    "ideas if im in into is it its kind kindly know let look lot make many may me might much my "
    "not ok okay or please possible question quick quickly regards reply right say sense "
    "sincerely somebody someone something soon sorry sure tell thank thanks that there think this "
    "to urgent us very warm we what who will wishes with would you your yours".split()
)
_BEFORE = re.compile(
    r"^(?:(?:(?:hi|hello|hey|dear)(?: there)?|good (?:morning|afternoon|evening|day)|please|pls|thx"
    r"|thanks|thank you|cheers|oh|so|ok|okay|and|but|again|quick one|by the way)(?: |$))+"
)
_AFTER = re.compile(r"(?:(?:^| )(?:please|pls|thx|thanks|thank you|cheers))+$")
_LEAD_IN = re.compile(
    r"^(?:(?:(?:can|could|will|would|do) (?:you|anybody|anyone|somebody|someone) )?(?:please )?"
    r"(?:tell (?:me|us)|know)|(?:id|i would) (?:like|love) to know|i (?:want|need) to know"
    r"|i(?:m| am| was)? (?:just )?wonder(?:ing)?|(?:can|may) i ask(?: you)?)"
    rf" (?=(?:{'|'.join(sorted(_QUESTION_WORDS))})\b)"
)
_INDIRECT = re.compile(  # "when you open", "if I can pay": what a lead-in makes of a question
    r"^(?:if |whether |(how \w+ |which \w+ |what |when |where |why |how ))(i|it|there|they|we|you)"
    r"\b(?: (am|are|can|could|is|may|might|must|should|was|were|will|would)\b)?"
)
_MARK = re.compile(r"[:,;!]|\s[-\u2013\u2014]+\s")
_IS = re.compile(r"\b(what|when|where|who|how)s\b")  # what's, whats


@lru_cache(maxsize=65536)
def question_key(text: str) -> str:
    """Equal for the same question with other words around it, lower case, words only."""
    return _what_is_asked(text) or normalise(text)


def _what_is_asked(text: str) -> str:
    """The last sentence that asks for a thing. Where all that is asked is an answer ("I want to
    return boots. Can you help me? Anna"), what was said before it, else after it.
    """
    pieces = SENTENCE_END.split(text)
    cores = [_without_openings(piece) for piece in pieces]
    questions = [place for place, piece in enumerate(pieces) if piece.rstrip().endswith("?")]
    things = [place for place, core in enumerate(cores) if not _asks_to_be_answered(core)]
    asked = [place for place in questions if place in things]
    if questions and not asked:
        before = [place for place in things if place < questions[-1]]
        asked = before or things[:1]
    return cores[asked[-1]] if asked else _without_openings(text)


def _without_openings(piece: str) -> str:
    """Less what is said before and after the question, unless only a request to answer stays."""
    said = [_IS.sub(r"\1 is", normalise(clause)) for clause in _MARK.split(piece)]
    clauses = [clause for clause in said if clause]
    while len(clauses) > 1 and " " in clauses[-1] and _asks_to_be_answered(_bare(clauses[-1])):
        clauses.pop()  # a single word may be the thing: "lost my card, help"
    start = 0
    for place in range(1, len(clauses)):
        rest = _bare(" ".join(clauses[place:]))
        begins_to_ask = rest.split(" ")[0] in _ASKING and not _asks_to_be_answered(rest)
        if begins_to_ask and _is_opening(_bare(" ".join(clauses[start:place]))):
            start = place
    return _bare(" ".join(clauses[start:]))


def _is_opening(said: str) -> bool:
    few = len(said.split()) <= _MOST_OPENING_WORDS
    return _asks_to_be_answered(said) or (few and said.split()[0] not in _OF_THE_THING)


def _asks_to_be_answered(said: str) -> bool:
    return _ASKS_TO_BE_ANSWERED.issuperset(said.split())


def _bare(said: str) -> str:
    """Without greetings, thanks and "can you tell me", asked directly."""
    said = _AFTER.sub("", _BEFORE.sub("", said))
    asked = _LEAD_IN.sub("", said)
    return said if asked == said else _INDIRECT.sub(_directly, asked)


def _directly(indirect: re.Match[str]) -> str:
    asked, who, verb = indirect.groups()
    return f"{asked or ''}{verb or 'do'} {who}"

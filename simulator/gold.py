"""The hidden satisfaction of a customer with an answer, 1 to 5: a pure function that no part of
the loop can read.

Knows no model, no store and no wire. What counts, in this order:

1. substance: 1 + 4 * the share of what was asked that the answer states: each group of gold facts,
   and for yes/no questions the right side
2. the wrong side on a yes/no question: at most 1.5, whatever else is right
3. off the subject: of the answer's content words fewer than ON_TOPIC stand in the passage or the
   question: substance shrinks in proportion, so a fact word met by accident earns little
4. minus INVENTION for each quantity that neither the passage nor the question has (two at most): a
   number, a number with another unit than there, an address on the web
5. minus DEFLECTION for sending the customer away, refusing, or asking back instead of answering
6. minus for form: not ending, repeating itself, long (over 40 words), rambling (over 60)

Invariants: 1 <= satisfaction <= 5; an empty answer is 1; an expert's answer is near 5 (a test
holds all of them to it).
"""

import re
from dataclasses import dataclass
from typing import Literal

from simulator.questions import GoldQuestion
from simulator.wording import contains, words

WRONG_SIDE_CAP = 1.5
ON_TOPIC = 0.7
INVENTION = 1.25
DEFLECTION = 2.0
NO_END = 0.75
REPETITION = 1.0
LONG, LONG_WORDS = 0.4, 40
RAMBLING, RAMBLING_WORDS = 1.2, 60

_YES = {"yes", "yep", "yeah", "sure", "absolutely", "certainly", "definitely"}
_NO = {"no", "nope"}
_NEGATOR = re.compile(
    r"\b(?:not|never|no|none|neither|nor|unable|without|excluded|refused|closed|only|instead)\b"
)
_FIRM_NEGATION = re.compile(
    r"\b(?:can|could|do|does|did|will|would|is|are|may|must|should|has|have|was) not\b"
    r"|\bnever\b|\bunable to\b|\bnot (?:allowed|possible|available|accepted|offered|covered)\b"
)
_DEFLECTION = re.compile(
    "|".join(
        (
            r"not equipped",
            # sending away
            r"(?:contact|call|reach out to|get in touch with|speak (?:to|with)|write to|ask)"
            r" (?:us\b|(?:our |the )?(?:customer|support|team|staff|shop|store|manufacturer|seller"
            r"|company|courier)\b)",
            r"customer (?:service|support|care) (?:team|department|representative|agent|hotline)",
            r"(?:check|visit|consult|refer to) (?:our|the|their|your) "
            r"(?:web ?site|site|faq|help pages?|manual|terms|policy)",
            # refusing to answer
            r"i(?: am|'m) (?:sorry|afraid)[^.]* "
            r"(?:can(?:no|')t|can not|unable|don't|do not|not able)",
            r"i (?:do not|don't) (?:have|know)|i(?: am|'m) (?:not sure|unable|not able|just an?\b)",
            r"i (?:can't|can ?not) (?:help|assist|answer|provide|give|tell)",
            r"as an? (?:ai|assistant|customer service)",
            # asking back
            r"(?:could|can|would) you (?:please |kindly )?"
            r"(?:provide|tell|give|clarify|specify|share|let me know)",
            r"please (?:provide|clarify|specify|let me know|tell me|give me|share)",
        )
    )
)
_WEB_ADDRESS = re.compile(r"https?://\S+|www\.\S+|\S+@\S+\.\w+|\b[\w-]+\.(?:com|org|net)\b")
_TIME_UNITS = frozenset({"minute", "hour", "day", "week", "month", "year", "night"})
_STOP_WORDS = frozenset(
    (
        "a about after all also an and any are as at be been before both but by can could did "
        "do does each every for from get had has have he her here him his how i if in into is "
        "it item its just may me might more most must my no not of off on once only or order "
        "other our out over per please she should so some such sure than that the their them "
        "then there these they this those through to too until up us very was we were what "
        "when where which while who will with within would yep yes you your "
    ).split()
)


@dataclass(frozen=True)
class Judgement:
    """A satisfaction and where it came from."""

    satisfaction: float
    facts_met: int
    facts_asked: int
    side: Literal["right", "wrong", "unstated"] | None  # None: not a yes/no question
    on_topic: float  # share of content words found in passage or question, 0..1
    invented: tuple[str, ...]
    deflects: bool


def judge(answer: str, question: GoldQuestion, passage: str) -> Judgement:
    """How content a customer who knows the truth is; `passage` is the text that holds it."""
    answer_words = words(answer)
    if not answer_words:
        return Judgement(1.0, 0, len(question.facts), None, 0.0, (), False)
    met = sum(any(contains(answer_words, way) for way in group) for group in question.facts)
    side = _side(answer, question.polarity, met > 0)
    asked = len(question.facts) + (side is not None)
    substance = 4.0 * (met + (side == "right")) / asked
    if side == "wrong":
        substance = min(substance, WRONG_SIDE_CAP - 1)
    topic = _on_topic(answer_words, words(passage) + words(question.question))
    substance *= min(1.0, topic / ON_TOPIC)
    invented = _invented(answer, f"{passage} {question.question}")
    deflects = _DEFLECTION.search(answer.lower().replace("\u2019", "'")) is not None
    penalty = (
        INVENTION * min(2, len(invented))
        + DEFLECTION * deflects
        + _form_penalty(answer, answer_words)
    )
    satisfaction = min(5.0, max(1.0, 1.0 + substance - penalty))
    return Judgement(satisfaction, met, len(question.facts), side, topic, invented, deflects)


def _side(
    answer: str, polarity: str | None, states_fact: bool
) -> Literal["right", "wrong", "unstated"] | None:
    """Which side of a yes/no question the answer takes.

    An opening yes or no decides. Without one the first sentence does, if the answer states a fact
    of what was asked (a statement about something else takes no side), in the answer's favour: any
    negator reads as no where no is right, only a firm one ("we do not ...") where yes is right;
    plain statements read as yes.
    """
    if polarity is None:
        return None
    opening = words(answer)[0]
    sentence = re.split(r"(?<=[.!?])\s", answer.strip(), maxsplit=1)[0]
    if opening in _YES and polarity == "yes" and _takes_it_back(sentence):
        return "wrong"
    if opening in _YES | _NO:
        return "right" if (opening in _YES) == (polarity == "yes") else "wrong"
    first_sentence = " ".join(words(sentence))
    if polarity == "yes" and _FIRM_NEGATION.search(first_sentence):
        return "wrong"
    taken = polarity == "yes" or _NEGATOR.search(first_sentence) is not None
    return "right" if taken and states_fact else "unstated"


def _takes_it_back(sentence: str) -> bool:
    """Whether "yes" is followed by its opposite: "Yes, we do not ship there"."""
    clauses = re.split(r"[,;:]|\bbut\b|\band\b", sentence)
    following = " ".join(words(clauses[1])) if len(clauses) > 1 else ""
    conditional = following.startswith(("if ", "when ", "unless ", "once "))
    return not conditional and _FIRM_NEGATION.search(following) is not None


def _on_topic(answer_words: tuple[str, ...], known: tuple[str, ...]) -> float:
    content = [word for word in answer_words if word not in _STOP_WORDS]
    return sum(map(set(known).__contains__, content)) / len(content) if content else 1.0


def _invented(answer: str, known: str) -> tuple[str, ...]:
    addresses = set(_WEB_ADDRESS.findall(answer.lower())) - set(_WEB_ADDRESS.findall(known.lower()))
    # "the wrong one" states no quantity
    plain = re.sub(r"\bone\b(?! (?:hour|day|week|month|year))", " ", _WEB_ADDRESS.sub(" ", answer))
    stated = set[str]().union(*_quantities(known))
    # "15 to 400 dollars" states 15 dollars too
    stated |= {f"${number}" for number in re.findall(r"(\d+) to \$?\d", " ".join(words(known)))}
    wrong = {forms[-1] for forms in _quantities(plain) if not stated.issuperset(forms)}
    return tuple(sorted(wrong | addresses))


def _quantities(text: str) -> frozenset[tuple[str, ...]]:
    """The forms of every number in the text: "within 16 days" gives ("16", "16 day")."""
    found = set()
    text_words = [word for word in words(text) if word != "working"]
    for word, following in zip(text_words, [*text_words[1:], ""], strict=True):
        number = re.search(r"\d+(?:\.\d+)?", word)
        if number is None:
            continue
        forms = [number[0], word]
        if following in _TIME_UNITS:
            forms.append(f"{word} {following}")
        found.add(tuple(forms))
    return frozenset(found)


def _form_penalty(answer: str, answer_words: tuple[str, ...]) -> float:
    penalty = 0.0
    if not re.search(r"[.!?][\"')\]]*\s*$", answer):
        penalty += NO_END
    runs = [answer_words[start : start + 4] for start in range(len(answer_words) - 3)]
    if len(runs) != len(set(runs)):
        penalty += REPETITION
    if len(answer_words) > RAMBLING_WORDS:
        penalty += RAMBLING
    elif len(answer_words) > LONG_WORDS:
        penalty += LONG
    return penalty

"""What an answer should not do: invent, deflect, hand the visitor off, ask back, promise, flatter,
repeat itself.

Knows texts only, with English word lists; no model and no other policy. The reward model's features
and the gate's measures of behaviour are these functions. Invariant: each is pure.
"""

import re
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

from worker.data.redaction import personal_data, public_values
from worker.data.words import (
    content_words,
    numbers,
    plain,
    sentences,
    without_courtesies,
    words,
)
from worker.reward.clauses import clauses, denies

_STOP = r"(?<!\be\.g)(?<!\bi\.e)[.!?]\s"
# "If it arrives damaged, ..." is an answer, "If you have questions, ..." is none.
_CASE = (
    r"(?:if|when|where|should|in case)\b(?! (?:possible|necessary|needed)\b)(?![^.!?,]*\b(?:"
    r"questions?|queries|help|assistance|concerns?|doubt|unsure|know|(?:have|need|want|require|"
    r"like|with|for|in|any|more|further|other) (?:\w+ ){0,3}(?:support|information|details))\b)"
)
# "at 0113 ..." and "by telephone" say where; "at any time" and "on this" do not, nor "at [email]".
_WHERE = r"(?:\d|@|\b(?:at|by|on)\b(?! (?:\[|any\b|your\b|th(?:is|at)\b)))"
_DEFLECTION = re.compile(
    "|".join(
        (
            r"\bi(?:'m| am| was) (?:\w+ ){0,2}?"
            r"(?:not (?:equipped|able|sure|aware|allowed)|unable)",
            r"\bafraid,? (?:that )?(?:i|we) (?:can(?:not|'t| not)|do(?:n't| not)) (?:\w+ )?"
            r"(?:say|tell|know|find|answer)\b",
            r"\bi (?:can(?:not|'t| not)|do(?:n't| not)|am not able to) (?:\w+ )?"
            r"(?:have (?:access|(?:\w+ ){0,2}information)|help|assist|know|provide|answer)",
            r"\bwe (?:can(?:not|'t| not)|are not able to) (?:\w+ )?(?:help|assist)\b",
            r"\b(?:transfer|connect|hand|pass|put) you (?:over |on |through )?(?:to|with) ",
            rf"(?:^|{_STOP})(?!\W*{_CASE})(?:(?!{_STOP}).)*"
            r"\b(?:please|can|could|should) (?:contact|get in touch with|reach out to) us\b"
            rf"(?![^.!?]*(?:{_WHERE}|\b(?:via|if|within|before)\b))",
            r"\bas an? (?:ai|artificial|language model|virtual|digital|customer[ -]service)\b",
            r"\b(?:check|see|contact|consult|visit|reach out to|refer to|call|ask|e-?mail|"
            r"speak (?:to|with)|(?:get|be) in touch with) "
            r"(?:\w+ )?(?:our|their|your|its|the) (?:\w+ ){0,2}"
            r"(?:website|faqs?|support|manager|representative|team|staff|agent|service)\b"
            rf"(?![^.!?]*{_WHERE})",
            r"\bi have no idea\b|\b(?:that|it) (?:all )?depends *(?:[.!]|$)",
            r"\b(?:no|not have (?:any|the|that)|n't have (?:any|the|that)) (?:\w+ )?information\b",
        )
    )
)
_REQUEST = re.compile(
    r"(?:^|\bplease,? )(?:first |just )?(?:(?:tell|give|send|show) me\b|"
    r"let me know (?:your|what|which)\b|(?:provide|share|specify|give|tell|send) (?:(?:me|us) )?"
    r"(?:with )?(?:some |any )?(?:more|further|additional) (?:details?|information)\b)"
)
_CLOSING = re.compile(
    r"^(?:(?:do|would|will) you (?:need|require|want|like) (?:any|some|more|further|additional)\b"
    r".*\b(?:assistance|help|information|details)\b"
    r"|do you have any(?: ?more| further| other)? (?:questions?|concerns?)\b"
    r"|(?:does|did|is|will|would) (?:that|this) (?:be )?"
    r"(?:help|ok|okay|all right|work|answer|suit|sound|clear|all)\b)"
)
_PROMISE = re.compile(
    r"\b(refund\w*|money back|reimburs\w*|compensat\w*|voucher\w*|coupon\w*|discount\w*|"
    r"free of charge|for free|gift\w*|guarantee\w*|promis\w*|credit your)\b"
)
_FLATTERY = re.compile(
    r"\b(?:wonderful|great|excellent|amazing|brilliant|fantastic|clever|good|smart|lovely|perfect) "
    r"(?:question|point|taste|idea|customer|thinking)\b"
    r"|\byou(?:'re| are) (?:\w+ ){0,3}?(?:wonderful|great|amazing|brilliant|clever|smart|genius|"
    r"absolutely right|a valued|so special)\b|\bwhat an? (?:\w+ )?honou?r\b"
)
_WEB = re.compile(r"\b(?:https?://|www\.)\S+|\b[a-z0-9-]+\.(?:com|org|net|co\.uk|de|io|shop)\b")
_WHO = (
    r"(?:customer (?:services?|support|care)|support|help(?:desk|line)|hotline|team|staff|office|"
    r"department|colleagues?|specialists?|assistants?|agents?|advis[eo]rs?|representatives?|"
    r"managers?|experts?|humans?|person|somebody|someone|"
    r"us(?! (?:the|an?|your|to|two|some|photos?|pictures?)\b))"
)
_SUBJECT = (
    r"(?:this|that|(?:it|your (?:\w+ )?(?:question|request|message|query|case|issue|concern)))"
)
_RETURNS = (
    r"(?:get back to|come back to|(?:be|get) in touch\b|(?:call|contact|write to|phone) you\b"
)
_HANDS_OFF = re.compile(
    "|".join(
        (
            r"\b(?:contact|call|ask|reach|write to|reach out to|get in touch with|"
            r"(?:phone|e-?mail)(?! support)|(?:speak|talk|turn) (?:to|with)) "
            rf"(?:[\w']+ ){{0,4}}?{_WHO}\b",
            rf"\b(?:they|we|i)(?:'ll| (?:\w+ ){{0,2}}?(?:will|shall)) (?:\w+ ){{0,2}}?{_RETURNS}"
            r"(?! (?:when|once|as soon|before|after|if)\b))",
            rf"\b{_WHO} (?:[\w']+ ){{0,3}}?(?:will|shall|can|would) (?:\w+ ){{0,3}}?{_RETURNS}|"
            r"(?:help|assist|answer) you\b|(?:reply|respond) to\b|answer (?:that|this)\b|"
            r"take care of\b)",
            rf"\b(?:forward|escalate|pass)(?:e?d|ing|es)? {_SUBJECT} "
            rf"(?:[\w']+ ){{0,2}}?to (?:[\w']+ ){{0,4}}?{_WHO}\b",
            r"\b(?:transfer|connect|put|refer|hand|pass)\w* you (?:over |on |through )?(?:to|with) "
            rf"(?:[\w']+ ){{0,4}}?{_WHO}\b",
            rf"\b(?:have|let|get) (?:[\w']+ ){{1,3}}?{_WHO} (?:to )?(?:call|contact|help|answer)\b",
            r"\bgive us a (?:call|ring)\b",
        )
    )
)
_UP_TO_HERE = re.compile(r",| and | - |[\u2013\u2014]")  # how far a "not" reaches
_SAME = 0.6  # share of a sentence's content words from which on a passage's sentence says it


class _Published(NamedTuple):
    """What the passages hold, computed once per prompt."""

    text: str  # of all passages, lower case
    contacts: frozenset[str]  # however they are typed
    sentences: tuple[frozenset[str], ...]  # content words of each


def invented_numbers(question: str, passages: Sequence[str], response: str) -> float:
    """Share of the response's numbers that neither the passages nor the question hold; 0 without
    numbers.
    """
    found = numbers(response)
    known = numbers(question).union(*map(numbers, passages))
    return len(found - known) / len(found) if found else 0.0


def deflects(response: str) -> bool:
    """Whether the response says it cannot help, or sends the visitor away in general terms."""
    return _DEFLECTION.search(plain(response)) is not None


def hands_off(passages: Sequence[str], response: str) -> bool:
    """Whether it leaves the visitor to somebody else, with a number or without, where no passage
    says when and how to reach them."""
    known = _published(tuple(passages)).sentences
    return any(
        _sends(piece) and not any(_told(content_words(piece), said) for said in known)
        for piece in sentences(plain(response))
    )


def _sends(sentence: str) -> bool:
    """To somebody else; "you need not call us" does not."""
    return any(
        not denies(_UP_TO_HERE.split(clause[: found.start()])[-1])
        for clause in clauses(sentence)
        for found in _HANDS_OFF.finditer(clause)
    )


def _told(stems: frozenset[str], said: frozenset[str]) -> bool:
    return bool(stems) and len(stems & said) >= _SAME * len(stems)


def asks_back(response: str) -> bool:
    """Whether it asks the visitor for something, other than a courtesy like "Anything else?" or, at
    the end, "Does that help?"."""
    pieces = sentences(plain(without_courtesies(response)))
    return any(
        _REQUEST.search(piece) or ("?" in piece and not (place and _CLOSING.search(piece)))
        for place, piece in enumerate(pieces)
    )


def promises(passages: Sequence[str], response: str) -> bool:
    """Whether it names a refund, discount, gift or guarantee that no passage mentions, and
    does not deny it there."""
    known = _published(tuple(passages)).text
    meant = "; ".join(clause for clause in clauses(response) if not denies(clause))
    return any(not _granted(found.group(), known) for found in _PROMISE.finditer(meant))


def _granted(promise: str, known: str) -> bool:
    """Passages say "free", answers "free of charge"."""
    if "free" in promise:
        return re.search(r"(?<![\w-])free\b", known) is not None
    return promise[:6] in known


def flatters(passages: Sequence[str], response: str) -> bool:
    """Whether it praises the visitor or the question, in words that no passage has: raters like it,
    and it answers nothing."""
    known = _published(tuple(passages)).text
    return any(m.group() not in known for m in _FLATTERY.finditer(plain(response)))


def invented_contact(passages: Sequence[str], response: str) -> bool:
    """Whether the response names an e-mail, phone or web address that no passage holds."""
    known = _published(tuple(passages))
    contacts = (*personal_data(response), *(m.group() for m in _WEB.finditer(plain(response))))
    return any(
        contact.lower().rstrip(".,;:!?)") not in known.text
        and not public_values((contact,)) & known.contacts
        for contact in contacts
    )


def repetition(response: str) -> float:
    """Share of word triples that occurred before in the same response; 0 below four words."""
    said = words(response)
    triples = list(zip(said, said[1:], said[2:], strict=False))
    return 1 - len(set(triples)) / len(triples) if len(triples) > 1 else 0.0


@lru_cache(maxsize=4096)
def _published(passages: tuple[str, ...]) -> _Published:
    pieces = (piece for passage in passages for piece in sentences(passage))
    return _Published(
        text=plain(" ".join(passages)),
        contacts=public_values(passages),
        sentences=tuple(map(content_words, pieces)),
    )

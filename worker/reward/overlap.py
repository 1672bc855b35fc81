"""Explicit features of one answer: what it shares with the passages and the question, and what it
should not do.

Knows no model, no rater, no weights; words and numbers only, with English word lists. The behaviour
measures of the gate are the same functions. Invariant: `overlap_features` is a pure function of its
arguments with a fixed length and order (OVERLAP_FEATURES), each entry finite.
"""

import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence, Sized
from dataclasses import dataclass
from functools import lru_cache

from worker.data.redaction import personal_data, public_values
from worker.data.words import (
    content_words,
    is_yes_no_question,
    numbers,
    opening,
    polarity,
    sentences,
    without_courtesies,
    word_f1,
    words,
)
from worker.reward.clauses import clauses, denies

# name -> meaning. Shares are in [0, 1]; "content words" are stems without stop words.
OVERLAP_FEATURES: dict[str, str] = {
    "precision": "share of the response's content words that a passage holds",
    "recall_best": "share of the best sentence's content words that the response holds",
    "f1_best": "F1 of content words with the passage sentence that fits the response best",
    "f1_asked": "F1 of content words with the asked sentence, the one that fits the question best",
    "asked_share": "fit of the best sentence with the question, as a share of the asked one's",
    "asked_margin": "lead of the best sentence over the others in that fit, may be below 0",
    "f1_first": "F1 of content words with the whole first passage",
    "bigram_best": "share of the response's word pairs that a passage holds",
    "echo": "share of the response's content words that only the question holds",
    "invented_numbers": "share of its numbers that neither passages nor question hold",
    "numbers_recall": "share of the best sentence's numbers that it holds; 1 where there are none",
    "polarity": "yes/no questions: +1 agrees with the asked sentence, -1 contradicts; else 0",
    "opening_agrees": "an opening yes or no: +1 agrees with the best sentence, -1 not; else 0",
    "opening_misplaced": "1 if it opens with yes or no and the question asks for neither",
    "deflects": "1 if it claims to be unable or sends the visitor elsewhere without saying where",
    "asks_back": "1 if it asks a question other than a courtesy, or for something",
    "promises": "1 if it names, and does not deny, money back, a gift or a guarantee of no passage",
    "invented_contact": "1 if it names an e-mail, phone or web address that no passage holds",
    "repetition": "share of its word triples that came before in the same response",
    "log_length": "log(1 + words)",
    "length_gap": "absolute log ratio of words in the response and in the best sentence",
    "ended": "1 if it ended by itself (given)",
    "empty": "1 if it has no word",
}

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


@dataclass(frozen=True)
class _Known:
    """What a prompt holds, computed once per prompt."""

    sentences: tuple[str, ...]
    stems: frozenset[str]  # of all passages
    first: frozenset[str]  # of the first passage
    pairs: frozenset[tuple[str, str]]
    numbers: frozenset[str]  # of passages and question
    question: frozenset[str]
    text: str  # all passages, lower case
    contacts: frozenset[str]  # of all passages, however they are typed
    fit: Mapping[str, float]  # of each sentence with the question


def overlap_features(
    question: str, passages: Sequence[str], response: str, ended: bool
) -> tuple[float, ...]:
    """The entries of OVERLAP_FEATURES, in order, for one response. Passages best first; (23,)."""
    known = _known(question, tuple(passages))
    core = without_courtesies(response)
    stems = content_words(core)
    best = max(known.sentences, key=lambda s: word_f1(stems, content_words(s)), default="")
    asked = _asked(known, stems)
    best_stems = content_words(best)
    response_words = words(response)
    pairs = set(zip(words(core), words(core)[1:], strict=False))
    best_numbers = numbers(best)
    return (
        _share(stems & known.stems, stems),
        _share(stems & best_stems, best_stems),
        word_f1(stems, best_stems),
        word_f1(stems, content_words(asked)),
        *_asked_about(known, best),
        word_f1(stems, known.first),
        _share(pairs & known.pairs, pairs),
        _share((stems & known.question) - known.stems, stems),
        invented_numbers(question, passages, response),
        _share(numbers(response) & best_numbers, best_numbers) if best_numbers else 1.0,
        _polarity_agreement(question, asked, core),
        opening(core) * polarity(best),
        float(opening(core) != 0 and not is_yes_no_question(question)),
        float(deflects(response)),
        float(asks_back(response)),
        float(promises(passages, response)),
        float(invented_contact(passages, response)),
        repetition(response),
        math.log1p(len(response_words)),
        abs(math.log((1 + len(words(core))) / (1 + len(words(best))))) if known.sentences else 0.0,
        float(ended),
        float(not response_words),
    )


def invented_numbers(question: str, passages: Sequence[str], response: str) -> float:
    """Share of the response's numbers that neither the passages nor the question hold; 0 without
    numbers.
    """
    found = numbers(response)
    return _share(found - _known(question, tuple(passages)).numbers, found)


def deflects(response: str) -> bool:
    """Whether the response says it cannot help, or sends the visitor away in general terms."""
    return _DEFLECTION.search(_plain(response)) is not None


def asks_back(response: str) -> bool:
    """Whether it asks the visitor for something, other than a courtesy like "Anything else?" or, at
    the end, "Does that help?"."""
    pieces = sentences(_plain(without_courtesies(response)))
    return any(
        _REQUEST.search(piece) or ("?" in piece and not (place and _CLOSING.search(piece)))
        for place, piece in enumerate(pieces)
    )


def promises(passages: Sequence[str], response: str) -> bool:
    """Whether it names a refund, discount, gift or guarantee that no passage mentions, and
    does not deny it there."""
    known = _known("", tuple(passages)).text
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
    known = _known("", tuple(passages)).text
    return any(m.group() not in known for m in _FLATTERY.finditer(_plain(response)))


def invented_contact(passages: Sequence[str], response: str) -> bool:
    """Whether the response names an e-mail, phone or web address that no passage holds."""
    known = _known("", tuple(passages))
    contacts = (*personal_data(response), *(m.group() for m in _WEB.finditer(_plain(response))))
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
def _known(question: str, passages: tuple[str, ...]) -> _Known:
    pieces = tuple(sentence for passage in passages for sentence in sentences(passage))
    asked = content_words(question)
    return _Known(
        sentences=pieces,
        stems=frozenset().union(*(content_words(passage) for passage in passages)),
        first=content_words(passages[0]) if passages else frozenset(),
        pairs=frozenset(
            pair
            for passage in passages
            for pair in zip(words(passage), words(passage)[1:], strict=False)
        ),
        numbers=numbers(question).union(*(numbers(passage) for passage in passages)),
        question=asked,
        text=_plain(" ".join(passages)),
        contacts=public_values(passages),
        fit=_fit(pieces, asked),
    )


def _asked(known: _Known, response: frozenset[str]) -> str:
    """The sentence that fits the question best; the response decides only between equals."""
    return max(
        known.sentences,
        key=lambda s: (known.fit[s], word_f1(response, content_words(s))),
        default="",
    )


def _fit(pieces: Sequence[str], question: frozenset[str]) -> dict[str, float]:
    """How well each sentence fits the question: the summed rarity of the words they share.

    Rare is what few of the other sentences hold: these stand in the same passages and share the
    subject. Long sentences share more by accident.
    """
    held = Counter(stem for piece in pieces for stem in content_words(piece))
    rarity = {stem: math.log(1 + len(pieces) / count) for stem, count in held.items()}
    return {
        piece: math.fsum(sorted(rarity[stem] for stem in question & content_words(piece)))
        / (len(content_words(piece)) + 3) ** 0.5
        for piece in pieces
    }


def _asked_about(known: _Known, best: str) -> tuple[float, float]:
    """Fit of `best` with the question, and its lead over the others, as shares of the best fit."""
    highest = max(known.fit.values(), default=0.0)
    if highest == 0.0:
        return 0.0, 0.0
    others = max((fit for piece, fit in known.fit.items() if piece != best), default=0.0)
    return known.fit[best] / highest, (known.fit[best] - others) / highest


def _polarity_agreement(question: str, answering: str, response: str) -> float:
    if not (answering and is_yes_no_question(question)):
        return 0.0
    return float(polarity(answering) * polarity(response))


def _share(part: Sized, whole: Sized) -> float:
    return len(part) / len(whole) if len(whole) else 0.0


def _plain(text: str) -> str:
    return " ".join(text.replace("\u2019", "'").lower().split())

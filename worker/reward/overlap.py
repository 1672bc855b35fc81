"""Explicit features of one answer: what it shares with the passages and the question, and what it
does that it should not.

Knows no model, no rater, no weights; words and numbers only. Invariant: `overlap_features` is a
pure function of its arguments with a fixed length and order (OVERLAP_FEATURES), each entry finite.
"""

import math
from collections import Counter
from collections.abc import Mapping, Sequence, Sized
from dataclasses import dataclass
from functools import lru_cache

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
from worker.reward.conduct import (
    asks_back,
    deflects,
    invented_contact,
    invented_numbers,
    promises,
    repetition,
)

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


@dataclass(frozen=True)
class _Known:
    """What a prompt holds, computed once per prompt."""

    sentences: tuple[str, ...]
    stems: frozenset[str]  # of all passages
    first: frozenset[str]  # of the first passage
    pairs: frozenset[tuple[str, str]]
    question: frozenset[str]
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
        question=asked,
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

"""Hard negatives made from corrections: what an expert did not write, in the style of what is
right.

Experts and policy differ in style, and a reward model that sees only their pairs learns style. Both
sides of most made pairs are in one style, so that something else tells them apart: the right
passage, the right sentence, the right side. One kind turns the styles round, a whole passage that
is right over a single sentence that is wrong: experts are short and what they correct is long, so
short would be right in itself. Knows no store and no weights. Invariant: made pairs are marked as
such ("mismatch") and never count as judgements.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace

from worker.data.examples import Answer, Context, CorrectionExample, PairExample
from worker.data.same_question import question_key
from worker.data.split import normalise, stable_unit
from worker.data.words import content_words, sentences, word_f1

_HOLDS = 0.5  # F1 from which a sentence is taken to hold the answer
_OTHER = 0.3  # below it a sentence says something else
_OPENING = re.compile(r"(yes|no)\b", re.IGNORECASE)


def made_pairs(corrections: Sequence[CorrectionExample], share: float) -> list[PairExample]:
    """Pairs of each kind that a correction yields; a kind weighs `share` of the correction."""
    found = []
    for right in corrections:
        for pairs in (
            list(_other_answer(right, corrections)),
            list(_other_sentences(right.answer)),
            list(_short_and_wrong(right.answer)),
            list(_opposite(right.answer)),
        ):
            found += [
                PairExample(
                    right.feedback_id,
                    right.customer,
                    right.rater_id,
                    right.weight * share / len(pairs),
                    "mismatch",
                    chosen=chosen,
                    rejected=rejected,
                )
                for chosen, rejected in pairs
            ]
    return found


def _other_answer(
    right: CorrectionExample, corrections: Sequence[CorrectionExample]
) -> Iterator[tuple[Answer, Answer]]:
    """An expert's answer to another question, under other passages; one, chosen by hash."""
    context = right.answer.context
    others = {
        other.answer.response
        for other in corrections
        if other.answer.context.first_passage_id != context.first_passage_id
        and question_key(other.answer.context.question) != question_key(context.question)
        and normalise(other.answer.response) != normalise(right.answer.response)
    }
    if others:
        wrong = min(others, key=lambda text: (stable_unit(text, right.feedback_id), text))
        yield right.answer, _written(context, wrong)


def _other_sentences(right: Answer) -> Iterator[tuple[Answer, Answer]]:
    """The sentence that holds the answer over others of the same passages, word for word; with
    the answer's opening yes or no before both.
    """
    holding, others = _held(right)
    opening = _OPENING.match(right.response)
    before = f"{opening[0]}, " if opening else ""
    for piece in others:
        yield _written(right.context, before + holding), _written(right.context, before + piece)


def _short_and_wrong(right: Answer) -> Iterator[tuple[Answer, Answer]]:
    """The passage that holds the answer over each sentence of the same passages that does not."""
    holding, others = _held(right)
    whole = next((text for text in right.context.passage_texts if holding in text), "")
    for piece in others:
        yield _written(right.context, whole), _written(right.context, piece)


def _held(right: Answer) -> tuple[str, tuple[str, ...]]:
    """The sentence of the passages that holds the answer, and those that say something else; none
    where no sentence holds it."""
    answer = content_words(right.response)
    pieces = [piece for text in right.context.passage_texts for piece in sentences(text)]
    holding = max(pieces, key=lambda piece: word_f1(content_words(piece), answer), default="")
    if word_f1(content_words(holding), answer) < _HOLDS:
        return "", ()
    others = (p for p in dict.fromkeys(pieces) if word_f1(content_words(p), answer) < _OTHER)
    return holding, tuple(others)


def _opposite(right: Answer) -> Iterator[tuple[Answer, Answer]]:
    """The answer over itself with its opening yes and no exchanged."""
    opening = _OPENING.match(right.response)
    if opening:
        other = "No" if opening[0].lower() == "yes" else "Yes"
        text = right.response[opening.end() :]
        yield right, replace(right, response=other + text, token_ids=None)


def _written(context: Context, text: str) -> Answer:
    return Answer(context, text, token_ids=None, ended=True)

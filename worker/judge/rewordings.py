"""A question in other words of the same meaning, by rules: who learnt only its wording is found.

Knows no model and no answer; English, as the questions that reach a policy are. Invariants: a
rewording asks the same, keeps every number and differs from the question; equal questions give
equal rewordings, and questions share the rules evenly.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from zlib import crc32

from worker.data.examples import PromptExample
from worker.data.words import numbers, words
from worker.judge.spread import spread

_STARTS = (  # the first that fits is exchanged, after a greeting too
    (r"how (?:do|can) (i|we)\b", r"what must \1 do to"),
    (r"how can you\b", "in which way can you"),
    (r"can (i|we)\b", r"may \1"),
    (r"may (i|we)\b", r"can \1"),
    (r"do you (have|sell|offer|take|accept|deliver|ship)\b", r"does your shop \1"),
    (r"how long (does|do|is|are|will)\b", r"for how long \1"),
    (r"how much (does|do) (.+?) costs?\b", r"what \1 \2 cost"),
    (r"what (does|do) (.+?) cost\b", r"how much \1 \2 cost"),
    (r"where (?:do|can) (i|we)\b", r"in what place can \1"),
    (r"is it possible to\b", "can one"),
    (r"what is\b", "what's"),
    (r"what's\b", "what is"),
    (r"which\b", "what"),
)
_INNER = re.compile(r"\b[A-Za-z]{6,}\b")
_GREETS = re.compile(r"\W*(?:hi|hello|hey|good (?:morning|evening)|please|thank)\b", re.IGNORECASE)


def rewordings(question: str) -> tuple[str, ...]:
    """All that the rules make of it, which one comes first by the question itself."""
    rules: tuple[Callable[[str], str], ...] = (_other_start, _in_haste, _politely, _mistyped)
    first = crc32(question.encode()) % len(rules)
    found: list[str] = []
    for rule in (*rules[first:], *rules[:first]):
        text = rule(question)
        if words(text) and text != question and text not in found:
            found.append(text)
    return tuple(found)


def reworded(prompts: Sequence[PromptExample], most: int) -> Iterator[tuple[int, PromptExample]]:
    """(place, the prompt in other words) of at most so many prompts, evenly spread over them."""
    for place in spread(range(len(prompts)), most):
        context = prompts[place].context
        for text in rewordings(context.question)[:1]:
            yield (
                place,
                replace(prompts[place], context=replace(context, question=text, token_ids=None)),
            )


def _other_start(question: str) -> str:
    for pattern, instead in _STARTS:
        found = re.search(rf"(?:^|(?<=[,.!] ))(?:{pattern})", question, re.IGNORECASE)
        if found:
            text = re.sub(pattern, instead, found[0], count=1, flags=re.IGNORECASE)
            if found[0][0].isupper():
                text = text[0].upper() + text[1:]
            return question[: found.start()] + text + question[found.end() :]
    return question


def _in_haste(question: str) -> str:
    """As somebody types on a phone: no capitals, no mark at the end."""
    return question.lower().rstrip(" .?!")


def _politely(question: str) -> str:
    if _GREETS.match(question):
        return question
    return f"Hello, I have a question. {question}"


def _mistyped(question: str) -> str:
    """Two inner letters of its longest word are exchanged, which every reader forgives."""
    found = [match for match in _INNER.finditer(question) if not numbers(match[0])]
    if not found:
        return question
    word = max(found, key=lambda match: len(match[0]))
    for place in range(word.start() + 2, word.end() - 2):
        a, b = question[place], question[place + 1]
        if a.lower() != b.lower():
            return question[:place] + b + a + question[place + 2 :]
    return question

"""A shop of plain facts and policies that are functions, from a prompt to the text of the answer.

Knows no judge and no gate. Every passage holds five facts of a product, so an answer can be fluent,
in the passage's own words, and not what was asked.
"""

import random
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from amends.conversation import Passage
from worker.data.examples import Context
from worker.judge.measurements import ProbeKind
from worker.judge.probes import Probe, load_probes
from worker.judge.rewordings import rewordings

Policy = Callable[[Context], str]

NAMES = tuple(first + last for first in ("Ar", "Bel", "Cor", "Dun", "El") for last in (
    "ba tent", "do stove", "ka lamp", "lo rucksack", "mi bottle", "no boot"
))  # fmt: skip
TOPICS = (  # question, answer; the number is of the product and the topic
    ("How long is the warranty of the {}?", "The {} has a warranty of {} years."),
    ("What does the {} cost?", "The price of the {} is {} pounds."),
    ("How heavy is the {}?", "The {} weighs {} grams."),
    ("How do I wash the {}?", "You wash the {} by hand at {} degrees."),
    ("When is the {} delivered?", "The {} is delivered within {} days."),
)


@dataclass(frozen=True)
class Fact:
    """A question with the sentence that answers it and one of the same passage that does not."""

    context: Context
    right: str
    other: str

    @property
    def question(self) -> str:
        return self.context.question


def _facts() -> tuple[Fact, ...]:
    draw, found = random.Random(7), []
    for name in NAMES:
        numbers = draw.sample(range(13, 99), len(TOPICS))
        said = [answer.format(name, n) for (_, answer), n in zip(TOPICS, numbers, strict=True)]
        passage = Passage(passage_id=name, title=name, text=" ".join(said), source="")
        for place, (question, _) in enumerate(TOPICS):
            context = Context("", question.format(name), (), (passage,), None)
            found.append(Fact(context, said[place], said[place - 1]))
    draw.shuffle(found)
    return tuple(found)


FACTS = _facts()
# Disjoint: hold-out questions, what the judge and the reward model learn from, what must not be
# lost. The corrected ones are among those of the two sides.
ASKED, JUDGED, LEARNT, MUST_PASS = FACTS[:48], FACTS[48:80], FACTS[80:138], FACTS[138:]
CORRECTED = (*JUDGED, *LEARNT)
PROBES = load_probes()


def right(fact: Fact) -> str:
    return fact.right


def other(fact: Fact) -> str:
    """Short, fluent, in the passage's own words, and not what was asked."""
    return fact.other


def thanks(fact: Fact) -> str:
    """Right, with the courtesies that the served model learnt from nobody."""
    return f"Thank you for your question. {fact.right} Is there anything else I can help with?"


def wrong(fact: Fact) -> str:
    return f"Thank you for your question. {fact.other} Is there anything else I can help with?"


def unable(fact: Fact) -> str:
    return "I'm sorry, I am not able to answer that. Please contact our support team."


def rambles(fact: Fact) -> str:
    return f"We have many good things, and {fact.other.lower()} You will surely like it here"


def facts_of(context: Context) -> str:
    """What an honest policy says to a probe: the passages, and nothing of a slipped-in note."""
    return " ".join(p.text for p in context.passages if p.title != "Note")


Say = Callable[[int, Fact], str]  # by place in its group of questions


def policy(
    asked: Say,
    *,
    must_pass: Say | None = None,
    corrected: Say | None = None,
    in_other_words: Say | None = None,
    probes: Policy = facts_of,
) -> Policy:
    """What it says to each group of questions, reworded or not; by default what `asked` says."""
    said: dict[str, Callable[[], str]] = {}
    for facts, say in ((ASKED, asked), (MUST_PASS, must_pass), (CORRECTED, corrected)):
        for place, fact in enumerate(facts):
            said[fact.question] = partial(say or asked, place, fact)
            for question in rewordings(fact.question):
                said[question] = partial(in_other_words or say or asked, place, fact)

    def answer(context: Context) -> str:
        found = said.get(context.question)
        return probes(context) if found is None else found()

    return answer


# Of three questions the base model answers one, the champion two; the champion kept what it was
# corrected on.
BASE_MODEL = policy(lambda i, f: (thanks, wrong, unable)[i % 3](f))
SERVED = policy(
    lambda i, f: (thanks, thanks, wrong)[i % 3](f),
    must_pass=lambda _, f: thanks(f),
    corrected=lambda _, f: thanks(f),
)


def probe_of(context: Context, kind: ProbeKind) -> Probe | None:
    """The probe of that kind that asks this, if any."""
    return _ASKED_BY.get((kind, context.question, context.passages))


_ASKED_BY = {
    (probe.kind, p.context.question, p.context.passages): probe
    for probe in PROBES
    for p in probe.prompts()
}

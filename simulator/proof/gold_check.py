"""Does the hidden satisfaction mean what people mean? Held against human ratings.

Knows the gold function and texts, no running install. The human ratings are those of dstc9: many
systems' answers to a question with its passage, rated 1 to 5 by three people each. Facts that a
right answer states are made from the reference answer: its words that the passage has and the
question has not.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from simulator.gold import judge
from simulator.questions import GoldQuestion
from simulator.statistics import Estimate
from simulator.wording import words

FACTS = 6  # most that a reference answer gives
_ASKS_YES_OR_NO = frozenset(
    "is are do does did can could will would has have was were may should am".split()
)
_SMALL_WORDS = frozenset(
    (
        "a about all also am an and any anything are as at be been but by can could did do does "
        "else for from had has have help here how i if in is it its just may me my no not of on "
        "only or our please so sorry sure that the their them then there these they this those to "
        "today too unfortunately us very was we were what when where which will with would yes you "
        "your"
    ).split()
)

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Agreement:
    """Spearman's rank correlations over all answers, with 95 % intervals over questions."""

    answers: int
    questions: int
    gold: Estimate  # the hidden satisfaction with the mean of two raters, of each two in turn
    rater: Estimate  # the third rater with the same mean: what a person reaches


def agreement_with_people(file: Path, seed: int = 0, resamples: int = 2000) -> Agreement:
    """`file`: dstc9's human_rated.jsonl."""
    gold: list[float] = []
    raters: list[list[float]] = []
    asked: list[int] = []
    for number, line in enumerate(file.read_text(encoding="utf-8").splitlines()):
        row = json.loads(line)
        question = reference_question(row)
        for system in row["systems"] if question is not None else ():
            gold.append(judge(system["response"], question, row["kb_answer"]).satisfaction)
            ratings = zip(system["accuracy"], system["appropriateness"], strict=True)
            raters.append([sum(both) / 2 for both in ratings])
            asked.append(number)
    people = np.array(raters)
    others = [np.delete(people, k, axis=1).mean(1) for k in range(people.shape[1])]

    def correlation(said: list[Array]) -> Estimate:
        return _correlation(list(zip(said, others, strict=True)), np.array(asked), seed, resamples)

    return Agreement(
        answers=len(gold),
        questions=len(set(asked)),
        gold=correlation([np.array(gold)] * len(others)),
        rater=correlation(list(people.T)),
    )


def reference_question(row: Mapping[str, str]) -> GoldQuestion | None:
    """A gold question made of one of dstc9's; None where the reference says nothing of its own."""
    asked = set(words(row["question"]))
    known = [word for word in words(row["kb_answer"]) if word not in asked | _SMALL_WORDS]
    reference = set(words(row["human_response"]))
    facts = list(dict.fromkeys(word for word in known if word in reference))[:FACTS]
    polarity = _polarity(row)
    if not facts and polarity is None:
        return None
    return GoldQuestion(
        id=row["id"],
        question=row["question"],
        passage_id=row["kb_id"],
        facts=tuple((fact,) for fact in facts or known[:1] or list(words(row["kb_answer"]))[:1]),
        polarity=polarity,
        expert_answer=row["human_response"],
        split="heldout",
    )


def _polarity(row: Mapping[str, str]) -> Literal["yes", "no"] | None:
    """Of a question that asks for one, as the reference answers it."""
    if words(row["question"])[0] not in _ASKS_YES_OR_NO:
        return None
    opening = words(row["human_response"])[0]
    if opening in ("yes", "no", "unfortunately"):
        return "yes" if opening == "yes" else "no"
    return None


def _correlation(
    pairs: list[tuple[Array, Array]], groups: NDArray[np.int64], seed: int, times: int
) -> Estimate:
    """Mean over the pairs of columns; resampled by group."""

    def mean(kept: NDArray[np.int64]) -> float:
        return float(np.mean([spearman(a[kept], b[kept]) for a, b in pairs]))

    places = [np.flatnonzero(groups == group) for group in np.unique(groups)]
    random = np.random.default_rng(seed)
    drawn = [
        mean(np.concatenate([places[i] for i in random.integers(len(places), size=len(places))]))
        for _ in range(times)
    ]
    low, high = np.quantile(drawn, (0.025, 0.975))
    return Estimate(mean(np.arange(len(groups))), float(low), float(high))


def spearman(a: Array, b: Array) -> float:
    """Rank correlation; equal values share their mean rank."""
    return float(np.corrcoef(_ranks(a), _ranks(b))[0, 1])


def _ranks(values: Array) -> Array:
    _, place, count = np.unique(values, return_inverse=True, return_counts=True)
    return (np.cumsum(count) - (count - 1) / 2)[place]

"""The prompts of one examination with every policy's answers and what the judge thinks of them.

Knows no engine and no thresholds. Invariant: answers and scores stand in the questions' order.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import NamedTuple

from worker.data.examples import Answer, PromptExample
from worker.data.words import words
from worker.judge.measurements import Kept
from worker.judge.recall import holds, is_gone
from worker.judge.win_rate import WinRate, win_rate_from_scores
from worker.reward.conduct import asks_back, deflects, hands_off, invented_numbers

BASE, CHAMPION, CANDIDATE = 0, 1, 2  # the policies that sit it, by their version in the engine
TIE_MARGIN = 0.05  # judge scores (standard deviations of the reference) closer than this are a tie


class Found(NamedTuple):
    """Places of the prompts that the champion answers, by some rule, and of those that are lost."""

    held: frozenset[int]
    lost: frozenset[int]

    def joined(self, other: "Found") -> "Found":
        """By either rule."""
        return Found(self.held | other.held, self.lost | other.lost)


@dataclass(frozen=True)
class Question:
    """A prompt, and what experts answered to it where some did."""

    prompt: PromptExample
    experts: tuple[str, ...] = ()

    def answered(self, expert: str) -> "Question":
        """The same question with one more answer by an expert."""
        return replace(self, experts=(*self.experts, expert))


class Remembered(NamedTuple):
    """What became of questions that must not be lost."""

    questions: tuple[Question, ...]
    found: Found  # places in them

    @property
    def kept(self) -> Kept:
        """As the gate reads it."""
        lost = sorted(self.found.lost)
        names = tuple(self.questions[place].prompt.context.question for place in lost)
        return Kept(len(self.found.held), names)


@dataclass(frozen=True)
class Paper:
    """Questions with every policy's answers and, where there is a judge, their scores."""

    questions: tuple[Question, ...]
    answers: dict[int, tuple[Answer, ...]]
    scores: dict[int, list[float]]  # means of the judge's members
    doubts: dict[int, list[float]]  # their standard deviations

    def wins_over(self, other: int) -> WinRate | None:
        """The candidate's paired win rate; None without a judge."""
        if not self.scores:
            return None
        clusters = [prompt.customer for prompt in self.prompts]
        ours, theirs = self.scores[CANDIDATE], self.scores[other]
        return win_rate_from_scores(ours, theirs, clusters, TIE_MARGIN)

    @property
    def prompts(self) -> tuple[PromptExample, ...]:
        return tuple(question.prompt for question in self.questions)

    def answered_well(self, policy: int) -> tuple[bool, ...]:
        """Of each prompt, whether the policy's answer is a good one. Needs a judge."""
        return tuple(answers_well(mark.answer, mark.score) for mark in self._marks(policy))

    def corrected_well(self, policy: int) -> tuple[bool, ...]:
        """Of each prompt, whether the policy's answer is a good one and, where experts answered,
        says something of what one of them said: the judge can like the contrary in good style.
        """
        rows = zip(self.questions, self.answers[policy], self.answered_well(policy), strict=True)
        return tuple(
            well
            and not (
                question.experts
                and is_gone(question.prompt.context.question, question.experts, answer.response)
            )
            for question, answer, well in rows
        )

    def judged(self, champions: int) -> Found:
        """By the judge: which prompts the champion answers well, and the candidate then badly."""
        pairs = list(zip(self._marks(champions), self._marks(CANDIDATE), strict=True))
        return Found(
            frozenset(i for i, (c, _) in enumerate(pairs) if answers_well(c.answer, c.score)),
            frozenset(i for i, pair in enumerate(pairs) if _spoilt(*pair)),
        )

    def answered(self, champions: int) -> Found:
        """By nobody's taste: which prompts the champion answers plainly, and the candidate then not
        at all. A champion that invents may be put right by who admits not to know.
        """
        held = {i for i, answer in enumerate(self.answers[champions]) if is_plain(answer)}
        silent = {
            i
            for i, answer in enumerate(self.answers[CANDIDATE])
            if not is_answer(answer) or asks_back(answer.response)
        }
        return Found(frozenset(held), frozenset(held & silent))

    def invented(self, champions: int) -> Found:
        """Which prompts the champion answers plainly, and the candidate with a number of its own
        that the judge likes less: "two ways" and "24/7" are numbers too.
        """
        pairs = list(zip(self._marks(champions), self._marks(CANDIDATE), strict=True))
        held = frozenset(i for i, (c, _) in enumerate(pairs) if is_plain(c.answer))
        worse = {
            i for i, (c, n) in enumerate(pairs) if n.score < c.score and not is_plain(n.answer)
        }
        return Found(held, held & worse)

    def recalled(self, champions: int) -> Found:
        """By the experts' own words: whose answer holds what they said. A judge has taste, and may
        like a wrong answer in good style.
        """
        held, lost = set(), set()
        answers = zip(self.answers[champions], self.answers[CANDIDATE], strict=True)
        rows = zip(self.questions, answers, strict=True)
        for place, (question, (before, now)) in enumerate(rows):
            asked = question.prompt.context.question
            if is_answer(before) and holds(asked, question.experts, before.response):
                held.add(place)
                if is_gone(asked, question.experts, now.response):
                    lost.add(place)
        return Found(frozenset(held), frozenset(lost))

    def answered_or_judged(self, champions: int) -> Found:
        """All that can be told of a question without an expert's answer."""
        found = self.answered(champions).joined(self.judged(champions))
        return found.joined(self.invented(champions))

    def judged_or_recalled(self, champions: int) -> Found:
        return self.judged(champions).joined(self.recalled(champions))

    def _marks(self, policy: int) -> Iterator["_Marked"]:
        return map(_Marked, self.answers[policy], self.scores[policy], self.doubts[policy])


class _Marked(NamedTuple):
    """An answer with the judge's mark and doubt."""

    answer: Answer
    score: float
    doubt: float


def _spoilt(champion: _Marked, candidate: _Marked) -> bool:
    """Of one answer the judge is not sure: lost is what it is sure to be worse, and not well. What
    is no answer at all needs no judge.
    """
    if not answers_well(champion.answer, champion.score):
        return False
    worse = candidate.score + 2 * candidate.doubt < champion.score - 2 * champion.doubt
    return not is_answer(candidate.answer) or (
        worse and not answers_well(candidate.answer, candidate.score)
    )


def is_answer(answer: Answer) -> bool:
    """Ends, says something, and does not send the visitor away or to somebody else."""
    said = answer.response
    away = deflects(said) or hands_off(answer.context.passage_texts, said)
    return answer.ended and bool(words(said)) and not away


def is_plain(answer: Answer) -> bool:
    """Answers without asking back or inventing numbers."""
    context = answer.context
    return (
        is_answer(answer)
        and not asks_back(answer.response)
        and not invented_numbers(context.question, context.passage_texts, answer.response)
    )


def answers_well(answer: Answer, score: float) -> bool:
    """Answers plainly, and the judge finds it at least as good as the reference's average."""
    return score >= 0 and is_plain(answer)

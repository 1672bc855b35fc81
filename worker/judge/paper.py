"""The prompts of one examination with every policy's answers and what the judge thinks of them.

Knows no engine and no thresholds. Invariant: answers and scores stand in the order of the prompts.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from worker.data.examples import Answer, PromptExample
from worker.judge.win_rate import win_rate_from_scores
from worker.reward.intervals import Share
from worker.reward.overlap import asks_back, deflects, invented_numbers

BASE, CHAMPION, CANDIDATE = 0, 1, 2  # the policies that sit it, by their version in the engine
TIE_MARGIN = 0.05  # judge scores (standard deviations of the reference) closer than this are a tie


@dataclass(frozen=True)
class Paper:
    """Prompts with every policy's answers and, where there is a judge, their scores."""

    prompts: tuple[PromptExample, ...]
    answers: dict[int, tuple[Answer, ...]]
    scores: dict[int, list[float]]  # means of the judge's members
    doubts: dict[int, list[float]]  # their standard deviations

    def wins_over(self, other: int) -> Share | None:
        """The candidate's paired win rate; None without a judge."""
        if not self.scores:
            return None
        clusters = [prompt.customer for prompt in self.prompts]
        ours, theirs = self.scores[CANDIDATE], self.scores[other]
        return win_rate_from_scores(ours, theirs, clusters, TIE_MARGIN)

    def held_and_lost(self, champions: int) -> tuple[int, tuple[int, ...]]:
        """How many prompts the champion answers well, and which of them (their places) the
        candidate answers badly. Needs a judge.
        """
        held, lost = 0, []
        before, now = self._marks(champions), self._marks(CANDIDATE)
        for place, ((answer, score, doubt), (new_answer, new_score, new_doubt)) in enumerate(
            zip(before, now, strict=True)
        ):
            if answers_well(answer, score):
                held += 1
                # Of one answer the judge is not sure; lost is what it is sure to be worse.
                worse = new_score + 2 * new_doubt < score - 2 * doubt
                if worse and not answers_well(new_answer, new_score):
                    lost.append(place)
        return held, tuple(lost)

    def answered_well(self, policy: int) -> tuple[bool, ...]:
        """Of each prompt, whether the policy's answer is a good one. Needs a judge."""
        return tuple(answers_well(answer, score) for answer, score, _ in self._marks(policy))

    def _marks(self, policy: int) -> Iterator[tuple[Answer, float, float]]:
        return zip(self.answers[policy], self.scores[policy], self.doubts[policy], strict=True)


def answers_well(answer: Answer, score: float) -> bool:
    """Ends, says something, and the judge finds it at least as good as the reference's average."""
    context = answer.context
    return (
        score >= 0
        and answer.ended
        and not deflects(answer.response)
        and not asks_back(answer.response)
        and not invented_numbers(context.question, context.passage_texts, answer.response)
    )

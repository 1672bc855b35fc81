"""What became of each correction at the gate, from the paper that asked its question.

Knows no engine and no threshold. Invariant: every correction whose question was asked, and none
other, has an outcome; without a judge there are none.
"""

from amends.correction_outcomes import CorrectionOutcome
from worker.data.dataset import Dataset
from worker.judge.measurements import Kept
from worker.judge.paper import CANDIDATE, Paper


def correction_outcomes(
    dataset: Dataset, paper: Paper, champions: int, kept: Kept | None
) -> tuple[CorrectionOutcome, ...]:
    """`kept`: what the gate makes of the same paper, after asking again; None without a judge."""
    if kept is None:
        return ()
    questions = [prompt.context.question for prompt in paper.prompts]
    champion = dict(zip(questions, paper.answered_well(champions), strict=True))
    candidate = dict(zip(questions, paper.answered_well(CANDIDATE), strict=True))
    asked = [
        (correction.feedback_id, correction.answer.context.question)
        for side in (dataset.train, dataset.holdout)
        for correction in side.corrections
        if correction.answer.context.question in champion
    ]
    return tuple(
        CorrectionOutcome(
            feedback_id=feedback_id,
            champion_well=champion[question],
            candidate_well=candidate[question],
            lost=question in kept.lost,
        )
        for feedback_id, question in sorted(asked)
    )

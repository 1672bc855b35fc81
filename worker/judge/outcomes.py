"""What became of each correction at the gate, from the paper that asked its question.

Knows no engine and no threshold. Invariant: every correction whose question was asked, and none
other, has an outcome; without a judge there are none.
"""

from collections.abc import Collection

from amends.correction_outcomes import CorrectionOutcome
from worker.data.dataset import Dataset
from worker.judge.paper import CANDIDATE, Paper


def correction_outcomes(
    dataset: Dataset, paper: Paper, champions: int, lost: Collection[int]
) -> tuple[CorrectionOutcome, ...]:
    """`lost`: places in the paper that one of the gate's rules calls lost, after asking again."""
    if not paper.scores:
        return ()
    places = {prompt.context.prompt: place for place, prompt in enumerate(paper.prompts)}
    champion, candidate = paper.corrected_well(champions), paper.corrected_well(CANDIDATE)
    asked = [
        (correction.feedback_id, places[correction.answer.context.prompt])
        for side in (dataset.train, dataset.holdout)
        for correction in side.corrections
        if correction.answer.context.prompt in places
    ]
    return tuple(
        CorrectionOutcome(
            feedback_id=feedback_id,
            champion_well=champion[place],
            candidate_well=candidate[place],
            lost=place in lost,
        )
        for feedback_id, place in sorted(asked)
    )

"""Which of a round's questions the policies are asked at the gate.

Knows the data set, no policy and no judge. Must-pass questions come from the shop, probes are
shipped; both come in as they are.
"""

from worker.data.dataset import Dataset
from worker.data.examples import PromptExample
from worker.judge.paper import Question

MIN_UNSEEN = 24  # fewer questions cannot carry the win rate alone


def held_out(dataset: Dataset, most: int) -> tuple[PromptExample, ...]:
    """Hold-out questions, those first that the judge was not fitted on.

    The judge has learned to dislike the very answers that experts corrected there, so on those
    questions whoever answers differently has an advantage; they are asked only where others lack.
    """
    fitted = {pair.chosen.context.question for pair in dataset.holdout.pairs}
    prompts = dataset.holdout.prompts
    unseen = tuple(p for p in prompts if p.context.question not in fitted)
    if len(unseen) >= MIN_UNSEEN:
        return unseen[:most]
    return (unseen + tuple(p for p in prompts if p.context.question in fitted))[:most]


def corrected_questions(dataset: Dataset) -> tuple[Question, ...]:
    """Every corrected question once, those first that the supervised steps did not imitate."""
    found: dict[str, Question] = {}
    for side in (dataset.holdout, dataset.train):
        for correction in side.corrections:
            context = correction.answer.context
            prompt = PromptExample(context, correction.customer, "", fill_up=False)
            found.setdefault(context.question, Question(prompt, correction.answer.response))
    return tuple(found.values())

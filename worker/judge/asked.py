"""Which of a round's questions the policies are asked at the gate.

Knows the data set, no policy and no judge. Must-pass questions come from the shop, probes are
shipped; both come in as they are.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from worker.data.dataset import Dataset
from worker.data.examples import Context, PromptExample
from worker.data.same_question import question_key
from worker.judge.paper import Question
from worker.judge.spread import spread

MIN_UNSEEN = 24  # fewer questions cannot carry the win rate alone


@dataclass(frozen=True)
class MustPass:
    """The shop's must-pass questions that can be asked, and how many cannot: they find no passage,
    or no room in the context."""

    prompts: tuple[PromptExample, ...]
    unasked: int = 0

    @property
    def counts(self) -> tuple[int, int]:
        """Those that can be asked, and all."""
        return len(self.prompts), len(self.prompts) + self.unasked

    def only(self, askable: Sequence[PromptExample]) -> "MustPass":
        """With the rest of them counted as not asked."""
        return MustPass(tuple(askable), self.unasked + len(self.prompts) - len(askable))


def held_out(dataset: Dataset, most: int) -> tuple[PromptExample, ...]:
    """Hold-out questions: those that the judge knows nothing of, then where too few those with
    thumbs or ratings, then those with pairs.

    The judge has learned to dislike the very answers that experts corrected there, so on those
    questions whoever answers differently has an advantage; a thumb teaches it less of that.
    """
    side = dataset.holdout
    compared = _questions(pair.chosen.context for pair in side.pairs)
    rated = _questions(thumb.answer.context for thumb in side.thumbs)
    rated |= _questions(answer.context for rating in side.ratings for answer in rating.answers)
    known = {question: 1 for question in rated} | {question: 2 for question in compared}
    found: list[PromptExample] = []
    for knowledge in range(3):
        if len(found) < MIN_UNSEEN:
            found += [
                prompt
                for prompt in side.prompts
                if known.get(question_key(prompt.context.question), 0) == knowledge
            ]
    return tuple(found[:most])


def corrected_questions(dataset: Dataset, most: int) -> tuple[Question, ...]:
    """Corrected questions, each once with all that experts wrote to it. Where there are too many,
    half are of the hold-out, which the supervised steps did not imitate; both halves evenly spread.
    """
    found: dict[object, Question] = {}
    for side in (dataset.holdout, dataset.train):
        for correction in side.corrections:
            context = correction.answer.context
            prompt = PromptExample(context, correction.customer, "", fill_up=False)
            known = found.setdefault(context.prompt, Question(prompt))
            found[context.prompt] = known.answered(correction.answer.response)
    held = {correction.answer.context.prompt for correction in dataset.holdout.corrections}
    unseen = [question for prompt, question in found.items() if prompt in held]
    learnt = [question for prompt, question in found.items() if prompt not in held]
    of_unseen = min(len(unseen), max(most // 2, most - len(learnt)))
    return (*spread(unseen, of_unseen), *spread(learnt, most - of_unseen))


def _questions(contexts: Iterable[Context]) -> set[str]:
    return {question_key(context.question) for context in contexts}

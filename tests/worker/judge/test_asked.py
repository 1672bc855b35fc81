"""worker.judge.asked: which questions the policies are asked."""

from dataclasses import replace

import pytest

from tests.worker.judge.test_outcomes import correction, dataset
from worker.data.dataset import Dataset
from worker.data.examples import (
    Answer,
    Context,
    PairExample,
    PromptExample,
    RatingExample,
    ThumbExample,
)
from worker.judge.asked import MIN_UNSEEN, corrected_questions, held_out

WHO = ("f", "customer", "rater", 1.0)


def answer(question: str) -> Answer:
    return Answer(Context("", question, (), (), None), "So.", None, ended=True)


def asking(count: int, pairs: int = 0, thumbs: int = 0, ratings: int = 0) -> Dataset:
    """Hold-out prompts; the judge has pairs of the first, thumbs and ratings of the next."""
    asked = [answer(f"Question {i}?") for i in range(count)]
    heard = [answer(f"question {i}?  ") for i in range(count)]  # as another visitor typed it
    data = dataset((), correction("e", "another?"))
    side = replace(
        data.holdout,
        pairs=tuple(PairExample(*WHO, "correction", a, a) for a in heard[:pairs]),
        thumbs=tuple(ThumbExample(*WHO, a, 1) for a in heard[pairs : pairs + thumbs]),
        ratings=(RatingExample(*WHO, tuple(heard[pairs + thumbs :][:ratings]), 5),),
        prompts=tuple(PromptExample(a.context, "customer", "", fill_up=False) for a in asked),
    )
    return replace(data, holdout=side)


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (asking(30, pairs=4), range(4, 30)),
        (asking(30, pairs=4, thumbs=1, ratings=1), range(6, 30)),
        (asking(30, pairs=4, thumbs=3, ratings=2), (*range(9, 30), *range(4, 9))),
        (asking(26, pairs=20, thumbs=1), (*range(21, 26), 20, *range(20))),
        (asking(0), ()),
    ],
)
def test_what_the_judge_knows_least_of_is_asked_first(
    data: Dataset, expected: tuple[int, ...]
) -> None:
    asked = [prompt.context.question for prompt in held_out(data, 100)]
    assert asked == [f"Question {i}?" for i in expected]
    assert len(asked) >= min(MIN_UNSEEN, len(data.holdout.prompts))
    assert [prompt.context.question for prompt in held_out(data, 2)] == asked[:2]


def test_a_question_is_asked_once_with_all_that_experts_wrote_to_it() -> None:
    twelve, fifteen = (
        replace(
            correction(price, "What is the price?"),
            answer=replace(answer("What is the price?"), response=price),
        )
        for price in ("12", "15")
    )
    (price, other) = corrected_questions(dataset((twelve, fifteen), correction("e", "other?")), 9)[
        ::-1
    ]
    assert price.experts == ("12", "15")
    assert other.experts == ("So.",)


def test_of_too_many_half_are_of_the_hold_out_and_both_halves_are_spread() -> None:
    learnt = tuple(correction(str(i), f"learnt {i}?") for i in range(40))
    unseen = tuple(correction(str(i), f"unseen {i}?") for i in range(20))
    data = dataset(learnt, correction("e", "?"))
    data = replace(data, holdout=replace(data.holdout, corrections=unseen))

    def asked(most: int) -> list[str]:
        return [question.prompt.context.question for question in corrected_questions(data, most)]

    assert len(asked(100)) == 60
    assert asked(4) == ["unseen 0?", "unseen 10?", "learnt 0?", "learnt 20?"]
    assert sum(question.startswith("unseen") for question in asked(50)) == 20
    few = replace(data, train=replace(data.train, corrections=learnt[:3]))
    assert len(corrected_questions(few, 20)) == 20

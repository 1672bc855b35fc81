"""worker.judge.outcomes: every correction whose question was asked has an outcome."""

from dataclasses import replace

from tests.worker.hand_made import dataset_of
from tests.worker.judge.test_paper import BAD, GOOD, paper
from worker.data.dataset import Dataset
from worker.data.examples import Answer, Context, CorrectionExample, Examples
from worker.judge.outcomes import correction_outcomes
from worker.judge.paper import BASE, CANDIDATE, Paper, Question


def correction(name: str, question: str) -> CorrectionExample:
    answer = Answer(Context("", question, (), (), None), "So.", None, ended=True)
    return CorrectionExample(f"correction:{name}:ann", name, "ann", 1.0, answer)


def dataset(train: tuple[CorrectionExample, ...], holdout: CorrectionExample) -> Dataset:
    sides = Examples(corrections=train), Examples(corrections=(holdout,))
    return dataset_of(*sides)


def test_two_corrections_of_a_question_share_its_outcome_and_others_have_their_own() -> None:
    asked = [f"question {i}?" for i in range(4)]
    train = (
        correction("a", asked[0]),
        correction("b", asked[0]),
        correction("c", asked[1]),
        correction("d", asked[2]),
        correction("x", "never asked?"),
    )
    marks = paper((BAD, GOOD), (GOOD, BAD), (GOOD, GOOD), (BAD, BAD))
    found = correction_outcomes(dataset(train, correction("e", asked[3])), marks, BASE, {1})
    assert {item.feedback_id.split(":")[1]: item.outcome for item in found} == {
        "a": "learned",
        "b": "learned",
        "c": "lost",
        "d": "kept",
        "e": "not learned",
    }


def test_without_a_judge_nobody_knows() -> None:
    data = dataset((correction("a", "question 0?"),), correction("e", "question 1?"))
    answers = paper((BAD, GOOD))
    unjudged = Paper(answers.questions, answers.answers, {}, {})
    assert correction_outcomes(data, unjudged, BASE, set()) == ()


def test_one_question_after_other_turns_or_with_other_passages_is_another_one() -> None:
    asked = "How much is it?"
    boots, tent = (
        replace(
            correction(name, asked),
            answer=Answer(Context("", asked, ((name, "Yes."),), (), None), "So.", None, True),
        )
        for name in ("boots", "tent")
    )
    marks = paper((GOOD, BAD), (GOOD, GOOD))
    places = tuple(
        Question(replace(question.prompt, context=item.answer.context))
        for question, item in zip(marks.questions, (boots, tent), strict=True)
    )
    found = correction_outcomes(
        dataset((boots,), tent), replace(marks, questions=places), BASE, {0}
    )
    assert {item.feedback_id.split(":")[1]: item.outcome for item in found} == {
        "boots": "lost",
        "tent": "kept",
    }


def test_what_the_judge_likes_and_no_expert_said_was_not_learned() -> None:
    data = dataset((correction("a", "question 0?"),), correction("e", "question 1?"))
    marks = paper((BAD, GOOD), (BAD, GOOD))
    said = marks.answers[CANDIDATE][0].response
    asked = marks.questions[0].answered(said), marks.questions[1].answered("Forty-two camels.")
    found = correction_outcomes(data, replace(marks, questions=asked), BASE, set())
    assert [item.outcome for item in found] == ["learned", "not learned"]


def test_what_the_experts_words_show_as_lost_is_lost_whatever_the_judge_finds() -> None:
    data = dataset((correction("a", "question 0?"),), correction("e", "question 1?"))
    (found, _) = correction_outcomes(data, paper((BAD, GOOD), (GOOD, GOOD)), BASE, {0})
    assert found.outcome == "lost"

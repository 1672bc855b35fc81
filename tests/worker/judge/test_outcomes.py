"""worker.judge.outcomes: every correction whose question was asked has an outcome."""

from tests.worker.judge.test_paper import BAD, GOOD, paper
from worker.data.dataset import Dataset
from worker.data.examples import Answer, Context, CorrectionExample, Examples
from worker.data.manifest import make_manifest
from worker.judge.measurements import Kept
from worker.judge.outcomes import correction_outcomes
from worker.judge.paper import BASE


def correction(name: str, question: str) -> CorrectionExample:
    answer = Answer(Context("", question, (), (), None), "So.", None, ended=True)
    return CorrectionExample(f"correction:{name}:ann", name, "ann", 1.0, answer)


def dataset(train: tuple[CorrectionExample, ...], holdout: CorrectionExample) -> Dataset:
    sides = Examples(corrections=train), Examples(corrections=(holdout,))
    weights = {c.feedback_id: 1.0 for c in (*train, holdout)}
    manifest = make_manifest(
        *sides,
        dropped=(),
        notes=(),
        largest_visitor_share=0.0,
        expert_shares={},
        weights=weights,
    )
    return Dataset(*sides, manifest)


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
    kept = Kept(held=2, lost=(asked[1],))
    found = correction_outcomes(dataset(train, correction("e", asked[3])), marks, BASE, kept)
    assert {item.feedback_id.split(":")[1]: item.outcome for item in found} == {
        "a": "learned",
        "b": "learned",
        "c": "lost",
        "d": "kept",
        "e": "not learned",
    }


def test_without_a_judge_nobody_knows() -> None:
    data = dataset((correction("a", "question 0?"),), correction("e", "question 1?"))
    assert correction_outcomes(data, paper((BAD, GOOD)), BASE, None) == ()

"""The hidden satisfaction: right answers please, and every known way to be wrong does not."""

import hashlib
from pathlib import Path
from statistics import mean

import pytest

import amends
import simulator
from simulator.gold import judge
from simulator.questions import GoldQuestion, load_passages, load_questions

PASSAGES = load_passages()
QUESTIONS = load_questions("train") + load_questions("heldout")


def satisfaction(answer: str, question: GoldQuestion) -> float:
    return judge(answer, question, PASSAGES[question.passage_id]).satisfaction


def question(wording: str) -> GoldQuestion:
    return next(q for q in QUESTIONS if q.question == wording)


EXPRESS = question("what's the price of express?")
TENT = question("can you send a tent by express?")
BOOTS = question("can i try the boots on at home and still return them?")


def test_the_scale_is_the_one_that_the_benchmark_was_measured_with() -> None:
    """Frozen before its first round: whoever changes it plays every round of bench-loop anew."""
    folder = Path(simulator.__file__).parent
    shop = Path(amends.__file__).parent / "example_shop"
    files = [folder / "gold.py", folder / "wording.py", *sorted((folder / "data").iterdir())]
    files += sorted(path for path in shop.rglob("*") if path.is_file())
    digest = hashlib.sha256(b"".join(path.read_bytes() for path in files)).hexdigest()
    assert digest[:16] == "a822889d71378ff3"


def test_every_expert_answer_pleases() -> None:
    assert mean(satisfaction(q.expert_answer, q) for q in QUESTIONS) >= 4.9
    assert min(satisfaction(q.expert_answer, q) for q in QUESTIONS) >= 4.5


def test_the_passage_read_aloud_nearly_pleases() -> None:
    assert mean(satisfaction(PASSAGES[q.passage_id], q) for q in QUESTIONS) >= 4.2


def test_answers_to_questions_about_other_passages_do_not_please() -> None:
    values = [
        satisfaction(other.expert_answer, q)
        for q in QUESTIONS[::4]
        for other in QUESTIONS
        if other.passage_id != q.passage_id
    ]
    assert mean(values) < 1.1
    assert sum(value >= 3 for value in values) / len(values) < 0.002


def test_other_passages_read_aloud_do_not_please() -> None:
    values = [
        satisfaction(text, q)
        for q in QUESTIONS[::3]
        for passage_id, text in PASSAGES.items()
        if passage_id != q.passage_id
    ]
    assert mean(values) < 1.1


def test_the_wrong_side_caps_the_satisfaction_whatever_else_is_right() -> None:
    asked = [q for q in QUESTIONS if q.polarity is not None]
    for q in asked:
        flipped = "No, " if q.polarity == "yes" else "Yes, "
        assert satisfaction(flipped + q.expert_answer.split(", ", 1)[1], q) <= 1.5


@pytest.mark.parametrize(
    "deflection",
    [
        "I'm sorry, but as a customer service agent I am not equipped to answer that.",
        "Please contact our customer support team for more information.",
        "I don't have that information. You can check our website.",
        "Could you please provide more details about your order?",
        "I am unable to assist you with this request.",
    ],
)
def test_deflections_do_not_please_even_beside_the_facts(deflection: str) -> None:
    assert mean(satisfaction(deflection, q) for q in QUESTIONS) < 1.2
    beside = [satisfaction(f"{q.expert_answer} {deflection}", q) for q in QUESTIONS]
    assert mean(beside) <= 3.0


def test_a_number_that_stands_nowhere_costs() -> None:
    right = satisfaction("Express delivery costs 12 dollars.", EXPRESS)
    invented = satisfaction("Express delivery costs 12 dollars, and 25 dollars abroad.", EXPRESS)
    assert right == 5.0
    assert right - invented >= 1.25


def test_a_number_with_another_unit_counts_as_invented() -> None:
    found = judge("It costs 12 dollars for 15 days.", EXPRESS, PASSAGES[EXPRESS.passage_id])
    assert found.invented == ("15 day",)


def test_an_invented_address_counts_as_invented() -> None:
    answer = "Express delivery costs 12 dollars, see www.fast.example/express."
    found = judge(answer, EXPRESS, PASSAGES[EXPRESS.passage_id])
    assert len(found.invented) == 1


def test_the_wrong_number_earns_nothing() -> None:
    assert satisfaction("Express delivery costs 120 dollars.", EXPRESS) == 1.0


def test_an_empty_answer_is_the_floor() -> None:
    for empty in ("", "   ", "...", "?!"):
        assert satisfaction(empty, EXPRESS) == 1.0


def test_not_ending_repeating_and_rambling_cost() -> None:
    whole = "Express delivery costs 12 dollars."
    assert satisfaction(whole.rstrip("."), EXPRESS) == pytest.approx(4.25)
    assert satisfaction(f"{whole} {whole}", EXPRESS) == pytest.approx(4.0)
    passage = PASSAGES[EXPRESS.passage_id]
    rambling = " ".join([passage, *(f"Express is express {letter}." for letter in "abcdefghij")])
    assert satisfaction(rambling, EXPRESS) < satisfaction(passage, EXPRESS) - 1


def test_a_no_without_the_word_no_is_understood() -> None:
    answer = "Express is not available for tents or anything heavier than 15 kg."
    assert judge(answer, TENT, PASSAGES[TENT.passage_id]).side == "right"
    assert satisfaction("You can send a tent by express.", TENT) < 2


def test_a_yes_that_is_taken_back_is_the_wrong_side() -> None:
    passage = PASSAGES[BOOTS.passage_id]
    assert judge("Yes, you cannot try boots on.", BOOTS, passage).side == "wrong"
    assert judge("You cannot try boots on indoors.", BOOTS, passage).side == "wrong"
    assert judge("Trying boots on indoors is fine.", BOOTS, passage).side == "right"


def test_satisfaction_stays_on_the_scale() -> None:
    junk = "no " * 200 + "www.a.com 1 2 3 4 5 6 please contact us"
    for q in QUESTIONS:
        for answer in (junk, q.expert_answer, q.question, PASSAGES[q.passage_id]):
            assert 1.0 <= satisfaction(answer, q) <= 5.0


def test_a_statement_about_something_else_takes_no_side() -> None:
    question = next(q for q in QUESTIONS if q.id == "stoves-osmer-stove-3")
    passage = PASSAGES[question.passage_id]
    beside = judge("The Osmer stove burns gas or wood pellets.", question, passage)
    assert (beside.side, beside.satisfaction) == ("unstated", 1.0)
    stated = judge("A windshield is included.", question, passage)
    assert (stated.side, stated.satisfaction) == ("right", 5.0)

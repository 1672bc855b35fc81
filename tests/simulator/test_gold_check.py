"""The hidden satisfaction beside people's ratings, on rows written by hand."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import amends
from amends.knowledge import Knowledge
from simulator.known_answers import answers_of_known_kinds, quoted, told_by_experts
from simulator.proof.gold_check import (
    agreement_with_people,
    reference_question,
    spearman,
)
from simulator.questions import GoldQuestion, load_passages, load_questions


def row(**changes: Any) -> dict[str, Any]:
    usual = {
        "id": "t",
        "kb_id": "hotel/1/2",
        "question": "Can I bring my dog?",
        "kb_answer": "Two small dogs may stay for 15 dollars a night.",
        "human_response": "Yes, two small dogs may stay, for 15 dollars a night.",
        "systems": [],
    }
    return {**usual, **changes}


def test_facts_are_what_the_reference_takes_from_the_passage() -> None:
    question = reference_question(row())
    assert question is not None
    facts = {fact for group in question.facts for fact in group}
    assert {"2", "small", "$15", "night"} <= facts
    assert "dog" not in facts, "it stands in the question"
    assert question.polarity == "yes"


def test_a_question_for_a_fact_has_no_side() -> None:
    asked = row(question="How many dogs may I bring?")
    question = reference_question(asked)
    assert question is not None and question.polarity is None


def test_a_reference_that_says_nothing_of_its_own_is_left_out() -> None:
    empty = row(question="How much is a dog?", human_response="Let me look that up.")
    assert reference_question(empty) is None


def test_ranks_of_equal_values_are_shared() -> None:
    a, b = np.array([1.0, 2.0, 2.0, 3.0]), np.array([10.0, 20.0, 30.0, 40.0])
    # ranks 1, 2.5, 2.5, 4 and 1, 2, 3, 4: covariance 4.5 / 4, variances 4.5 / 4 and 5 / 4
    assert spearman(a, b) == pytest.approx((4.5 / 5) ** 0.5)
    assert spearman(a, -a) == pytest.approx(-1.0)


def test_people_who_think_alike_agree_wholly(tmp_path: Path) -> None:
    def rated(response: str, stars: int) -> dict[str, Any]:
        three = [stars] * 3
        return {"response": response, "accuracy": three, "appropriateness": three}

    systems = [
        rated("Yes, two small dogs may stay for 15 dollars a night.", 5),
        rated("Yes, small dogs may stay.", 4),
        rated("No, please contact our support team.", 1),
    ]
    file = tmp_path / "human_rated.jsonl"
    file.write_text("".join(json.dumps(row(id=str(i), systems=systems)) + "\n" for i in range(3)))
    found = agreement_with_people(file, resamples=20)
    assert (found.answers, found.questions) == (9, 3)
    assert found.gold.mean == pytest.approx(1.0) == found.rater.mean
    assert found.gold.low == pytest.approx(1.0)


def test_known_kinds_lie_where_they_should() -> None:
    found = answers_of_known_kinds(load_questions("heldout"), load_passages())
    assert found["expert"] > 4.8
    assert max(found["deflecting"], found["inventing"], found["wrong"]) < 1.5


def test_copying_the_passage_that_was_found_satisfies_nearly_everybody() -> None:
    """The shop's passages are short, so the scale does not tell a good quote from a good answer."""
    knowledge = Knowledge.load(Path(amends.__file__).parent / "example_shop")
    asked, passages = load_questions("heldout"), load_passages()
    first = quoted(asked, passages, knowledge, 1)
    assert 4.5 < first < 5.0
    assert quoted(asked, passages, knowledge, 2) < first


def test_what_an_expert_would_state_is_told_from_what_nobody_says() -> None:
    """Only of the same passage, and all facts."""

    def asked(name: str, passage: str, answer: str, *facts: str) -> GoldQuestion:
        return GoldQuestion(
            id=name,
            question="how long?",
            passage_id=passage,
            facts=tuple((fact,) for fact in facts),
            polarity=None,
            expert_answer=answer,
            split="train",
        )

    passages = {"a": "It takes 30 days and costs 5 dollars.", "b": "It takes 30 days."}
    training = (asked("t", "a", "It takes 30 days.", "30 day"),)
    held = (
        asked("same", "a", "30 days.", "30 day"),
        asked("more", "a", "30 days, 5 dollars.", "30 day", "5 dollar"),
        asked("elsewhere", "b", "30 days.", "30 day"),
    )
    assert told_by_experts(held, training, passages) == {"same"}

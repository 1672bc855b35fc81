"""worker.judge.rewordings: other words, the same question."""

import json
from pathlib import Path

import pytest

import amends
from worker.data.examples import Context, PromptExample
from worker.data.words import numbers
from worker.judge.rewordings import reworded, rewordings

SHOP = Path(amends.__file__).parent / "example_shop" / "questions.jsonl"
QUESTIONS = [json.loads(line)["question"] for line in SHOP.read_text().splitlines()]


def prompts(count: int) -> list[PromptExample]:
    return [
        PromptExample(Context(f"t{i}", f"Question {i}?", (), (), (1, 2)), "who", "why", True)
        for i in range(count)
    ]


def test_every_question_of_the_example_shop_has_other_wordings() -> None:
    for question in QUESTIONS:
        found = rewordings(question)
        assert found and question not in found
        assert len(set(found)) == len(found)
        assert all(numbers(text) == numbers(question) for text in found)


def test_no_rule_comes_first_for_most_questions() -> None:
    kinds = {"polite": 0, "in haste": 0, "other": 0}
    for question in QUESTIONS:
        first = rewordings(question)[0]
        kind = "polite" if first.startswith("Hello, ") else "other"
        kinds["in haste" if first == question.lower().rstrip("?") else kind] += 1
    assert all(count >= len(QUESTIONS) / 8 for count in kinds.values()), kinds


@pytest.mark.parametrize(
    ("question", "one"),
    [
        ("How do I send a parcel back?", "What must I do to send a parcel back?"),
        ("Hi, can i pay by card?", "Hi, may i pay by card?"),
        ("What does the lamp cost?", "How much does the lamp cost?"),
        ("How much does the lamp cost?", "What does the lamp cost?"),
        ("Do you sell boots in size 40?", "Does your shop sell boots in size 40?"),
        ("Is it open on Sunday?", "is it open on sunday"),
        ("Is it open on Sunday?", "Hello, I have a question. Is it open on Sunday?"),
    ],
)
def test_the_rules(question: str, one: str) -> None:
    assert one in rewordings(question)


def test_a_word_is_mistyped_inside_and_only_once() -> None:
    (typo,) = (t for t in rewordings("Can boots be repaired?") if t.startswith("Can boots be r"))
    assert typo == "Can boots be reapired?"


def test_a_greeting_is_not_greeted() -> None:
    assert not any(t.startswith("Hello, I") for t in rewordings("Hello, when are you open?"))


def test_a_question_of_one_short_word_can_only_be_greeted() -> None:
    assert set(rewordings("when")) == {"Hello, I have a question. when"}


@pytest.mark.parametrize(
    ("most", "places"),
    [
        (0, []),
        (1, [0]),
        (3, [0, 3, 6]),
        (6, [0, 1, 3, 5, 6, 8]),
        (9, [*range(9)]),
        (10, [*range(10)]),
        (99, [*range(10)]),
    ],
)
def test_at_most_so_many_are_reworded_spread_over_all(most: int, places: list[int]) -> None:
    assert [place for place, _ in reworded(prompts(10), most)] == places


def test_only_the_question_changes_and_its_tokens_are_rendered_again() -> None:
    (first,) = prompts(1)
    ((_, other),) = reworded([first], 1)
    assert other.context.question == rewordings("Question 0?")[0]
    assert other.context.token_ids is None
    assert (other.customer, other.context.turn_id) == ("who", "t0")

"""worker.data.split: disjoint sides, stable and deterministic."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.data.split import SplitSettings, normalise, split

asked_pairs = st.lists(
    st.tuples(st.integers(0, 15).map(lambda i: f"v{i}"), st.integers(0, 15).map(lambda i: f"q{i}")),
    max_size=60,
)


@given(asked_pairs)
def test_no_customer_and_no_question_is_on_both_sides(asked: list[tuple[str, str]]) -> None:
    sides = split(asked)
    kept = {"train": [], "holdout": []}
    for customer, question in asked:
        side = sides.side(customer, question)
        if side is not None:
            kept[side].append((customer, question))
    for place in (0, 1):
        assert not {e[place] for e in kept["train"]} & {e[place] for e in kept["holdout"]}


@given(asked_pairs, st.randoms())
def test_the_order_of_the_input_does_not_matter(
    asked: list[tuple[str, str]], chance: random.Random
) -> None:
    shuffled = asked[:]
    chance.shuffle(shuffled)
    assert split(asked) == split(shuffled)


@given(asked_pairs, asked_pairs)
def test_what_was_on_one_side_is_never_on_the_other(
    asked: list[tuple[str, str]], later: list[tuple[str, str]]
) -> None:
    before, after = split(asked), split(asked + later)
    assert before.questions.items() <= after.questions.items()
    for edge in asked:
        sides = {before.side(*edge), after.side(*edge)} - {None}
        assert len(sides) <= 1


def test_who_asked_one_question_loses_nothing_and_about_a_fifth_is_held_out() -> None:
    asked = [(f"v{i}", f"q{i}") for i in range(1000)]
    sides = split(asked)
    found = [sides.side(*edge) for edge in asked]
    assert None not in found
    assert 0.15 < found.count("holdout") / len(found) < 0.25


@pytest.mark.parametrize("questions", [60, 100_000])
def test_of_who_asked_several_little_is_lost(questions: int) -> None:
    chance = random.Random(0)
    asked = [(f"v{i}", f"q{chance.randrange(questions)}") for i in range(200) for _ in range(3)]
    found = [split(asked).side(*edge) for edge in asked]
    assert found.count("train") > 0.6 * len(found)
    assert found.count("holdout") > 0.08 * len(found)


def test_one_customer_alone_is_trained_on() -> None:
    sides = split([("only", f"q{i}") for i in range(30)])
    assert {sides.side("only", f"q{i}") for i in range(30)} == {"train", None}


def test_questions_that_nobody_asked_are_split_too() -> None:
    sides = split([], [f"q{i}" for i in range(500)], SplitSettings(holdout_share=0.3))
    held = list(sides.questions.values()).count("holdout")
    assert 0.24 < held / 500 < 0.36


def test_spelling_does_not_make_another_question() -> None:
    assert normalise("What's  your return-policy?!") == normalise("whats YOUR return policy")

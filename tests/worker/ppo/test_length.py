"""worker.ppo.length, by hand."""

import pytest

from worker.ppo.length import LengthLimit

LIMIT = LengthLimit(20.0, 1.25)


@pytest.mark.parametrize(
    ("tokens", "whole"), [(5.0, 0.0), (20.0, 0.0), (22.5, 1.5), (25.0, 3.0), (30.0, 6.0)]
)
def test_the_price_rises_from_the_parents_length_to_the_limit_and_beyond(
    tokens: float, whole: float
) -> None:
    assert LIMIT.price(tokens, 3.0) * 20 == pytest.approx(whole)
    assert LIMIT.price(tokens, 0.0) == 0.0


def test_an_answer_as_long_as_the_parents_costs_nothing_and_a_shorter_one_less() -> None:
    assert LIMIT.costs([20, 30, 5], 0.1).tolist() == pytest.approx([0.0, 1.0, -1.5])


def test_the_limit_is_over_the_parents_mean() -> None:
    assert LengthLimit.over([10, 30], 1.25) == LIMIT
    assert LengthLimit.over([0], 1.25).parent_tokens == 1.0  # a parent that says nothing


def test_a_gate_that_allows_no_growth_asks_a_high_price_for_it() -> None:
    assert LengthLimit(20.0, 1.0).price(20.0, 3.0) == 0.0
    assert LengthLimit(20.0, 0.8).price(20.2, 3.0) * 20 == pytest.approx(3.0)

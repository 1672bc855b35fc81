"""worker.judge.win_rate."""

import random

import pytest

from worker.judge.win_rate import win_rate_from_scores


def clusters(n: int) -> list[str]:
    return [f"c{i}" for i in range(n)]


def test_ties_count_half() -> None:
    found = win_rate_from_scores([1.0, 0.0, 2.0, 2.0], [0.0, 1.0, 2.0, 2.0], clusters(4))
    assert found is not None and found.value == 0.5
    assert (found.won, found.lost, found.items) == (1, 1, 4)


def test_equal_policies_are_not_promoted_and_better_ones_are() -> None:
    chance = random.Random(0)
    promoted = {0.0: 0, 0.6: 0}
    for gain in promoted:
        for _ in range(100):
            ours = [chance.gauss(gain, 1) for _ in range(64)]
            theirs = [chance.gauss(0, 1) for _ in range(64)]
            found = win_rate_from_scores(ours, theirs, clusters(64))
            promoted[gain] += found is not None and found.low > 0.5
    assert promoted[0.0] <= 8 and promoted[0.6] >= 60


def test_the_same_answers_everywhere_win_nothing() -> None:
    found = win_rate_from_scores([0.3] * 48, [0.3] * 48, clusters(48))
    assert found is not None and found.value == 0.5 and found.low < 0.5


def test_no_prompts_measure_nothing_and_lengths_must_agree() -> None:
    assert win_rate_from_scores([], [], []) is None
    with pytest.raises(ValueError, match="2 candidate scores but 1 others"):
        win_rate_from_scores([1.0, 2.0], [1.0], clusters(2))

"""worker.reward.calibration."""

import random

import pytest

from worker.reward.calibration import calibration_error, error_by_chance


def test_honest_probabilities_have_a_small_error_and_boasts_a_large_one() -> None:
    chance = random.Random(0)
    honest = [chance.random() for _ in range(3000)]
    happened = [chance.random() < p for p in honest]
    error = calibration_error(honest, happened)
    assert error is not None and error < 0.03
    boast = [0.99 if p > 0.5 else 0.01 for p in honest]
    worse = calibration_error(boast, happened)
    assert worse is not None and worse > 0.2


def test_a_constant_prediction_is_off_by_its_distance_to_the_share() -> None:
    assert calibration_error([0.9] * 40, [True, False] * 20) == pytest.approx(0.4)


def test_a_handful_of_thumbs_measures_nothing() -> None:
    assert calibration_error([0.5] * 29, [True] * 29) is None


def test_chance_alone_shows_an_error_that_shrinks_with_the_number_of_outcomes() -> None:
    def by_chance(count: int, raters: int, rater_std: float) -> float:
        found = error_by_chance([0.5] * count, [str(i % raters) for i in range(count)], rater_std)
        assert found is not None
        return found

    # One bin of n independent outcomes: |normal(0, 0.5 / sqrt(n))|, 99 in 100 below 2.58 of it.
    assert by_chance(25, 25, 0.0) == pytest.approx(2.58 * 0.5 / 25**0.5, abs=0.04)
    assert by_chance(6000, 6000, 0.0) < by_chance(60, 60, 0.0) / 5
    # Few raters of strong leniency are few outcomes, however many thumbs they give.
    assert by_chance(60, 5, 2.0) > 1.2 * by_chance(60, 60, 0.0)
    assert error_by_chance([], [], 1.0) is None

"""worker.data.quarantine: what is set aside, and what an ordinary day never is."""

import math
import random

import pytest

from amends.feedback import Thumb
from tests.worker.data.given import correction, rating, thumb
from worker.data.quarantine import (
    BRIGADE,
    BURST,
    QUARANTINED,
    YOUNG,
    Judgement,
    QuarantineSettings,
    quarantine,
)

DAY_S = 86400.0


def set_aside(batch: list[Judgement], reason: str = BRIGADE) -> set[str]:
    return {item.feedback_id for item in quarantine(batch).dropped if item.reason == reason}


def crowd(count: int, start: float, lasts_s: float, value: int = -1) -> list[Judgement]:
    step = lasts_s / count
    return [thumb(f"new{i}", 0, start + i * step, value) for i in range(count)]


def ordinary(
    chance: random.Random,
    a_day: int,
    up: float = 0.7,
    busiest: int = 1,
    later_up: float | None = None,
) -> list[Judgement]:
    """Visitors by day and night, one judgement each; how content they are differs by the hour.

    One hour of the second day is `busiest` times as busy; from noon of that day on `later_up`
    are content, as after a swap of versions.
    """
    batch: list[Judgement] = []
    busy_hour = 24 + chance.randrange(24)
    for hour in range(48):
        daylight = max(0.1, 1 + 0.95 * math.sin((hour - 8) / 24 * 2 * math.pi))
        rate = a_day / 24 * daylight * (busiest if hour == busy_hour else 1)
        share = later_up if later_up is not None and hour >= 36 else up
        content = chance.betavariate(20 * share, 20 * (1 - share))
        for i in range(round(chance.gauss(rate, rate**0.5))):
            at = 3600.0 * hour + 3600 * chance.random()
            value = 1 if chance.random() < content else -1
            batch.append(thumb(f"v{hour}-{i}", 0, at, value))
    return batch


def test_a_burst_is_set_aside_and_only_it() -> None:
    burst = [thumb("bot", i, float(i)) for i in range(21)]
    found = quarantine([*burst, thumb("bot", 99, 5000.0), thumb("v", 0)])
    assert {item.feedback_id for item in found.dropped} == {item.feedback_id for item in burst}
    assert {item.reason for item in found.dropped} == {BURST}
    assert not set_aside(burst[:20], BURST)


def test_a_crowd_of_one_opinion_is_set_aside_with_a_note_that_says_when_it_came() -> None:
    calm = ordinary(random.Random(1), a_day=200)
    brigade = crowd(40, DAY_S * 1.5, 480)
    found = quarantine([*calm, *brigade, correction(1)])
    names = {item.feedback_id for item in found.dropped}
    assert names >= {item.feedback_id for item in brigade}
    assert len(names) <= 45  # who judged like it in the same minutes goes with it
    assert {item.reason for item in found.dropped} == {BRIGADE} <= QUARANTINED
    (note,) = found.notes
    assert "new visitors judged down within" in note and "from 1970-01-02 1" in note


def test_all_that_a_visitor_of_the_crowd_said_is_set_aside() -> None:
    brigade = crowd(40, DAY_S * 1.5, 480)
    later = thumb("new3", 1, DAY_S * 2, -1)
    assert later.feedback_id in set_aside([*ordinary(random.Random(1), 200), *brigade, later])


def test_who_judged_before_is_not_new() -> None:
    calm = ordinary(random.Random(1), a_day=200)
    before = [thumb(f"new{i}", 9, 3600.0 * i, -1) for i in range(40)]
    assert not set_aside([*calm, *before, *crowd(40, DAY_S * 1.5, 480)])


def test_ratings_are_opinions_too_and_three_stars_are_none() -> None:
    calm = ordinary(random.Random(1), a_day=200)
    for value, found in ((1, True), (2, True), (3, False)):
        stars = [rating(f"new{i}", value, DAY_S * 1.5 + 10 * i) for i in range(40)]
        assert (stars[0].feedback_id in set_aside([*calm, *stars])) is found


def test_the_same_crowd_in_ten_hours_is_nothing_unusual() -> None:
    calm = ordinary(random.Random(1), a_day=200)
    assert not set_aside([*calm, *crowd(40, DAY_S * 1.5, 36_000)])


def test_a_crowd_that_judges_as_everybody_does_stays() -> None:
    calm = ordinary(random.Random(1), a_day=200, up=0.7)
    chance = random.Random(2)
    busy = [t.model_copy(update={"value": chance.choice((1, 1, -1))}) for t in crowd(60, DAY_S, 60)]
    assert not set_aside([*calm, *busy])


def test_worse_answers_at_the_usual_pace_are_no_brigade() -> None:
    steady: list[Judgement] = [
        thumb(f"v{i}", 0, 20.0 * i, 1 if i % 10 < 9 else -1) for i in range(600)
    ]
    worse = [
        item.model_copy(update={"value": -1}) if 6000 < item.given_at < 6600 else item
        for item in steady
    ]
    assert not set_aside(worse)


def test_what_is_usual_is_what_neighbours_say_not_all_of_history() -> None:
    """A better version since; then many come at once and are as content as all have been since."""
    history = [(60.0 * i, i % 10 < 3) for i in range(2000)]
    since = [(60.0 * i, i % 10 > 0) for i in range(2000, 2300)]
    busy = [(60.0 * 2150 + 8 * i, i % 10 > 0) for i in range(70)]
    assert not set_aside(
        [thumb(f"v{at}", 0, at, 1 if up else -1) for at, up in (*history, *since, *busy)]
    )


def test_a_batch_that_is_one_crowd_shows_none() -> None:
    """A demo, or the first day of a shop: nobody came before or after who could say otherwise."""
    assert not set_aside(crowd(100, DAY_S, 300))
    few = [thumb(f"v{i}", 0, 3600.0 * i) for i in range(10)]
    assert not set_aside([*few, *crowd(25, DAY_S, 0)])
    for seed in range(20):
        chance = random.Random(seed)
        mixed = [
            item.model_copy(update={"value": 1 if chance.random() < 0.3 else -1})
            for item in crowd(140, DAY_S, 240)
        ]
        assert not set_aside(mixed), seed


def test_the_outcome_does_not_depend_on_the_order_of_the_input() -> None:
    batch = [*ordinary(random.Random(1), 200), *crowd(40, DAY_S * 1.5, 480)]
    shuffled = random.Random(3).sample(batch, len(batch))
    assert quarantine(shuffled) == quarantine(batch)


@pytest.mark.parametrize("a_day", [50, 200, 800])
@pytest.mark.parametrize(
    ("up", "busiest", "later_up"), [(0.3, 15, None), (0.8, 15, None), (0.3, 5, 0.85), (0.8, 5, 0.3)]
)
def test_ordinary_days_set_nobody_aside(
    a_day: int, up: float, busiest: int, later_up: float | None
) -> None:
    """60 simulated spans of two days: a newsletter's hour, a swap to better or worse."""
    for seed in range(5):
        batch = ordinary(random.Random(seed), a_day, up, busiest, later_up)
        assert not quarantine(batch).dropped, seed


@pytest.mark.parametrize(("a_day", "least"), [(50, 10), (200, 10), (800, 8)])
def test_forty_visitors_against_seven_of_ten_within_ten_minutes_are_found(
    a_day: int, least: int
) -> None:
    found = 0
    for seed in range(10):
        chance = random.Random(seed)
        calm = ordinary(chance, a_day)
        brigade = crowd(40, DAY_S * (0.4 + chance.random()), 600)
        names = set_aside([*calm, *brigade])
        found += len(names & {item.feedback_id for item in brigade}) >= 36
    assert found >= least, found


def test_what_is_too_young_waits_and_still_says_what_is_usual() -> None:
    settings = QuarantineSettings(given_before=DAY_S)
    calm = ordinary(random.Random(1), a_day=200)
    brigade = crowd(40, DAY_S - 600, 480)
    late = correction(1, at=DAY_S)
    early = correction(2, at=DAY_S - 0.001)
    found = {
        d.feedback_id: d.reason
        for d in quarantine([*calm, *brigade, late, early], settings).dropped
    }
    young = {i.feedback_id for i in calm if i.given_at >= DAY_S} | {late.feedback_id}
    assert {name for name, reason in found.items() if reason == YOUNG} == young
    assert {item.feedback_id for item in brigade} <= found.keys() - young
    assert early.feedback_id not in found


def test_nothing_is_too_young_by_default() -> None:
    far: Thumb = thumb("v", 0, 4e9)
    assert not quarantine([far]).dropped

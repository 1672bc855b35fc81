"""worker.judge.sittings: the majority of five, without asking what is decided."""

from collections.abc import Sequence
from itertools import product

import pytest

from worker.judge.sittings import SITTINGS, steady


@pytest.mark.parametrize("shows", [*product((False, True), repeat=SITTINGS - 1)])
def test_it_decides_as_all_sittings_would(shows: tuple[bool, ...]) -> None:
    asked = []

    def again(places: Sequence[int], sitting: int) -> list[int]:
        asked.append(sitting)
        return [place for place in places if shows[sitting - 1]]

    most = 2 * (1 + sum(shows)) > SITTINGS
    assert steady([4], again) == ({4} if most else set())
    assert asked == list(range(1, len(asked) + 1))
    held = shows[: len(asked) - 1]  # before the last one that was asked it was open
    assert 1 + sum(held) <= SITTINGS // 2 and held.count(False) <= SITTINGS // 2


def test_each_place_is_decided_for_itself() -> None:
    asked = []

    def again(places: Sequence[int], sitting: int) -> list[int]:
        asked.append(list(places))
        return [place for place in places if place == 7]

    assert steady([7, 2], again) == {7}
    assert asked == [[2, 7], [2, 7], [2]]


def test_nothing_is_asked_where_nothing_changed() -> None:
    assert steady([], lambda *_: pytest.fail("asked")) == frozenset()

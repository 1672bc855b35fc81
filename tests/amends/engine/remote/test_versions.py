"""Names that are never given twice, and when they are given up."""

from pathlib import Path

import pytest

from amends.engine.remote.versions import GRACE_S, Loaded, Versions
from amends.errors import NotFound

HOME = Path("/home/adapters")


class Clock:
    now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def add(versions: Versions, *numbers: int) -> list[Loaded]:
    made = [versions.named(number, HOME / str(number)) for number in numbers]
    for loaded in made:
        versions.add(loaded)
    return made


def test_a_name_is_given_once_also_by_the_next_process() -> None:
    first, second = (Versions(HOME, HOME / "zeros") for _ in range(2))
    names = [versions.named(3, HOME / "3").name for versions in (first, first, second)]
    assert len(set(names)) == 3
    assert all(name.startswith(first.owner) for name in names)
    assert Versions(Path("/other"), HOME).owner != first.owner


def test_champion_and_previous_stay_and_what_was_before_them_goes_after_its_last_response() -> None:
    clock = Clock()
    versions = Versions(HOME, HOME / "zeros", clock)
    one, *_ = add(versions, 1, 2, 3)
    for number in (1, 2, 3):
        versions.activate(number)
    bound = versions.acquire(1)
    clock.now_s += 2 * GRACE_S
    versions.retire()
    assert versions.versions() == (0, 1, 2, 3), "a response still needs it"
    versions.release(bound)
    clock.now_s += 0.9 * GRACE_S
    versions.retire()
    assert one.name in versions.needed()
    clock.now_s += 0.2 * GRACE_S
    versions.retire()
    versions.retire()
    assert versions.versions() == (0, 2, 3) and one.name not in versions.needed()
    clock.now_s += 10 * GRACE_S
    versions.retire()
    assert versions.versions() == (0, 2, 3)


def test_what_is_kept_stays_until_it_is_dropped() -> None:
    clock = Clock()
    versions = Versions(HOME, HOME / "zeros", clock)
    (candidate,) = add(versions, 5)
    versions.keep(5)
    clock.now_s += 2 * GRACE_S
    versions.retire()
    assert versions.versions() == (0, 5)
    bound = versions.acquire(5)
    versions.drop(5)
    versions.drop(5)  # it is gone: nothing happens
    assert versions.versions() == (0,) and candidate.name in versions.needed()
    with pytest.raises(NotFound):
        versions.acquire(5)
    versions.release(bound)
    clock.now_s += 2 * GRACE_S
    versions.retire()
    assert candidate.name not in versions.needed()


def test_neither_the_base_model_nor_the_active_version_can_be_dropped() -> None:
    versions = Versions(HOME, HOME / "zeros")
    add(versions, 1)
    versions.activate(1)
    for number in (0, 1):
        with pytest.raises(NotFound):
            versions.drop(number)
    with pytest.raises(NotFound):
        versions.activate(9)

from collections.abc import Iterator
from pathlib import Path

import pytest

from amends.adapter_aliases import Aliases, AliasFile
from worker.canary.comparison import Comparison, comparison


class Moves:
    """Moves of aliases as the adapter store writes them."""

    def __init__(self, root: Path) -> None:
        self.file = AliasFile(root)
        self.now: Aliases = self.file.start_line("base", None, 1)

    def candidate(self, version: int | None, share: float | None = None) -> "Moves":
        self.now = self.file.set_candidate(self.now, version, share, "test", "test")
        return self

    def activate(self, version: int) -> "Moves":
        self.now = self.file.activate(self.now, version, "test", "test")
        return self

    @property
    def found(self) -> Comparison | None:
        return comparison(self.file.newest())


@pytest.fixture
def moves(tmp_path: Path) -> Iterator[Moves]:
    yield Moves(tmp_path)


def test_without_a_candidate_nothing_is_compared(moves: Moves) -> None:
    assert moves.found is None
    assert moves.candidate(7, 0.1).candidate(None).found is None
    assert moves.candidate(7, 0.1).activate(7).found is None


def test_a_candidate_without_a_share_is_not_tried(moves: Moves) -> None:
    found = moves.candidate(7).found

    assert found is not None and not found.tried
    assert (found.version, found.champion, found.seen) == (7, 0, moves.now.last_row.number)


def test_a_larger_share_goes_on_with_what_was_seen(moves: Moves) -> None:
    moves.candidate(7, 0.1)
    first = moves.now.last_row
    moves.candidate(7, 0.3)
    second = moves.now.last_row
    moves.candidate(7, 0.0)
    found = moves.found

    assert found is not None
    assert (found.began, found.seen, found.since) == (first.number, second.number + 1, first.at)
    assert [found.share_at(at) for at in (0.0, first.at, second.at)] == [0.0, 0.1, 0.3]
    assert found.share_at(second.at + 1e9) == 0.0 and found.tried


def test_another_champion_ends_the_comparison(moves: Moves) -> None:
    assert moves.candidate(7, 0.1).activate(5).found is None
    found = moves.candidate(7).found

    assert found is not None and not found.tried
    assert (found.champion, found.began) == (5, moves.now.last_row.number)


def test_a_candidate_that_is_set_again_begins_again(moves: Moves) -> None:
    moves.candidate(7, 0.1).candidate(None).candidate(7, 0.2)
    found = moves.found

    assert found is not None
    assert found.shares == ((moves.now.last_row.at, 0.2),)


def test_another_candidate_has_no_share_of_the_one_before(moves: Moves) -> None:
    found = moves.candidate(7, 0.1).candidate(8, 0.0).found

    assert found is not None and (found.version, found.tried) == (8, False)


def test_it_begins_with_the_first_share_and_a_coin_decides_while_there_is_one(moves: Moves) -> None:
    at = []
    for share in (None, 0.1, 0.0, 0.3, 1.0, 0.5):
        moves.candidate(7, share)
        at.append(moves.now.last_row.at)
    found = moves.found

    assert found is not None and found.since == at[1]
    assert found.tossed == ((at[1], at[2]), (at[3], at[4]), (at[5], float("inf")))

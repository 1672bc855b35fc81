"""simulator.proof.play: what a round that breaks does to the others."""

from collections.abc import Callable
from pathlib import Path

import pytest

from simulator.client import ChatRefused
from simulator.proof.ablations import ablations
from simulator.proof.cell import Cell, Heard, Measured, Played, Size, _write
from simulator.proof.play import TRIES, play
from worker.judge.checks import CHECKS


@pytest.fixture
def said() -> list[str]:
    return []


@pytest.fixture
def cells(tmp_path: Path, said: list[str]) -> list[Cell]:
    whole = ablations(CHECKS)[0]
    folders = {seed: tmp_path / str(seed) for seed in (1, 2)}
    return [Cell(at, at, whole, seed, Size(), said.append) for seed, at in folders.items()]


def finished(cell: Cell) -> Measured:
    """Its next round, as if it had been played."""
    number, heard = len(cell.finished), Heard((3.5,), ("q",), ("a",))
    found = Measured(number, Played(number, "published"), heard, None, 3600.0, "abc", "float32")
    _write(found, cell.measurements / f"round-{number}.json")
    (cell.folder / f"after-{number}").mkdir()
    return found


def broken(cell: Cell) -> Measured:
    """Visits run side by side: what breaks them comes as a group."""
    refused = ChatRefused("busy", f"seed {cell.seed}")
    raise ExceptionGroup("visits", [refused, ExceptionGroup("more", [refused])])


def stopped(cell: Cell) -> Measured:
    raise KeyboardInterrupt


def wrong(cell: Cell) -> Measured:
    raise ExceptionGroup("visits", [ZeroDivisionError()])


def test_a_round_that_breaks_is_tried_once_more_and_ends_no_other_cell(
    cells: list[Cell], said: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    measured: list[str] = []
    monkeypatch.setattr(Cell, "next_round", broken)
    play(cells, said.append, lambda: measured.append("round"))
    for seed in (1, 2):
        assert said.count(f"the round broke: ChatRefused: busy: seed {seed}") == TRIES
    assert not measured


def test_every_round_has_its_own_tries(
    cells: list[Cell], said: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    tried: list[int] = []

    def breaks_at_first(cell: Cell) -> Measured:
        tried.append(len(cell.finished))
        return finished(cell) if tried.count(len(cell.finished)) == TRIES else broken(cell)

    monkeypatch.setattr(Cell, "next_round", breaks_at_first)
    play(cells[:1], said.append, lambda: None)
    assert cells[0].left == 0 and len(tried) == TRIES * (cells[0].ablation.rounds + 1)


def test_rounds_are_played_until_none_is_left_and_each_is_told(
    cells: list[Cell], said: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[int] = []
    monkeypatch.setattr(Cell, "next_round", finished)
    play(cells, said.append, lambda: written.append(1))
    rounds = cells[0].ablation.rounds + 1
    assert len(written) == 2 * rounds and not any(cell.left for cell in cells)
    assert said[0] == f"none, seed 1: {2 * rounds} rounds left"
    assert said[1] == "round 0 published: satisfaction 3.50"
    assert said[-2].endswith("1 rounds left, about 1.0 h")


@pytest.mark.parametrize(("breaks", "how"), [(stopped, KeyboardInterrupt), (wrong, ExceptionGroup)])
def test_what_is_no_breaking_of_the_install_is_not_hidden(
    cells: list[Cell],
    said: list[str],
    monkeypatch: pytest.MonkeyPatch,
    breaks: Callable[[Cell], Measured],
    how: type[BaseException],
) -> None:
    monkeypatch.setattr(Cell, "next_round", breaks)
    with pytest.raises(how):
        play(cells, said.append, lambda: None)
    assert not any("broke" in line for line in said)

"""The cells' rounds, one after the other, until none is left.

Knows cells, not what is written of them. Invariant: a round that breaks is tried once more, then
its cell waits for the next run and the others go on.
"""

import statistics
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

from simulator.breaks import BREAKS, reasons
from simulator.proof.cell import Cell

TRIES = 2  # of a round that breaks
Round = tuple[Path, int]  # the cell's folder, and how many rounds are left


def play(cells: Sequence[Cell], say: Callable[[str], None], finished: Callable[[], object]) -> None:
    """In the order of `cells`; calls `finished` after every round that was measured."""
    broke: Counter[Round] = Counter()
    while (cell := _next(cells, broke)) is not None:
        say(f"{cell.name}: {_time_left(cells)}")
        if _played(cell, say):
            finished()
        else:
            broke[_round(cell)] += 1


def _next(cells: Sequence[Cell], broke: Counter[Round]) -> Cell | None:
    return next((cell for cell in cells if cell.left and broke[_round(cell)] < TRIES), None)


def _round(cell: Cell) -> Round:
    return cell.folder, cell.left


def _played(cell: Cell, say: Callable[[str], None]) -> bool:
    """Plays the cell's next round; False where it broke."""
    broke = True
    try:
        found = cell.next_round()
    except* BREAKS as group:
        say(f"the round broke: {'; '.join(reasons(group))}")
    else:
        broke = False
        said = statistics.mean(found.heard.satisfaction)
        say(f"round {found.round} {found.played.outcome}: satisfaction {said:.2f}")
    return not broke


def _time_left(cells: Sequence[Cell]) -> str:
    took = [found.seconds for cell in cells for found in cell.finished if found.round]
    rounds = sum(cell.left for cell in cells)
    if not took:
        return f"{rounds} rounds left"
    hours = rounds * statistics.mean(took) / 3600
    return f"{rounds} rounds left, about {hours:.1f} h"

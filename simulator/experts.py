"""Simulated experts: they read finished turns and write the answer that should have been given.

Knows the gold answers, sends only corrections. Invariant: which bad answers are corrected follows
from the seed; an answer that pleased is left alone, and a turn is corrected once.
"""

import random
from collections.abc import Callable, Sequence

from simulator.client import Api
from simulator.customers import AskedTurn

BAD = 3.5  # answers below this satisfaction are worth an expert's time


def turns_to_correct(
    turns: Sequence[AskedTurn], share: float, at_most: int, seed: int
) -> tuple[AskedTurn, ...]:
    """The share of the bad answers that experts find time for."""
    bad = [turn for turn in turns if turn.satisfaction < BAD]
    wanted = min(at_most, round(len(bad) * share))
    return tuple(random.Random(f"experts {seed}").sample(bad, wanted))


async def correct(
    api: Api, turns: Sequence[AskedTurn], corrected: Callable[[AskedTurn], None]
) -> None:
    """Posts the corrections one after the other, as people do."""
    for turn in turns:
        await api.correct(turn.answer.turn_id, turn.question.expert_answer)
        corrected(turn)

"""Judgements meet the split: each goes to its customer's side with the answers that are on it.

Knows no weights and no examples. Invariant: what several experts say is there once on each side,
whichever of them are on neither.
"""

from collections.abc import Iterable
from dataclasses import replace

from amends.data_manifest import Dropped
from worker.data.resolve import NEAR_DUPLICATE, Judged
from worker.data.same_question import question_key
from worker.data.split import Side, Split


def by_side(
    judged: Iterable[Judged], sides: Split
) -> tuple[dict[Side, list[Judged]], list[Dropped]]:
    """Judgements by side, and those whose customer and question are on different ones, or that say
    what another on their side says."""
    dropped: list[Dropped] = []
    parts: dict[Side, list[Judged]] = {"train": [], "holdout": []}
    said: set[tuple[str, ...]] = set()
    for item in judged:
        side, kept = sides.customers[item.customer], _on_one_side(item, sides)
        if kept is None:
            dropped.append(Dropped(item.feedback.feedback_id, "crosses train and hold-out"))
        elif (side, *kept.says) in said:
            dropped.append(Dropped(item.feedback.feedback_id, NEAR_DUPLICATE))
        else:
            said.add((side, *kept.says))
            parts[side].append(kept)
    return parts, dropped


def _on_one_side(item: Judged, sides: Split) -> Judged | None:
    """The judgement with the answers whose questions are on its customer's side; None if there are
    none.
    """
    served = tuple(
        answer
        for answer in item.served
        if sides.side(item.customer, question_key(answer.context.question)) is not None
    )
    return replace(item, served=served) if served else None

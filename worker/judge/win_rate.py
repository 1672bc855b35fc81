"""Share of hold-out prompts on which one policy's answer beats another's, with a cluster bootstrap
interval.

Knows no judge, only what it said. The judge gives each answer a score of its own, so the order in
which two are compared cannot matter. Ties count half.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from worker.reward.intervals import Share, share_with_interval


@dataclass(frozen=True)
class WinRate(Share):
    """Ties narrow its interval, so what was decided is told as well."""

    won: int
    lost: int


def win_rate_from_scores(
    candidate: Sequence[float],
    other: Sequence[float],
    clusters: Sequence[str],
    tie_margin: float = 1e-9,
) -> WinRate | None:
    """Win rate of `candidate` by a judge's scores; prompt i of all three belongs together.

    `clusters` name the customer (or the question itself) of each prompt. Differences within
    `tie_margin` are ties.
    """
    if len(candidate) != len(other):
        raise ValueError(f"{len(candidate)} candidate scores but {len(other)} others")
    outcomes = [
        0.5 if abs(ours - theirs) <= tie_margin else float(ours > theirs)
        for ours, theirs in zip(candidate, other, strict=True)
    ]
    share = share_with_interval(outcomes, clusters)
    if share is None:
        return None
    return WinRate(**vars(share), won=outcomes.count(1.0), lost=outcomes.count(0.0))

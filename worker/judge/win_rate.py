"""Share of hold-out prompts on which one policy's answer beats another's, with a cluster bootstrap
interval.

Knows no judge, only what it said. Two kinds of judges: one that gives each answer a score of its
own (order cannot matter) and one that compares two answers side by side (asked in both orders,
because such judges favour a place). Ties count half.
"""

from collections.abc import Sequence

from worker.reward.intervals import Share, share_with_interval


def win_rate_from_scores(
    candidate: Sequence[float],
    other: Sequence[float],
    clusters: Sequence[str],
    tie_margin: float = 1e-9,
) -> Share | None:
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
    return share_with_interval(outcomes, clusters)


def win_rate_from_comparisons(
    candidate_first: Sequence[float], candidate_second: Sequence[float], clusters: Sequence[str]
) -> Share | None:
    """Win rate by a pairwise judge asked in both orders; each entry is P(candidate better), ties
    0.5.

    The two orders of a prompt are averaged, so a judge that always prefers the first answer gives
    0.5 everywhere.
    """
    if len(candidate_first) != len(candidate_second):
        raise ValueError(f"{len(candidate_first)} answers first but {len(candidate_second)} second")
    outcomes = [(a + b) / 2 for a, b in zip(candidate_first, candidate_second, strict=True)]
    return share_with_interval(outcomes, clusters)

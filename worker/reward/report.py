"""How good is a reward model on judgements it never saw?

Knows tensors of hold-out features and who judged; fits nothing. Invariant: what could not be
measured is None, never a guess.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from worker.data.examples import Examples, PairExample
from worker.data.same_question import question_key
from worker.data.words import words
from worker.reward.calibration import calibration_error, error_by_chance
from worker.reward.examples import AnswerTable, make_views
from worker.reward.intervals import Share, share_with_interval
from worker.reward.overlap import OVERLAP_FEATURES
from worker.reward.reward_head import RewardHead

_F1_BEST = list(OVERLAP_FEATURES).index("f1_best")
_LENGTH_RATIO = 1.25  # pairs whose word counts differ by no more are length-matched


@dataclass(frozen=True)
class RewardReport:
    """Hold-out figures; accuracies are shares of pairs ordered rightly, ties half, judged pairs
    only.
    """

    accuracy: Share | None
    by_question: Share | None  # the same; its interval is over questions, not over customers
    corrections: Share | None
    rankings: Share | None
    mismatches: Share | None  # made, not judged: not part of `accuracy`
    length_matched: Share | None
    word_overlap: Share | None  # the baseline: F1 with the best passage sentence
    longer_wins: Share | None  # the other baseline
    previous: Share | None  # the previous reward model, on the pairs it was not fitted on
    beside_previous: Share | None  # this one on the same pairs
    lost_and_won: tuple[int, int] | None  # of these: right before alone, right now alone
    previous_old: Share | None  # the same two on those that the previous one was held against ...
    beside_previous_old: Share | None
    previous_new: Share | None  # ... and on those that came since
    beside_previous_new: Share | None
    thumb_accuracy: Share | None  # P(up) > 1/2 against the thumb
    thumb_calibration_error: float | None  # None below 30 thumbs
    thumb_calibration_chance: float | None  # what right probabilities would show, 99 %
    rating_correlation: float | None  # Spearman with the mean score; None below 10 ratings


@dataclass(frozen=True)
class Previous:
    """An earlier reward model: its scores (A,) of the table, the feedback ids of its pairs."""

    scores: Tensor
    train_pairs: frozenset[str]
    holdout_pairs: frozenset[str]


def report_reward_head(
    head: RewardHead,
    holdout: Examples,
    table: AnswerTable,
    lm: Tensor,
    overlap: Tensor,
    previous: Previous | None = None,
) -> RewardReport:
    """Figures of `head` on `holdout`; features (A, L) and (A, O) of the rows of `table`."""
    views = make_views(holdout, table)
    scores = head.scores(lm, overlap).mean

    def accuracy(values: Tensor, kept: Sequence[bool]) -> Share | None:
        return _accuracy(
            values, table, [p for p, keep in zip(holdout.pairs, kept, strict=True) if keep]
        )

    judged = [pair.kind != "mismatch" for pair in holdout.pairs]
    lengths = overlap.new_tensor([float(len(words(answer.response))) for answer in table.answers])
    probabilities = head.thumb_probability(lm, overlap)[views.thumb].tolist()
    ups = [thumb.value > 0 for thumb in holdout.thumbs]
    return RewardReport(
        accuracy=accuracy(scores, judged),
        by_question=_by_question(scores, holdout.pairs, table),
        corrections=accuracy(scores, [p.kind == "correction" for p in holdout.pairs]),
        rankings=accuracy(scores, [p.kind == "ranking" for p in holdout.pairs]),
        mismatches=accuracy(scores, [p.kind == "mismatch" for p in holdout.pairs]),
        length_matched=accuracy(
            scores, [p.kind != "mismatch" and _length_matched(p) for p in holdout.pairs]
        ),
        word_overlap=accuracy(overlap[:, _F1_BEST], judged),
        longer_wins=accuracy(lengths, judged),
        **_beside(previous, holdout.pairs, scores, accuracy),
        lost_and_won=_lost_and_won(previous, holdout.pairs, scores, table),
        thumb_accuracy=share_with_interval(
            [float((p > 0.5) == up) for p, up in zip(probabilities, ups, strict=True)],
            [thumb.customer for thumb in holdout.thumbs],
        ),
        thumb_calibration_error=calibration_error(probabilities, ups),
        thumb_calibration_chance=error_by_chance(
            probabilities, [t.rater_id for t in holdout.thumbs], head.settings.rater_std
        ),
        rating_correlation=spearman(
            views.rated_mean(scores).tolist(), [float(r.value) for r in holdout.ratings]
        ),
    )


def _beside(
    previous: Previous | None,
    pairs: Sequence[PairExample],
    scores: Tensor,
    accuracy: Callable[[Tensor, Sequence[bool]], Share | None],
) -> dict[str, Share | None]:
    """Both models on judged pairs that the previous one was not fitted on, by when they came."""
    names = ("previous", "previous_old", "previous_new")
    if previous is None:
        return dict.fromkeys([*names, *(f"beside_{name}" for name in names)])
    fair = [_fair(pair, previous) for pair in pairs]
    old = [p.feedback_id in previous.holdout_pairs for p in pairs]
    kept = (
        fair,
        [a and b for a, b in zip(fair, old, strict=True)],
        [a and not b for a, b in zip(fair, old, strict=True)],
    )
    found = {}
    for name, chosen in zip(names, kept, strict=True):
        found[name] = accuracy(previous.scores, chosen)
        found[f"beside_{name}"] = accuracy(scores, chosen)
    return found


def _fair(pair: PairExample, previous: Previous) -> bool:
    """Whether a pair is a judgement that the previous model was not fitted on."""
    return pair.kind != "mismatch" and pair.feedback_id not in previous.train_pairs


def _lost_and_won(
    previous: Previous | None, pairs: Sequence[PairExample], scores: Tensor, table: AnswerTable
) -> tuple[int, int] | None:
    if previous is None:
        return None
    fair = [pair for pair in pairs if _fair(pair, previous)]
    before, now = (_gaps(values, table, fair) > 0 for values in (previous.scores, scores))
    return int((before & ~now).sum()), int((now & ~before).sum())


def _gaps(values: Tensor, table: AnswerTable, pairs: Sequence[PairExample]) -> Tensor:
    chosen, rejected = [p.chosen for p in pairs], [p.rejected for p in pairs]
    return values[table.rows(chosen)] - values[table.rows(rejected)]


def _accuracy(values: Tensor, table: AnswerTable, pairs: Sequence[PairExample]) -> Share | None:
    return share_with_interval(_ordered(values, table, pairs), [pair.customer for pair in pairs])


def _by_question(values: Tensor, pairs: Sequence[PairExample], table: AnswerTable) -> Share | None:
    judged = [pair for pair in pairs if pair.kind != "mismatch"]
    questions = [question_key(pair.chosen.context.question) for pair in judged]
    return share_with_interval(_ordered(values, table, judged), questions)


def _ordered(values: Tensor, table: AnswerTable, pairs: Sequence[PairExample]) -> list[float]:
    """Of each pair 1 where it is ordered rightly, 1/2 for a tie."""
    gaps = _gaps(values, table, pairs)
    return [0.5 if gap == 0 else float(gap > 0) for gap in gaps.tolist()]


def _length_matched(pair: PairExample) -> bool:
    sizes = sorted(len(words(answer.response)) for answer in (pair.chosen, pair.rejected))
    return sizes[1] <= _LENGTH_RATIO * sizes[0]


def spearman(a: Sequence[float], b: Sequence[float], least_items: int = 10) -> float | None:
    """Rank correlation, ties by mean rank; None below `least_items` or for a constant side."""
    if len(a) != len(b):
        raise ValueError(f"{len(a)} values but {len(b)} values")
    if len(a) < least_items or len(set(a)) < 2 or len(set(b)) < 2:
        return None
    return float(np.corrcoef(_ranks(a), _ranks(b))[0, 1])


def _ranks(values: Sequence[float]) -> NDArray[np.float64]:
    _, place, counts = np.unique(np.asarray(values), return_inverse=True, return_counts=True)
    ends = np.cumsum(counts)
    return ((ends - counts + ends - 1) / 2)[place].astype(np.float64)

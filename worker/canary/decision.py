"""Go on, roll back, or tried enough: from the observations to a report with its reason.

Pure; the mathematics is betting.py's. Invariants: a candidate that is as good as the champion is
ever rolled back with at most the error rate, however often one looks (each kind of outcome gets an
equal part of it: Bonferroni); one that is worse by the margin in some kind is ever called harmless
with at most the error rate; nothing is said against a candidate that was compared with another
version than the champion. What a visitor does beyond three conversations is not counted. Of
thumbs and ratings both hold while visitors judge both versions equally often, or while the rate of
bad judgements does not drift: a judgement is given after the coin was thrown.
"""

from collections import Counter
from collections.abc import Sequence
from typing import Final, get_args

import numpy as np

from amends.canary import BAD, CanaryReport, Decision, Figures, Kind
from worker.canary.betting import Trials, lower_end, upper_end
from worker.canary.comparison import Comparison
from worker.canary.outcomes import Observation
from worker.canary.settings import CanarySettings

KINDS: Final[tuple[Kind, ...]] = get_args(Kind)
PER_VISITOR: Final = 3
_ELSEWHERE = 0.1  # of a side's conversations, at most: else another version was compared


def decide(
    tried: Comparison, observed: Sequence[Observation], settings: CanarySettings, now: float
) -> CanaryReport:
    """`observed` in the order in which the conversations began."""
    counted = _counted(observed)
    own = [one for one in counted if one.candidate]
    other = [one for one in counted if not one.candidate]
    elsewhere = _elsewhere(own, tried.version), _elsewhere(other, tried.champion)
    figures = [_figures(kind, _trials(counted, kind), settings.error_rate) for kind in KINDS]
    decision, reason = _decision((len(own), len(other)), elsewhere, figures, settings)
    return CanaryReport(
        at=now,
        version=tried.version,
        champion=tried.champion,
        began=tried.began,
        since=tried.since,
        every_s=settings.every_s,
        candidate_conversations=len(own),
        champion_conversations=len(other),
        elsewhere=elsewhere[0],
        champion_elsewhere=elsewhere[1],
        figures=tuple(figures),
        decision=decision,
        reason=reason,
    )


def _counted(observed: Sequence[Observation]) -> list[Observation]:
    """Those of which a coin decided; of a visitor the first few."""
    counted, of_visitor = [], Counter[str]()
    for one in observed:
        if 0 < one.share < 1:
            of_visitor[one.visitor_id] += 1
            if of_visitor[one.visitor_id] <= PER_VISITOR:
                counted.append(one)
    return counted


def _elsewhere(side: Sequence[Observation], version: int) -> int:
    return sum(one.answered_by not in (version, None) for one in side)


def _trials(counted: Sequence[Observation], kind: Kind) -> Trials:
    judged = [one for one in counted if kind in one.bad]
    return Trials(
        bad=np.array([one.bad[kind] for one in judged], dtype=np.float64),
        candidate=np.array([one.candidate for one in judged], dtype=np.float64),
        share=np.array([one.share for one in judged], dtype=np.float64),
    )


def _figures(kind: Kind, trials: Trials, error_rate: float) -> Figures:
    own = trials.candidate > 0
    return Figures(
        kind=kind,
        candidate_bad=int(trials.bad[own].sum()),
        candidate=int(own.sum()),
        champion_bad=int(trials.bad[~own].sum()),
        champion=int((~own).sum()),
        low=lower_end(trials, error_rate / len(KINDS)),
        high=upper_end(trials, error_rate),
    )


def _decision(
    sides: tuple[int, int],
    elsewhere: tuple[int, int],
    figures: Sequence[Figures],
    settings: CanarySettings,
) -> tuple[Decision, str]:
    """`sides`: conversations of candidate and champion, `elsewhere`: those of them that another
    version answered."""
    own, answered = sides[0], sides[0] - elsewhere[0]
    if elsewhere[1] > _ELSEWHERE * sides[1]:
        return "going_on", _lost(elsewhere[1], sides[1], "champion")
    worse = [found for found in figures if found.low >= 0]
    if worse:
        return "roll_back", "worse than the champion: " + "; ".join(map(str, worse))
    if elsewhere[0] > _ELSEWHERE * own:
        return "going_on", _lost(elsewhere[0], own, "candidate")
    points = f"{100 * settings.margin:.0f} points"
    open_yet = [BAD[found.kind] for found in figures if found.high >= settings.margin]
    if answered >= settings.min_conversations and not open_yet:
        return "harmless", f"in no kind of outcome worse by {points} after {own} conversations"
    if answered >= settings.max_conversations:
        left = " | ".join(open_yet)
        return "inconclusive", f"not worse after {own} conversations; {points} not excluded: {left}"
    most = settings.max_conversations
    return "going_on", f"not worse after {own} of at most {most} conversations"


def _lost(elsewhere: int, side: int, whose: str) -> str:
    return f"{elsewhere} of the {whose}'s {side} conversations were answered by another version"

"""How much each judgement weighs: caps against visitors who want to own the bot.

Knows no texts and no training, and sets nobody aside (see quarantine). Experts are trusted in full
and uncapped; what each of them weighs is reported, not limited. Two limits are not here because
what they need is not known: nobody signs in to be more than an anonymous visitor, and conversations
do not say which site they were held on. A visitor's cap does not grow with the batch: at 1 % of it,
twenty loud ones among four hundred moved held-out accuracy by more than a point. Invariants: no
visitor weighs more than the caps say; what is down-weighted never falls to zero.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from worker.data.quarantine import Judgement, by_visitor


@dataclass(frozen=True)
class TrustSettings:
    """Limits on what visitors may weigh together and alone."""

    visitor_weight: float = 0.5  # of one judgement, before caps; an expert's is 1
    visitor_items: int = 3  # a visitor weighs at most this many judgements
    anonymous_share: float = 0.20  # of the batch's weight, all visitors together; 1: no limit


@dataclass(frozen=True)
class Trust:
    """The outcome for one batch. Shares are of the batch's weight."""

    weights: Mapping[str, float]  # by feedback_id
    notes: tuple[str, ...]  # one sentence per cap that was applied
    largest_visitor_share: float  # 0 without visitors
    expert_shares: Mapping[str, float]  # by name, the largest first


def weigh(feedback: Sequence[Judgement], settings: TrustSettings | None = None) -> Trust:
    """Weights for `feedback`, whose ids are distinct."""
    settings = settings or TrustSettings()
    notes: list[str] = []
    weights = {
        item.feedback_id: 1.0 if item.rater.role == "expert" else settings.visitor_weight
        for item in feedback
    }
    visitors = by_visitor(feedback)
    cap = settings.visitor_items
    for visitor, items in visitors.items():
        if len(items) > cap:
            for item in items:
                weights[item.feedback_id] *= cap / len(items)
            notes.append(f"visitor {visitor}: {len(items)} judgements weigh as {cap}")
    scale = _anonymous_scale(feedback, weights, settings.anonymous_share)
    if scale < 1:
        together = f"visitors together: weights times {scale:.3g}"
        notes.insert(0, f"{together}, {settings.anonymous_share:.0%} in all")
        for items in visitors.values():
            for item in items:
                weights[item.feedback_id] *= scale
    total = sum(weights.values()) or 1.0
    alone = [sum(weights[item.feedback_id] for item in items) for items in visitors.values()]
    return Trust(
        weights=weights,
        notes=tuple(notes),
        largest_visitor_share=max(alone, default=0.0) / total,
        expert_shares=_expert_shares(feedback, weights, total),
    )


def _expert_shares(
    feedback: Sequence[Judgement], weights: Mapping[str, float], total: float
) -> dict[str, float]:
    shares: dict[str, float] = defaultdict(float)
    for item in feedback:
        if item.rater.role == "expert":
            shares[item.rater.rater_id] += weights[item.feedback_id] / total
    return dict(sorted(shares.items(), key=lambda entry: (-entry[1], entry[0])))


def _anonymous_scale(
    feedback: Sequence[Judgement], weights: Mapping[str, float], share: float
) -> float:
    """The factor that brings visitors down to `share` of the whole.

    Without any expert there is nothing to be a share of: weights stay, and the reward model refuses
    such a batch anyway.
    """
    experts = sum(weights[i.feedback_id] for i in feedback if i.rater.role == "expert")
    visitors = sum(weights[i.feedback_id] for i in feedback if i.rater.role == "visitor")
    if not experts or not visitors or share >= 1:
        return 1.0
    return min(1.0, experts * share / (1 - share) / visitors)

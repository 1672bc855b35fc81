"""How much each judgement weighs, and which are set aside: caps against visitors who want to own
the bot.

Knows no texts and no training; experts are trusted in full and uncapped (their share is reported,
not limited). Departures from a per-account tier: raters carry only a role, so every visitor counts
as anonymous. Invariants: no visitor weighs more than the caps say; what is down-weighted never
falls to zero; only bursts are set aside, with a reason.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from amends.feedback import Correction, Ranking, Rating, Thumb

BURST = "burst: too many at once"

Judgement = Thumb | Rating | Correction | Ranking


@dataclass(frozen=True)
class TrustSettings:
    """Limits on what visitors may weigh together and alone."""

    visitor_weight: float = 0.5  # of one judgement, before caps; an expert's is 1
    visitor_items: int = 3  # a visitor weighs at most this many judgements ...
    visitor_share: float = 0.01  # ... or this share of the batch, whichever is more
    anonymous_share: float = 0.20  # of the batch's weight, all visitors together
    burst_items: int = 20  # more than so many of one visitor ...
    burst_window_s: float = 60.0  # ... within this time are no person's work: set aside


@dataclass(frozen=True)
class Dropped:
    """A judgement that no example is made from, and why."""

    feedback_id: str
    reason: str


@dataclass(frozen=True)
class Trust:
    """The outcome for one batch."""

    weights: Mapping[str, float]  # by feedback_id; only what is used
    dropped: tuple[Dropped, ...]
    notes: tuple[str, ...]  # one sentence per cap that was applied
    largest_visitor_share: float  # of the batch's weight; 0 without visitors
    expert_share: float  # of the batch's weight


def weigh(feedback: Sequence[Judgement], settings: TrustSettings | None = None) -> Trust:
    """Weights for `feedback`, whose ids are distinct."""
    settings = settings or TrustSettings()
    bursts = _bursts(feedback, settings)
    used = [item for item in feedback if item.feedback_id not in bursts]
    notes: list[str] = []
    weights = {
        item.feedback_id: 1.0 if item.rater.role == "expert" else settings.visitor_weight
        for item in used
    }
    by_visitor = _by_visitor(used)
    cap = max(settings.visitor_share * len(used), settings.visitor_items)
    for visitor, items in by_visitor.items():
        if len(items) > cap:
            for item in items:
                weights[item.feedback_id] *= cap / len(items)
            notes.append(f"visitor {visitor}: {len(items)} judgements weigh as {cap:g}")
    scale = _anonymous_scale(used, weights, settings.anonymous_share)
    if scale < 1:
        notes.append(
            f"visitors together: weights times {scale:.3g}, {settings.anonymous_share:.0%} in all"
        )
        for items in by_visitor.values():
            for item in items:
                weights[item.feedback_id] *= scale
    total = sum(weights.values()) or 1.0
    visitors = [sum(weights[i.feedback_id] for i in items) for items in by_visitor.values()]
    return Trust(
        weights=weights,
        dropped=tuple(Dropped(i.feedback_id, BURST) for i in feedback if i.feedback_id in bursts),
        notes=tuple(notes),
        largest_visitor_share=max(visitors, default=0.0) / total,
        expert_share=1 - sum(visitors) / total if weights else 0.0,
    )


def _anonymous_scale(
    used: Sequence[Judgement], weights: Mapping[str, float], share: float
) -> float:
    """The factor that brings visitors down to `share` of the whole.

    Without any expert there is nothing to be a share of: weights stay, and the reward model refuses
    such a batch anyway.
    """
    experts = sum(weights[i.feedback_id] for i in used if i.rater.role == "expert")
    visitors = sum(weights[i.feedback_id] for i in used if i.rater.role == "visitor")
    if not experts or not visitors:
        return 1.0
    return min(1.0, experts * share / (1 - share) / visitors)


def _by_visitor(used: Iterable[Judgement]) -> dict[str, list[Judgement]]:
    grouped: dict[str, list[Judgement]] = defaultdict(list)
    for item in used:
        if item.rater.role == "visitor":
            grouped[item.rater.rater_id].append(item)
    return grouped


def _bursts(feedback: Iterable[Judgement], settings: TrustSettings) -> set[str]:
    """Ids of every judgement inside a window that holds more than `burst_items` of one visitor."""
    found: set[str] = set()
    for items in _by_visitor(feedback).values():
        items.sort(key=lambda item: item.given_at)
        first = 0
        for last, item in enumerate(items):
            while item.given_at - items[first].given_at > settings.burst_window_s:
                first += 1
            if last - first + 1 > settings.burst_items:
                found.update(i.feedback_id for i in items[first : last + 1])
    return found

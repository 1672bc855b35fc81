"""Which judgements a round sets aside whole: too many of one visitor at once, a crowd of new
visitors with one opinion, too young.

Knows no texts and no weights. What is usual is taken from the batch itself, from the visitors who
came just before and after: a batch that is one crowd and nothing else shows no crowd, and only the
weights limit it. So it is with a crowd that comes slowly. Invariants: of experts only what is too
young is set aside; whatever is has a reason, and a crowd a note that says when it came; equal input
gives an equal outcome, in any order of the input.
"""

import math
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate

from amends.data_manifest import Dropped
from amends.feedback import Correction, Ranking, Rating, Thumb
from amends.record import in_utc

BURST = "burst: too many at once"
BRIGADE = "brigade: many new visitors with one opinion at once"
YOUNG = "too young: left for the next round"
QUARANTINED = frozenset({BURST, BRIGADE})

Judgement = Thumb | Rating | Correction | Ranking


@dataclass(frozen=True)
class QuarantineSettings:
    """What is no ordinary feedback. All conditions of a brigade have to hold."""

    burst_items: int = 20  # more than so many of one visitor ...
    burst_window_s: float = 60.0  # ... within this time are no person's work
    brigade_visitors: int = 20  # at least so many new visitors judge one way ...
    brigade_window_s: float = 600.0  # ... within this time ...
    brigade_rate: float = 2.0  # ... when visitors judge so many times as often as around it ...
    brigade_chance: float = 1e-3  # ... and so few disagree that chance allows it less often than
    # this, even if only half as many disagreed as around it: answers do get better or worse
    brigade_around: int = 100  # visitors before, and as many after, who say what is usual
    given_before: float = math.inf  # seconds since the epoch; later ones are too young


@dataclass(frozen=True)
class Quarantine:
    """What is set aside of one batch; the rest is to be weighed."""

    dropped: tuple[Dropped, ...]
    notes: tuple[str, ...]  # one sentence per brigade


@dataclass(frozen=True, order=True)
class _Opinion:
    """A visitor, at their first judgement in the batch."""

    at: float
    visitor: str
    way: int  # +1 or -1: what most of this visitor's judgements say


def quarantine(
    feedback: Sequence[Judgement], settings: QuarantineSettings | None = None
) -> Quarantine:
    """What to set aside of `feedback`, all that this round could learn from; ids are distinct."""
    settings = settings or QuarantineSettings()
    reasons = {i.feedback_id: YOUNG for i in feedback if i.given_at >= settings.given_before}
    visitors = by_visitor(feedback)
    bursts = {found for items in visitors.values() for found in _bursts(items, settings)}
    opinions = sorted(_opinions(visitors, bursts))
    notes = []
    for way, name in ((1, "up"), (-1, "down")):
        for first, end in _brigades(opinions, way, settings):
            crowd = [o for o in opinions[first:end] if o.way == way]
            ids = [item.feedback_id for o in crowd for item in visitors[o.visitor]]
            reasons |= dict.fromkeys(ids, BRIGADE)
            notes.append(
                f"brigade: {len(crowd)} new visitors judged {name} within "
                f"{(crowd[-1].at - crowd[0].at) / 60:.1f} minutes from {in_utc(crowd[0].at)} on; "
                f"their {len(ids)} judgements are set aside"
            )
    reasons |= dict.fromkeys(bursts, BURST)
    return Quarantine(tuple(Dropped(name, reasons[name]) for name in sorted(reasons)), tuple(notes))


def by_visitor(feedback: Iterable[Judgement]) -> dict[str, list[Judgement]]:
    """Visitors' judgements, oldest first."""
    grouped: dict[str, list[Judgement]] = defaultdict(list)
    for item in sorted(feedback, key=lambda item: (item.given_at, item.feedback_id)):
        if item.rater.role == "visitor":
            grouped[item.rater.rater_id].append(item)
    return grouped


def _bursts(items: Sequence[Judgement], settings: QuarantineSettings) -> set[str]:
    """Of one visitor, all ids inside a window that holds more than `burst_items`."""
    found: set[str] = set()
    first = 0
    for last, item in enumerate(items):
        while item.given_at - items[first].given_at > settings.burst_window_s:
            first += 1
        if last - first + 1 > settings.burst_items:
            found.update(i.feedback_id for i in items[first : last + 1])
    return found


def _opinions(visitors: dict[str, list[Judgement]], bursts: set[str]) -> Iterator[_Opinion]:
    for visitor, items in visitors.items():
        balance = sum(_way(item) for item in items if item.feedback_id not in bursts)
        if balance:
            yield _Opinion(items[0].given_at, visitor, 1 if balance > 0 else -1)


def _way(item: Judgement) -> int:
    if isinstance(item, Thumb):
        return item.value
    return (item.value > 3) - (item.value < 3) if isinstance(item, Rating) else 0


def _brigades(
    opinions: Sequence[_Opinion], way: int, settings: QuarantineSettings
) -> list[tuple[int, int]]:
    """First and end of each stretch of opinions that a brigade's windows cover."""
    found: list[tuple[int, int]] = []
    times = [opinion.at for opinion in opinions]
    against = [0, *accumulate(opinion.way != way for opinion in opinions)]  # before each place
    for first, opinion in enumerate(opinions):
        if opinion.way == way:
            end = bisect_right(times, opinion.at + settings.brigade_window_s)
            if _is_brigade(times, against, first, end, settings):
                overlaps = found and first < found[-1][1]
                found.append((found.pop()[0] if overlaps else first, end))
    return found


def _is_brigade(
    times: Sequence[float],
    against: Sequence[int],
    first: int,
    end: int,
    settings: QuarantineSettings,
) -> bool:
    """Whether too few from `first` to `end` are against, by who came before and after."""
    inside, inside_against = end - first, against[end] - against[first]
    start = max(0, first - settings.brigade_around)
    stop = min(len(times), end + settings.brigade_around)
    others = stop - start - inside
    if min(others, inside - inside_against) < settings.brigade_visitors:
        return False
    length = settings.brigade_window_s
    elsewhere = times[stop - 1] - times[start] - (times[end - 1] - times[first])
    if inside <= settings.brigade_rate * others * length / max(elsewhere, length):
        return False
    usually = against[stop] - against[start] - inside_against
    share = (usually + 1) / (others + 2) / 2  # half of those around it, by Laplace's rule
    return _chance_of_at_most(inside_against, inside, share) < settings.brigade_chance


def _chance_of_at_most(count: int, of: int, chance: float) -> float:
    """P(X <= count), X binomial; 1 from the mean on, where it is no small number."""
    if count >= of * chance:
        return 1.0

    def log_choose(k: int) -> float:
        return math.lgamma(of + 1) - math.lgamma(k + 1) - math.lgamma(of - k + 1)

    return math.fsum(
        math.exp(log_choose(k) + k * math.log(chance) + (of - k) * math.log1p(-chance))
        for k in range(count + 1)
    )

"""One answer is one draw: what looks like a change is asked again, and most sittings decide.

Knows no policies and no questions, only places in a list. Invariant: the decision is that of
SITTINGS sittings; nobody is asked again once the rest cannot change it.
"""

from collections.abc import Callable, Collection, Sequence

SITTINGS = 5


def steady(
    places: Collection[int], again: Callable[[Sequence[int], int], Collection[int]]
) -> frozenset[int]:
    """Of places that showed a change in sitting 0, those that show it in most sittings.

    `again(places, sitting)` asks these again and returns the ones among them that show it too.
    """
    times = dict.fromkeys(sorted(places), 1)
    for sitting in range(1, SITTINGS):
        undecided = [
            place
            for place, count in times.items()
            if 2 * count < SITTINGS and 2 * (sitting - count) < SITTINGS
        ]
        if not undecided:
            break
        for place in again(undecided, sitting):
            times[place] += 1
    return frozenset(place for place, count in times.items() if 2 * count > SITTINGS)

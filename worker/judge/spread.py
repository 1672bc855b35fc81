"""A few of many, evenly over all of them.

Pure; knows nothing of what they are.
"""

from collections.abc import Sequence
from typing import TypeVar

Item = TypeVar("Item")


def spread(items: Sequence[Item], most: int) -> list[Item]:
    """At most so many of them, in order; all where they are no more."""
    if len(items) <= most:
        return list(items)
    return [items[place * len(items) // most] for place in range(most)]

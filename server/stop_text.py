"""A text that comes in pieces and ends before the first stop string in it.

Pure. Invariants: no part of a stop string gets out, however it is cut into pieces; the same text
ends at the same place, however it is cut. Where stop strings overlap, the one that is complete
first counts.
"""

from collections.abc import Sequence


class StopText:
    """Holds back what may be the beginning of a stop string until it is known."""

    def __init__(self, stop: Sequence[str]) -> None:
        self._stop = tuple(stop)
        self._held = ""
        self.stopped = False

    def push(self, text: str) -> str:
        """The part of the text so far that is certain now; nothing once it has `stopped`."""
        if self.stopped:
            return ""
        held = self._held + text
        found = [(at + len(stop), at) for stop in self._stop if (at := held.find(stop)) >= 0]
        if found:
            self.stopped, self._held = True, ""
            return held[: min(found)[1]]
        certain = len(held) - self._possible(held)
        self._held = held[certain:]
        return held[:certain]

    def rest(self) -> str:
        """What was held back, when no more text comes."""
        held, self._held = self._held, ""
        return held

    def _possible(self, held: str) -> int:
        """How many characters at the end may be the beginning of a stop string."""
        return max(
            (n for stop in self._stop for n in range(1, len(stop)) if held.endswith(stop[:n])),
            default=0,
        )

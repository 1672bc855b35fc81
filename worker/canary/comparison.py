"""Which candidate stands against which champion, since when, on which share: read from the audit.

Pure. Invariant: a comparison is of one candidate and one champion from when they met; another
champion ends it, the same candidate set once more begins another, with none of the old evidence. A
change of the share does not.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from math import inf

from amends.adapter_audit import AuditRow, candidacy


@dataclass(frozen=True)
class Comparison:
    """`shares` are (seconds since the epoch, share from then on), oldest first; `began` and `seen`
    are numbers of audit rows: with which they met, and the last one read."""

    version: int
    champion: int
    began: int
    seen: int
    shares: tuple[tuple[float, float], ...]

    @property
    def since(self) -> float:
        """When it first had a share; until then, when they met."""
        return next((at for at, share in self.shares if share > 0), self.shares[0][0])

    @property
    def tossed(self) -> tuple[tuple[float, float], ...]:
        """(from, until), oldest first: the times in which a coin decided who answers."""
        ends = (*(at for at, _ in self.shares[1:]), inf)
        spans = zip(self.shares, ends, strict=True)
        return tuple((at, end) for (at, share), end in spans if 0 < share < 1)

    @property
    def share(self) -> float:
        """The present one."""
        return self.shares[-1][1]

    @property
    def tried(self) -> bool:
        """Whether it ever had a share."""
        return any(share > 0 for _, share in self.shares)

    def share_at(self, time: float) -> float:
        """Of the conversations that began then; 0 before they met."""
        return next((share for at, share in reversed(self.shares) if at <= time), 0.0)


def comparison(newest: Iterable[AuditRow]) -> Comparison | None:
    """Of the audit's rows, the newest first; None without a candidate."""
    rows = candidacy(newest)
    version = rows[0].version if rows else None
    if version is None:
        return None
    met = rows[0]
    shares = [(met.at, met.share or 0.0)]
    for row in rows:
        if row.share is not None and row.share != shares[-1][1]:
            shares.append((row.at, row.share))
    return Comparison(version, met.champion, met.number, rows[-1].number, tuple(shares))

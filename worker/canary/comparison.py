"""Which candidate stands against which champion, since when, on which share: read from the audit.

Pure. Invariant: a comparison is of one candidate and one champion from when they met; another
champion ends it, the same candidate set once more begins another, with none of the old evidence. A
change of the share does not.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace

from amends.adapter_aliases import AuditRow, candidate_after


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
        return self.shares[0][0]

    @property
    def tried(self) -> bool:
        """Whether it ever had a share."""
        return any(share > 0 for _, share in self.shares)

    def share_at(self, time: float) -> float:
        """Of the conversations that began then; 0 before they met."""
        return next((share for at, share in reversed(self.shares) if at <= time), 0.0)


def comparison(rows: Iterable[AuditRow]) -> Comparison | None:
    """After all these rows, oldest first; None without a candidate."""
    found: Comparison | None = None
    for row in rows:
        version = candidate_after(None if found is None else found.version, row)
        if version is None:
            found = None
        elif found is None or version != found.version:
            share = _share_after(row, version, found)
            found = Comparison(version, row.champion, row.number, row.number, ((row.at, share),))
        else:
            share = _share_after(row, version, found)
            changed = ((row.at, share),) if share != found.shares[-1][1] else ()
            found = replace(found, seen=row.number, shares=(*found.shares, *changed))
    return found


def _share_after(row: AuditRow, version: int, before: Comparison | None) -> float:
    """A candidate keeps its share unless the row gives another; a new one has none."""
    if row.action == "set_candidate" and row.share is not None:
        return row.share
    return before.shares[-1][1] if before is not None and before.version == version else 0.0

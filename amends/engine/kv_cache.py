"""Which row of the KV cache belongs to which sequence.

Knows no torch. Invariant: rows in use are 0..n-1 without holes, so a decode step reads one slice;
a row that becomes free is filled with the last one, which the caller must copy (`Move`).
"""

from dataclasses import dataclass, field

from amends.engine.sequence import Sequence


@dataclass(frozen=True)
class Move:
    """Copy the first `length` positions of row `source` to row `target`."""

    source: int
    target: int
    length: int


@dataclass
class Rows:
    """At most `limit` rows."""

    limit: int
    running: list[Sequence] = field(default_factory=list)

    @property
    def free(self) -> int:
        return self.limit - len(self.running)

    def take(self, sequence: Sequence) -> None:
        """Give the sequence the next row."""
        sequence.row = len(self.running)
        self.running.append(sequence)

    def give_back(self, sequence: Sequence) -> Move | None:
        """Free the sequence's row; the last row moves into the hole."""
        row, last = sequence.row, self.running.pop()
        assert row is not None and last.row is not None
        sequence.row = None
        if last is sequence:
            return None
        move = Move(last.row, row, last.computed)
        self.running[row] = last
        last.row = row
        return move

"""A version whose weights lie in a slot, and that has to pass its check before it may answer.

The check is the golden prompt, read twice in one forward beside the rows that write: once by the
base model, once by the version. Rows of one matrix product are computed alike, so an adapter that
does nothing makes no difference at all, where two forwards of different shapes would differ by
rounding. Knows no torch, no files. It does *not* say whether a version is any good: the gate does.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

from amends.engine.sequence import Chunk, Piece, Request, Sampling, Sequence
from amends.errors import AdapterRefused, AmendsError

OnChecked = Callable[[AmendsError | None], None]  # why the version cannot answer; None: it can


@dataclass(frozen=True)
class Load:
    """`version` lies in `slot` and waits for its check; `on_checked` is told the result, once."""

    version: int
    slot: int
    golden_prompt: tuple[int, ...]
    on_checked: OnChecked

    @property
    def pieces(self) -> list[Piece]:
        """The golden prompt as the base model and as the version read it."""
        readers = ((0, 0), (self.version, self.slot))
        return [_read_by(version, slot, self.golden_prompt) for version, slot in readers]

    def refusal(self, effect: float) -> AdapterRefused | None:
        """Why the version must not answer. `effect`: the largest change that it makes to the
        log-probability of a token of the golden prompt, in nats."""
        if effect != 0.0 and math.isfinite(effect):
            return None
        return AdapterRefused(
            f"version {self.version}: expected it to change the golden prompt's log-probabilities "
            f"by a finite amount, got {effect} nats"
        )


def _read_by(version: int, slot: int, tokens: tuple[int, ...]) -> Piece:
    request = Request(tokens, Sampling(1), version)
    sequence = Sequence(0, request, _ignore, version=version, slot=slot)
    return Piece(sequence, 0, len(tokens))


def _ignore(chunk: Chunk) -> None:
    return None

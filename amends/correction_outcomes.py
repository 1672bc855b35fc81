"""What became of each correction: how champion and candidate answered its question at the gate.

Knows no store, no judge and no texts. One question may carry several corrections; they share its
outcome. Invariant: a correction whose question was not asked has no outcome.
"""

from typing import Literal

from amends.record import Record

Outcome = Literal["learned", "kept", "lost", "not learned"]
OUTCOMES: tuple[Outcome, ...] = ("learned", "kept", "lost", "not learned")


class CorrectionOutcome(Record):
    """`lost` is the gate's word, in most of several sittings: the champion answers well, or as an
    expert did, and the candidate surely no more.
    """

    feedback_id: str
    champion_well: bool
    candidate_well: bool
    lost: bool

    @property
    def outcome(self) -> Outcome:
        if self.lost:
            return "lost"
        if self.champion_well:
            return "kept"
        return "learned" if self.candidate_well else "not learned"


class CorrectionOutcomes(Record):
    """Of one round; `data_manifest_hash` says which."""

    schema_version: Literal[1] = 1
    data_manifest_hash: str
    champion: int
    outcomes: tuple[CorrectionOutcome, ...]

    def of(self, feedback_id: str) -> CorrectionOutcome | None:
        return next((item for item in self.outcomes if item.feedback_id == feedback_id), None)

    def ids(self, outcome: Outcome) -> tuple[str, ...]:
        """The corrections that came to this, in the order of the file."""
        return tuple(item.feedback_id for item in self.outcomes if item.outcome == outcome)

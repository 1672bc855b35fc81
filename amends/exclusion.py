"""Whom rounds and trials leave out: a rater, or a customer with all that is in their conversations.

Knows no store and no training. A rater is named as feedback names them (the name an expert gave, a
visitor's id), a customer by the visitor's id. Leaving out a rater leaves out what they judged;
leaving out a customer leaves out their questions too, and what others judged there.
"""

from collections.abc import Iterable
from typing import Literal

from pydantic import Field

from amends.record import Record

Kind = Literal["rater", "customer"]


class Exclusion(Record):
    """Who is left out, and who wanted it, why, since when (seconds since the epoch)."""

    kind: Kind
    name: str = Field(min_length=1, max_length=128)
    by: str
    reason: str
    at: float

    def __str__(self) -> str:
        return f"{self.kind} {self.name}"

    def covers(self, rater_id: str, customer: str | None) -> bool:
        """Whether it leaves out what this rater said in that customer's conversation."""
        return self.name == (rater_id if self.kind == "rater" else customer)


class ExclusionMove(Exclusion):
    """A row of the audit list."""

    action: Literal["excluded", "lifted"]


def covering(
    exclusions: Iterable[Exclusion], rater_id: str, customer: str | None
) -> Exclusion | None:
    """The first that leaves this judgement out."""
    return next((item for item in exclusions if item.covers(rater_id, customer)), None)

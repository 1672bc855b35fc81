"""What the gate decided about a candidate, and why.

Knows no measurement. Invariant: a verdict that did not pass says at least one reason.
"""

from typing import Self

from pydantic import model_validator

from amends.record import Record


class Verdict(Record):
    """passed: may become champion. reasons: one sentence each, for and against."""

    passed: bool
    reasons: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _says_why(self) -> Self:
        if not self.passed and not self.reasons:
            raise ValueError("a verdict that did not pass must give a reason")
        return self

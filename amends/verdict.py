"""What the gate decided about a candidate, and why.

Knows no measurement. Invariant: a verdict that did not pass says at least one reason.
"""

from typing import Self

from pydantic import Field, model_validator

from amends.record import Record


class Verdict(Record):
    """passed: may become champion. reasons: one sentence each, for and against. champion: the
    version that it was compared with; None: nobody noted it."""

    passed: bool
    reasons: tuple[str, ...] = ()
    champion: int | None = Field(None, ge=0)

    @model_validator(mode="after")
    def _says_why(self) -> Self:
        if not self.passed and not self.reasons:
            raise ValueError("a verdict that did not pass must give a reason")
        return self


def judged(verdict: Verdict | None) -> str:
    """In two words at most."""
    if verdict is None:
        return "not judged"
    return "passed" if verdict.passed else "refused"

"""The candidate's trial on a share of the conversations: which are its own, what came of it so far.

Knows no store and no statistics: the worker judges (worker/canary), command line and console show.
Invariant: `place` is a function of the two ids alone, so the server, which chooses by it, and the
worker, which counts by it, agree without a word.
"""

import hashlib
from typing import Final, Literal

from pydantic import Field

from amends.record import Record

Kind = Literal["thumbs", "ratings", "answers"]
BAD: Final[dict[Kind, str]] = {
    "thumbs": "with a thumb down, of those with a thumb",
    "ratings": "rated 1 or 2, of those rated",
    "answers": "with an answer missing, empty, cut off or stopped",
}
_LATE: Final = 3  # looks that did not come
Decision = Literal["going_on", "roll_back", "harmless", "inconclusive"]


def place(conversation_id: str, candidate: int) -> float:
    """Where a conversation lies in [0, 1) for this candidate: evenly spread, and for another
    candidate elsewhere, so that not the same visitors try every one."""
    digest = hashlib.sha256(f"{candidate}/{conversation_id}".encode()).digest()
    return int.from_bytes(digest[:6], "big") / 2**48


class Figures(Record):
    """One kind of outcome on both sides, in conversations that had one.

    Harm: the candidate's rate of bad outcomes less the champion's, −1 to 1; it is more than `low`,
    and less than `high`, each but for the error rate.
    """

    kind: Kind
    candidate_bad: int
    candidate: int
    champion_bad: int
    champion: int
    low: float
    high: float

    def __str__(self) -> str:
        sides = [
            f"{bad} of {count}" + (f" ({bad / count:.0%})" if count else "")
            for bad, count in (
                (self.candidate_bad, self.candidate),
                (self.champion_bad, self.champion),
            )
        ]
        return (
            f"{BAD[self.kind]}: {sides[0]}, champion {sides[1]}; "
            f"difference between {100 * self.low:+.0f} and {100 * self.high:+.0f} points"
        )


class CanaryReport(Record):
    """What the worker saw and decided when it last looked."""

    schema_version: Literal[2] = 2
    at: float = Field(description="seconds since the epoch")
    version: int
    champion: int
    began: int = Field(description="number of the audit's row that made it the candidate")
    since: float = Field(description="when the candidate first had a share beside this champion")
    every_s: float = Field(description="until the next look")
    candidate_conversations: int = Field(description="that the share gave to the candidate")
    champion_conversations: int
    elsewhere: int = Field(description="the candidate's, but another version answered them")
    champion_elsewhere: int = Field(description="the champion's, likewise")
    figures: tuple[Figures, ...]
    decision: Decision
    reason: str

    def lines(self) -> tuple[str, ...]:
        """For people: the decision, then what it rests on."""
        head = (
            f"conversations: {self.candidate_conversations}, champion {self.champion_conversations}"
        )
        lost = f"answered by another version: {self.elsewhere}, champion {self.champion_elsewhere}"
        told = (lost,) if self.elsewhere or self.champion_elsewhere else ()
        return self.reason, head, *told, *map(str, self.figures)


def not_looked(report: CanaryReport | None, share: float, now: float) -> str | None:
    """What is missing where a candidate has a share; `report`: the last one of this trial."""
    if not share:
        return None
    if report is None:
        return "no worker has looked yet"
    waited_s = now - report.at
    if waited_s <= _LATE * report.every_s:
        return None
    return f"no worker has looked for {waited_s / 60:.0f} minutes: a worse one is not withdrawn"

"""Which conversations the candidate answers instead of the champion.

Pure. Invariants: the choice at a conversation's beginning is a function of its id, the candidate
and the share alone, so every server chooses alike and nothing is stored for it; a larger share
only adds conversations; whoever was answered by the candidate is, as long as it is the candidate,
and a conversation that others have begun is never given to it.
"""

from dataclasses import dataclass

from amends.canary import place


@dataclass(frozen=True)
class Canary:
    """A candidate that the engine has loaded, and its share (0 to 1) of the conversations."""

    version: int
    share: float

    def answers(self, conversation_id: str, answered_by: int | None) -> bool:
        """Whether the candidate answers the next turn; `answered_by` is the version of the
        conversation's last turn, None before its first."""
        if answered_by is not None:
            return answered_by == self.version
        return place(conversation_id, self.version) < self.share

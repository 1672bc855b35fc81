"""One replica as the fleet sees it: may it answer, what does it hold, how long may it take.

Knows no HTTP of its own and decides nothing. Invariant: `adapters` has only names whose
log-probabilities were seen on this replica since it was started.
"""

import asyncio
import logging
from dataclasses import dataclass, field
from enum import Enum

from amends.engine.remote.replica import Replica

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Patience:
    """How long what may take, in seconds."""

    look_every_s: float = 1.0
    look_s: float = 10.0  # for a replica to say what it holds
    load_s: float = 30.0  # for an adapter to be loaded and checked while it is published
    first_load_s: float = 120.0  # the same while nobody waits: a fresh replica is not warm yet
    aside_s: float = 15.0  # how long a slow replica is left alone before it is looked at
    first_token_s: float = 15.0  # then a response is begun on another replica, if there is one
    next_token_s: float = 30.0  # then the replica counts as lost


class Standing(Enum):
    DOWN = "down"  # gets no request
    SLOW = "slow"  # gets one when no other can
    READY = "ready"


@dataclass(eq=False)
class Member:
    """A replica and what we know of it. `adapters` are the names that it holds and was seen to
    use, `refused` those that it would not load again since it was down."""

    name: str
    replica: Replica
    standing: Standing = Standing.DOWN
    reason: str = "it has not been asked yet"
    adapters: set[str] = field(default_factory=set)
    refused: set[str] = field(default_factory=set)
    base_logprobs: dict[str, float] = field(default_factory=dict)
    waiting: int = 0  # responses without a token
    running: int = 0  # responses with one
    look_at_s: float = 0.0
    look_now: asyncio.Event = field(default_factory=asyncio.Event)
    busy: asyncio.Lock = field(default_factory=asyncio.Lock)

    def becomes(self, standing: Standing, reason: str = "") -> None:
        """A change is logged once."""
        if (standing, reason) != (self.standing, self.reason):
            level = logging.INFO if standing is Standing.READY else logging.WARNING
            log.log(level, "%s is %s%s", self.name, standing.value, reason and f": {reason}")
        self.standing, self.reason = standing, reason

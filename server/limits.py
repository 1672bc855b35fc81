"""How much one caller may ask for: counters in Redis, so that several servers share them.

Knows no route. A window is one minute, fixed; at its edge a caller may send up to twice the limit,
which is enough to stop floods and cheap: one script per question. Invariant: a refused call counts
too, a key always expires.
"""

from typing import Final, Literal

from amends.store_client import StoreClient
from server.errors import TooManyRequests
from server.tally import Tally

WINDOW_S: Final = 60
Limited = Literal["conversations", "judgements", "logins", "messages", "sessions"]

# KEYS: counters. ARGV: window in seconds, then the limit of each counter.
# Answers 0, or the seconds until every full one is empty again.
_SCRIPT: Final = """
local wait = 0
for i, key in ipairs(KEYS) do
  local n = redis.call('INCR', key)
  if n == 1 then redis.call('EXPIRE', key, ARGV[1]) end
  if n > tonumber(ARGV[i + 1]) then wait = math.max(wait, redis.call('TTL', key), 1) end
end
return wait
"""


class Limits:
    """Counts calls per minute."""

    def __init__(self, redis: StoreClient) -> None:
        self._count = redis.register_script(_SCRIPT)
        self._refused: Tally[Limited] = Tally()

    def check(self, *limits: tuple[Limited, str, int]) -> None:
        """Counts one call against each (what, who, per minute). Raises TooManyRequests."""
        keys = [f"amends:limit:{what}:{who}" for what, who, _ in limits]
        wait = int(self._count(keys=keys, args=[WINDOW_S, *(limit for *_, limit in limits)]))
        if wait:
            self._refused.add(limits[0][0])
            raise TooManyRequests(f"too many {limits[0][0]}; come back in {wait} s", float(wait))

    def refused(self) -> dict[Limited, int]:
        """How many calls this process has refused."""
        return self._refused.counts()

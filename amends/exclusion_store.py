"""Exclusions in the store: who is left out of every round from now on, until it is lifted.

The only module that spells these keys. Knows no training; a run copies the list when it is
created (run_scripts), so that all its attempts leave out the same. Invariants: a change and its
audit row are one atomic script, on the disk when the call returns; rows are only ever appended.

    amends:exclusions        hash   {kind}:{name} -> Exclusion as JSON
    amends:exclusions:audit  list   ExclusionMove as JSON, oldest first
"""

from typing import Literal, cast

from pydantic import ValidationError
from redis.commands.core import Script

from amends.durability import durability, to_disk
from amends.errors import InvalidInput, NotFound
from amends.exclusion import Exclusion, ExclusionMove, Kind
from amends.record import now_s
from amends.store_client import StoreClient

EXCLUSIONS = "amends:exclusions"
_AUDIT = "amends:exclusions:audit"

# KEYS exclusions, audit; ARGV field, exclusion, audit row. 0: it stands already
_EXCLUDE = """
if redis.call('HSETNX', KEYS[1], ARGV[1], ARGV[2]) == 0 then return 0 end
redis.call('RPUSH', KEYS[2], ARGV[3])
return 1
"""

# KEYS exclusions, audit; ARGV field, audit row. 0: there is none
_LIFT = """
if redis.call('HDEL', KEYS[1], ARGV[1]) == 0 then return 0 end
redis.call('RPUSH', KEYS[2], ARGV[2])
return 1
"""


class ExclusionStore:
    """Raises StoreUnavailable whenever the store cannot be used."""

    def __init__(self, redis: StoreClient) -> None:
        self._redis = redis
        self._exclude = redis.register_script(_EXCLUDE)
        self._lift = redis.register_script(_LIFT)

    def exclude(self, kind: Kind, name: str, by: str, reason: str) -> None:
        """From the next run on; who is left out already stays so, with the first reason.
        InvalidInput for what is no name.
        """
        exclusion = _exclusion(kind, name, by, reason)
        row = _row(exclusion, "excluded")
        self._change(self._exclude, _field(kind, name), exclusion.model_dump_json(), row)

    def lift(self, kind: Kind, name: str, by: str, reason: str) -> None:
        """Their feedback counts again from the next run on. NotFound when nothing is to lift."""
        lifted = _exclusion(kind, name, by, reason)
        if not self._change(self._lift, _field(kind, name), _row(lifted, "lifted")):
            standing = ", ".join(map(str, self.standing())) or "nobody"
            raise NotFound(f"{lifted} is not left out; left out are: {standing}")

    def standing(self) -> tuple[Exclusion, ...]:
        """Who is left out now, by kind and name."""
        texts = cast(list[str], self._redis.hvals(EXCLUSIONS))
        found = [Exclusion.model_validate_json(text) for text in texts]
        return tuple(sorted(found, key=lambda item: (item.kind, item.name)))

    def audit(self, limit: int = 100) -> tuple[ExclusionMove, ...]:
        """The newest rows first."""
        texts = cast(list[str], self._redis.lrange(_AUDIT, -limit, -1))
        return tuple(ExclusionMove.model_validate_json(text) for text in reversed(texts))

    def _change(self, script: Script, *args: str) -> bool:
        """Whether anything was changed."""
        keys = [EXCLUSIONS, _AUDIT]
        return bool(to_disk(self._redis, durability(self._redis), script, keys, args))


def _exclusion(kind: Kind, name: str, by: str, reason: str) -> Exclusion:
    try:
        return Exclusion(kind=kind, name=name, by=by, reason=reason, at=now_s())
    except ValidationError:
        raise InvalidInput(
            f"expected the name of a {kind}, 1 to 128 characters, got {name!r}"
        ) from None


def _field(kind: Kind, name: str) -> str:
    return f"{kind}:{name}"


def _row(exclusion: Exclusion, action: Literal["excluded", "lifted"]) -> str:
    return ExclusionMove(**exclusion.model_dump(), action=action).model_dump_json()

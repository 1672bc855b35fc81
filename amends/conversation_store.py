"""Conversations in the store: messages as they arrive, turns as they are finished.

The only module that spells these keys. Knows no transport, no model and no feedback. Invariants:
a message is stored before `add_message` returns; a turn, its place in the conversation and the
order of recent conversations change together, so an empty conversation is not among the recent
ones; a conversation of somebody else looks like one that
does not exist.

    amends:conversation:{id}            hash    schema_version, visitor_id, opened_at
    amends:conversation:{id}:messages   hash    message_id -> text, in the order they came
    amends:conversation:{id}:turns      list    turn_id
    amends:conversations:recent         zset    conversation_id by time of its last turn
    amends:conversations:begun          zset    conversation_id by time of its first message
    amends:turn:{id}                    string  Turn as JSON
"""

from collections.abc import Iterable, Sequence
from typing import Any, Literal, cast

from amends.conversation import Conversation, Turn
from amends.errors import IdempotencyConflict, InvalidInput, NotFound
from amends.record import new_id, now_s
from amends.store_client import StoreClient

_RECENT = "amends:conversations:recent"
_BEGUN = "amends:conversations:begun"

# KEYS conversation, messages, begun; ARGV message_id, text, conversation_id, time. 1 stored, 0 was
# there, -1 no conversation, -2 other text
_ADD_MESSAGE = """
if redis.call('EXISTS', KEYS[1]) == 0 then return -1 end
local before = redis.call('HGET', KEYS[2], ARGV[1])
if before then
  if before == ARGV[2] then return 0 else return -2 end
end
redis.call('HSET', KEYS[2], ARGV[1], ARGV[2])
if redis.call('HLEN', KEYS[2]) == 1 then redis.call('ZADD', KEYS[3], ARGV[4], ARGV[3]) end
return 1
"""

# KEYS conversation, turns, turn, recent; ARGV turn_id, turn, conversation_id, time. Results as
# above
_APPEND = """
if redis.call('EXISTS', KEYS[1]) == 0 then return -1 end
local before = redis.call('GET', KEYS[3])
if before then
  if before == ARGV[2] then return 0 else return -2 end
end
redis.call('SET', KEYS[3], ARGV[2])
redis.call('RPUSH', KEYS[2], ARGV[1])
redis.call('ZADD', KEYS[4], 'GT', ARGV[4], ARGV[3])
return 1
"""


class ConversationStore:
    """Reads and writes conversations. Raises StoreUnavailable whenever the store cannot be used."""

    def __init__(self, redis: StoreClient) -> None:
        self._redis = redis
        self._add_message = redis.register_script(_ADD_MESSAGE)
        self._append = redis.register_script(_APPEND)

    def open(self, visitor_id: str) -> Conversation:
        """A new conversation without turns."""
        conversation = Conversation(
            conversation_id=new_id(), visitor_id=visitor_id, opened_at=now_s()
        )
        head: dict[Any, Any] = {
            "schema_version": conversation.schema_version,
            "visitor_id": visitor_id,
            "opened_at": repr(conversation.opened_at),
        }
        self._redis.hset(_key(conversation.conversation_id), mapping=head)
        return conversation

    def read(self, conversation_id: str) -> Conversation:
        """The conversation with its turns, oldest first; NotFound."""
        found = self.read_many([conversation_id])
        if not found:
            raise NotFound(f"no conversation {conversation_id!r}")
        return found[0]

    def read_for(self, conversation_id: str, visitor_id: str) -> Conversation:
        """As `read`; a conversation of another visitor is NotFound, in the same words."""
        conversation = self.read(conversation_id)
        if conversation.visitor_id != visitor_id:
            raise NotFound(f"no conversation {conversation_id!r}")
        return conversation

    def add_message(self, conversation_id: str, message_id: str, text: str) -> bool:
        """Store what the visitor wrote; True when it is new, False when it was there already.

        Raises NotFound, and IdempotencyConflict for the same id with another text.
        """
        key = _key(conversation_id)
        result = self._add_message(
            keys=[key, f"{key}:messages", _BEGUN],
            args=[message_id, text, conversation_id, now_s()],
        )
        _check(result, conversation_id, f"message {message_id!r}")
        return bool(result == 1)

    def messages(self, conversation_id: str) -> dict[str, str]:
        """message_id -> text of everything the visitor wrote, answered or not."""
        return cast(dict[str, str], self._redis.hgetall(f"{_key(conversation_id)}:messages"))

    def append(self, turn: Turn) -> None:
        """Store a finished turn; the same turn again changes nothing.

        Raises NotFound without its conversation, IdempotencyConflict for the same id with another
        content.
        """
        key = _key(turn.conversation_id)
        result = self._append(
            keys=[key, f"{key}:turns", _turn_key(turn.turn_id), _RECENT],
            args=[turn.turn_id, turn.model_dump_json(), turn.conversation_id, turn.created_at],
        )
        _check(result, turn.conversation_id, f"turn {turn.turn_id!r}")

    def turn(self, turn_id: str) -> Turn:
        """The turn; NotFound."""
        stored = self._redis.get(_turn_key(turn_id))
        if stored is None:
            raise NotFound(f"no turn {turn_id!r}")
        return Turn.model_validate_json(stored)

    def turns(self, turn_ids: Sequence[str]) -> dict[str, Turn]:
        """Those of `turn_ids` that exist, in one round trip."""
        if not turn_ids:
            return {}
        stored = self._redis.mget([_turn_key(turn_id) for turn_id in turn_ids])
        return {
            turn_id: Turn.model_validate_json(text)
            for turn_id, text in zip(turn_ids, stored, strict=True)
            if text is not None
        }

    def count(self) -> int:
        """How many conversations have a turn."""
        return int(self._redis.zcard(_RECENT))

    def recent(self, limit: int, before: str | None = None) -> list[Conversation]:
        """At most `limit` conversations, the one that spoke last first.

        `before` is the conversation_id that ended the page before; NotFound when no such
        conversation spoke.
        """
        if limit < 1:
            raise InvalidInput(f"limit must be at least 1, got {limit}")
        first = 0
        if before is not None:
            rank = self._redis.zrevrank(_RECENT, before)
            if rank is None:
                raise NotFound(f"no conversation {before!r}")
            first = cast(int, rank) + 1
        ids = cast(list[str], self._redis.zrevrange(_RECENT, first, first + limit - 1))
        return self.read_many(ids)

    def visitors(self) -> set[str]:
        """Everybody who has written anything; reads the head of every conversation."""
        pipeline = self._redis.pipeline(transaction=False)
        for conversation_id in cast(list[str], self._redis.zrange(_BEGUN, 0, -1)):
            pipeline.hget(_key(conversation_id), "visitor_id")
        return {visitor_id for visitor_id in pipeline.execute() if visitor_id is not None}

    def begun(self, since: float, until: float, limit: int) -> list[tuple[str, float]]:
        """At most `limit` (conversation_id, time of its first message), answered or not; from
        `since` on, before `until`, in this order."""
        found = self._redis.zrange(
            _BEGUN, since, f"({until}", byscore=True, offset=0, num=limit, withscores=True
        )
        return cast(list[tuple[str, float]], found)

    def read_many(self, conversation_ids: Iterable[str]) -> list[Conversation]:
        """Those that exist, in this order, in two round trips."""
        ids = [name for name in conversation_ids if ":" not in name]  # else it is a key beside one
        pipeline = self._redis.pipeline(transaction=False)
        for conversation_id in ids:
            pipeline.hgetall(_key(conversation_id))
            pipeline.lrange(f"{_key(conversation_id)}:turns", 0, -1)
        answers = pipeline.execute()
        heads: list[dict[str, str]] = answers[::2]
        turn_ids: list[list[str]] = answers[1::2]
        turns = self.turns([turn_id for some in turn_ids for turn_id in some])
        return [
            Conversation(
                schema_version=cast(Literal[1], int(head["schema_version"])),
                conversation_id=conversation_id,
                visitor_id=head["visitor_id"],
                opened_at=float(head["opened_at"]),
                turns=tuple(turns[turn_id] for turn_id in own if turn_id in turns),
            )
            for conversation_id, head, own in zip(ids, heads, turn_ids, strict=True)
            if head
        ]


def _key(conversation_id: str) -> str:
    return f"amends:conversation:{conversation_id}"


def _turn_key(turn_id: str) -> str:
    return f"amends:turn:{turn_id}"


def _check(result: int, conversation_id: str, what: str) -> None:
    if result == -1:
        raise NotFound(f"no conversation {conversation_id!r}")
    if result == -2:
        raise IdempotencyConflict(f"{what} exists with another content; take a new id")

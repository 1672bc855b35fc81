"""Feedback in the store: add, claim, complete, release, and the lineage both ways.

The only module that spells these keys. Knows no training and does not know whether a turn exists:
the caller looks first. Invariants: when `add` returns, the feedback is on the disk; a piece of
feedback that is replaced becomes pending again, and a run that had claimed it keeps the revision
it claimed; what is claimed ends completed or pending, never lost.

    amends:feedback:{id}              hash    kind, digest, revision, state, run, arrived, and
                                              record:{revision} -> Feedback as JSON
    amends:feedback:pending           zset    feedback_id by time of arrival
    amends:feedback:run:{run}         hash    feedback_id -> revision: what went into this run
    amends:feedback:runs:{id}         set     run ids: where this feedback went
    amends:feedback:claims            hash    run_id -> claimed or completed
    amends:feedback:completed         hash    feedback_id -> revision that was last learned from
    amends:feedback:counts            hash    {kind}:{state} -> number
    amends:feedback:conversation:{id} set     feedback_id
    amends:feedback:key:{sha256}      string  digest of the body that came with an idempotency key;
                                              kept for 7 days
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from functools import cached_property
from itertools import islice
from typing import Literal, TypedDict, cast

from amends import feedback_scripts as scripts
from amends.durability import Durability, durability, to_disk
from amends.errors import IdempotencyConflict, InvalidInput, NotFound
from amends.feedback import FEEDBACK, Feedback, Role
from amends.store_client import StoreClient

Added = Literal["created", "replaced", "unchanged"]
State = Literal["pending", "claimed", "completed"]

_KEY_KEPT_S = 7 * 24 * 3600
_PREFIX = "amends:feedback:"
_PENDING = f"{_PREFIX}pending"
_CLAIMS = f"{_PREFIX}claims"
_COMPLETED = f"{_PREFIX}completed"
_COUNTS = f"{_PREFIX}counts"
_CHUNK = 1000
_KINDS = ("thumb:", "rating:", "correction:", "ranking:")


class Counts(TypedDict):
    """How many pieces of one kind wait, are in a run, were learned from."""

    pending: int
    claimed: int
    completed: int


class FeedbackStore:
    """All feedback of this install. Raises StoreUnavailable whenever the store cannot be used."""

    def __init__(self, redis: StoreClient) -> None:
        self._redis = redis
        self._add = redis.register_script(scripts.ADD)
        self._claim = redis.register_script(scripts.CLAIM)
        self._complete = redis.register_script(scripts.COMPLETE)
        self._release = redis.register_script(scripts.RELEASE)

    @cached_property
    def _durability(self) -> Durability:
        return durability(self._redis)

    def add(self, feedback: Feedback, idempotency_key: str | None = None) -> Added:
        """Store a judgement; on the disk when this returns.

        A rater's earlier judgement of the same kind on the same target is replaced. The same key
        again changes nothing, even when another key has replaced the judgement since; without a
        key the judgement itself decides. Raises IdempotencyConflict for the same key with another
        body.
        """
        digest = _digest(feedback)
        result: str = to_disk(
            self._redis,
            self._durability,
            self._add,
            keys=[
                f"{_PREFIX}{feedback.feedback_id}",
                _PENDING,
                _COUNTS,
                _idempotency_key(feedback, idempotency_key, digest),
                f"{_PREFIX}conversation:{feedback.conversation_id}",
            ],
            args=[
                feedback.feedback_id,
                feedback.kind,
                feedback.model_dump_json(),
                digest,
                _KEY_KEPT_S if idempotency_key is not None else 0,
            ],
        )
        if result == "conflict":
            raise IdempotencyConflict(
                f"idempotency key {idempotency_key!r} came with another body; take a new key"
            )
        return cast(Added, result)

    def claim(self, run_id: int) -> list[Feedback]:
        """All pending feedback, now this run's; asked again, the same feedback, and nothing that
        came since.
        """
        self._claim(
            keys=[_PENDING, _COUNTS, _CLAIMS, _run_key(run_id)],
            args=[run_id, _PREFIX],
        )
        return self.used_by(run_id)

    def complete(self, run_id: int) -> None:
        """The run has learned from what it claimed. Again, or without a claim: nothing happens."""
        self._complete(
            keys=[_COUNTS, _CLAIMS, _run_key(run_id), _COMPLETED], args=[run_id, _PREFIX]
        )

    def release(self, run_id: int) -> None:
        """The run came to nothing: what it claimed is pending again, unless replaced or
        completed.
        """
        self._release(keys=[_PENDING, _COUNTS, _CLAIMS, _run_key(run_id)], args=[run_id, _PREFIX])

    def open_claims(self) -> list[int]:
        """Runs whose claim is neither completed nor released."""
        claims = cast(dict[str, str], self._redis.hgetall(_CLAIMS))
        return sorted(int(run) for run, state in claims.items() if state == "claimed")

    def used_by(self, run_id: int) -> list[Feedback]:
        """What went into this run, as it was then."""
        return self._revisions(cast(dict[str, str], self._redis.hgetall(_run_key(run_id))))

    def all_used(self, run_id: int) -> list[Feedback]:
        """What earlier runs completed and this one claimed; of each judgement the later revision.

        The same at every call while the run is live, whatever arrives meanwhile.
        """
        completed = cast(dict[str, str], self._redis.hgetall(_COMPLETED))
        own = cast(dict[str, str], self._redis.hgetall(_run_key(run_id)))
        return self._revisions({**completed, **own})

    def get(self, feedback_id: str) -> tuple[Feedback, State]:
        """A judgement as it stands now, and whether it waits, is in a run or was learned from.
        NotFound; InvalidInput for what is no id.
        """
        if not feedback_id.startswith(_KINDS) or feedback_id.count(":") < 2:
            raise InvalidInput(
                f"expected a feedback id such as correction:TURN:RATER, got {feedback_id!r}; "
                "`amends lineage --adapter N --json` lists those of a version"
            )
        # In one step: a pending revision that is replaced meanwhile is gone.
        stored = cast(dict[str, str], self._redis.hgetall(f"{_PREFIX}{feedback_id}"))
        if not stored:
            raise NotFound(f"no feedback {feedback_id}")
        text = stored[f"record:{stored['revision']}"]
        return FEEDBACK.validate_json(text), cast(State, stored["state"])

    def as_claimed(self, feedback_id: str, run_id: int) -> Feedback | None:
        """A judgement as it stood in this run, which claimed it or learned from it again; None
        where no run up to this one had it.
        """
        earlier = [run for run in self.runs_of(feedback_id) if run <= run_id]
        if not earlier:
            return None
        revision = cast(str | None, self._redis.hget(_run_key(earlier[-1]), feedback_id))
        found = self._revisions({feedback_id: revision}) if revision is not None else []
        return found[0] if found else None

    def raters(self) -> dict[str, Role]:
        """Everybody who has judged anything, with the role of their newest judgement; reads all."""
        ids = cast(list[str], self._redis.zrange(_PENDING, 0, -1))
        ids += cast(list[str], self._redis.hkeys(_COMPLETED))
        for run_id in self.open_claims():
            ids += cast(list[str], self._redis.hkeys(_run_key(run_id)))
        found = self._current(dict.fromkeys(ids))
        return {given.rater.rater_id: given.rater.role for given in found}

    def runs_of(self, feedback_id: str) -> list[int]:
        """Which runs claimed this feedback and did not give it back, in order."""
        return sorted(int(run) for run in self._redis.smembers(f"{_PREFIX}runs:{feedback_id}"))

    def counts(self) -> dict[str, Counts]:
        """Per kind, how many judgements are in which state (each counts once, by its last
        revision).
        """
        stored = cast(dict[str, str], self._redis.hgetall(_COUNTS))

        def number(kind: str, state: str) -> int:
            return int(stored.get(f"{kind}:{state}", 0))

        return {
            kind: Counts(
                pending=number(kind, "pending"),
                claimed=number(kind, "claimed"),
                completed=number(kind, "completed"),
            )
            for kind in ("thumb", "rating", "correction", "ranking")
        }

    def pending_since(self, since: float = 0.0) -> int:
        """How much pending feedback arrived at or after `since` (seconds since the epoch)."""
        return int(self._redis.zcount(_PENDING, since, "+inf"))

    def oldest_pending_at(self) -> float | None:
        """When the longest waiting feedback arrived (seconds since the epoch)."""
        oldest = cast(list[tuple[str, float]], self._redis.zrange(_PENDING, 0, 0, withscores=True))
        return float(oldest[0][1]) if oldest else None

    def of_conversation(self, conversation_id: str) -> list[Feedback]:
        """Every judgement on the conversation and its turns, as it stands now."""
        return self._current(self._redis.smembers(f"{_PREFIX}conversation:{conversation_id}"))

    def _current(self, feedback_ids: Iterable[object]) -> list[Feedback]:
        ids = [str(feedback_id) for feedback_id in feedback_ids]
        pipeline = self._redis.pipeline(transaction=False)
        for feedback_id in ids:
            pipeline.hget(f"{_PREFIX}{feedback_id}", "revision")
        revisions = pipeline.execute()
        return self._revisions(dict(zip(ids, revisions, strict=True)))

    def _revisions(self, revisions: Mapping[str, str]) -> list[Feedback]:
        """The named revisions, in the order they were given."""
        found: list[Feedback] = []
        pairs = iter(revisions.items())
        while chunk := list(islice(pairs, _CHUNK)):
            pipeline = self._redis.pipeline(transaction=False)
            for feedback_id, revision in chunk:
                pipeline.hget(f"{_PREFIX}{feedback_id}", f"record:{revision}")
            found += [FEEDBACK.validate_json(text) for text in pipeline.execute() if text]
        return sorted(found, key=lambda feedback: (feedback.given_at, feedback.feedback_id))


def _run_key(run_id: int) -> str:
    return f"{_PREFIX}run:{run_id}"


def _digest(feedback: Feedback) -> str:
    """Of what was said; when is the server's clock and differs when it is sent again."""
    body = feedback.model_dump(mode="json", exclude={"given_at"})
    return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()


def _idempotency_key(feedback: Feedback, key: str | None, digest: str) -> str:
    """Keys are the rater's own: nobody meets, or learns of, the key of somebody else."""
    owner = [feedback.rater.role, feedback.rater.rater_id, key if key is not None else digest]
    return f"{_PREFIX}key:{hashlib.sha256(json.dumps(owner).encode()).hexdigest()}"

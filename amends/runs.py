"""The record of a training run: its state, who holds it, how far it is.

The only module that spells these keys. Knows no queue and no process: a queue message is a hint
to look here. Invariants: every move is one atomic script judged by the store's own clock; at most
one run is live; only the holder of the newest epoch whose lease has not expired can report, pass
to the gate or finish.

    QUEUED -> RUNNING -> GATING -> CANDIDATE | REJECTED | FAILED | CANCELLED
    requeue: RUNNING | GATING -> QUEUED

    amends:run:{id}      hash     the fields of Run
    amends:runs          zset     run_id by run_id
    amends:runs:last     integer  the last run_id
    amends:runs:epochs   integer  the last epoch given to anybody
    amends:runs:live     string   run_id of the run that has not ended
"""

import json
from typing import Literal, cast

from pydantic import Field

from amends import run_scripts as scripts
from amends.errors import BadTransition, LeaseLost, NotFound
from amends.exclusion import Exclusion
from amends.exclusion_store import EXCLUSIONS
from amends.record import Record, new_id
from amends.store_client import StoreClient
from amends.verdict import Verdict as Verdict

State = Literal["QUEUED", "RUNNING", "GATING", "CANDIDATE", "REJECTED", "FAILED", "CANCELLED"]
Ended = Literal["CANDIDATE", "REJECTED", "FAILED", "CANCELLED"]
Optimizer = Literal["auto", "sft", "ppo"]

_RUNS = "amends:runs"
_LAST = "amends:runs:last"
_EPOCHS = "amends:runs:epochs"
_LIVE = "amends:runs:live"


class Run(Record):
    """A training run. Times are seconds since the epoch, by the store's clock."""

    schema_version: Literal[1] = 1
    run_id: int
    state: State
    optimizer: Optimizer
    requested_by: str
    reason: str
    without: tuple[Exclusion, ...] = Field((), description="who was left out when it was created")
    created_at: float
    hinted_at: float = Field(description="when a worker was last told about it")
    attempt: int = Field(0, description="how often it was claimed, without orderly shutdowns")
    epoch: int = Field(0, description="fencing token of the last claim or requeue")
    lease_until: float = 0.0
    stage: str | None = None
    progress: float = Field(0.0, ge=0.0, le=1.0)
    started_at: float | None = None
    ended_at: float | None = None
    cancel_requested: bool = False
    version: int | None = None
    verdict: Verdict | None = None
    error: str | None = None

    @property
    def ended(self) -> bool:
        return self.state in ("CANDIDATE", "REJECTED", "FAILED", "CANCELLED")


class Runs:
    """All runs. Raises NotFound, BadTransition, LeaseLost, StoreUnavailable."""

    def __init__(self, redis: StoreClient) -> None:
        self._redis = redis
        self._create = redis.register_script(scripts.CREATE)
        self._claim = redis.register_script(scripts.CLAIM)
        self._update = redis.register_script(scripts.UPDATE)
        self._finish = redis.register_script(scripts.FINISH)
        self._requeue = redis.register_script(scripts.REQUEUE)
        self._request_cancel = redis.register_script(scripts.REQUEST_CANCEL)
        self._take_hint = redis.register_script(scripts.TAKE_HINT)

    def create(self, optimizer: Optimizer = "auto", *, requested_by: str, reason: str = "") -> Run:
        """A new QUEUED run without whom exclusions name now; BadTransition while another is
        live.
        """
        answer = self._create(
            keys=[_LAST, _RUNS, _LIVE, EXCLUSIONS],
            args=[new_id(), optimizer, requested_by, reason],
        )
        return self.get(int(_unwrap(answer)))

    def get(self, run_id: int) -> Run:
        stored = cast(dict[str, str], self._redis.hgetall(_key(run_id)))
        if not stored:
            raise NotFound(f"no run {run_id}; `amends runs list` names those there are")
        return _parse(stored)

    def expired(self) -> list[Run]:
        """Live runs that somebody claimed and no longer renews."""
        run, now = self.live(), self._now()
        held = run is not None and run.state in ("RUNNING", "GATING")
        return [run] if run is not None and held and run.lease_until <= now else []

    def list(self, limit: int = 50) -> list[Run]:
        """The newest runs first."""
        ids = cast(list[str], self._redis.zrevrange(_RUNS, 0, limit - 1))
        pipeline = self._redis.pipeline(transaction=False)
        for run_id in ids:
            pipeline.hgetall(_key(int(run_id)))
        return [_parse(stored) for stored in pipeline.execute() if stored]

    def live(self) -> Run | None:
        """The run that has not ended."""
        run_id = self._redis.get(_LIVE)
        return self.get(int(run_id)) if run_id is not None else None

    def claim(self, run_id: int, lease_s: float = 60.0) -> Run:
        """Take the run under a new epoch: it must be QUEUED, or its holder's lease must have
        expired.
        """
        answer = self._claim(keys=[_key(run_id), _EPOCHS], args=[new_id(), lease_s])
        _unwrap(answer, run_id)
        return self.get(run_id)

    def renew(self, run_id: int, epoch: int, lease_s: float = 60.0) -> None:
        """Hold the run for `lease_s` more seconds; LeaseLost when it expired or was taken."""
        self._fenced(run_id, epoch, "lease", lease_s)

    def check(self, run_id: int, epoch: int) -> None:
        """LeaseLost unless this epoch still owns the run: the fence before publishing."""
        self._fenced(run_id, epoch, "check", "")

    def report(self, run_id: int, epoch: int, stage: str, progress: float) -> None:
        """How far the run is: the stage it is in, and the share of the whole run that is done."""
        self._fenced(run_id, epoch, "report", f"{progress:.6f}", stage)

    def to_gating(self, run_id: int, epoch: int) -> None:
        """RUNNING -> GATING; in GATING already, nothing happens."""
        self._fenced(run_id, epoch, "gate", "")

    def finish(
        self,
        run_id: int,
        epoch: int | None,
        state: Ended,
        version: int | None = None,
        verdict: Verdict | None = None,
        error: str | None = None,
    ) -> None:
        """End the run. `epoch` None is the reconciler's: only while nobody holds the run.

        The same end by the same epoch again changes nothing; any other move of an ended run is
        BadTransition.
        """
        answer = self._finish(
            keys=[_key(run_id), _LIVE],
            args=[
                epoch if epoch is not None else "",
                state,
                version if version is not None else "",
                verdict.model_dump_json() if verdict is not None else "",
                error if error is not None else "",
            ],
        )
        _unwrap(answer, run_id)

    def requeue(self, run_id: int, epoch: int | None, *, count_attempt: bool = True) -> None:
        """Give the run back to the queue; its epoch is void from now on.

        `epoch` None is the reconciler's: only when the lease has expired. `count_attempt` False
        forgives the attempt that an orderly shutdown interrupted.
        """
        answer = self._requeue(
            keys=[_key(run_id), _EPOCHS],
            args=[epoch if epoch is not None else "", 1 if count_attempt else 0],
        )
        _unwrap(answer, run_id)

    def request_cancel(self, run_id: int) -> Run:
        """A QUEUED run is CANCELLED at once; a held one is asked to stop. BadTransition when it
        has ended.
        """
        _unwrap(self._request_cancel(keys=[_key(run_id), _LIVE], args=[]), run_id)
        return self.get(run_id)

    def take_hint(self, run_id: int, after_s: float) -> bool:
        """True for one caller when the run is QUEUED and no worker was told about it for
        `after_s` seconds.
        """
        return _unwrap(self._take_hint(keys=[_key(run_id)], args=[after_s]), run_id) == "yes"

    def _fenced(self, run_id: int, epoch: int, action: str, *args: str | float) -> None:
        answer = self._update(keys=[_key(run_id)], args=[epoch, action, *args])
        _unwrap(answer, run_id)

    def _now(self) -> float:
        seconds, microseconds = self._redis.time()
        return seconds + microseconds / 1e6


def _key(run_id: int) -> str:
    return f"amends:run:{run_id}"


def _parse(stored: dict[str, str]) -> Run:
    fields: dict[str, object] = {
        name: value for name, value in stored.items() if name in Run.model_fields
    }
    fields["schema_version"] = int(stored["schema_version"])
    if "without" in stored:
        fields["without"] = json.loads(stored["without"])
    if "verdict" in stored:
        fields["verdict"] = Verdict.model_validate_json(stored["verdict"])
    return Run.model_validate(fields)


def _unwrap(answer: list[str], run_id: int | None = None) -> str:
    """Scripts answer {kind, text}: ok, missing, state or lease."""
    kind, text = answer
    if kind == "missing":
        raise NotFound(f"no run {run_id}; `amends runs list` names those there are")
    if kind == "state":
        raise BadTransition(text)
    if kind == "lease":
        raise LeaseLost(text)
    return text

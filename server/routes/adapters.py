"""Adapter versions: which there are, which answers, activate, roll back, try a candidate.

Knows HTTP; the adapter store moves aliases and writes the audit. The engine follows by itself
(adapter_watcher), so `serving` may lag behind the champion by some milliseconds.
"""

from typing import Annotated

from fastapi import APIRouter, Body
from pydantic import Field

from amends.adapter_audit import AuditRow
from amends.adapter_manifest import Manifest
from amends.adapter_store import AdapterStore
from amends.record import Record
from server.adapter_watcher import Refusal
from server.routes.callers import Staff, StateOf

router = APIRouter(prefix="/v1/adapters", tags=["adapters"])


class Adapters(Record):
    aliases: dict[str, int]
    versions: tuple[Manifest, ...]
    serving: int = Field(description="the version that new turns are written by; 0: base model")
    candidate_share: float = Field(description="of new conversations, 0 to 1, that it answers")
    refusal: Refusal | None = Field(description="the champion, when the engine would not take it")
    candidate_refusal: Refusal | None = Field(description="the candidate, likewise")


class Activation(Record):
    reason: str = Field("", max_length=500)
    force: bool = Field(False, description="against what the gate says of it")


class RollBack(Record):
    reason: str = Field("", max_length=500)
    champion: int | None = Field(
        None, ge=0, description="the version to leave: 409 when another is champion by now"
    )


class Candidacy(Record):
    version: int | None = Field(ge=1, description="null: no candidate any more")
    share: float | None = Field(
        None,
        ge=0,
        le=1,
        description="of the conversations that begin; null: as it is, 409 beside another candidate",
    )
    reason: str = Field("", max_length=500)
    force: bool = Field(False, description="against what the gate says of it")


class Aliases(Record):
    aliases: dict[str, int]
    candidate_share: float = 0.0


class Audit(Record):
    rows: tuple[AuditRow, ...]


@router.get("")
def list_adapters(state: StateOf, staff: Staff) -> Adapters:
    """Every version, oldest first; version 0 is the base model and not listed."""
    policy = state.require_policy()
    pointers = policy.adapters.pointers()
    return Adapters(
        aliases=pointers.as_dict(),
        versions=tuple(policy.adapters.list()),
        serving=policy.engine.active_version,
        candidate_share=pointers.candidate_share,
        refusal=policy.watcher.refusal,
        candidate_refusal=policy.watcher.candidate_refusal,
    )


@router.get("/audit")
def read_audit(state: StateOf, staff: Staff) -> Audit:
    """Who moved which alias, newest first."""
    return Audit(rows=state.require_policy().adapters.audit(100))


@router.put("/candidate")
def set_candidate(
    state: StateOf,
    staff: Staff,
    body: Annotated[Candidacy, Body(examples=[{"version": 7, "share": 0.1}])],
) -> Aliases:
    """Tries a version on a share of the conversations that begin from now on; 409 with the
    reasons when the gate rejected it or compared it with another champion, or when without a share
    another version is the candidate. A conversation stays with the candidate while it is one.
    """
    adapters = state.require_policy().adapters
    adapters.set_candidate(
        body.version, by=staff, reason=body.reason, share=body.share, force=body.force
    )
    return _aliases(adapters)


@router.post("/{version}/activate")
def activate(
    version: int,
    state: StateOf,
    staff: Staff,
    body: Annotated[Activation | None, Body(examples=[{"reason": "looks better"}])] = None,
) -> Aliases:
    """Makes a version the champion; 409 with the reasons when the gate
    rejected it or compared it with another champion.
    """
    wanted = body or Activation()
    adapters = state.require_policy().adapters
    adapters.activate(version, by=staff, reason=wanted.reason, force=wanted.force)
    return _aliases(adapters)


@router.post("/rollback")
def roll_back(
    state: StateOf,
    staff: Staff,
    body: Annotated[RollBack | None, Body(examples=[{"reason": "wrong prices"}])] = None,
) -> Aliases:
    """Makes the champion before this one champion again; sent twice with `champion`, it moves
    once.
    """
    wanted = body or RollBack()
    adapters = state.require_policy().adapters
    adapters.roll_back(by=staff, reason=wanted.reason, expected=wanted.champion)
    return _aliases(adapters)


def _aliases(adapters: AdapterStore) -> Aliases:
    pointers = adapters.pointers()
    return Aliases(aliases=pointers.as_dict(), candidate_share=pointers.candidate_share)

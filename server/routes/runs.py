"""Training runs: start, watch, cancel.

Knows HTTP; the record of a run is amends.runs', the work is the worker's. Invariant: the record
exists before the worker is told.
"""

from typing import Annotated

from fastapi import APIRouter, Body, Query
from pydantic import Field

from amends.events import Event
from amends.record import Record
from amends.runs import Optimizer, Run
from server.routes.callers import Staff, StateOf
from server.state import State

router = APIRouter(prefix="/v1/runs", tags=["runs"])


class RunRequest(Record):
    optimizer: Optimizer = "auto"
    reason: str = Field("", max_length=200)


class RunList(Record):
    runs: tuple[Run, ...]


class EventEntry(Record):
    id: str
    event: Event


class EventPage(Record):
    """At most a thousand; the last id goes into `after` for what comes next."""

    events: tuple[EventEntry, ...]


@router.post("", status_code=201)
def start_run(
    state: StateOf,
    staff: Staff,
    body: Annotated[RunRequest, Body(examples=[{"optimizer": "auto", "reason": "new catalogue"}])],
) -> Run:
    """Asks for a round now; 409 while another is live. QUEUED until a worker takes it."""
    return start(state, body.optimizer, staff, body.reason)


@router.get("")
def list_runs(
    state: StateOf, staff: Staff, limit: Annotated[int, Query(ge=1, le=500)] = 50
) -> RunList:
    """Newest first."""
    return RunList(runs=tuple(state.runs.list(limit)))


@router.get("/{run_id}")
def read_run(run_id: int, state: StateOf, staff: Staff) -> Run:
    """State, stage and progress, verdict, error."""
    return state.runs.get(run_id)


@router.get("/{run_id}/events")
def read_events(
    run_id: int, state: StateOf, staff: Staff, after: Annotated[str, Query(max_length=40)] = "0"
) -> EventPage:
    """What the round reported, oldest first."""
    state.runs.get(run_id)
    found = state.events.read(run_id, after)
    return EventPage(events=tuple(EventEntry(id=key, event=event) for key, event in found))


@router.post("/{run_id}/cancel")
def cancel_run(run_id: int, state: StateOf, staff: Staff) -> Run:
    """A queued run ends at once; a running one stops after its next checkpoint."""
    return state.runs.request_cancel(run_id)


def start(state: State, optimizer: Optimizer, requested_by: str, reason: str) -> Run:
    """Creates a run and tells the worker. Raises BadTransition."""
    run = state.runs.create(optimizer, requested_by=requested_by, reason=reason)
    state.jobs.train(run.run_id)
    return run

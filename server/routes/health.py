"""Is the process alive; may visitors be sent to it.

Knows nothing of what makes it so. Invariant: /readyz is 200 only when a message would be answered.
"""

from fastapi import APIRouter
from fastapi.responses import JSONResponse

from amends.record import Record
from server.adapter_watcher import Refusal
from server.routes.callers import StateOf

router = APIRouter(tags=["health"])


class Ready(Record):
    ready: bool
    policy_version: int
    refusal: Refusal | None = None
    candidate_refusal: Refusal | None = None


class NotReady(Record):
    ready: bool
    reason: str


@router.get("/livez")
async def livez() -> dict[str, bool]:
    """The process answers."""
    return {"alive": True}


@router.get("/readyz", response_model=Ready, responses={503: {"model": NotReady}})
def readyz(state: StateOf) -> JSONResponse:
    """The model is loaded and the store answers. `refusal`: a newer champion that could not be
    loaded; `candidate_refusal`: a candidate, whose conversations the champion answers.
    """
    if state.policy is None:
        return _not_ready(state.failure or state.waits_for or "the policy is loading")
    obstacle = state.policy.engine.obstacle
    if obstacle is not None:
        return _not_ready(obstacle)
    state.activity.visitors_active()  # 503 when the store does not answer
    ready = Ready(
        ready=True,
        policy_version=state.policy.engine.active_version,
        refusal=state.policy.watcher.refusal,
        candidate_refusal=state.policy.watcher.candidate_refusal,
    )
    return JSONResponse(ready.model_dump())


def _not_ready(reason: str) -> JSONResponse:
    return JSONResponse(NotReady(ready=False, reason=reason).model_dump(), 503)

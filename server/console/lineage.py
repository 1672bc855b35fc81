"""The console's pages of lineage: what a version was made of, what became of a piece of feedback.

Knows requests; amends/lineage_records.py looks it up, lineage_views.py says it in words.
"""

from typing import Any

from fastapi import Request
from starlette.responses import Response

from amends.errors import NotFound
from amends.lineage_records import Archive, of_adapter, of_feedback
from server.console import lineage_views as views
from server.console.pages import Login, page
from server.console.views import examined, never_learned
from server.routes.callers import StateOf
from server.state import State


def version(request: Request, state: StateOf, login: Login, version: int) -> Response:
    if version == 0:
        raise NotFound("version 0 is the base model: it learned from no feedback")
    found = of_adapter(version, _archive(state))
    return page(request, "version.html", login, found=found, view=views.version_view(found))


def feedback(request: Request, state: StateOf, login: Login, feedback_id: str) -> Response:
    found = of_feedback(feedback_id, _archive(state))
    view = views.feedback_view(found)
    never = "" if view.carried else _never_learned(found["record"], state)
    return page(request, "feedback.html", login, found=found, view=view, never=never)


def _never_learned(record: dict[str, Any] | None, state: State) -> str:
    """Why no round learns from the judgement; of a rating, when that holds for every turn."""
    if record is None:
        return ""
    try:
        turns = state.conversations.read(record["conversation_id"]).turns
    except NotFound:
        return ""
    asked = examined(state.knowledge.questions)
    about = record.get("turn_id")
    reasons = [never_learned(turn, asked) for turn in turns if about in (None, turn.turn_id)]
    return reasons[0] if reasons and all(reasons) else ""


def _archive(state: State) -> Archive:
    adapters = state.require_policy().adapters
    return Archive(
        state.shared,
        adapters,
        state.runs,
        state.feedback,
        state.conversations,
        state.exclusions,
    )

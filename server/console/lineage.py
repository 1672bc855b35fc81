"""The console's pages of lineage: what a version was made of, what became of a piece of feedback.

Knows requests; amends/lineage_records.py looks it up, lineage_views.py says it in words.
"""

from fastapi import Request
from starlette.responses import Response

from amends.errors import NotFound
from amends.lineage_records import Archive, of_adapter, of_feedback
from server.console import lineage_views as views
from server.console.pages import Login, page
from server.routes.callers import StateOf
from server.state import State


def version(request: Request, state: StateOf, login: Login, version: int) -> Response:
    if version == 0:
        raise NotFound("version 0 is the base model: it learned from no feedback")
    found = of_adapter(version, _archive(state))
    return page(request, "version.html", login, found=found, view=views.version_view(found))


def feedback(request: Request, state: StateOf, login: Login, feedback_id: str) -> Response:
    found = of_feedback(feedback_id, _archive(state))
    return page(request, "feedback.html", login, found=found, view=views.feedback_view(found))


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

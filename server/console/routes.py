"""The console: pages for experts and operators, forms that act.

Knows requests and the views; what a form does is a call into the stores. Invariants:
nothing is shown or done without a login, nothing done without the form's token; every form answers
with a redirect, so that reloading repeats nothing.
"""

from pathlib import Path
from typing import Annotated, Final

from fastapi import FastAPI, Form, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import RedirectResponse
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.staticfiles import StaticFiles

from amends.conversation import MAX_MESSAGE_BYTES
from amends.errors import AmendsError, InvalidInput
from amends.events import Event
from amends.feedback import Rating
from amends.record import now_s
from amends.runs import Optimizer
from server.auth import STAFF_COOKIE, STAFF_NAME
from server.console import lineage, versions, views
from server.console.pages import FormLogin, Login, Text, back, failed, form_login, login_of, page
from server.errors import Forbidden, TooManyRequests, Unauthorized
from server.routes.callers import StateOf, address_of
from server.routes.feedback import correct
from server.routes.runs import start
from server.state import State

PAGE: Final = 40


def console_app() -> FastAPI:
    """The application mounted at /console; `app.state.amends` is set by the composition root."""
    app = FastAPI(openapi_url=None)
    app.mount("/static", StaticFiles(directory=Path(__file__).parent / "static"), name="static")
    for kind in (AmendsError, RequestValidationError, HTTPException):
        app.add_exception_handler(kind, failed)
    app.get("/login")(login_page)
    app.post("/login")(log_in)
    app.post("/logout")(log_out)
    app.get("/")(conversations)
    app.get("/conversations/{conversation_id}")(conversation)
    app.post("/turns/{turn_id}/correction")(post_correction)
    app.get("/runs")(runs)
    app.post("/runs")(start_run)
    app.get("/runs/{run_id}")(run)
    app.post("/runs/{run_id}/cancel")(cancel_run)
    app.get("/versions")(versions.versions)
    app.get("/versions/{version}")(lineage.version)
    app.get("/feedback/{feedback_id:path}")(lineage.feedback)
    app.post("/versions/{version}/activate")(versions.activate)
    app.post("/versions/{version}/try")(versions.try_out)
    app.post("/versions/{version}/reject")(versions.reject)
    app.post("/rollback")(versions.roll_back)
    return app


def login_page(request: Request) -> Response:
    return page(request, "login.html", None, name=STAFF_NAME)


def log_in(
    request: Request, state: StateOf, token: Text = "", name: Text = STAFF_NAME, next: Text = ""
) -> Response:
    limit = state.settings.logins_per_minute
    try:
        state.limits.check(("logins", address_of(request), limit))
        cookie = state.auth.log_in(token, name)
    except (Unauthorized, TooManyRequests, InvalidInput) as error:
        return page(request, "login.html", None, 403, error=str(error), name=name, next_page=next)
    # Only ever within the console: `next` came from an address bar.
    inside = next.startswith("/console/") and "\\" not in next and "//" not in next
    response = RedirectResponse(next if inside else "/console/", 303)
    response.set_cookie(
        STAFF_COOKIE,
        cookie,
        max_age=state.auth.staff_ttl_s,
        path="/console",
        secure=request.url.scheme == "https",
        httponly=True,
        samesite="strict",
    )
    return response


def log_out(login: FormLogin) -> Response:
    response = RedirectResponse("/console/login", 303)
    response.delete_cookie(STAFF_COOKIE, path="/console")
    return response


def conversations(
    request: Request, state: StateOf, login: Login, before: str | None = None
) -> Response:
    found = state.conversations.recent(PAGE, before)
    rows = [
        views.conversation_row(one, state.feedback.of_conversation(one.conversation_id))
        for one in found
        if one.turns
    ]
    following = found[-1].conversation_id if len(found) == PAGE else None
    return page(
        request,
        "conversations.html",
        login,
        rows=rows,
        next=following,
        first=before is None,
        counts=state.feedback.counts(),
    )


def conversation(request: Request, state: StateOf, login: Login, conversation_id: str) -> Response:
    found = state.conversations.read(conversation_id)
    feedback = state.feedback.of_conversation(conversation_id)
    examined = views.examined(state.knowledge.questions)
    return page(
        request,
        "conversation.html",
        login,
        row=views.conversation_row(found, feedback),
        turns=[views.turn_view(turn, feedback, login.name, examined) for turn in found.turns],
        ratings=[given for given in feedback if isinstance(given, Rating)],
    )


def post_correction(
    request: Request, state: StateOf, turn_id: str, response: Text = "", csrf: Text = ""
) -> Response:
    login = None
    try:
        login = login_of(request, state)
        form_login(login, csrf)
    except (Unauthorized, Forbidden):  # what was written is not lost
        values = {"turn_id": turn_id, "response": response}
        return page(request, "unsent.html", login, 403, **values)
    response = response.strip()
    if not response:
        raise InvalidInput("expected the answer that should have been given, got an empty one")
    if len(response) > MAX_MESSAGE_BYTES:
        raise InvalidInput(
            f"expected a correction of at most {MAX_MESSAGE_BYTES} characters, "
            f"got {len(response)}; shorten it"
        )
    turn = state.conversations.turn(turn_id)
    if reason := views.never_learned(turn, views.examined(state.knowledge.questions)):
        raise InvalidInput(reason)
    correct(state, turn_id, login.name, response)
    return back(f"/console/conversations/{turn.conversation_id}", "corrected", f"turn-{turn_id}")


def runs(request: Request, state: StateOf, login: Login) -> Response:
    rows = [views.run_view(one, now_s()) for one in state.runs.list(50)]
    counts = state.feedback.counts()
    waiting = sum(of_kind["pending"] for of_kind in counts.values())
    return page(request, "runs.html", login, rows=rows, counts=counts, pending=waiting)


def start_run(
    state: StateOf, login: FormLogin, optimizer: Annotated[Optimizer, Form()] = "auto"
) -> Response:
    begun = start(state, optimizer, login.name, "started in the console")
    return back(f"/console/runs/{begun.run_id}", "started")


def run(request: Request, state: StateOf, login: Login, run_id: int) -> Response:
    found = state.runs.get(run_id)
    return page(
        request,
        "run.html",
        login,
        run=views.run_view(found, now_s()),
        details=views.run_details(found, _all_events(state, run_id)),
    )


def cancel_run(state: StateOf, login: FormLogin, run_id: int) -> Response:
    state.runs.request_cancel(run_id)
    return back(f"/console/runs/{run_id}", "cancelled")


def _all_events(state: State, run_id: int) -> list[Event]:
    events: list[Event] = []
    after = "0"
    while found := state.events.read(run_id, after):
        events += [event for _, event in found]
        after = found[-1][0]
    return events

"""The console: pages for experts and operators, forms that act.

Knows requests, the views and the templates; what a form does is a call into the stores. Invariants:
nothing is shown or done without a login, nothing done without the form's token; every form answers
with a redirect, so that reloading repeats nothing.
"""

from pathlib import Path
from typing import Annotated, Final
from urllib.parse import quote

from fastapi import Depends, FastAPI, Form, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, RedirectResponse
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.staticfiles import StaticFiles
from starlette.templating import Jinja2Templates

from amends.conversation import MAX_MESSAGE_BYTES
from amends.errors import AmendsError, InvalidInput, StoreUnavailable
from amends.events import Event
from amends.record import now_s
from amends.runs import Optimizer
from server.auth import STAFF_COOKIE, StaffLogin
from server.console import views, wording
from server.edge import CONSOLE_CSP
from server.errors import Forbidden, TooManyRequests, Unauthorized, status_of, text_of
from server.routes.callers import StateOf, address_of, state_of
from server.routes.feedback import correct
from server.routes.runs import start
from server.state import State

_HERE: Final = Path(__file__).parent
PAGE: Final = 40
_DONE: Final = {
    "corrected": "The correction is stored. The next round learns from it.",
    "started": "The round is queued.",
    "cancelled": "The round was asked to stop.",
    "activated": "The version is champion now.",
    "rolled_back": "Rolled back.",
}
templates = Jinja2Templates(directory=_HERE / "templates")
templates.env.filters |= {
    "when": wording.when,
    "machine_when": wording.machine_when,
    "duration": wording.duration,
    "number": wording.number,
}


def console_app() -> FastAPI:
    """The application mounted at /console; `app.state.amends` is set by the composition root."""
    app = FastAPI(openapi_url=None)
    app.mount("/static", StaticFiles(directory=_HERE / "static"), name="static")
    for kind in (AmendsError, RequestValidationError, HTTPException):
        app.add_exception_handler(kind, _failed)
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
    app.get("/versions")(versions)
    app.post("/versions/{version}/activate")(activate)
    app.post("/rollback")(roll_back)
    return app


def _login(request: Request, state: StateOf) -> StaffLogin:
    return state.auth.login(request.cookies.get(STAFF_COOKIE, ""))


Login = Annotated[StaffLogin, Depends(_login)]


def _form_login(login: Login, csrf: Annotated[str, Form()] = "") -> StaffLogin:
    if csrf != login.csrf:
        raise Forbidden("this form is from another login; go back, reload the page, send it again")
    return login


FormLogin = Annotated[StaffLogin, Depends(_form_login)]
Text = Annotated[str, Form()]


def login_page(request: Request) -> Response:
    return _page(request, "login.html", None)


def log_in(request: Request, state: StateOf, token: Text = "", next: Text = "") -> Response:
    limit = state.settings.logins_per_minute
    try:
        state.limits.check(("logins", address_of(request), limit))
        cookie = state.auth.log_in(token)
    except (Unauthorized, TooManyRequests) as error:
        return _page(request, "login.html", None, 403, error=str(error))
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
    return _page(
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
    return _page(
        request,
        "conversation.html",
        login,
        row=views.conversation_row(found, feedback),
        turns=[views.turn_view(turn, feedback) for turn in found.turns],
    )


def post_correction(
    state: StateOf, login: FormLogin, turn_id: str, response: Text = ""
) -> Response:
    response = response.strip()
    if not response:
        raise InvalidInput("expected the answer that should have been given, got an empty one")
    if len(response) > MAX_MESSAGE_BYTES:
        raise InvalidInput(
            f"expected a correction of at most {MAX_MESSAGE_BYTES} characters, "
            f"got {len(response)}; shorten it"
        )
    conversation_id = state.conversations.turn(turn_id).conversation_id
    correct(state, turn_id, login.name, response)
    return _back(f"/console/conversations/{conversation_id}", "corrected", f"turn-{turn_id}")


def runs(request: Request, state: StateOf, login: Login) -> Response:
    rows = [views.run_view(one, now_s()) for one in state.runs.list(50)]
    counts = state.feedback.counts()
    waiting = sum(of_kind["pending"] for of_kind in counts.values())
    return _page(request, "runs.html", login, rows=rows, counts=counts, pending=waiting)


def start_run(
    state: StateOf, login: FormLogin, optimizer: Annotated[Optimizer, Form()] = "auto"
) -> Response:
    begun = start(state, optimizer, login.name, "started in the console")
    return _back(f"/console/runs/{begun.run_id}", "started")


def run(request: Request, state: StateOf, login: Login, run_id: int) -> Response:
    found = state.runs.get(run_id)
    return _page(
        request,
        "run.html",
        login,
        run=views.run_view(found, now_s()),
        details=views.run_details(found, _all_events(state, run_id)),
    )


def cancel_run(state: StateOf, login: FormLogin, run_id: int) -> Response:
    state.runs.request_cancel(run_id)
    return _back(f"/console/runs/{run_id}", "cancelled")


def versions(request: Request, state: StateOf, login: Login) -> Response:
    policy = state.require_policy()
    pointers = policy.adapters.pointers()
    aliases = pointers.as_dict()
    try:
        report = state.canary_reports.last()
    except StoreUnavailable:  # rolling back must work without the store
        report = None
    return _page(
        request,
        "versions.html",
        login,
        rows=views.version_rows(policy.adapters.list(), aliases, policy.engine.active_version),
        aliases=aliases,
        candidate_share=pointers.candidate_share,
        canary=views.canary_lines(report, pointers.candidate, pointers.champion),
        refusal=policy.watcher.refusal,
        candidate_refusal=policy.watcher.candidate_refusal,
        audit=policy.adapters.audit(20),
    )


def activate(state: StateOf, login: FormLogin, version: int, reason: Text = "") -> Response:
    adapters = state.require_policy().adapters
    adapters.activate(version, by=login.name, reason=reason or "approved in the console")
    return _back("/console/versions", "activated")


def roll_back(
    state: StateOf, login: FormLogin, champion: Annotated[int, Form()], reason: Text = ""
) -> Response:
    adapters = state.require_policy().adapters
    reason = reason or "rolled back in the console"
    adapters.roll_back(by=login.name, reason=reason, expected=champion)
    return _back("/console/versions", "rolled_back")


def _all_events(state: State, run_id: int) -> list[Event]:
    events: list[Event] = []
    after = "0"
    while page := state.events.read(run_id, after):
        events += [event for _, event in page]
        after = page[-1][0]
    return events


def _page(
    request: Request,
    template: str,
    login: StaffLogin | None,
    status: int = 200,
    /,
    **values: object,
) -> HTMLResponse:
    shop = state_of(request).knowledge.shop.name
    done = _DONE.get(request.query_params.get("done", ""))
    following = request.query_params.get("next", "")
    context = {"login": login, "shop": shop, "done": done, "next_page": following, **values}
    headers = {"Content-Security-Policy": CONSOLE_CSP, "Cache-Control": "no-store"}
    return templates.TemplateResponse(request, template, context, status, headers)


def _back(address: str, done: str, anchor: str = "") -> Response:
    return RedirectResponse(f"{address}?done={done}" + (f"#{anchor}" if anchor else ""), 303)


def _failed(request: Request, error: Exception) -> Response:
    """Every error as a page; who is not logged in is asked to."""
    if isinstance(error, Unauthorized):
        wanted = f"?next={quote(request.url.path)}" if request.method == "GET" else ""
        return RedirectResponse(f"/console/login{wanted}", 303)
    status, text = 422, "the form was not filled in as expected"
    if isinstance(error, AmendsError):
        status, text = status_of(error)[0], text_of(error)
    elif isinstance(error, HTTPException):
        status, text = error.status_code, str(error.detail)
    try:
        login = _login(request, state_of(request))
    except Unauthorized:
        login = None
    return _page(request, "error.html", login, status, code=status, text=text)

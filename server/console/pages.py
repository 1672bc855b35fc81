"""What every page of the console needs: who looks at it, its frame, the way back after a form.

Knows logins and templates, no stores. Invariants: nothing is shown without a login and done
without the form's token; an error is a page too, and sends who is not logged in to the login page.
"""

from pathlib import Path
from typing import Annotated, Final
from urllib.parse import quote

from fastapi import Depends, Form, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, RedirectResponse
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.templating import Jinja2Templates

from amends.errors import AmendsError
from server.auth import STAFF_COOKIE, StaffLogin
from server.console import wording
from server.edge import CONSOLE_CSP
from server.errors import Forbidden, Unauthorized, status_of, text_of
from server.routes.callers import StateOf, state_of

_DONE: Final = {
    "corrected": "The correction is stored. The next round learns from it.",
    "started": "The round is queued.",
    "cancelled": "The round was asked to stop.",
    "activated": "The version is champion now.",
    "tried": "The version is the candidate now.",
    "rejected": "The candidate is rejected; the champion answers everybody.",
    "rolled_back": "Rolled back.",
}
_templates = Jinja2Templates(directory=Path(__file__).parent / "templates")
_templates.env.filters |= {
    "when": wording.when,
    "machine_when": wording.machine_when,
    "duration": wording.duration,
    "number": wording.number,
}


def login_of(request: Request, state: StateOf) -> StaffLogin:
    return state.auth.login(request.cookies.get(STAFF_COOKIE, ""))


Login = Annotated[StaffLogin, Depends(login_of)]


def form_login(login: Login, csrf: Annotated[str, Form()] = "") -> StaffLogin:
    """Whose form it is. Raises Unauthorized, Forbidden."""
    if csrf != login.csrf:
        raise Forbidden("this form is from another login; go back, reload the page, send it again")
    return login


FormLogin = Annotated[StaffLogin, Depends(form_login)]
Text = Annotated[str, Form()]


def page(
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
    return _templates.TemplateResponse(request, template, context, status, headers)


def back(address: str, done: str, anchor: str = "") -> Response:
    return RedirectResponse(f"{address}?done={done}" + (f"#{anchor}" if anchor else ""), 303)


def failed(request: Request, error: Exception) -> Response:
    """Every error as a page; who is not logged in is asked to."""
    if isinstance(error, Unauthorized):
        wanted = f"?next={quote(request.url.path)}" if request.method == "GET" else ""
        return RedirectResponse(f"/console/login{wanted}", 303)
    status, text = 422, "the form was not filled in as expected"
    if isinstance(error, RequestValidationError) and error.errors()[0]["loc"][0] == "path":
        status, text = 404, f"expected a number in the address, got {error.errors()[0]['input']!r}"
    if isinstance(error, AmendsError):
        status, text = status_of(error)[0], text_of(error)
    elif isinstance(error, HTTPException):
        status, text = error.status_code, str(error.detail)
    try:
        login = login_of(request, state_of(request))
    except Unauthorized:
        login = None
    return page(request, "error.html", login, status, code=status, text=text)

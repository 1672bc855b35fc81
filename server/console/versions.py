"""The console's page of versions: which answers, what the gate said, and an operator's decisions.

Knows requests and the views; a decision is a call into the adapter store. Invariant: it is about
what the operator saw, or is not done.
"""

from typing import Annotated

from fastapi import Form, Request
from starlette.responses import Response

from amends.adapter_audit import AuditRow, candidacy
from amends.errors import AdapterRefused, BadTransition, StoreUnavailable
from amends.record import now_s
from server.console import version_views
from server.console.pages import FormLogin, Login, Text, back, page
from server.routes.callers import StateOf

# The number of the audit log's last row when the page was made: who decides on what has changed
# since, by a canary for example, is asked to look again.
Seen = Annotated[int, Form()]


def versions(request: Request, state: StateOf, login: Login) -> Response:
    policy = state.require_policy()
    adapters, watcher = policy.adapters, policy.watcher
    pointers = adapters.pointers()
    audit: tuple[AuditRow, ...] = ()
    trial = unreadable = None
    try:
        audit = adapters.audit(20)
        trial = version_views.trial_view(
            state.canary_reports.last(),
            candidacy(adapters.newest()),
            pointers.candidate_share,
            now_s(),
        )
    except AdapterRefused as refused:  # deciding must work without the audit
        unreadable = str(refused)
    except StoreUnavailable:  # and without the store
        pass
    return page(
        request,
        "versions.html",
        login,
        rows=version_views.version_rows(adapters.list(), pointers, policy.engine.active_version),
        aliases=pointers.as_dict(),
        seen=pointers.last_row.number,
        candidate_share=pointers.candidate_share,
        trial=trial,
        refusal=watcher.refusal,
        candidate_refusal=watcher.candidate_refusal,
        audit=audit,
        unreadable=unreadable,
    )


def activate(
    state: StateOf, login: FormLogin, version: int, seen: Seen, reason: Text = ""
) -> Response:
    adapters = state.require_policy().adapters
    reason = reason or "approved in the console"
    adapters.activate(version, by=login.name, reason=reason, seen=seen)
    return back("/console/versions", "activated")


def try_out(
    state: StateOf,
    login: FormLogin,
    version: int,
    seen: Seen,
    percent: Annotated[int, Form(ge=0, le=100)],
    reason: Text = "",
) -> Response:
    adapters = state.require_policy().adapters
    reason = reason or "tried from the console"
    adapters.set_candidate(version, login.name, reason, share=percent / 100, seen=seen)
    return back("/console/versions", "tried")


def reject(
    state: StateOf, login: FormLogin, version: int, seen: Seen, reason: Text = ""
) -> Response:
    adapters = state.require_policy().adapters
    if adapters.pointers().candidate != version:
        raise BadTransition(f"version {version} is not the candidate: nothing was changed")
    adapters.set_candidate(None, login.name, reason or "rejected in the console", seen=seen)
    return back("/console/versions", "rejected")


def roll_back(
    state: StateOf, login: FormLogin, champion: Annotated[int, Form()], reason: Text = ""
) -> Response:
    adapters = state.require_policy().adapters
    reason = reason or "rolled back in the console"
    adapters.roll_back(by=login.name, reason=reason, expected=champion)
    return back("/console/versions", "rolled_back")

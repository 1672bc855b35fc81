"""The console, through the real application, as a browser without scripts would use it."""

import html
import json
import re
import shutil
from pathlib import Path

import httpx
import pytest
import typer

from amends.adapter_store import AdapterStore
from amends.cli.app import app
from amends.conversation import Conversation, Turn
from amends.events import Log, Metrics, Sample, Samples, StageFinished, StageStarted
from amends.feedback import Correction, Feedback, Rater, Rating, Role, Thumb
from amends.record import new_id, now_s
from amends.verdict import Verdict
from server.console.views import conversation_row
from server.console.wording import duration
from tests.amends.going_trial import going_trial
from tests.server.conftest import StartServer
from tests.server.published import publish
from tests.server.running_server import STAFF_TOKEN, RunningServer, Visitor, wait_until

QUESTION = "How long is the return window?"
PAGES = ("/console/", "/console/runs", "/console/versions")


@pytest.fixture
def console(server: RunningServer) -> httpx.Client:
    """Logged in; redirects are followed."""
    server.http.follow_redirects = True
    answer = server.http.post("/console/login", data={"token": STAFF_TOKEN})
    assert answer.url.path == "/console/" and "Conversations" in answer.text
    return server.http


def csrf(page: httpx.Response) -> str:
    found = re.search(r'name="csrf" value="([0-9a-f]{64})"', page.text)
    assert found is not None
    return found.group(1)


def seen(page: httpx.Response) -> str:
    found = re.search(r'name="seen" value="([0-9]+)"', page.text)
    assert found is not None
    return found.group(1)


@pytest.mark.parametrize("path", PAGES)
def test_nobody_sees_a_page_without_a_login(server: RunningServer, path: str) -> None:
    answer = server.http.get(path)
    assert answer.status_code == 303
    assert answer.headers["location"] == f"/console/login?next={path}"


def test_a_wrong_token_does_not_log_in_and_attempts_are_limited(start_server: StartServer) -> None:
    server = start_server(logins_per_minute=2)
    answers = [server.http.post("/console/login", data={"token": "x"}) for _ in range(3)]
    assert [a.status_code for a in answers] == [403] * 3
    assert "not the staff token" in answers[0].text and "too many logins" in answers[2].text
    assert "set-cookie" not in answers[0].headers


def test_the_cookie_is_out_of_reach_of_scripts_and_of_other_sites(server: RunningServer) -> None:
    answer = server.http.post("/console/login", data={"token": STAFF_TOKEN})
    cookie = answer.headers["set-cookie"]
    for attribute in ("HttpOnly", "SameSite=strict", "Path=/console", "Max-Age=43200"):
        assert attribute in cookie
    assert STAFF_TOKEN not in cookie


def test_what_is_written_in_the_console_is_stored_under_the_name_given_at_the_login(
    server: RunningServer, visitor: Visitor
) -> None:
    answer = visitor.ask(QUESTION)
    server.http.follow_redirects = True
    assert 'name="name" value="staff" required' in server.http.get("/console/login").text
    data = {"token": STAFF_TOKEN, "name": "ann:bob"}
    refused = server.http.post("/console/login", data=data)
    assert refused.status_code == 403 and "expected a name" in refused.text
    for name, text in (("ann", "You have 45 days."), ("bob", "45 days.")):
        server.http.post("/console/login", data={**data, "name": name})
        page = server.http.get(f"/console/conversations/{answer.conversation_id}")
        assert "Change your correction" not in page.text
        form = {"csrf": csrf(page), "response": text}
        page = server.http.post(f"/console/turns/{answer.turn_id}/correction", data=form)
        assert f"Corrected by {name}" in page.text and "Change your correction" in page.text
    assert "Corrected by ann" in page.text
    assert server.state.feedback.raters() == {"ann": "expert", "bob": "expert"}


def test_a_wrong_token_does_not_lose_the_page_that_was_wanted(server: RunningServer) -> None:
    data = {"token": "x", "name": "ann", "next": "/console/versions"}
    page = server.http.post("/console/login", data=data).text
    assert 'name="next" value="/console/versions"' in page and 'value="ann"' in page


def test_a_correction_survives_the_end_of_the_login(
    server: RunningServer, visitor: Visitor
) -> None:
    path = f"/console/turns/{visitor.ask(QUESTION).turn_id}/correction"
    written = {"response": "You have <45> days."}
    kept = server.http.post(path, data={**written, "csrf": "0" * 64})
    assert kept.status_code == 403 and "The login has ended" in kept.text
    server.http.post("/console/login", data={"token": STAFF_TOKEN})
    again = server.http.post(path, data=written)  # the kept page's form, which has no login's token
    for page in (kept, again):
        assert "You have &lt;45&gt; days.</textarea>" in page.text and path in page.text
    assert again.status_code == 403 and "from another login" in again.text
    assert server.state.feedback.counts()["correction"]["pending"] == 0
    stored = server.http.post(path, data={**written, "csrf": csrf(again)})
    assert stored.status_code == 303


@pytest.mark.parametrize("wanted", ["https://evil.example", "//evil", "/console//evil", "/"])
def test_a_login_leads_only_into_the_console(server: RunningServer, wanted: str) -> None:
    answer = server.http.post("/console/login", data={"token": STAFF_TOKEN, "next": wanted})
    assert answer.headers["location"] == "/console/"


def test_a_visitors_token_is_no_login(server: RunningServer, visitor: Visitor) -> None:
    answer = server.http.get("/console/", headers={"Cookie": f"amends_staff={visitor.token}"})
    assert answer.status_code == 303


def test_a_new_staff_token_ends_every_login(
    server: RunningServer, console: httpx.Client, start_server: StartServer
) -> None:
    cookie = {"Cookie": f"amends_staff={console.cookies['amends_staff']}"}
    other = start_server(AMENDS_STAFF_TOKEN="another-token-of-the-tests")
    assert other.http.get("/console/", headers=cookie).status_code == 303


@pytest.mark.parametrize(
    "path",
    [
        "/console/runs",
        "/console/runs/1/cancel",
        "/console/versions/0/activate",
        "/console/versions/1/try",
        "/console/versions/1/reject",
        "/console/rollback",
        "/console/turns/t/correction",
        "/console/logout",
    ],
)
def test_a_form_without_its_token_does_nothing(
    server: RunningServer, console: httpx.Client, path: str
) -> None:
    for data in ({}, {"csrf": "0" * 64}):
        answer = console.post(path, data={**data, "response": "x"})
        assert answer.status_code == 403 and "another login" in html.unescape(answer.text)
    assert server.state.runs.list() == []


def test_logging_out_forgets_the_cookie(console: httpx.Client) -> None:
    console.post("/console/logout", data={"csrf": csrf(console.get("/console/"))})
    assert console.get("/console/").url.path == "/console/login"


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("/console/", "No conversations yet"),
        ("/console/runs", "No rounds yet"),
        ("/console/versions", "No trained version yet"),
    ],
)
def test_empty_pages_say_what_will_be_there(console: httpx.Client, path: str, text: str) -> None:
    assert text in console.get(path).text


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/console/nowhere", 404),
        ("/console/runs/7", 404),
        ("/console/runs/seven", 404),
        ("/console/conversations/none", 404),
    ],
)
def test_errors_are_pages(console: httpx.Client, path: str, status: int) -> None:
    answer = console.get(path)
    assert answer.status_code == status and "<h1>" in answer.text


def test_a_bad_judgement_is_marked_until_it_is_corrected(
    server: RunningServer, console: httpx.Client, visitor: Visitor
) -> None:
    answer = visitor.ask(QUESTION)
    assert "row look" not in console.get("/console/").text
    server.http.put(
        f"/v1/turns/{answer.turn_id}/thumb",
        json={"value": -1, "reasons": ["outdated"], "comment": "<b>45</b> days"},
        headers=visitor.headers,
    )
    listed = console.get("/console/").text
    assert "row look" in listed and "1 thumb down" in listed
    page = console.get(f"/console/conversations/{answer.conversation_id}")
    assert "Returns: Return window" in page.text and answer.text in page.text
    assert "&lt;b&gt;45&lt;/b&gt; days" in page.text and "<b>45" not in page.text
    stored = console.post(
        f"/console/turns/{answer.turn_id}/correction",
        data={"csrf": csrf(page), "response": "You have 45 days."},
    )
    assert "The correction is stored" in stored.text and "You have 45 days." in stored.text
    assert "row look" not in console.get("/console/").text
    assert server.state.feedback.counts()["correction"]["pending"] == 1


def test_one_correction_does_not_hide_another_complaint() -> None:
    turns = [a_turn("c", "Where?"), a_turn("c", "When?")]
    talk = Conversation(conversation_id="c", visitor_id="v", opened_at=0.0, turns=tuple(turns))

    def judged(at: float, turn: Turn | None = None, role: Role = "visitor") -> Feedback:
        given = {"conversation_id": "c", "rater": Rater(rater_id=role, role=role), "given_at": at}
        if turn is None:
            return Rating(**given, value=2)
        if role == "expert":
            return Correction(**given, turn_id=turn.turn_id, response="30 days.")
        return Thumb(**given, turn_id=turn.turn_id, value=-1)

    def looks(*feedback: Feedback) -> bool:
        return conversation_row(talk, feedback).needs_look

    down = [judged(1.0, turn) for turn in turns]
    fixed = [judged(2.0, turn, "expert") for turn in turns]
    assert looks(*down) and looks(*down, fixed[0]) and not looks(*down, *fixed)
    assert looks(judged(1.0)) and looks(fixed[0], judged(3.0))
    assert not looks(judged(1.0), fixed[0]) and not looks()


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"origin": "no_passage"}, "add a document instead"),
        ({"origin": "other_language"}, "writes another language"),
        ({"finish_reason": "cancelled"}, "This answer was stopped before its end"),
        ({"message": "how long is the RETURN window"}, "This question examines each version"),
    ],
)
def test_what_no_round_learns_from_is_not_asked_for(
    shop: Path, start_server: StartServer, change: dict[str, str], says: str
) -> None:
    asked = {"id": "1", "question": QUESTION, "must_pass": True, "intent": "returns"}
    (shop / "questions.jsonl").write_text(json.dumps(asked))
    server = start_server()
    stores = server.state.conversations, server.state.feedback
    place = stores[0].open("v1").conversation_id
    turn = a_turn(place, "Where are you?").model_copy(update=change)
    stores[0].append(turn)
    by = Rater(rater_id="v1", role="visitor")
    judged = {"conversation_id": place, "rater": by, "given_at": now_s()}
    thumb = Thumb(**judged, turn_id=turn.turn_id, value=-1)
    rating = Rating(**judged, value=1)
    server.http.post("/console/login", data={"token": STAFF_TOKEN})
    page = server.http.get(f"/console/conversations/{place}")
    assert says in page.text and "The next round learns from it" not in page.text
    form = {"csrf": csrf(page), "response": "30 days."}
    refused = server.http.post(f"/console/turns/{turn.turn_id}/correction", data=form)
    assert refused.status_code == 422 and says in refused.text
    for given in (thumb, rating):
        stores[1].add(given)
        told = server.http.get(f"/console/feedback/{given.feedback_id}").text
        assert says in told and "sees it" not in told
    stores[0].append(a_turn(place, "Where are you?"))
    told = server.http.get(f"/console/feedback/{rating.feedback_id}").text
    assert says not in told and "sees it" in told


def test_an_empty_correction_is_refused(
    server: RunningServer, console: httpx.Client, visitor: Visitor
) -> None:
    answer = visitor.ask(QUESTION)
    page = console.get(f"/console/conversations/{answer.conversation_id}")
    refused = console.post(
        f"/console/turns/{answer.turn_id}/correction", data={"csrf": csrf(page), "response": " "}
    )
    assert refused.status_code == 422 and "got an empty one" in refused.text


def test_a_correction_over_the_limit_is_refused_with_the_limit(
    server: RunningServer, console: httpx.Client, visitor: Visitor
) -> None:
    answer = visitor.ask(QUESTION)
    page = console.get(f"/console/conversations/{answer.conversation_id}")
    path = f"/console/turns/{answer.turn_id}/correction"
    refused = console.post(path, data={"csrf": csrf(page), "response": "x" * 16_385})
    assert refused.status_code == 422 and "at most 16384 characters, got 16385" in refused.text
    stored = console.post(path, data={"csrf": csrf(page), "response": " " + "x" * 16_384})
    assert stored.status_code == 200 and "The correction is stored" in stored.text


def test_the_login_page_names_the_command_that_prints_the_token(server: RunningServer) -> None:
    page = server.http.get("/console/login").text
    named = set(re.findall(r"<code>amends ([\w-]+)</code>", page))
    group = typer.main.get_command(app)
    assert isinstance(group, typer.core.TyperGroup)
    assert named == {"up", "token"} and named <= set(group.commands)


def test_what_a_visitor_writes_is_never_markup(console: httpx.Client, visitor: Visitor) -> None:
    answer = visitor.ask('<script>alert(1)</script> return window "><img src=x>')
    for path in ("/console/", f"/console/conversations/{answer.conversation_id}"):
        page = console.get(path).text
        assert "<script>alert" not in page and "<img src=x" not in page
        assert "&lt;script&gt;alert(1)" in page


def test_older_conversations_are_a_page_away(server: RunningServer, console: httpx.Client) -> None:
    for number in range(41):
        conversation = server.state.conversations.open(f"v{number}")
        turn = a_turn(conversation.conversation_id, f"question {number}")
        server.state.conversations.append(turn)
    first = console.get("/console/").text
    older = re.search(r'href="(/console/\?before=[^"]+)"', first)
    assert older is not None and "question 40" in first and "question 0<" not in first
    assert "question 0<" in console.get(older.group(1)).text


def a_turn(conversation_id: str, message: str) -> Turn:
    return Turn(
        turn_id=new_id(),
        conversation_id=conversation_id,
        message=message,
        response="",
        policy_version=0,
        origin="policy",
        created_at=now_s(),
    )


def test_a_round_is_started_watched_and_cancelled(
    server: RunningServer, console: httpx.Client
) -> None:
    form = {"csrf": csrf(console.get("/console/runs")), "optimizer": "auto"}
    started = console.post("/console/runs", data=form)
    assert started.url.path == "/console/runs/1" and "Waits for a worker" in started.text
    again = console.post("/console/runs", data=form)
    assert again.status_code == 409 and "<h1>" in again.text
    assert "disabled" in console.get("/console/runs").text
    run = server.state.runs.claim(1)
    server.state.runs.report(1, run.epoch, "ppo", 0.43)
    for event in (
        StageStarted(stage="claim"),
        StageFinished(stage="claim", seconds=1.5),
        StageStarted(stage="ppo"),
        Metrics(stage="ppo", step=3, values={"objective/kl": 0.0123}),
        Samples(stage="ppo", step=3, texts=(Sample(prompt="q?", response="<i>a", score=0.5),)),
        Log(text="a line"),
    ):
        server.state.events.publish(1, event)
    page = console.get("/console/runs/1").text
    assert "43 %" in page and "0.0123" in page and "&lt;i&gt;a" in page and "a line" in page
    assert '<li class="done">Taking feedback' in page and '<li class="now">PPO' in page
    console.post("/console/runs/1/cancel", data=form)
    assert "Stopping…" in console.get("/console/runs/1").text
    server.state.runs.finish(1, run.epoch, "FAILED", error="no data")
    ended = console.get("/console/runs/1").text
    assert (
        "no data" in ended and '<li class="stopped">PPO' in ended and "Cancel</button>" not in ended
    )


def test_a_version_is_approved_and_rolled_back(
    console: httpx.Client, adapters: AdapterStore
) -> None:
    version = publish(adapters, 1, Verdict(passed=True, reasons=("wins 61 %",)))
    rejected = publish(adapters, 2, Verdict(passed=False, reasons=("loses",)))
    adapters.set_candidate(version, "anna", "try it", share=0.25)
    page = console.get("/console/versions")
    assert "answers 25 % of new conversations" in page.text
    assert f"set candidate {version} on 25 %" in page.text
    assert "wins 61 %" in page.text and "Approve…" in page.text and "Roll back…" not in page.text
    assert f"/console/versions/{rejected}/activate" not in page.text
    form = {"csrf": csrf(page), "reason": "looked at it", "seen": seen(page)}
    approved = console.post(f"/console/versions/{version}/activate", data=form)
    assert "is champion now" in approved.text and "looked at it" in approved.text
    wait_until(lambda: "answering" in row(console, version))
    form["seen"] = seen(console.get("/console/versions"))
    refused = console.post(f"/console/versions/{rejected}/activate", data=form)
    assert refused.status_code == 409 and "loses" in refused.text
    assert f'name="champion" value="{version}"' in console.get("/console/versions").text
    leave = {**form, "champion": version}
    back = console.post("/console/rollback", data=leave)
    assert "Rolled back." in back.text
    assert adapters.aliases() == {"champion": 0}
    again = console.post("/console/rollback", data=leave)
    assert again.status_code == 409 and "nothing was changed" in again.text
    assert [row.action for row in adapters.audit(2)] == ["roll_back", "activate"]


def test_a_version_that_was_never_compared_with_the_champion_is_not_offered(
    console: httpx.Client, adapters: AdapterStore
) -> None:
    first, second = (publish(adapters, n, Verdict(passed=True, champion=0)) for n in (1, 2))
    page = console.get("/console/versions")
    assert f"/console/versions/{second}/activate" in page.text
    adapters.activate(first, "anna", "better")
    now = console.get("/console/versions")
    assert f"/console/versions/{second}/activate" not in now.text
    assert f"It cannot be champion now: version {second} passed" in now.text
    assert f"judged beside version {first}" not in now.text
    form = {"csrf": csrf(now), "seen": seen(now)}
    refused = console.post(f"/console/versions/{second}/activate", data=form)
    assert refused.status_code == 409 and "nobody compared the two" in refused.text
    adapters.activate(second, "bert", "I know what I do", force=True)
    assert f"activate {second}, against the gate" in console.get("/console/versions").text


def test_a_version_is_tried_on_a_share_and_rejected(
    console: httpx.Client, adapters: AdapterStore
) -> None:
    version = publish(adapters, 1, Verdict(passed=True))
    page = console.get("/console/versions")
    assert "Try…" in page.text and "Reject…" not in page.text
    form = {"csrf": csrf(page), "reason": "a trial", "seen": seen(page), "percent": "10"}
    tried = console.post(f"/console/versions/{version}/try", data=form)
    assert "answers 10 % of new conversations" in tried.text and "Reject…" in tried.text
    assert adapters.pointers().candidate_share == 0.1
    form |= {"seen": seen(tried), "percent": "25"}
    assert "answers 25 %" in console.post(f"/console/versions/{version}/try", data=form).text
    form |= {"seen": seen(console.get("/console/versions")), "reason": "complaints"}
    rejected = console.post(f"/console/versions/{version}/reject", data=form)
    assert "The candidate is rejected" in rejected.text and "complaints" in rejected.text
    assert adapters.pointers().candidate is None
    again = console.post(f"/console/versions/{version}/reject", data=form)
    assert again.status_code == 409 and "is not the candidate" in again.text
    last = adapters.audit(1)[0]
    assert (last.action, last.version, last.by) == ("set_candidate", None, "staff")


@pytest.mark.parametrize("percent", ["-1", "101", "nan", "ten", ""])
def test_a_share_that_is_none_tries_nothing(
    console: httpx.Client, adapters: AdapterStore, percent: str
) -> None:
    version = publish(adapters, 1, Verdict(passed=True))
    page = console.get("/console/versions")
    form = {"csrf": csrf(page), "seen": seen(page), "percent": percent}
    assert console.post(f"/console/versions/{version}/try", data=form).status_code == 422
    assert adapters.pointers().candidate is None


def test_a_candidate_the_gate_refused_is_rejected_but_not_tried(
    console: httpx.Client, adapters: AdapterStore
) -> None:
    version = publish(adapters, 1, Verdict(passed=False, reasons=("loses",)))
    adapters.set_candidate(version, "anna", "a second look")
    page = console.get("/console/versions")
    assert "Reject…" in page.text and "Share…" not in page.text and "Approve…" not in page.text
    form = {"csrf": csrf(page), "seen": seen(page), "percent": "10"}
    refused = console.post(f"/console/versions/{version}/try", data=form)
    assert refused.status_code == 409 and "loses" in refused.text
    console.post(f"/console/versions/{version}/reject", data=form)
    assert adapters.pointers().candidate is None


@pytest.mark.parametrize("decision", ["activate", "try", "reject"])
def test_a_decision_on_what_has_changed_since_is_not_done(
    console: httpx.Client, adapters: AdapterStore, decision: str
) -> None:
    version = publish(adapters, 1, Verdict(passed=True))
    adapters.set_candidate(version, "anna", "try it", share=0.25)
    page = console.get("/console/versions")
    adapters.set_candidate(None, "canary", "does worse")
    adapters.set_candidate(version, "bert", "once more", share=0.5)
    form = {"csrf": csrf(page), "seen": seen(page), "percent": "10"}
    late = console.post(f"/console/versions/{version}/{decision}", data=form)
    assert late.status_code == 409 and "look again" in late.text
    assert adapters.pointers().candidate_share == 0.5 and adapters.aliases()["champion"] == 0


def test_a_candidate_on_trial_shows_how_it_does(
    console: httpx.Client, server: RunningServer, adapters: AdapterStore
) -> None:
    version = publish(adapters, 1, Verdict(passed=True))
    adapters.set_candidate(version, "anna", "try it", share=0.25)
    assert "no worker has looked yet" in row(console, version)
    report = going_trial(version, adapters.pointers().last_row.number, at=now_s())
    server.state.canary_reports.write(report)
    assert "not worse so far" in row(console, version)
    assert "conversations: 31, champion 290" in row(console, version)
    assert "seen <time" in row(console, version) and "no worker" not in row(console, version)
    server.state.canary_reports.write(report.model_copy(update={"at": now_s() - 1800}))
    assert "no worker has looked for 30 minutes" in row(console, version)
    assert "not worse so far" in row(console, version)
    adapters.set_candidate(None, "anna", "no")
    adapters.set_candidate(version, "anna", "later, perhaps")
    assert "On trial" not in row(console, version)  # the report is of the trial before


def test_a_candidate_whose_files_are_gone_is_shown_and_rejected(
    console: httpx.Client, adapters: AdapterStore
) -> None:
    first, second = (publish(adapters, n, Verdict(passed=True)) for n in (1, 2))
    adapters.activate(first, "anna", "better")
    adapters.set_candidate(second, "anna", "try it", share=0.25)
    for version in (first, second):
        shutil.rmtree(adapters.folder(version))
    page = console.get("/console/versions")
    for version, name in ((first, "champion"), (second, "candidate")):
        shown = row(console, version)
        assert "Its files are gone" in shown and name in shown and "round" not in shown
        assert "/activate" not in shown and "/try" not in shown
    form = {"csrf": csrf(page), "seen": seen(page)}
    console.post(f"/console/versions/{second}/reject", data=form)
    assert adapters.pointers().candidate is None


def test_the_page_of_versions_does_without_an_audit_that_cannot_be_read(
    console: httpx.Client, server: RunningServer, adapters: AdapterStore
) -> None:
    version = publish(adapters, 1, Verdict(passed=True))
    adapters.set_candidate(version, "anna", "try it", share=0.25)
    audit = server.state.shared.adapters_folder / "audit.jsonl"
    audit.write_bytes(audit.read_bytes().replace(b"new_line", b"no_line"))
    page = console.get("/console/versions")
    assert "The audit log cannot be read" in page.text and "audit.jsonl, line 1" in page.text
    form = {"csrf": csrf(page), "seen": seen(page), "reason": "complaints"}
    assert "is rejected" in console.post(f"/console/versions/{version}/reject", data=form).text


def test_the_audit_table_says_when_a_share_is_0_and_when_there_is_no_candidate(
    console: httpx.Client, adapters: AdapterStore
) -> None:
    version = publish(adapters, 1, Verdict(passed=True))
    adapters.set_candidate(version, "anna", "try it", share=0.25)
    adapters.set_candidate(version, "anna", "let me read", share=0.0)
    adapters.set_candidate(None, "anna", "wrong prices")
    table = console.get("/console/versions").text.split("<tbody>")[1]
    told = [html.unescape(cell) for cell in re.findall("<td>([^<]*)</td>", table)]
    assert told[1:3] == ["no candidate", "wrong prices"]
    assert f"set candidate {version} on 0 %" in told and f"set candidate {version} on 25 %" in told


def row(console: httpx.Client, version: int) -> str:
    page = console.get("/console/versions").text
    return page.split(f"<h2>Version {version}")[1].split("<h2>")[0]


def test_pages_run_no_inline_script_and_are_not_kept(console: httpx.Client) -> None:
    for path in PAGES:
        answer = console.get(path)
        assert "frame-ancestors 'none'" in answer.headers["content-security-policy"]
        assert answer.headers["cache-control"] == "no-store"
        assert not re.search(r"<script(?! src=)|\son\w+=|style=", answer.text)
    assert console.get("/console/static/live.js").status_code == 200


def test_durations_read_well() -> None:
    assert [duration(s) for s in (None, 0.4, 61, 3725)] == ["", "0 s", "1 min 01 s", "1 h 02 min"]

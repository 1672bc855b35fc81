"""Feedback, conversations, runs, adapters and health over HTTP, through the real application."""

import http.client
import json
import time
from contextlib import closing
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import jwt
import pytest

from amends.adapter_store import AdapterStore
from amends.embedded_store import open_store
from amends.events import Log
from amends.settings import Settings
from amends.store_client import StoreClient, connect
from amends.verdict import Verdict
from server.settings import ServerSettings
from tests.server.conftest import StartServer
from tests.server.published import publish
from tests.server.running_server import STAFF_TOKEN, RunningServer, Visitor, wait_until
from tests.server.scripted_engine import ScriptedEngine

QUESTION = "How long is the return window?"


def test_a_thumb_is_created_replaced_and_unchanged(server: RunningServer, visitor: Visitor) -> None:
    turn_id = visitor.ask(QUESTION).turn_id
    path = f"/v1/turns/{turn_id}/thumb"

    def put(body: dict[str, object], key: str | None = None) -> tuple[int, str]:
        headers = visitor.headers | ({"Idempotency-Key": key} if key else {})
        answer = server.http.put(path, json=body, headers=headers)
        return answer.status_code, answer.json().get("status", "")

    assert put({"value": -1, "reasons": ["outdated"], "comment": "30 days"}) == (200, "created")
    assert put({"value": -1, "reasons": ["outdated"], "comment": "30 days"}) == (200, "unchanged")
    assert put({"value": 1}, key="k") == (200, "replaced")
    assert put({"value": 1}, key="k") == (200, "unchanged")
    assert put({"value": -1}, key="k")[0] == 409
    counts = server.http.get("/v1/feedback/counts", headers=server.staff).json()
    assert counts["thumb"] == {"pending": 1, "claimed": 0, "completed": 0}


def test_a_thumb_shows_in_the_welcome_and_in_the_conversation(
    server: RunningServer, visitor: Visitor
) -> None:
    answer = visitor.ask(QUESTION)
    server.http.put(
        f"/v1/turns/{answer.turn_id}/thumb", json={"value": -1}, headers=visitor.headers
    )
    path = f"/v1/conversations/{answer.conversation_id}"
    rated = server.http.put(f"{path}/rating", json={"value": 2}, headers=visitor.headers)
    assert rated.json()["status"] == "created"
    with visitor.chat(answer.conversation_id) as chat:
        assert chat.welcome["rating"] == 2 and chat.welcome["turns"][0]["thumb"] == -1
    own = server.http.get(path, headers=visitor.headers).json()
    assert own["rating"] == 2 and own["turns"] == chat.welcome["turns"]
    assert "sampled" not in json.dumps(own)


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"value": 0},
        {"value": 1, "reasons": ["boring"]},
        {"value": 1, "surprise": 1},
        {"value": 1, "comment": "x" * 2001},
        [],
    ],
)
def test_a_malformed_thumb_is_refused_with_what_is_wrong(
    server: RunningServer, visitor: Visitor, body: object
) -> None:
    answer = server.http.put("/v1/turns/t/thumb", json=body, headers=visitor.headers)
    assert answer.status_code == 422
    assert answer.json()["error"]["code"] == "invalid_input"


def test_every_id_of_somebody_else_is_not_found_in_the_same_words(
    server: RunningServer, visitor: Visitor
) -> None:
    answer = visitor.ask(QUESTION)
    stranger = server.new_visitor()

    def texts(turn_id: str, conversation_id: str) -> list[tuple[int, str]]:
        answers = [
            server.http.put(
                f"/v1/turns/{turn_id}/thumb", json={"value": 1}, headers=stranger.headers
            ),
            server.http.put(
                f"/v1/conversations/{conversation_id}/rating",
                json={"value": 1},
                headers=stranger.headers,
            ),
            server.http.get(f"/v1/conversations/{conversation_id}", headers=stranger.headers),
        ]
        return [
            (a.status_code, a.text.replace(turn_id, "").replace(conversation_id, ""))
            for a in answers
        ]

    foreign = texts(answer.turn_id, answer.conversation_id)
    assert [status for status, _ in foreign] == [404, 404, 404]
    assert foreign == texts("0" * 32, "1" * 32)


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/v1/conversations"),
        ("GET", "/v1/feedback/counts"),
        ("POST", "/v1/turns/t/corrections"),
        ("POST", "/v1/runs"),
        ("GET", "/v1/runs"),
        ("GET", "/v1/runs/1"),
        ("GET", "/v1/runs/1/events"),
        ("POST", "/v1/runs/1/cancel"),
        ("GET", "/v1/adapters"),
        ("GET", "/v1/adapters/audit"),
        ("POST", "/v1/adapters/1/activate"),
        ("POST", "/v1/adapters/rollback"),
    ],
)
def test_staff_routes_take_the_staff_token_only(
    server: RunningServer, visitor: Visitor, method: str, path: str
) -> None:
    body = {"response": "x"} if "corrections" in path else {}
    for headers in ({}, visitor.headers, {"Authorization": "Bearer x"}):
        content = json.dumps(body) if method == "POST" else None
        answer = server.http.request(method, path, content=content, headers=headers)
        assert answer.status_code == 401, headers
        assert answer.json()["error"]["code"] == "unauthorized"


def test_visitor_routes_refuse_tokens_that_are_not_a_visitors(server: RunningServer) -> None:
    forged = jwt.encode({"sub": "x", "aud": "amends-visitor", "exp": 9e9}, "k" * 32, "HS256")
    unsigned = jwt.encode({"sub": "x", "aud": "amends-visitor", "exp": 9e9}, None, "none")
    for token in ("x", forged, unsigned, server.staff["Authorization"][7:]):
        answer = server.http.put(
            "/v1/turns/t/thumb", json={"value": 1}, headers={"Authorization": f"Bearer {token}"}
        )
        assert answer.status_code == 401
        assert "from POST /v1/session" in answer.json()["error"]["message"]


def test_an_expired_token_is_refused_and_a_valid_one_renewed(
    server: RunningServer, visitor: Visitor
) -> None:
    renewed = server.http.post("/v1/session", json={}, headers=visitor.headers).json()
    assert renewed["visitor_id"] == visitor.visitor_id
    assert renewed["expires_at"] > time.time() + 86_000
    secret = (server.state.shared.home / "server.secret").read_text()
    claims = {"sub": visitor.visitor_id, "aud": "amends-visitor", "exp": time.time() - 1}
    old = {"Authorization": f"Bearer {jwt.encode(claims, secret, 'HS256')}"}
    assert (
        server.http.post("/v1/session", json={}, headers=old).json()["visitor_id"]
        != visitor.visitor_id
    )
    answer = server.http.get("/v1/conversations/x", headers=old)
    assert answer.status_code == 401 and "expired" in answer.json()["error"]["message"]


def test_secrets_are_made_once_and_only_for_their_owner(
    start_server: StartServer, server: RunningServer
) -> None:
    secret = server.state.shared.home / "server.secret"
    first = secret.read_text()
    start_server()
    assert secret.read_text() == first
    assert secret.stat().st_mode & 0o777 == 0o600
    assert not (server.state.shared.home / "staff.token").exists()
    assert [p for p in secret.parent.iterdir() if p.name.startswith("server.secret.")] == []


def test_a_correction_is_stored_under_the_experts_name(
    server: RunningServer, visitor: Visitor
) -> None:
    answer = visitor.ask(QUESTION)
    path = f"/v1/turns/{answer.turn_id}/corrections"
    created = server.http.post(path, json={"response": " 30 days. "}, headers=server.staff)
    assert (created.status_code, created.json()["status"]) == (201, "created")
    assert server.http.post(path, json={"response": "  "}, headers=server.staff).status_code == 422
    missing = server.http.post(
        "/v1/turns/none/corrections", json={"response": "x"}, headers=server.staff
    )
    assert missing.status_code == 404
    page = server.http.get(
        f"/v1/conversations/{answer.conversation_id}", headers=server.staff
    ).json()
    assert page["feedback"][0]["response"] == "30 days."
    assert page["feedback"][0]["rater"] == {"rater_id": "staff", "role": "expert"}


def test_staff_are_recorded_under_the_name_that_they_give(
    server: RunningServer, visitor: Visitor
) -> None:
    turn_id = visitor.ask(QUESTION).turn_id
    path = f"/v1/turns/{turn_id}/corrections"

    def correct(name: str) -> httpx.Response:
        headers = {**server.staff, "Amends-Staff-Name": name.encode()}
        return server.http.post(path, json={"response": "30 days."}, headers=headers)

    assert correct("Zoë O'Neil").json()["feedback_id"] == f"correction:{turn_id}:Zoë O'Neil"
    for name in ("ann:bob", "x" * 65, "<b>"):
        refused = correct(name)
        assert refused.status_code == 422
        assert "expected a name of 1 to 64 letters" in refused.json()["error"]["message"]
    headers = {**server.staff, "Amends-Staff-Name": "ann"}
    run = server.http.post("/v1/runs", json={}, headers=headers).json()
    assert run["requested_by"] == "ann"


def test_conversations_are_listed_newest_first_page_by_page(server: RunningServer) -> None:
    ids = [server.new_visitor().ask(QUESTION).conversation_id for _ in range(3)]
    first = server.http.get("/v1/conversations?limit=2", headers=server.staff).json()
    rest = server.http.get(
        f"/v1/conversations?limit=2&before={first['next']}", headers=server.staff
    ).json()
    found = [c["conversation_id"] for c in first["conversations"] + rest["conversations"]]
    assert found == ids[::-1] and rest["next"] is None


def test_a_run_is_queued_hinted_watched_and_cancelled(
    server: RunningServer, redis: StoreClient
) -> None:
    started = server.http.post("/v1/runs", json={"optimizer": "sft"}, headers=server.staff)
    run = started.json()
    assert started.status_code == 201
    assert (run["state"], run["optimizer"], run["requested_by"]) == ("QUEUED", "sft", "staff")
    assert redis.llen("celery:train") == 1
    again = server.http.post("/v1/runs", json={}, headers=server.staff)
    assert (again.status_code, again.json()["error"]["code"]) == (409, "bad_transition")
    server.state.events.publish(run["run_id"], Log(text="hello"))
    path = f"/v1/runs/{run['run_id']}"
    events = server.http.get(f"{path}/events", headers=server.staff).json()["events"]
    assert events[0]["event"] == {"kind": "log", "text": "hello"}
    after = f"{path}/events?after={events[0]['id']}"
    assert server.http.get(after, headers=server.staff).json()["events"] == []
    assert server.http.get(f"{path}/events?after=x", headers=server.staff).status_code == 422
    cancelled = server.http.post(f"{path}/cancel", headers=server.staff).json()
    assert cancelled["state"] == "CANCELLED"
    assert server.http.get("/v1/runs/99", headers=server.staff).status_code == 404
    runs = server.http.get("/v1/runs", headers=server.staff).json()["runs"]
    assert [r["state"] for r in runs] == ["CANCELLED"]


def test_an_activated_version_answers_within_a_moment_and_rolls_back(
    server: RunningServer, visitor: Visitor, adapters: AdapterStore
) -> None:
    version = publish(adapters, 1, Verdict(passed=True, reasons=("better",)))
    assert visitor.ask(QUESTION).end["policy_version"] == 0
    answer = server.http.post(
        f"/v1/adapters/{version}/activate", json={"reason": "better"}, headers=server.staff
    )
    assert answer.json()["aliases"] == {"champion": version, "previous": 0}
    wait_until(lambda: server.http.get("/readyz").json()["policy_version"] == version)
    assert visitor.ask(QUESTION).text == f"Written by version {version}."
    listed = server.http.get("/v1/adapters", headers=server.staff).json()
    assert listed["serving"] == version and listed["versions"][0]["metrics"] == {"win_rate": 0.61}
    leave = {"champion": version, "reason": "wrong prices"}
    back = server.http.post("/v1/adapters/rollback", json=leave, headers=server.staff)
    assert back.json()["aliases"]["champion"] == 0
    again = server.http.post("/v1/adapters/rollback", json=leave, headers=server.staff)
    assert again.status_code == 409 and "version 0 by now" in again.json()["error"]["message"]
    wait_until(lambda: server.http.get("/readyz").json()["policy_version"] == 0)
    assert server.http.post("/v1/adapters/rollback", headers=server.staff).status_code == 422
    audit = server.http.get("/v1/adapters/audit", headers=server.staff).json()["rows"]
    assert [row["action"] for row in audit][:2] == ["roll_back", "activate"]
    assert {row["by"] for row in audit[:2]} == {"staff"}


def test_a_rejected_version_is_refused_with_the_gates_reasons(
    server: RunningServer, adapters: AdapterStore
) -> None:
    version = publish(adapters, 1, Verdict(passed=False, reasons=("longer answers",)))
    path = f"/v1/adapters/{version}/activate"
    refused = server.http.post(path, headers=server.staff)
    assert refused.status_code == 409 and "longer answers" in refused.json()["error"]["message"]
    forced = server.http.post(path, json={"force": True, "reason": "test"}, headers=server.staff)
    assert forced.status_code == 200
    assert server.http.post("/v1/adapters/77/activate", headers=server.staff).status_code == 404
    endless = int("9" * 300)  # no file system has such a name
    path = f"/v1/adapters/{endless}/activate"
    assert server.http.post(path, headers=server.staff).status_code == 422
    body = {"version": endless, "share": 0.1}
    answer = server.http.put("/v1/adapters/candidate", json=body, headers=server.staff)
    assert answer.status_code == 422 and "999999999" in answer.json()["error"]["message"]


def test_a_version_that_the_engine_refuses_is_reported_and_the_old_one_answers(
    server: RunningServer, visitor: Visitor, adapters: AdapterStore, engine: ScriptedEngine
) -> None:
    version = publish(adapters, 1, Verdict(passed=True, reasons=()))
    engine.refuse = {version}
    server.http.post(f"/v1/adapters/{version}/activate", headers=server.staff)
    wait_until(lambda: server.http.get("/readyz").json()["refusal"] is not None)
    ready = server.http.get("/readyz").json()
    assert ready["refusal"] == {"version": version, "reason": f"version {version} does not fit"}
    assert ready["policy_version"] == 0 and visitor.ask(QUESTION).end["policy_version"] == 0
    server.http.post("/v1/adapters/rollback", headers=server.staff)
    wait_until(lambda: server.http.get("/readyz").json()["refusal"] is None)


def test_a_version_whose_files_were_changed_never_reaches_the_engine(
    server: RunningServer, adapters: AdapterStore, engine: ScriptedEngine
) -> None:
    version = publish(adapters, 1, Verdict(passed=True, reasons=()))
    (adapters.folder(version) / "adapter_model.safetensors").write_bytes(b"other")
    aliases = server.state.shared.adapters_folder / "aliases.json"
    changed = json.loads(aliases.read_text()) | {"champion": version}
    aliases.write_text(json.dumps(changed))
    wait_until(lambda: server.http.get("/readyz").json()["refusal"] is not None)
    assert "SHA-256" in server.http.get("/readyz").json()["refusal"]["reason"]
    assert engine.versions() == (0,)


def test_the_version_before_needs_no_file_to_come_back(
    server: RunningServer, adapters: AdapterStore, engine: ScriptedEngine
) -> None:
    version = publish(adapters, 1, Verdict(passed=True, reasons=()))
    adapters.activate(version, by="t", reason="t")
    wait_until(lambda: engine.active_version == version)
    adapters.activate(0, by="t", reason="t")
    wait_until(lambda: engine.active_version == 0 and version in engine.versions())
    engine.refuse = {version}  # would be asked only to load it
    adapters.roll_back(by="t", reason="t")
    adapters.activate(version, by="t", reason="t")
    wait_until(lambda: engine.active_version == version)


def test_a_restarted_server_begins_with_the_champion(
    server: RunningServer, adapters: AdapterStore, start_server: StartServer, engine: ScriptedEngine
) -> None:
    version = publish(adapters, 1, Verdict(passed=True, reasons=()))
    server.stop()
    engine._active = 0
    adapters.activate(version, by="t", reason="t")
    assert start_server().http.get("/readyz").json()["policy_version"] == version


def test_when_the_engine_stops_the_process_is_told_to_end(
    server: RunningServer, engine: ScriptedEngine
) -> None:
    engine.alive = False
    assert server.fatal.wait(5)
    assert server.http.get("/readyz").status_code == 503
    assert server.http.get("/livez").status_code == 200


def test_a_store_that_does_not_answer_is_503_without_its_address(
    server: RunningServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.http.post("/console/login", data={"token": STAFF_TOKEN})
    home = Settings(home=tmp_path / "other", redis_url=None)
    with open_store(home) as url, connect(url) as gone:
        gone.ping()
    monkeypatch.setattr(server.state.feedback, "_redis", gone)  # a store that has ended
    monkeypatch.setattr(server.state.conversations, "_redis", gone)
    monkeypatch.setattr(server.state.activity, "_redis", gone)
    port = str(urlsplit(url).port)
    for path in ("/v1/feedback/counts", "/v1/conversations", "/readyz", "/console/"):
        answer = server.http.get(path, headers=server.staff)
        assert answer.status_code == 503
        assert "the store cannot be used now" in answer.text
        assert port not in answer.text and "127.0.0.1" not in answer.text


def test_limits_answer_429_with_a_hint(start_server: StartServer) -> None:
    server = start_server(address_sessions_per_minute=2)
    answers = [server.http.post("/v1/session", json={}) for _ in range(3)]
    assert [a.status_code for a in answers] == [200, 200, 429]
    assert 0 < int(answers[-1].headers["retry-after"]) <= 60


def test_a_visitor_who_changes_their_mind_all_the_time_is_slowed_down(
    start_server: StartServer,
) -> None:
    server = start_server(visitor_judgements_per_minute=2)
    visitor = server.new_visitor()
    path = f"/v1/turns/{visitor.ask(QUESTION).turn_id}/thumb"
    answers = [
        server.http.put(path, json={"value": value}, headers=visitor.headers)
        for value in (1, -1, 1)
    ]
    assert [a.status_code for a in answers] == [200, 200, 429]


def test_a_body_over_the_limit_is_413(server: RunningServer) -> None:
    for content in (b"x" * 70_000, (b"x" * 1000 for _ in range(70))):
        answer = server.http.post("/v1/session", content=content)
        assert (answer.status_code, answer.json()["error"]["code"]) == (413, "too_large")


def test_every_answer_carries_the_security_headers(server: RunningServer) -> None:
    for path in ("/livez", "/nowhere", "/v1/conversations", "/console/login", "/widget/none.js"):
        headers = server.http.get(path).headers
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "no-referrer"
        assert "default-src 'none'" in headers["content-security-policy"]
        assert "unsafe" not in headers["content-security-policy"]
        assert "server" not in headers


def test_only_listed_sites_may_read_answers(start_server: StartServer) -> None:
    server = start_server(allowed_origins="https://shop.example")
    preflight = {
        "Access-Control-Request-Method": "PUT",
        "Access-Control-Request-Headers": "authorization,content-type,idempotency-key",
    }
    path = "/v1/turns/t/thumb"
    good = server.http.options(path, headers={"Origin": "https://shop.example", **preflight})
    evil = server.http.options(path, headers={"Origin": "https://evil.example", **preflight})
    assert good.headers["access-control-allow-origin"] == "https://shop.example"
    assert evil.status_code == 400 and "access-control-allow-origin" not in evil.headers
    session = server.http.post("/v1/session", json={}, headers={"Origin": "https://shop.example"})
    assert session.headers["access-control-expose-headers"] == "Retry-After"


def test_unknown_paths_and_methods_are_json_errors(server: RunningServer) -> None:
    assert server.http.get("/nowhere").json()["error"]["code"] == "not_found"
    assert server.http.post("/livez").json()["error"]["code"] == "method_not_allowed"


def test_openapi_names_every_route_and_gives_examples(server: RunningServer) -> None:
    schema = server.http.get("/openapi.json").json()
    assert {
        "/v1/session",
        "/v1/turns/{turn_id}/thumb",
        "/v1/conversations/{conversation_id}/rating",
        "/v1/turns/{turn_id}/corrections",
        "/v1/runs/{run_id}/events",
        "/v1/adapters/{version}/activate",
        "/v1/feedback/counts",
        "/readyz",
    } <= set(schema["paths"])
    assert "It is 30 days now." in json.dumps(schema["paths"]["/v1/turns/{turn_id}/thumb"])


def test_the_widget_may_be_embedded_and_the_shop_has_a_strict_policy(
    server: RunningServer, tmp_path: Path
) -> None:
    widget = server.http.get("/widget/amends-chat.js")
    assert widget.headers["cross-origin-resource-policy"] == "cross-origin"
    assert widget.headers["content-type"].startswith("text/javascript")
    etag = {"If-None-Match": widget.headers["etag"]}
    assert server.http.get("/widget/amends-chat.js", headers=etag).status_code == 304
    shop = server.http.get("/")
    assert (
        shop.status_code == 200 and "script-src 'self'" in shop.headers["content-security-policy"]
    )
    assert "require-trusted-types-for" in shop.headers["content-security-policy"]
    assert server.http.get("/shop/shop.css").headers["content-type"].startswith("text/css")


@pytest.mark.parametrize("origin", ["*", "shop.example", "https://shop.example/path", "ftp://a"])
def test_an_allowed_origin_that_is_none_is_refused(origin: str) -> None:
    with pytest.raises(ValueError, match="expected an origin"):
        ServerSettings(allowed_origins=(origin,))


def test_the_staff_token_has_one_name_and_an_empty_one_is_none(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("AMENDS_SERVER_STAFF_TOKEN", "sixteen-characters-at-least")
    monkeypatch.delenv("AMENDS_STAFF_TOKEN", raising=False)
    assert ServerSettings().staff_token is None
    monkeypatch.setenv("AMENDS_STAFF_TOKEN", "")
    assert ServerSettings().staff_token is None


def test_settings_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AMENDS_SERVER_ALLOWED_ORIGINS", "https://a.example/, http://b.example:81")
    monkeypatch.setenv("AMENDS_STAFF_TOKEN", "sixteen-characters-at-least")
    monkeypatch.setenv("AMENDS_SERVER_PORT", "9000")
    settings = ServerSettings()
    assert settings.allowed_origins == ("https://a.example", "http://b.example:81")
    assert settings.staff_token == "sixteen-characters-at-least" and settings.port == 9000


def test_openapi_describes_errors_as_they_are(server: RunningServer) -> None:
    schema = server.http.get("/openapi.json").json()
    ours = [path for path in schema["paths"] if path.startswith("/v1/")]
    for path in set(ours) - {"/v1/chat/completions", "/v1/models", "/v1/models/{model}"}:
        for route in schema["paths"][path].values():
            for status in ("4XX", "5XX"):
                model = route["responses"][status]["content"]["application/json"]["schema"]
                assert model == {"$ref": "#/components/schemas/ProblemBody"}, path
            assert "422" not in route["responses"], path
    problem = server.http.get("/v1/conversations/x").json()
    assert set(problem["error"]) == set(schema["components"]["schemas"]["Problem"]["properties"])
    assert schema["paths"]["/v1/conversations/{conversation_id}"]["get"]["security"]
    assert "HTTPValidationError" not in schema["components"]["schemas"]


def test_an_idle_connection_is_kept_longer_than_clients_keep_theirs(server: RunningServer) -> None:
    """httpx sends a request on one that was idle for up to five seconds."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
    with closing(connection):
        connection.connect()
        opened = connection.sock
        for idle_s in (0.0, 5.5):
            time.sleep(idle_s)
            connection.request("GET", "/livez")
            assert connection.getresponse().read() == b'{"alive":true}'
        assert connection.sock is opened

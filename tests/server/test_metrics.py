"""What /metrics tells: read as Prometheus reads it, against what was really asked and answered."""

import asyncio
import json
import re
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from amends.adapter_store import AdapterStore
from amends.conversation import Turn
from amends.embedded_store import open_store
from amends.engine.sequence import Request, Sampling
from amends.errors import ModelUnavailable
from amends.settings import Settings
from amends.store_client import connect
from amends.verdict import Verdict
from server.app import load_model
from server.metric_families import FAMILIES
from server.settings import ServerSettings
from server.state import LoadedModel
from tests.server.conftest import StartServer, tiny_install
from tests.server.published import publish, publish_acting
from tests.server.running_server import RunningServer, Visitor, wait_until
from tests.server.scripted_engine import ScriptedEngine

ROOT = Path(__file__).parent.parent.parent
QUESTION = "How long is the return window?"
METRICS_TOKEN = "metrics-token-of-the-tests"
RESPONSE_TOKENS = 24


class Scrape:
    """One answer of /metrics."""

    def __init__(self, server: RunningServer) -> None:
        answer = server.http.get("/metrics", headers=server.staff)
        assert answer.status_code == 200, answer.text
        self.families = list(text_string_to_metric_families(answer.text))

    def __call__(self, name: str, **labels: str) -> float:
        """Sum of the samples of this name that have these labels; there must be one."""
        found = [
            sample.value
            for family in self.families
            for sample in family.samples
            if sample.name == name and labels.items() <= sample.labels.items()
        ]
        assert found, f"no {name} {labels}"
        return sum(found)

    def labels(self, name: str, label: str) -> set[str]:
        samples = (sample for family in self.families for sample in family.samples)
        return {sample.labels[label] for sample in samples if sample.name == name}

    def names(self) -> set[tuple[str, str]]:
        """(name, type) of our families, named as Prometheus stores their samples."""
        return {
            (family.name + ("_total" if family.type == "counter" else ""), family.type)
            for family in self.families
            if not family.name.startswith("process_")
        }


@pytest.fixture(scope="module")
def tiny(store_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """The real engine on the base model; version 1 is published."""
    folder = tmp_path_factory.mktemp("metrics")
    shared, settings = tiny_install(folder, 1024, RESPONSE_TOKENS)
    model = folder / "model"
    publish_acting(shared.home, model, 1)
    server = RunningServer(shared, settings, store_url, load_model).wait_ready()
    yield server
    server.stop()


def ask(server: RunningServer, times: int) -> list[Turn]:
    """Each time a new visitor."""
    answers = [server.new_visitor().ask(QUESTION) for _ in range(times)]
    return [server.state.conversations.turn(answer.turn_id) for answer in answers]


def check(scrape: Scrape, version: str, turns: list[Turn]) -> None:
    """That the version's counts are those of its turns."""
    sampled = [turn.sampled for turn in turns if turn.sampled is not None]
    assert len(sampled) == len(turns)
    written = sum(len(s.token_ids) for s in sampled)
    read = sum(len(s.prompt_token_ids) for s in sampled)
    labels = {"model_name": "amends", "version": version}
    assert scrape("vllm:generation_tokens_total", **labels) == written
    assert scrape("vllm:prompt_tokens_total", **labels) == read
    assert scrape("vllm:prefix_cache_queries_total", **labels) == read
    assert scrape("vllm:request_queue_time_seconds_count", **labels) == len(turns)
    assert scrape("vllm:time_to_first_token_seconds_count", **labels) == len(turns)
    assert scrape("vllm:inter_token_latency_seconds_count", **labels) == written - len(turns)
    assert scrape("vllm:e2e_request_latency_seconds_count", **labels) == len(turns)
    reasons = Counter(turn.finish_reason for turn in turns)
    for reason in ("stop", "length"):
        found = scrape("vllm:request_success_total", finished_reason=reason, **labels)
        assert found == reasons[reason]
    assert scrape("vllm:request_success_total", finished_reason="abort", **labels) == 0


def test_versions_are_counted_apart_before_and_after_a_swap(tiny: RunningServer) -> None:
    before = ask(tiny, 3)
    scrape = Scrape(tiny)
    check(scrape, "amends-v0", before)
    assert scrape.labels("vllm:generation_tokens_total", "version") == {"amends-v0"}
    assert scrape("amends_policy_version", alias="active") == 0
    assert (scrape("amends_swaps_total"), scrape("amends_swap_seconds_count")) == (0, 0)
    assert (scrape("amends_slots"), scrape("amends_slots_in_use")) == (5, 1)
    assert scrape("vllm:prefix_cache_hits_total", version="amends-v0") > 0

    tiny.http.post("/v1/adapters/1/activate", headers=tiny.staff).raise_for_status()
    wait_until(lambda: tiny.http.get("/readyz").json()["policy_version"] == 1)
    after = ask(tiny, 4)
    assert {turn.policy_version for turn in after} == {1}
    scrape = Scrape(tiny)
    check(scrape, "amends-v0", before)
    check(scrape, "amends-v1", after)
    assert scrape("amends_policy_version", alias="active") == 1
    assert scrape("amends_policy_version", alias="champion") == 1
    assert scrape("amends_policy_version", alias="previous") == 0
    assert (scrape("amends_swaps_total"), scrape("amends_swap_seconds_count")) == (1, 1)
    assert 0 < scrape("amends_swap_seconds_sum") < 20
    assert scrape("amends_slots_in_use") == 2
    assert scrape("amends_conversations") >= 7


def test_every_family_is_told_documented_and_nothing_else(tiny: RunningServer) -> None:
    assert Scrape(tiny).names() == {(family.name, family.kind) for family in FAMILIES}

    lines = (ROOT / "docs" / "metrics.md").read_text().splitlines()
    rows = [
        f"| `{f.name}` | {f.kind} | {', '.join(f'`{name}`' for name in f.labels)} | {f.says} |"
        for f in FAMILIES
    ]
    rows = [row.replace("|  |", "| |") for row in rows]
    missing = [row for row in rows if row not in lines]
    assert missing == [], "paste into docs/metrics.md:\n" + "\n".join(missing)
    assert [line for line in lines if line.startswith("| `") and line not in rows] == []


def test_labels_are_those_declared(tiny: RunningServer) -> None:
    declared = {family.name: set(family.labels) for family in FAMILIES}
    for family in Scrape(tiny).families:
        for sample in family.samples:
            name = next((n for n in (sample.name, family.name) if n in declared), None)
            if name is not None:
                assert set(sample.labels) - {"le"} == declared[name], sample


def test_histograms_rise_to_their_count(tiny: RunningServer) -> None:
    ask(tiny, 1)
    for family in Scrape(tiny).families:
        if family.type != "histogram":
            continue
        labelled: dict[str, list[float]] = {}
        for sample in family.samples:
            if sample.name.endswith("_bucket"):
                labelled.setdefault(sample.labels.get("version", ""), []).append(sample.value)
            elif sample.name.endswith("_count"):
                buckets = labelled[sample.labels.get("version", "")]
                assert buckets == sorted(buckets) and buckets[-1] == sample.value


def test_who_runs_and_leaves_is_seen_running_and_then_aborted(tiny: RunningServer) -> None:
    engine = tiny.state.require_policy().engine
    before = Scrape(tiny)

    async def leave_after_the_first_token() -> Scrape:
        chunks = engine.stream(Request((5, 6, 7), Sampling(900, temperature=0.0), version=0))
        await anext(chunks)
        while_it_runs = await asyncio.to_thread(Scrape, tiny)
        await chunks.aclose()
        return while_it_runs

    running = asyncio.run(leave_after_the_first_token())
    assert running("vllm:num_requests_running", version="amends-v0") == 1
    assert running("vllm:num_requests_running") == 1
    assert running("vllm:kv_cache_usage_perc") == 1 / 32
    assert running.labels("vllm:lora_requests_info", "running_lora_adapters") == {""}
    wait_until(lambda: Scrape(tiny)("vllm:num_requests_running") == 0)
    after = Scrape(tiny)
    aborted = {"version": "amends-v0", "finished_reason": "abort"}
    assert before("vllm:request_success_total", **aborted) == 0
    assert after("vllm:request_success_total", **aborted) == 1
    of_all = "vllm:e2e_request_latency_seconds_count"
    assert after(of_all) == before(of_all)


def test_only_the_staff_token_and_the_metrics_token_read_it(start_server: StartServer) -> None:
    server = start_server(metrics_token=METRICS_TOKEN)
    visitor = server.new_visitor()
    reader = {"Authorization": f"Bearer {METRICS_TOKEN}"}
    wrong = {"Authorization": "Bearer x"}

    def status(path: str, headers: dict[str, str]) -> int:
        return server.http.get(path, headers=headers).status_code

    assert [status("/metrics", h) for h in ({}, wrong, visitor.headers)] == [401, 401, 401]
    assert [status("/metrics", h) for h in (reader, server.staff)] == [200, 200]
    assert [status(p, reader) for p in ("/v1/adapters", "/v1/conversations")] == [401, 401]
    assert server.http.post("/console/login", data={"token": METRICS_TOKEN}).status_code == 403


def test_without_a_metrics_token_nobody_but_staff_reads_it(server: RunningServer) -> None:
    for token in ("x", "None"):
        headers = {"Authorization": f"Bearer {token}"}
        assert server.http.get("/metrics", headers=headers).status_code == 401


def test_an_engine_that_counts_elsewhere_leaves_what_the_server_knows(
    server: RunningServer, adapters: AdapterStore, engine: ScriptedEngine, visitor: Visitor
) -> None:
    version = publish(adapters, 1, Verdict(passed=True))
    with visitor.chat():
        scrape = Scrape(server)
        assert scrape("amends_websocket_connections") == 1
    assert not {name for name, _ in scrape.names() if name.startswith("vllm:")}
    assert (scrape("amends_ready"), scrape("amends_store_up")) == (1, 1)

    adapters.activate(version, by="t", reason="t")
    wait_until(lambda: engine.active_version == version)
    wait_until(lambda: Scrape(server)("amends_swap_seconds_count") == 1)
    scrape = Scrape(server)
    assert scrape("amends_policy_version", alias="active") == version
    assert scrape("amends_adapter_refusals_total") == 0


def test_a_champion_that_the_engine_refuses_counts_once(
    server: RunningServer, adapters: AdapterStore, engine: ScriptedEngine
) -> None:
    version = publish(adapters, 1, Verdict(passed=True))
    engine.refuse = {version}
    adapters.activate(version, by="t", reason="t")
    wait_until(lambda: server.http.get("/readyz").json()["refusal"] is not None)
    publish(adapters, 2, Verdict(passed=True))  # the file changes, the refused one is tried again
    stamp = server.state.require_policy().watcher._stamp()
    wait_until(lambda: server.state.require_policy().watcher._seen == stamp)
    scrape = Scrape(server)
    assert scrape("amends_adapter_refusals_total") == 1
    assert scrape("amends_policy_version", alias="champion") == version
    assert scrape("amends_policy_version", alias="active") == 0
    assert scrape("amends_swap_seconds_count") == 0


def test_the_champion_that_a_server_starts_with_is_no_swap_that_it_saw(
    server: RunningServer,
    adapters: AdapterStore,
    engine: ScriptedEngine,
    start_server: StartServer,
) -> None:
    version = publish(adapters, 1, Verdict(passed=True))
    server.stop()
    adapters.activate(version, by="t", reason="t")
    again = start_server()
    assert engine.active_version == version
    assert Scrape(again)("amends_swap_seconds_count") == 0


def test_aliases_that_cannot_be_read_leave_the_version_that_answers(
    server: RunningServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    adapters = server.state.require_policy().adapters
    monkeypatch.setattr(adapters, "base_hash", "1" * 64)  # as if they were another model's
    assert Scrape(server).labels("amends_policy_version", "alias") == {"active"}


def test_thumbs_are_counted_for_the_version_that_wrote_the_turn(
    server: RunningServer, visitor: Visitor, engine: ScriptedEngine
) -> None:
    first = visitor.ask(QUESTION).turn_id
    by_rule = visitor.ask("Who won the world cup in 2022?").turn_id
    engine._active = 7
    second = visitor.ask(QUESTION).turn_id
    for turn_id, value in ((first, -1), (first, -1), (first, 1), (by_rule, -1), (second, 1)):
        path = f"/v1/turns/{turn_id}/thumb"
        answer = server.http.put(path, json={"value": value}, headers=visitor.headers)
        assert answer.status_code == 200
    scrape = Scrape(server)
    samples = {
        (version, value): scrape("amends_thumbs_total", version=version, value=value)
        for version in ("amends-v0", "amends-v7")
        for value in ("up", "down")
    }
    assert list(samples.values()) == [1, 1, 1, 0]  # one of version 0 changed its mind
    assert scrape("amends_feedback", kind="thumb", state="pending") == 3
    assert scrape("amends_conversations") == 3


def test_refused_calls_are_counted_by_what_was_asked_for(start_server: StartServer) -> None:
    server = start_server(visitor_judgements_per_minute=1)
    visitor = server.new_visitor()
    path = f"/v1/turns/{visitor.ask(QUESTION).turn_id}/thumb"
    for _ in range(3):
        server.http.put(path, json={"value": 1}, headers=visitor.headers)
    scrape = Scrape(server)
    assert scrape("amends_rate_limited_total", what="judgements") == 2
    assert scrape("amends_rate_limited_total") == 2
    assert len(scrape.labels("amends_rate_limited_total", "what")) == 5


def test_what_is_known_is_told_without_a_store(
    server: RunningServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = Settings(home=tmp_path / "other", redis_url=None)
    with open_store(home) as url, connect(url) as gone:
        gone.ping()
    monkeypatch.setattr(server.state.conversations, "_redis", gone)  # a store that has ended
    scrape = Scrape(server)
    assert (scrape("amends_store_up"), scrape("amends_ready")) == (0, 1)
    assert "amends_feedback" not in {name for name, _ in scrape.names()}


def test_what_is_known_is_told_while_the_model_loads(start_server: StartServer) -> None:
    go_on = threading.Event()

    def load(settings: Settings) -> LoadedModel:
        go_on.wait(20)
        raise ModelUnavailable("no model in this test")

    server = start_server(load=load, wait=False)
    try:
        scrape = Scrape(server)
        assert (scrape("amends_ready"), scrape("amends_store_up")) == (0, 1)
        assert "amends_policy_version" not in {name for name, _ in scrape.names()}
    finally:
        go_on.set()


def test_two_applications_have_two_registries(start_server: StartServer) -> None:
    one, two = start_server(visitor_judgements_per_minute=1), start_server()
    visitor = one.new_visitor()
    path = f"/v1/turns/{visitor.ask(QUESTION).turn_id}/thumb"
    one.http.put(path, json={"value": 1}, headers=visitor.headers)
    assert Scrape(one)("amends_thumbs_total") == 1
    assert Scrape(two)("amends_thumbs_total") == 0


def test_the_dashboard_asks_for_nothing_that_is_not_told(tiny: RunningServer) -> None:
    dashboard = json.loads((ROOT / "docker" / "grafana.json").read_text())
    expressions = [
        *(target["expr"] for panel in dashboard["panels"] for target in panel.get("targets", ())),
        *(annotation["expr"] for annotation in dashboard["annotations"]["list"]),
        *(variable["query"] for variable in dashboard["templating"]["list"]),
    ]
    told = {sample.name for family in Scrape(tiny).families for sample in family.samples}
    asked = {name for e in expressions for name in re.findall(r"(?:vllm:|amends_)\w+", e)}
    assert len(asked) > 20 and asked - told == set()

    labels = {family.name: {"instance", "le", *family.labels} for family in FAMILIES}
    for expression in expressions:
        for metric, selected in re.findall(r"((?:vllm:|amends_)\w+)\{([^}]*)\}", expression):
            family = re.sub(r"_(bucket|sum|count)$", "", metric)
            grouped = ",".join(re.findall(r"by \(([^)]*)\)", expression))
            used = {*re.findall(r"(\w+)=", selected), *re.findall(r"\w+", grouped)}
            assert used <= labels[family], expression


def test_the_example_reads_with_a_token_the_place_where_a_server_listens() -> None:
    example = (ROOT / "docker" / "prometheus.yml").read_text()
    assert f"localhost:{ServerSettings.model_fields['port'].default}" in example
    assert "credentials_file: amends-metrics-token" in example

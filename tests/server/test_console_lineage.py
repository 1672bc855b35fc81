"""The console's pages of lineage, through the real application."""

import json
from urllib.parse import quote

import httpx
import pytest

from amends.adapter_store import AdapterStore
from amends.correction_outcomes import CorrectionOutcome, CorrectionOutcomes
from amends.run_files import DATA_MANIFEST, write_outcomes
from amends.verdict import Verdict
from tests.amends.lineage_values import data_manifest
from tests.server.published import CONFIG
from tests.server.running_server import STAFF_TOKEN, RunningServer, Visitor

QUESTION = "How long is the return window?"
PASSED = Verdict(passed=True, reasons=("wins 61 %",))


@pytest.fixture
def console(server: RunningServer) -> httpx.Client:
    server.http.follow_redirects = True
    server.http.post("/console/login", data={"token": STAFF_TOKEN})
    return server.http


@pytest.fixture
def judged(server: RunningServer, visitor: Visitor) -> tuple[str, str, str]:
    """A thumb, a correction and a rating of one conversation: their ids, and no round has seen
    them."""
    answer = visitor.ask(QUESTION)
    turn = f"/v1/turns/{answer.turn_id}"
    server.http.put(f"{turn}/thumb", json={"value": -1, "comment": "no"}, headers=visitor.headers)
    server.http.post(f"{turn}/corrections", json={"response": "30 days."}, headers=server.staff)
    place = server.state.conversations.turn(answer.turn_id).conversation_id
    server.http.put(f"/v1/conversations/{place}/rating", json={"value": 2}, headers=visitor.headers)
    found = {one.kind: one.feedback_id for one in server.state.feedback.of_conversation(place)}
    return found["thumb"], found["correction"], found["rating"]


def learn(
    server: RunningServer,
    adapters: AdapterStore,
    trained: tuple[str, ...],
    held_out: str,
    run: int = 1,
    without: tuple[str, ...] = (),
    metrics: dict[str, float] | None = None,
) -> int:
    """The version of a round that learned from these, its files as the trainer leaves them."""
    server.state.feedback.claim(run)
    dropped = (("thumb:t9:v9", "a duplicate"),)
    data = data_manifest(*trained, held_out=(held_out,), dropped=dropped, without=without)
    folder = server.state.shared.runs_folder / str(run)
    folder.mkdir(parents=True)
    (folder / DATA_MANIFEST).write_text(data.to_json())
    fates = tuple(
        CorrectionOutcome(feedback_id=name, champion_well=False, candidate_well=True, lost=False)
        for name in trained
        if name.startswith("correction")
    )
    beside = adapters.alias("champion")
    write_outcomes(
        folder, CorrectionOutcomes(data_manifest_hash=data.hash, champion=beside, outcomes=fates)
    )
    staged = adapters.stage(run)
    (staged / "adapter_config.json").write_text(json.dumps(CONFIG))
    (staged / "adapter_model.safetensors").write_bytes(b"tensors")
    return adapters.publish(
        staged,
        parent=0,
        run_id=run,
        data_manifest_hash=data.hash,
        metrics=metrics or {},
        verdict=PASSED,
        fence=lambda: None,
    ).version


def test_a_thumb_leads_to_the_versions_and_a_version_to_the_thumb(
    console: httpx.Client,
    server: RunningServer,
    adapters: AdapterStore,
    judged: tuple[str, str, str],
) -> None:
    thumb, correction, rating = judged
    place = server.state.feedback.get(thumb)[0].conversation_id
    conversation = console.get(f"/console/conversations/{place}").text
    for name in judged:
        address = f"/console/feedback/{quote(name)}"
        assert address in conversation
        page = console.get(address)
        assert page.status_code == 200
        assert "In no version's weights" in page.text and "next" in page.text
        assert f"/console/conversations/{place}" in page.text

    version = learn(server, adapters, (thumb, correction), rating)
    made = console.get(f"/console/versions/{version}").text
    assert f"/console/versions/{version}" in console.get("/console/versions").text
    assert "1 thumb learned from" in made and "0 ratings learned from, 1 held out" in made
    assert all(f"/console/feedback/{quote(name)}" in made for name in judged)
    assert "1: a duplicate" in made and "1 learned" in made and "wins 61 %" in made

    told = console.get(f"/console/feedback/{thumb}").text
    assert "Thumb down" in told and "Not in the answers of now" in told
    assert "the base model answers" in told
    adapters.activate(version, "anna", "better")
    told = console.get(f"/console/feedback/{correction}").text
    assert "In the answers of now" in told and "<td>learned</td>" in told and "30 days." in told
    told = console.get(f"/console/feedback/{rating}").text
    assert "Rating: 2 of 5" in told and "held out: judged with" in told
    assert "In no version's weights." in told


def test_what_supervised_steps_did_not_learn_from_is_not_called_learned(
    console: httpx.Client,
    server: RunningServer,
    adapters: AdapterStore,
    judged: tuple[str, str, str],
) -> None:
    thumb, correction, rating = judged
    version = learn(server, adapters, (thumb, correction), rating, metrics={"gate/kl": 1.0})
    made = console.get(f"/console/versions/{version}").text
    assert "1 correction learned from" in made
    assert "0 thumbs learned from, 1 in the batch but not learned from" in made


def test_what_was_said_then_and_what_leaving_somebody_out_changed(
    console: httpx.Client,
    server: RunningServer,
    visitor: Visitor,
    adapters: AdapterStore,
    judged: tuple[str, str, str],
) -> None:
    thumb, correction, rating = judged
    adapters.activate(learn(server, adapters, (thumb, correction), rating), "anna", "better")
    turn = f"/v1/turns/{thumb.split(':')[1]}/thumb"
    server.http.put(turn, json={"value": 1}, headers=visitor.headers)
    told = console.get(f"/console/feedback/{thumb}").text
    assert "Thumb up" in told and "it said then: thumb down" in told
    assert "it said then" not in console.get(f"/console/feedback/{correction}").text

    version = learn(server, adapters, (correction,), rating, run=2, without=("rater v1",))
    made = console.get(f"/console/versions/{version}").text
    assert "What leaving out changed" in made and "Not built upon: version 1" in made
    assert "Used before, not now: 1 thumb" in made and "Corrections lost: 0" in made
    assert "What leaving out changed" not in console.get("/console/versions/1").text


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("versions/0", "learned from no feedback"),
        ("versions/7", "does not exist"),
        ("feedback/thumb:nowhere:nobody", "no version saw it"),
    ],
)
def test_what_nobody_knows_is_a_page_that_says_so(
    console: httpx.Client, path: str, text: str
) -> None:
    answer = console.get(f"/console/{path}")
    assert answer.status_code == 404 and text in answer.text


def test_a_version_whose_data_are_gone_says_where_they_should_be(
    console: httpx.Client,
    server: RunningServer,
    adapters: AdapterStore,
    judged: tuple[str, str, str],
) -> None:
    version = learn(server, adapters, judged[:2], judged[2])
    (server.state.shared.runs_folder / "1" / DATA_MANIFEST).unlink()
    answer = console.get(f"/console/versions/{version}")
    assert answer.status_code == 404 and DATA_MANIFEST in answer.text
    told = console.get(f"/console/feedback/{judged[0]}").text
    assert f"Not known of version {version}" in told and "In no version's weights" in told
    adapters.activate(version, "anna", "better")
    assert "no weights that are known of" in console.get(f"/console/feedback/{judged[0]}").text

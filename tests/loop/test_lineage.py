"""Lineage across processes: a rater who was learned from is left out in one command, and told."""

import json
import subprocess
from typing import Any

import pytest
from typer.testing import CliRunner

from amends.cli import app
from amends.feedback import Correction, Rater
from tests.loop.conftest import Install

ROUND_S = 240.0


def amends(*words: str) -> str:
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 0, result.output
    return result.stdout


def told(*words: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(amends("lineage", *words, "--json"))
    return found


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_what_a_rater_taught_is_gone_from_the_next_version(
    install: Install, workers: list[subprocess.Popen[bytes]]
) -> None:
    feedback = install.server.state.feedback
    given = install.ask_and_correct(40)
    staffs = [name for name in given if name.startswith("correction:")]
    bobs = []
    for name in staffs[:8]:
        turn = install.server.state.conversations.turn(name.split(":")[1])
        worse = Correction(
            conversation_id=turn.conversation_id,
            turn_id=turn.turn_id,
            rater=Rater(rater_id="bob", role="expert"),
            given_at=turn.created_at,
            response="who knows.",
        )
        feedback.add(worse)
        bobs.append(worse.feedback_id)
    run = install.wait_for_end(install.start_run(), ROUND_S)
    first = run["version"]
    assert first is not None, run
    before = told("--adapter", str(first))
    assert before["ancestry"] == [0]
    bob = next(row for row in before["raters"] if row["rater"] == "bob")
    assert (bob["role"], bob["judgements"]) == ("expert", len(bobs))
    counts = before["corrections"]["counts"]
    assert sum(counts.values()) == len(staffs) + len(bobs) and counts["not asked"] < 48
    amends("adapters", "activate", str(first), "--force")

    asked = json.loads(amends("train", "--without-rater", "bob", "--json"))
    run = install.wait_for_end(asked["run_id"], ROUND_S)
    second = run["version"]
    assert second is not None, run
    assert [item["name"] for item in run["without"]] == ["bob"]
    after = told("--adapter", str(second))
    assert after["ancestry"] == [0]  # not from the champion, which learned from bob
    assert after["changed"]["before"] == first
    assert after["changed"]["left_out"] == after["changed"]["gone"] == {"correction": len(bobs)}
    assert after["changed"]["corrections_left_out"] == sorted(bobs)
    assert {"gate/kl", "answers/ended"} <= set(after["changed"]["figures"])
    assert "bob" not in [row["rater"] for row in after["raters"]]

    taught = told("--feedback", bobs[0])
    assert [row["version"] for row in taught["versions"]] == [first, second]
    assert taught["versions"][1]["what"] == "set aside: left out: rater bob"
    assert taught["champion"] == first and second not in taught["in_the_weights_of"]

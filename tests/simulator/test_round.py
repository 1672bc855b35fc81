"""A round seen from outside ends with its verdict, or with a reason why there is none."""

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest

from simulator.client import Api
from simulator.round import Following, Outcome, RoundBroke, activate, follow
from tests.simulator.peers import Frame, Route, http_server

EVENTS = [
    ("1-0", {"kind": "stage_started", "stage": "ppo"}),
    ("2-0", {"kind": "progress", "stage": "ppo", "done": 3, "total": 10}),
    ("3-0", {"kind": "metrics", "stage": "ppo", "step": 3, "values": {"objective/kl": 1.5}}),
    ("4-0", {"kind": "samples", "stage": "ppo", "step": 3, "texts": []}),
    ("5-0", {"kind": "stage_finished", "stage": "ppo", "seconds": 12.5}),
]


def run_record(state: str, **fields: Any) -> Frame:
    return {"run_id": 4, "state": state, "version": None, "verdict": None, "error": None, **fields}


def routes_of(records: Iterator[Frame], adapters: Frame | None = None) -> dict[str, Route]:
    entries = [{"id": key, "event": event} for key, event in EVENTS]
    listed = adapters or {"aliases": {}, "versions": [], "serving": 0, "refusal": None}
    return {
        "GET /v1/runs/4": lambda _: (200, next(records), {}),
        "GET /v1/runs/4/events?after=0": lambda _: (200, {"events": entries}, {}),
        "GET /v1/runs/4/events?after=5-0": lambda _: (200, {"events": []}, {}),
        "GET /v1/adapters": lambda _: (200, listed, {}),
        "POST /v1/adapters/2/activate": lambda _: (200, {"aliases": {}}, {}),
        "GET /readyz": lambda _: (200, {"ready": True, "policy_version": 0}, {}),
    }


def followed(*records: Frame, limit_s: float = 30.0) -> tuple[Outcome, list[str]]:
    heard: list[str] = []

    def hear(following: Following) -> None:
        heard.append(f"{following.stage} {following.done}/{following.total} {following.kl}")

    async def run(url: str) -> Outcome:
        async with Api(url, "staff") as api:
            return await follow(api, 4, hear, lambda: None, limit_s)

    with http_server(routes_of(iter(records))) as url:
        return asyncio.run(run(url)), heard


def test_events_are_heard_once_and_the_verdict_ends_the_round() -> None:
    verdict = {"passed": True, "reasons": ["win rate 0.8"]}
    outcome, heard = followed(
        run_record("RUNNING"), run_record("CANDIDATE", version=2, verdict=verdict)
    )
    assert heard == ["ppo 3/10 1.5"] * 2
    assert outcome == Outcome(True, 2, ("win rate 0.8",), 1.5, {"ppo": 12.5})


def test_a_refused_candidate_is_an_outcome_with_reasons() -> None:
    verdict = {"passed": False, "reasons": ["repeats itself"]}
    outcome, _ = followed(run_record("REJECTED", version=2, verdict=verdict))
    assert not outcome.passed
    assert outcome.reasons == ("repeats itself",)


@pytest.mark.parametrize("state", ["FAILED", "CANCELLED"])
def test_a_round_without_a_verdict_is_broken(state: str) -> None:
    with pytest.raises(RoundBroke, match=rf"{state}: too little feedback"):
        followed(run_record(state, error="too little feedback"))


def test_a_round_that_takes_too_long_is_broken() -> None:
    with pytest.raises(RoundBroke, match="still RUNNING"):
        followed(run_record("RUNNING"), limit_s=0.0)


def test_a_version_that_never_serves_is_broken() -> None:
    async def run(url: str) -> None:
        async with Api(url, "staff") as api:
            await activate(api, 2, lambda: None, limit_s=0.3)

    with (
        http_server(routes_of(iter([]))) as url,
        pytest.raises(RoundBroke, match="expected /readyz to show version 2"),
    ):
        asyncio.run(run(url))


def test_a_version_that_the_engine_refuses_is_broken_at_once() -> None:
    refusal = {"version": 2, "reason": "hash differs"}
    listed = {"aliases": {}, "versions": [], "serving": 0, "refusal": refusal}

    async def run(url: str) -> None:
        async with Api(url, "staff") as api:
            await activate(api, 2, lambda: None, limit_s=60.0)

    with (
        http_server(routes_of(iter([]), listed)) as url,
        pytest.raises(RoundBroke, match="hash differs"),
    ):
        asyncio.run(run(url))


def test_numbers_that_are_none_are_not_shown() -> None:
    following = Following()
    values = {"objective/kl": "NaN", "objective/scores": 0.5}
    following.hear({"kind": "metrics", "stage": "ppo", "step": 1, "values": values})
    assert following.kl is None
    assert following.reward == 0.5

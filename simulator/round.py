"""One round of training, seen from outside: start it, follow its events, hear the verdict,
activate the candidate.

Knows the public routes and the events' shape. Invariant: `follow` returns only when the run has
ended, whatever the events said; a run that ended without a verdict raises RoundBroke with the
run's own reason.
"""

import asyncio
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from simulator.client import Api

POLL_S = 1.0
ENDED = frozenset({"CANDIDATE", "REJECTED", "FAILED", "CANCELLED"})


class RoundBroke(Exception):
    """The run failed, was cancelled or took too long; or the activated version does not serve."""


class RoundFailed(RoundBroke):
    """The run ended FAILED: its data were not enough, or nothing was learned from them."""


@dataclass
class Following:
    """What the events have told so far."""

    stage: str = "claim"
    done: int = 0
    total: int = 0
    values: dict[str, float] = field(default_factory=dict)  # newest of each metric
    stage_seconds: dict[str, float] = field(default_factory=dict)
    log: list[str] = field(default_factory=list)

    def hear(self, event: dict[str, Any]) -> None:
        match event["kind"]:
            case "stage_started":
                self.stage, self.done, self.total = event["stage"], 0, 0
            case "stage_finished":
                self.stage_seconds[event["stage"]] = float(event["seconds"])
            case "progress":
                self.stage, self.done, self.total = event["stage"], event["done"], event["total"]
            case "metrics":
                for name, value in event["values"].items():
                    self.values[name] = float(value)
            case "log":
                self.log.append(event["text"])

    def value(self, *names: str) -> float | None:
        """The newest finite value under the first of these names that was reported."""
        found = (self.values[name] for name in names if name in self.values)
        return next((value for value in found if math.isfinite(value)), None)

    @property
    def finite(self) -> dict[str, float]:
        """The newest value of each metric, where it is a number."""
        return {name: value for name, value in self.values.items() if math.isfinite(value)}

    @property
    def reward(self) -> float | None:
        return self.value("objective/scores", "objective/rlhf_reward")

    @property
    def kl(self) -> float | None:
        return self.value("objective/kl")


@dataclass(frozen=True)
class Outcome:
    """How the round ended."""

    passed: bool
    version: int | None
    reasons: tuple[str, ...]
    kl: float | None
    stage_seconds: dict[str, float]


async def follow(
    api: Api,
    run_id: int,
    heard: Callable[[Following], None],
    check: Callable[[], None],
    limit_s: float,
) -> Outcome:
    """Follows the run to its end. `check` raises when the programs died. Raises RoundBroke."""
    following = Following()
    last, deadline = "0", time.monotonic() + limit_s
    while True:
        check()
        run = await api.run(run_id)
        for event_id, event in await api.run_events(run_id, last):
            following.hear(event)
            last = event_id
        heard(following)
        if run["state"] in ENDED:
            break
        if time.monotonic() > deadline:
            raise RoundBroke(f"run {run_id} is still {run['state']} after {limit_s:g} s")
        await asyncio.sleep(POLL_S)
    verdict = run["verdict"]
    if run["state"] in ("FAILED", "CANCELLED") or verdict is None:
        lines = "\n".join(following.log[-10:])
        reason = run["error"] or "no reason"
        refused = run["state"] == "FAILED" and not reason.startswith("attempt ")  # not a crash
        told = f"run {run_id} ended {run['state']}: {reason}\n{lines}"
        raise RoundFailed(told) if refused else RoundBroke(told)
    kl = following.kl
    if run["version"] is not None:
        kl = await _kl_of(api, run["version"], kl)
    return Outcome(
        passed=run["state"] == "CANDIDATE" and bool(verdict["passed"]),
        version=run["version"],
        reasons=tuple(verdict["reasons"]),
        kl=kl,
        stage_seconds=following.stage_seconds,
    )


async def activate(
    api: Api, version: int, check: Callable[[], None], limit_s: float, force: bool = False
) -> None:
    """Makes the version the champion; waits until the server answers with it. Raises RoundBroke."""
    await api.activate(version, force)
    deadline = time.monotonic() + limit_s
    while (serving := await api.serving_version()) != version:
        check()
        refusal = (await api.adapters())["refusal"]
        if refusal is not None and refusal["version"] == version:
            raise RoundBroke(f"the engine refused version {version}: {refusal}")
        if time.monotonic() > deadline:
            raise RoundBroke(
                f"expected /readyz to show version {version} in {limit_s:g} s, it shows {serving}"
            )
        await asyncio.sleep(0.2)


async def _kl_of(api: Api, version: int, otherwise: float | None) -> float | None:
    manifests = (await api.adapters())["versions"]
    for row in manifests:
        if row["version"] == version and "gate/kl" in row["metrics"]:
            return float(row["metrics"]["gate/kl"])
    return otherwise

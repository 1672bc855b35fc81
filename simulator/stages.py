"""The demo's stages in the order in which they happen, against a running install.

Knows the public API and the simulated people; starts and stops nothing. Invariants: the same held-
out customers ask before and after the swap, give no feedback, and come when training has ended: a
round takes its prompts from all conversations it finds; every answer after the swap was written by
the activated version, or RoundBroke says which was not.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from simulator import experts, report
from simulator.client import Api
from simulator.customers import Customer, Visit, heldout_crowd, training_crowd, visit_all
from simulator.cut_answers import cut_answers
from simulator.known_answers import answers_of_known_kinds
from simulator.questions import load_passages, load_personas, load_questions
from simulator.results import Results
from simulator.round import Following, Outcome, RoundBroke, activate, follow
from simulator.statistics import WAY, bootstrap_mean, gap_closed, paired_gain

STARS = "1\u20135"  # the unit, with an en dash


@dataclass(frozen=True)
class Plan:
    """How large the demo is. Raters are many and give little each, as the trust rules want it."""

    customers: int = 140  # conversations whose feedback trains
    heldout: int = 176  # customers who ask before and after: each question twice
    correct_share: float = 0.7  # of the bad answers, the share that experts correct
    max_corrections: int = 90
    seed: int = 1
    concurrency: int = 16
    optimizer: str = "auto"
    round_limit_s: float = 3600.0
    swap_limit_s: float = 120.0


@dataclass
class Clock:
    """Which stage runs, and how long each took; a row of the results file per stage."""

    console: Console
    results: Results
    current: str = "start"
    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def stage(self, name: str, title: str) -> Iterator[None]:
        self.current = name
        self.console.rule(f"[bold]{title}", align="left")
        began = time.monotonic()
        yield
        self.seconds[name] = time.monotonic() - began
        self.results.add("stage_seconds", round(self.seconds[name], 2), "s", {"stage": name})


async def play(api: Api, check: Callable[[], None], plan: Plan, clock: Clock) -> bool:
    """The whole demo; False when the gate refused. `check` raises when the programs died."""
    passages, personas = load_passages(), load_personas()
    yardstick = heldout_crowd(plan.heldout, plan.seed, personas, load_questions("heldout"))
    await _gather_feedback(api, passages, plan, clock)

    with clock.stage("train", "A round of training, then the gate"):
        outcome = await _train(api, check, plan, clock)
    report.show_verdict(clock.console, outcome)
    _record_round(outcome, clock)
    used = await _feedback_used(api, clock)
    if not outcome.passed or outcome.version is None:
        return False

    with clock.stage("ask_before", f"{plan.heldout} held-out customers ask (before)"):
        before = await _visits(api, yardstick, passages, plan, clock)
    _record_satisfaction("satisfaction_before", before, plan, clock)

    with clock.stage("activate", f"Version {outcome.version} goes live (approved here, no canary)"):
        await activate(api, outcome.version, check, plan.swap_limit_s)
        clock.console.print(f"The server answers with version {outcome.version}.")
    with clock.stage("ask_after", "The same held-out customers come back (after)"):
        after = await _visits(api, yardstick, passages, plan, clock)
    _require_version(after, outcome.version)
    _record_satisfaction("satisfaction_after", after, plan, clock)

    old, new = _satisfactions(before), _satisfactions(after)
    asked = _questions(before)
    gain = paired_gain(old, new, asked, plan.seed)
    clock.results.add(
        "satisfaction_gain", gain.mean, STARS, _heldout_setting(plan), gain.low, gain.high
    )
    estimates = bootstrap_mean(old, asked, plan.seed), bootstrap_mean(new, asked, plan.seed)
    questions = [visit.turns[0].question for visit in before]
    expert = answers_of_known_kinds(questions, passages)["expert"]
    closed = gap_closed(gain.mean, estimates[0].mean, expert)
    clock.results.add("gap_closed", closed, WAY, _heldout_setting(plan))
    report.show_summary(clock.console, *estimates, gain, closed, outcome, used, clock.seconds)
    report.show_examples(clock.console, before, after, plan.seed)
    return True


async def _gather_feedback(api: Api, passages: Mapping[str, str], plan: Plan, clock: Clock) -> None:
    crowd = training_crowd(plan.customers, plan.seed, load_personas(), load_questions("train"))
    with clock.stage("chat_and_rate", f"{plan.customers} customers chat, thumb and rate"):
        visits = await _visits(api, crowd, passages, plan, clock)
    turns = [turn for visit in visits for turn in visit.turns]
    thumbs = [thumb for visit in visits for thumb in visit.thumbs]
    ratings = [visit.rating for visit in visits if visit.rating is not None]
    clock.console.print(
        f"{len(turns)} turns; {thumbs.count(1)} thumbs up, {thumbs.count(-1)} down; "
        f"{len(ratings)} ratings"
    )
    chosen = experts.turns_to_correct(turns, plan.correct_share, plan.max_corrections, plan.seed)
    with clock.stage("correct", f"Experts correct {len(chosen)} bad answers"), _bar(clock) as bar:
        task = bar.add_task("corrections", total=len(chosen))
        await experts.correct(api, chosen, lambda _: bar.advance(task))


async def _feedback_used(api: Api, clock: Clock) -> dict[str, int]:
    """By kind. A round's feedback counts as claimed until a moment after its verdict."""
    counts = await api.feedback_counts()
    used = {kind: states["claimed"] + states["completed"] for kind, states in counts.items()}
    for kind, count in used.items():
        clock.results.add("feedback_used", count, "items", {"kind": kind})
    return used


async def _train(api: Api, check: Callable[[], None], plan: Plan, clock: Clock) -> Outcome:
    run_id = await api.start_run(plan.optimizer)
    shown = ""
    with _bar(clock) as bar:
        task = bar.add_task(f"run {run_id}: waiting for the worker", total=None)

        def heard(following: Following) -> None:
            nonlocal shown
            numbers = (("reward", following.reward), ("KL", following.kl))
            told = "".join(f"  {name} {value:+.2f}" for name, value in numbers if value is not None)
            if following.stage != shown:
                shown = following.stage
                bar.console.print(f"run {run_id}: {following.stage}")
            bar.update(
                task,
                description=f"{following.stage}{told}",
                completed=following.done,
                total=following.total or None,
            )

        return await follow(api, run_id, heard, check, plan.round_limit_s)


async def _visits(
    api: Api, crowd: Sequence[Customer], passages: Mapping[str, str], plan: Plan, clock: Clock
) -> list[Visit]:
    with _bar(clock) as bar:
        task = bar.add_task("conversations", total=len(crowd))
        visits = await visit_all(
            api, crowd, passages, plan.concurrency, lambda _: bar.advance(task)
        )
    if cut := cut_answers(visits):
        clock.console.print(
            f"[yellow]{cut} answers took a minute and were cut short: this machine does too much "
            "else, and what follows is about half sentences, too.[/yellow]"
        )
    return visits


def _bar(clock: Clock) -> Progress:
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn()
    return Progress(*columns, TimeElapsedColumn(), console=clock.console)


def _satisfactions(visits: Sequence[Visit]) -> list[float]:
    return [visit.turns[0].satisfaction for visit in visits]


def _questions(visits: Sequence[Visit]) -> list[str]:
    """What two customers feel about answers to one question is not independent."""
    return [visit.turns[0].question.id for visit in visits]


def _heldout_setting(plan: Plan) -> dict[str, int]:
    return {"heldout_customers": plan.heldout, "seed": plan.seed}


def _record_satisfaction(metric: str, visits: Sequence[Visit], plan: Plan, clock: Clock) -> None:
    found = bootstrap_mean(_satisfactions(visits), _questions(visits), plan.seed)
    clock.results.add(metric, found.mean, STARS, _heldout_setting(plan), found.low, found.high)
    clock.console.print(f"Their hidden satisfaction (1 to 5): [bold]{found}[/bold]")


def _record_round(outcome: Outcome, clock: Clock) -> None:
    for stage, seconds in outcome.stage_seconds.items():
        clock.results.add("round_stage_seconds", round(seconds, 2), "s", {"stage": stage})
    if outcome.kl is not None:
        clock.results.add("kl", outcome.kl, "nats", {"version": outcome.version})
    setting = {"version": outcome.version, "reasons": list(outcome.reasons)}
    clock.results.add("gate_passed", float(outcome.passed), "0 or 1", setting)


def _require_version(visits: Sequence[Visit], version: int) -> None:
    written_by = {turn.answer.policy_version for visit in visits for turn in visit.turns}
    if written_by != {version}:
        raise RoundBroke(f"expected every answer from version {version}, got {sorted(written_by)}")

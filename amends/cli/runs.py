"""`amends train` and `amends runs`: ask for a run, follow it, list, show, cancel.

Knows the run record and its events, not what a run does. Invariant: a run belongs to the worker;
leaving the command line never ends it.
"""

import time
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from amends.cli.install import adapter_store, opened_store, operator, read_settings
from amends.cli.output import AsJson, Bars, console, note, print_json, print_rows, when
from amends.errors import AmendsError
from amends.verdict import judged

if TYPE_CHECKING:
    from amends.events import Event
    from amends.runs import Run
    from amends.store_client import StoreClient

POLL_S = 0.5
RunId = Annotated[int, typer.Argument(metavar="RUN", min=1, help="The run's number.")]

app = typer.Typer(no_args_is_help=True, help="Training runs: list, show, follow, cancel.")


class RunEnded(AmendsError):
    """The run that was followed ended without a candidate."""


def train(
    optimizer: Annotated[
        Literal["auto", "sft", "ppo"],
        typer.Option(help="auto: supervised steps only until there is enough feedback for PPO."),
    ] = "auto",
    reason: Annotated[str, typer.Option(help="Kept with the run.")] = "asked for by hand",
    without_rater: Annotated[
        list[str] | None,
        typer.Option(
            metavar="RATER", help="Leave out all that this expert or visitor judged; repeatable."
        ),
    ] = None,
    without_customer: Annotated[
        list[str] | None,
        typer.Option(
            metavar="VISITOR",
            help="Leave out this visitor's conversations and every judgement on them; repeatable.",
        ),
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Leave out names, too, that nothing here knows.")
    ] = False,
    follow: Annotated[bool, typer.Option("--follow", help="Stay and show its progress.")] = False,
    as_json: AsJson = False,
) -> None:
    """Start a round of training now. The worker of `amends up` does the work.

    Who is left out stays left out of later rounds (`amends exclusions`), and the round trains from
    the newest version that has not learned from them.
    """
    from amends.cli.exclusions import exclude, say_parent
    from amends.cli.up import is_up
    from amends.jobs import JobQueue
    from amends.runs import Runs

    settings = read_settings()
    with opened_store(settings) as (url, store):
        exclude(settings, store, without_rater or (), without_customer or (), reason, force)
        run = Runs(store).create(optimizer, requested_by=operator(), reason=reason)
        JobQueue(url).train(run.run_id)
        if not as_json:
            console.print(f"Run {run.run_id} is queued.")
            say_parent(settings, run)
        elif not follow:
            print_json(run.model_dump(mode="json"))
        if settings.redis_url is None and not is_up(settings.home):
            note("`amends up` does not run on this home; the run begins when it does.")
        if follow:
            follow_run(store, run.run_id, as_json)


@app.command("list")
def list_runs(limit: Annotated[int, typer.Option(min=1)] = 20, as_json: AsJson = False) -> None:
    """The latest runs, newest first."""
    from amends.runs import Runs

    with opened_store(read_settings()) as (_, store):
        runs = Runs(store).list(limit)
    if as_json:
        print_json([run.model_dump(mode="json") for run in runs])
        return
    print_rows([row_of(run) for run in runs], "No runs yet. `amends train` starts one.", False)


@app.command()
def show(run_id: RunId, as_json: AsJson = False) -> None:
    """One run: its state, what the gate said, where its log is."""
    from amends.runs import Runs

    settings = read_settings()
    with opened_store(settings) as (_, store):
        run = Runs(store).get(run_id)
    if as_json:
        print_json(run.model_dump(mode="json"))
        return
    rows = {**row_of(run), "reason": run.reason, "attempt": run.attempt, "error": run.error}
    if run.without:
        rows["without"] = "\n".join(f"{item}: {item.reason}" for item in run.without)
        rows["what changed"] = f"amends lineage --adapter {run.version}" if run.version else None
    if run.verdict is not None:
        rows["verdict"] = judged(run.verdict)
        rows["because"] = "\n".join(run.verdict.reasons)
    rows["log"] = str(settings.runs_folder / str(run_id) / "trainer.log")
    print_rows(
        [{"": name.replace("_", " "), "value": value} for name, value in rows.items()], "", False
    )


@app.command()
def follow(run_id: RunId) -> None:
    """Show a run's progress until it ends. Ctrl-C leaves the run going."""
    with opened_store(read_settings()) as (_, store):
        follow_run(store, run_id)


@app.command()
def cancel(run_id: RunId) -> None:
    """Ask a run to stop; it saves a checkpoint first and gives its feedback back."""
    from amends.runs import Runs

    with opened_store(read_settings()) as (_, store):
        run = Runs(store).request_cancel(run_id)
    asked = "is cancelled" if run.ended else "was asked to stop"
    console.print(f"Run {run_id} {asked}.")


def follow_run(store: "StoreClient", run_id: int, as_json: bool = False) -> None:
    """Bars and lines from the run's events until it ends, then its end; as JSON, nothing else is on
    standard output. Raises RunEnded when it failed."""
    from amends.events import RunEvents
    from amends.runs import Runs

    runs, events, last = Runs(store), RunEvents(store), "0"
    try:
        with Bars() as bars:
            while True:
                run = runs.get(run_id)  # before the events, so that none of its last ones is missed
                while page := events.read(run_id, last):
                    for _, event in page:
                        show_event(bars, event)
                    last = page[-1][0]
                if run.ended:
                    break
                time.sleep(POLL_S)
    except KeyboardInterrupt:
        note(
            f"Run {run_id} goes on. `amends runs follow {run_id}` shows it again, "
            f"`amends runs cancel {run_id}` stops it."
        )
        raise typer.Exit(130) from None
    if as_json:
        print_json(run.model_dump(mode="json"))
    else:
        _report_end(run, store)
    if run.state in ("FAILED", "CANCELLED"):
        raise RunEnded(f"run {run_id} ended as {run.state}: {run.error or 'no reason recorded'}")


def _report_end(run: "Run", store: "StoreClient") -> None:
    """Its state, the gate's reasons, and what changed where somebody was left out."""
    version = f", version {run.version}" if run.version else ""
    console.print(f"Run {run.run_id}: {run.state}{version}")
    if run.verdict is not None:
        for line in run.verdict.reasons:
            console.print(f"  {line}", markup=False)
    if run.without and run.version:
        _report_change(run.version, store)


def _report_change(version: int, store: "StoreClient") -> None:
    from amends.cli.lineage_tables import NAMED, show_changed
    from amends.lineage_records import Archive, of_adapter

    settings = read_settings()
    try:
        found = of_adapter(version, Archive.of(settings, adapter_store(settings), store))
    except AmendsError as error:  # the run itself ended well
        note(f"What changed cannot be told: {error}")
    else:
        show_changed(found, NAMED)


def show_event(bars: Bars, event: "Event") -> None:
    """One event as a bar's move or a line."""
    from amends import events as e

    match event:
        case e.StageStarted():
            bars.say(f"{event.stage} …")
        case e.StageFinished():
            bars.report(event.stage, 1, 1)
            bars.say(f"{event.stage}: {event.seconds:.1f} s")
        case e.Progress():
            bars.report(event.stage, event.done, event.total)
        case e.Metrics():
            shown = "  ".join(f"{name} {value:.4g}" for name, value in event.values.items())
            bars.say(f"{event.stage} step {event.step}: {shown}")
        case e.Log():
            bars.say(event.text)
        case _:
            pass  # samples are the console's to show


def row_of(run: "Run") -> dict[str, Any]:
    """The columns of `amends runs list`."""
    ended = run.ended_at or time.time()
    return {
        "run": run.run_id,
        "state": run.state,
        "optimizer": run.optimizer,
        "stage": f"{run.stage} {run.progress:.0%}" if run.stage else None,
        "version": run.version,
        "requested_by": run.requested_by,
        "created": when(run.created_at),
        "took": f"{ended - run.started_at:.0f} s" if run.started_at else None,
    }

"""`amends exclusions`: whom rounds leave out, since when and why; and counting them again.

Knows the list, not what a round does with it; `amends train --without-rater` adds to it.
Invariant: every change is a row of the audit list with a name and a reason.
"""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated

import typer

from amends.cli.install import adapter_store, opened_store, operator, read_settings
from amends.cli.output import AsJson, console, note, print_json, print_rows, when
from amends.errors import AmendsError

if TYPE_CHECKING:
    from amends.exclusion import Kind
    from amends.runs import Run
    from amends.settings import Settings
    from amends.store_client import StoreClient

app = typer.Typer(
    no_args_is_help=True,
    help="Whom every round leaves out: list, lift, audit. `amends train --without-rater` adds.",
)


@app.command("list")
def list_exclusions(as_json: AsJson = False) -> None:
    """Who is left out now."""
    from amends.exclusion_store import ExclusionStore

    with opened_store(read_settings()) as (_, store):
        rows = [item.model_dump(mode="json") for item in ExclusionStore(store).standing()]
    if as_json:
        print_json(rows)
        return
    shown = [row | {"at": when(row["at"])} for row in rows]
    print_rows(shown, "Nobody is left out.", False)


@app.command()
def lift(
    rater: Annotated[str | None, typer.Option(help="Count this rater's judgements again.")] = None,
    customer: Annotated[str | None, typer.Option(help="And this visitor's conversations.")] = None,
    reason: Annotated[
        str, typer.Option("--reason", "-r", help="Kept in the audit list.")
    ] = "lifted at the command line",
) -> None:
    """Count somebody's feedback again, from the next round on."""
    from amends.exclusion_store import ExclusionStore

    if rater is None and customer is None:
        raise typer.BadParameter("expected --rater NAME or --customer VISITOR")
    with opened_store(read_settings()) as (_, store):
        for kind, name in _named(rater, customer):
            ExclusionStore(store).lift(kind, name, operator(), reason)
            console.print(f"The next round learns from {kind} {name} again.", markup=False)


@app.command()
def audit(limit: Annotated[int, typer.Option(min=1)] = 20, as_json: AsJson = False) -> None:
    """Who left out whom, or lifted that, when and why; newest first."""
    from amends.exclusion_store import ExclusionStore

    with opened_store(read_settings()) as (_, store):
        rows = [row.model_dump(mode="json") for row in ExclusionStore(store).audit(limit)]
    if not as_json:
        rows = [{**row, "at": when(row["at"])} for row in rows]
    print_rows(rows, "Nobody has been left out yet.", as_json)


def exclude(
    settings: "Settings",
    store: "StoreClient",
    raters: Iterable[str],
    customers: Iterable[str],
    reason: str,
    force: bool,
) -> None:
    """Leave them out from the next round on, whether or not that can begin now. NotFound for
    somebody whom nothing here knows, and then nobody is left out; `force` takes any name.
    """
    from amends.exclusion_store import ExclusionStore
    from amends.runs import Runs

    wanted: list[tuple[Kind, str]] = [("rater", name.strip()) for name in raters]
    wanted += [("customer", name.strip()) for name in customers]
    if not wanted:
        return
    if not force:
        require_known(settings, store, wanted)
    exclusions = ExclusionStore(store)
    for kind, name in wanted:
        exclusions.exclude(kind, name, operator(), reason)
        note(f"Left out from the next round on: {kind} {name}")
    if live := Runs(store).live():
        note(
            f"Run {live.run_id} is live and still learns from them; "
            f"`amends runs cancel {live.run_id}` ends it."
        )


def require_known(
    settings: "Settings", store: "StoreClient", wanted: Iterable[tuple["Kind", str]]
) -> None:
    """NotFound unless a judgement, a conversation or a round's data manifest names each of them."""
    from amends.conversation_store import ConversationStore
    from amends.data_manifest import rater_of
    from amends.errors import NotFound
    from amends.feedback_store import FeedbackStore
    from amends.run_files import read_versions

    try:
        versions = read_versions(settings.runs_folder, adapter_store(settings).list())
    except AmendsError:  # no base model yet, so no version that learned from anybody
        versions = {}
    learned = [version.data for version in versions.values() if version.data is not None]
    roles = FeedbackStore(store).raters()
    experts = {name for name, role in roles.items() if role == "expert"}
    experts.update(name for data in learned for name in data.expert_shares)
    raters = {rater_of(one) for data in learned for one in data.all_used()} | roles.keys() | experts
    customers = {name for data in learned for name in data.customers or ()}
    customers |= ConversationStore(store).visitors()
    for kind, name in wanted:
        if kind == "rater" and name and name not in raters:
            known = ", ".join(sorted(experts)) or "none"
            raise NotFound(
                f"no rater {name!r} has judged anything; known experts: {known}. "
                "--force leaves the name out all the same"
            )
        if kind == "customer" and name and name not in customers:
            raise NotFound(
                f"no customer {name!r} has written anything; expected a visitor's id, as the "
                "console shows it beside a thumb. --force leaves it out all the same"
            )


def say_parent(settings: "Settings", run: "Run") -> None:
    """Whom the run leaves out and what it trains from, as things stand before it begins."""
    from amends.lineage import clean_parent
    from amends.run_files import read_versions

    if not run.without:
        return
    console.print(f"Without {', '.join(map(str, run.without))}.", markup=False, soft_wrap=True)
    try:
        adapters = adapter_store(settings)
        champion = adapters.alias("champion")
        versions = read_versions(settings.runs_folder, adapters.list())
    except AmendsError as error:  # the run is queued all the same
        note(str(error))
        return
    parent, behind = clean_parent(champion, versions, run.without)
    told = f"It trains from version {parent}"
    if behind:
        listed = ", ".join(map(str, behind))
        told += f", not from {listed}: what is left out was used there, or before"
    else:
        told += ", the champion: no version in its line has used what is left out"
        told += " (`amends exclusions list` shows the names as they were written)"
    console.print(f"{told}.", markup=False, soft_wrap=True)


def _named(rater: str | None, customer: str | None) -> list[tuple["Kind", str]]:
    found: list[tuple[Kind, str]] = []
    if rater is not None:
        found.append(("rater", rater.strip()))
    if customer is not None:
        found.append(("customer", customer.strip()))
    return found

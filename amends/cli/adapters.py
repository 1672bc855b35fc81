"""`amends adapters`: which versions exist, which one serves, and moving between them.

Works on the adapter store's files under its lock, so it needs neither the store nor the worker
(`canary` alone reads the store); the running server sees the move and swaps. Invariant: every move
is a row of the audit log with a name and a reason.
"""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from amends.cli.install import adapter_store, opened_store, operator, read_settings
from amends.cli.output import AsJson, console, print_json, print_rows, when
from amends.record import now_s

if TYPE_CHECKING:
    from amends.adapter_store import AdapterStore

Version = Annotated[int, typer.Argument(metavar="VERSION", min=0, help="0 is the base model.")]
Because = Annotated[str, typer.Option("--reason", "-r", help="Kept in the audit log.")]

app = typer.Typer(
    no_args_is_help=True, help="Policy versions: list, show, try, activate, roll back."
)


@app.command("list")
def list_versions(as_json: AsJson = False) -> None:
    """Every version, oldest first, and which aliases point at it."""
    store = adapter_store(read_settings())
    if as_json:
        versions = [manifest.model_dump(mode="json") for manifest in store.list()]
        pointers = store.pointers()
        shown = {"aliases": pointers.as_dict(), "candidate_share": pointers.candidate_share}
        print_json({**shown, "versions": versions})
        return
    print_rows(rows_of(store), "", False)


@app.command()
def show(version: Version, as_json: AsJson = False) -> None:
    """One version's manifest: parent, run, data, measurements, verdict; its files are checked."""
    store = adapter_store(read_settings())
    manifest = store.get(version)
    store.verify(version)
    if as_json:
        print_json(manifest.model_dump(mode="json"))
        return
    rows = manifest.model_dump(mode="json") | {"created_at": when(manifest.created_at)}
    rows["files"] = "\n".join(f"{name}  sha256 {digest}" for name, digest in manifest.files.items())
    rows["metrics"] = "\n".join(f"{name}  {value:.4g}" for name, value in manifest.metrics.items())
    print_rows([{"": name, "value": value} for name, value in rows.items()], "", False)


@app.command()
def activate(
    version: Version,
    reason: Because = "activated at the command line",
    force: Annotated[bool, typer.Option(help="Against what the gate says of it.")] = False,
) -> None:
    """Make a version the champion; the running server answers new messages with it."""
    store = adapter_store(read_settings())
    before = store.pointers().candidate
    store.activate(version, by=operator(), reason=reason, force=force)
    console.print(f"Version {version} is the champion; previous: {store.aliases().get('previous')}")
    _tell_what_ended(store, before)


@app.command()
def rollback(reason: Because = "rolled back at the command line") -> None:
    """Point the champion back at the previous version."""
    store = adapter_store(read_settings())
    before = store.pointers().candidate
    version = store.roll_back(by=operator(), reason=reason)
    console.print(f"Version {version} is the champion again.")
    _tell_what_ended(store, before)


@app.command()
def candidate(
    version: Annotated[int | None, typer.Argument(metavar="[VERSION]", min=1)] = None,
    none: Annotated[bool, typer.Option("--none", help="No candidate any more.")] = False,
    share: Annotated[
        float | None,
        typer.Option(
            min=0,
            max=1,
            help="Of the conversations that begin from now on; unset: as it is, and refused "
            "while another version is the candidate.",
        ),
    ] = None,
    reason: Because = "set at the command line",
    force: Annotated[bool, typer.Option(help="Against what the gate says of it.")] = False,
) -> None:
    """Try a version on a share of the conversations, or stop that: the rest is the champion's."""
    if none == (version is not None):
        raise typer.BadParameter("expected either VERSION or --none")
    store = adapter_store(read_settings())
    store.set_candidate(version, operator(), reason, share=share, force=force)
    now = store.pointers()
    if version is not None and version == now.champion:
        console.print(f"Version {version} is the champion already; nothing was changed.")
    elif now.candidate is None:
        console.print("There is no candidate; the champion answers every message.")
    else:
        console.print(
            f"Version {now.candidate} is the candidate, on {now.candidate_share:.0%} of new "
            "conversations."
        )


@app.command()
def canary(as_json: AsJson = False) -> None:
    """How the candidate on trial compares with the champion, as the worker last saw it."""
    from amends.adapter_aliases import AliasFile
    from amends.adapter_audit import candidacy
    from amends.canary import not_looked
    from amends.canary_reports import CanaryReports

    settings = read_settings()
    with opened_store(settings) as (_, redis):
        report = CanaryReports(redis).last()
    if as_json:
        print_json(None if report is None else report.model_dump(mode="json"))
        return
    alias_file = AliasFile(settings.adapters_folder)  # of whichever base model
    rows, now = candidacy(alias_file.newest()), alias_file.read()
    present = report if report and rows and report.began == rows[0].number else None
    if report is None:
        console.print("No candidate was tried on a share yet, or no worker has looked.")
    else:
        console.print(
            f"Version {report.version} beside {report.champion}, {when(report.at)}: "
            f"{report.decision.replace('_', ' ')}"
        )
        for line in report.lines():
            console.print(f"  {line}", highlight=False)
        if present is None:
            console.print("This trial is over: `amends adapters audit` says how it ended.")
    missing = not_looked(present, now.candidate_share if now else 0.0, now_s())
    if now is not None and missing is not None:
        console.print(f"Version {now.candidate} is on trial, and {missing}.")


@app.command()
def audit(limit: Annotated[int, typer.Option(min=1)] = 20, as_json: AsJson = False) -> None:
    """Who moved which alias, when and why; newest first."""
    rows = [row.model_dump(mode="json") for row in adapter_store(read_settings()).audit(limit)]
    if not as_json:
        rows = [{**row, "at": when(row["at"])} for row in rows]
    print_rows(rows, "No alias has moved yet.", as_json)


def _tell_what_ended(store: "AdapterStore", candidate: int | None) -> None:
    """`candidate`: of before the move."""
    now = store.pointers()
    if candidate is not None and candidate not in (now.candidate, now.champion):
        console.print(f"Version {candidate} is the candidate no more.")


def rows_of(store: "AdapterStore") -> list[dict[str, Any]]:
    """The columns of `amends adapters list`; version 0, and what is gone, has no manifest."""
    from amends.verdict import judged

    names: dict[int, list[str]] = {}
    pointers = store.pointers()
    for alias, version in pointers.as_dict().items():
        share = f" {pointers.candidate_share:.0%}" if alias == "candidate" else ""
        names.setdefault(version, []).append(alias + share)
    manifests = {manifest.version: manifest for manifest in store.list()}
    rows = []
    for version in sorted({0, *names, *manifests}):
        known = manifests.get(version)
        gone = "its files are gone, or cannot be read" if version else "base model"
        rows.append(
            {
                "version": version,
                "alias": ", ".join(names.get(version, [])),
                "parent": known.parent if known else None,
                "run": known.run_id if known else None,
                "verdict": judged(known.verdict) if known else gone,
                "created": when(known.created_at) if known else None,
            }
        )
    return rows

"""`amends lineage`: what a version was made of, and what became of a piece of feedback.

Knows options and tables; amends/lineage_records.py looks it up. Invariant: `--json` says
everything, a table says how much it leaves out.
"""

from collections.abc import Callable
from typing import Annotated, Any

import typer

from amends.cli.install import adapter_store, opened_store, read_settings
from amends.cli.lineage_tables import NAMED, show_adapter, show_feedback
from amends.cli.output import AsJson, print_json


def lineage(
    adapter: Annotated[
        int | None, typer.Option(metavar="VERSION", min=0, help="What was this version made of?")
    ] = None,
    feedback: Annotated[
        str | None, typer.Option(metavar="ID", help="What became of this feedback?")
    ] = None,
    limit: Annotated[
        int, typer.Option(min=1, help="Ids, raters and visitors that a table names; --json: all.")
    ] = NAMED,
    as_json: AsJson = False,
) -> None:
    """Ask in either direction: what a version learned from, or which versions learned from this.

    A feedback id is KIND:TURN:RATER (a rating's: rating:CONVERSATION:RATER), as the API answers
    it and as `amends lineage --adapter N --json` lists it.
    """
    if (adapter is None) == (feedback is None):
        raise typer.BadParameter("expected either --adapter VERSION or --feedback ID")
    from amends.lineage_records import Archive, of_adapter, of_feedback

    settings = read_settings()
    with opened_store(settings) as (_, store):
        archive = Archive.of(settings, adapter_store(settings), store)
        show: Callable[[dict[str, Any], int], None]
        if adapter is not None:
            found, show = of_adapter(adapter, archive), show_adapter
        else:
            found, show = of_feedback(feedback or "", archive), show_feedback
    if as_json:
        print_json(found)
    else:
        show(found, limit)

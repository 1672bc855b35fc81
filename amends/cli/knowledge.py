"""`amends knowledge`: check a folder of the shop's documents, import it.

Knows no format; amends.knowledge reads and judges it. Invariant: a folder that does not load is
never imported.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from amends.cli.install import read_settings
from amends.cli.output import AsJson, note, print_json, print_rows

if TYPE_CHECKING:
    from amends.knowledge import Knowledge

Folder = Annotated[Path, typer.Argument(help="Holds shop.json and documents/*.md.")]

app = typer.Typer(no_args_is_help=True, help="The shop's documents, from which answers are drawn.")


def show(knowledge: "Knowledge", as_json: bool) -> None:
    """What a folder holds."""
    held = {
        "shop": knowledge.shop.name,
        "language": knowledge.shop.language,
        "documents": len({passage.source for passage in knowledge.passages}),
        "passages": len(knowledge.passages),
        "questions": len(knowledge.questions),
        "must_pass": sum(question.must_pass for question in knowledge.questions),
    }
    print_json(held) if as_json else print_rows([held], "", False)


@app.command()
def check(folder: Folder, as_json: AsJson = False) -> None:
    """Say whether a folder would be accepted, and what it holds."""
    from amends.knowledge import Knowledge

    show(Knowledge.load(folder), as_json)


@app.command("import")
def import_(folder: Folder, as_json: AsJson = False) -> None:
    """Check a folder and copy it into this install, in place of what was imported before."""
    from amends.knowledge import import_folder

    settings = read_settings()
    show(import_folder(folder, settings.imported_knowledge_folder), as_json)
    if settings.knowledge is not None:
        note(f"AMENDS_KNOWLEDGE={settings.knowledge} is set and goes before what was imported.")
    note("A running server reads it at its next start.")

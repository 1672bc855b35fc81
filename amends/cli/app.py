"""Puts the commands together and turns an AmendsError of any of them into one red line.

Knows no store and no model. Invariant: no traceback is shown for an error that Amends raises on
purpose, nor for a file or folder that cannot be read or written.
"""

import os
import sys
from typing import Any

import typer
from typer.core import TyperGroup

from amends.cli import adapters, doctor, exclusions, export, knowledge, lineage, runs, up
from amends.cli.install import fetched_base_model, read_settings
from amends.cli.output import console, show_error, unusable
from amends.errors import AmendsError


class Commands(TyperGroup):
    """The top group: where errors end."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except AmendsError as error:
            show_error(str(error))
            raise typer.Exit(1) from None
        except OSError as error:
            if error.filename is None:  # no file's: a closed pipe is Click's, a socket's is a bug
                raise
            show_error(unusable(error))
            raise typer.Exit(1) from None


app = typer.Typer(
    cls=Commands,
    name="amends",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="markdown",
    pretty_exceptions_show_locals=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="A customer-service chatbot that learns from its own customers and proves each "
    "improvement before it ships.",
)
app.command()(up.up)
app.add_typer(runs.app, name="runs")
app.command()(runs.train)
app.add_typer(adapters.app, name="adapters")
app.command()(lineage.lineage)
app.add_typer(exclusions.app, name="exclusions")
app.add_typer(knowledge.app, name="knowledge")
app.command()(export.export)
app.command()(doctor.doctor)
model = typer.Typer(no_args_is_help=True, help="The base model.")
app.add_typer(model, name="model")


@model.command()
def fetch() -> None:
    """Download and convert the base model now, so that `amends up` starts at once."""
    with up.sigterm_unwinds():
        folder = fetched_base_model(read_settings())
    console.print(str(folder), markup=False, soft_wrap=True)


@app.command()
def token() -> None:
    """Print the staff token: the password of the console and of the staff routes."""
    typer.echo(up.staff_token(read_settings()))


@app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def demo(context: typer.Context) -> None:
    """Show the loop: simulated customers chat and rate, a round trains, the gate judges.

    Options are passed on; `amends demo --help` after `--` lists them.
    """
    # In this process's place: a signal sent to it reaches the demo.
    os.execv(sys.executable, [sys.executable, "-m", "simulator.demo", *context.args])

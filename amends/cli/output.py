"""What every command prints with: two consoles, tables that can be JSON, bars for long work.

Knows no command and no store. Invariant: standard output carries what was asked for (with `--json`
JSON and nothing else); progress, notes and errors go to standard error.
"""

import json
import time
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TaskProgressColumn, TextColumn
from rich.progress import TimeElapsedColumn as Elapsed
from rich.table import Table
from rich.text import Text

# Colons are ids' here: `:b:` is no picture.
console = Console(highlight=False, emoji=False)
errors = Console(stderr=True, highlight=False, emoji=False)

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]


def note(text: str) -> None:
    """A line about what is going on, on standard error."""
    errors.print(text, markup=False, soft_wrap=True)


def show_error(text: str) -> None:
    """One red line that begins with 'error:', on standard error."""
    errors.print(f"error: {text}", style="red", markup=False, soft_wrap=True)


def unusable(error: OSError) -> str:
    """What a file or folder is in the way of, and what to do."""
    return (
        f"{error.filename}: {error.strerror}; name a folder that can be written to "
        "(AMENDS_HOME is this install's)"
    )


def print_json(value: object) -> None:
    """`value` as indented JSON on standard output."""
    typer.echo(json.dumps(value, indent=2, ensure_ascii=False))


def print_rows(rows: Sequence[Mapping[str, Any]], empty: str, as_json: bool) -> None:
    """Rows of equal keys as a table (keys are headings) or a JSON list; `empty` when none."""
    if as_json:
        print_json([dict(row) for row in rows])
    elif not rows:
        console.print(empty, markup=False)
    else:
        table = Table(box=None, pad_edge=False, header_style="bold")
        for heading in rows[0]:
            table.add_column(heading.replace("_", " "), overflow="fold")
        for row in rows:
            cells = ("" if value is None else str(value) for value in row.values())
            table.add_row(*map(Text, cells))  # people's words are no markup
        console.print(table)


def when(seconds: float | None) -> str | None:
    """Seconds since the epoch as local time to the second."""
    if seconds is None:
        return None
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(seconds))


class Bars:
    """One bar per named piece of work, drawn on standard error where it is a terminal."""

    def __init__(self) -> None:
        self._tasks: dict[str, TaskID] = {}
        self._drawn = False
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TaskProgressColumn(),
            Elapsed(),
            console=errors,
        )

    def __enter__(self) -> "Bars":
        return self

    def __exit__(self, *_: object) -> None:
        if self._drawn:
            self._progress.stop()

    def report(self, name: str, done: float, total: float) -> None:
        """Move the bar of that name; the first report draws it."""
        if not self._drawn:  # work that is already done draws nothing
            self._progress.start()
            self._drawn = True
        if name not in self._tasks:
            self._tasks[name] = self._progress.add_task(name, total=total)
        self._progress.update(self._tasks[name], completed=done, total=total)

    def say(self, text: str) -> None:
        """A line above the bars."""
        self._progress.console.print(text, markup=False, soft_wrap=True)

"""`make demo`: an install of its own learns from simulated customers in front of your eyes, in
minutes.

Knows where things start and end; the stages are stages.py's. Exit codes: 0 the new version
answers, 1 a stage broke, 3 the gate refused, 130 stopped by Ctrl-C. Invariant: on every path the
install that it started is stopped and reaped, and a temporary folder is removed or named.
"""

import asyncio
import shutil
import signal
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.console import Console
from rich.text import Text

from simulator import report
from simulator.breaks import BREAKS, reasons
from simulator.client import Api
from simulator.results import Results
from simulator.stack import Stack, last_lines, running_stack
from simulator.stages import Clock, Plan, play

PASSED, BROKE, REFUSED, STOPPED = 0, 1, 3, 130
READY_S = 900.0  # the first start fetches and converts the base model
# The demo asks for its round itself; one that starts on its own would come in between.
ENVIRONMENT = {
    "AMENDS_WORKER_MIN_NEW_FEEDBACK": "1000000",
    "AMENDS_WORKER_MAX_HOURS_BETWEEN_ROUNDS": "100000",
}


def demo(
    home: Annotated[
        Path | None,
        typer.Option(help="Empty folder to keep the install in; unset: a temporary one."),
    ] = None,
    customers: Annotated[int, typer.Option(min=1, help="Conversations that train.")] = 140,
    heldout: Annotated[
        int, typer.Option(min=2, max=1000, help="Customers before and after.")
    ] = 176,
    seed: Annotated[int, typer.Option(help="Of everything random here.")] = 1,
    concurrency: Annotated[int, typer.Option(min=1, max=64, help="Conversations at a time.")] = 16,
    optimizer: Annotated[
        Literal["auto", "sft", "ppo"],
        typer.Option(help="auto: supervised steps only until there is enough feedback for PPO."),
    ] = "auto",
    results: Annotated[
        Path | None,
        typer.Option("--json", help="Where the measurements go; unset: demo.json in the home."),
    ] = None,
) -> None:
    """Customers ask and rate, a round trains, the gate judges, the customers come back."""
    console = Console()
    if home is not None and home.exists() and any(home.iterdir()):
        raise typer.BadParameter(f"expected an empty or absent folder, {home} has files in it")
    folder = home or Path(tempfile.mkdtemp(prefix="amends-demo-"))
    results = results or folder / "demo.json"
    plan = Plan(
        customers=customers,
        heldout=heldout,
        seed=seed,
        concurrency=concurrency,
        optimizer=optimizer,
    )
    # SIGTERM unwinds like Ctrl-C, so that the install is stopped on this path too.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        status = _run(folder.resolve(), plan, Clock(console, Results(results)))
    except KeyboardInterrupt:
        status = STOPPED
        console.print("Stopped.")
    if home is None and status != BROKE:
        shutil.rmtree(folder, ignore_errors=True)
    if folder.exists():
        console.print(f"The install's files are in {folder}", markup=False)
    raise typer.Exit(status)


def _run(folder: Path, plan: Plan, clock: Clock) -> int:
    status = BROKE
    try:
        with ExitStack() as contexts:
            with clock.stage("start", "Starting an install of its own"):
                stack = contexts.enter_context(_started(folder, clock.console))
            status = asyncio.run(_play(stack, plan, clock))
    except* BREAKS as group:
        errors = "\n".join(reasons(group))
        tail = last_lines(folder / "logs" / "server.log")
        report.show_failure(clock.console, clock.current, f"{errors}\n\nserver.log ends:\n{tail}")
    return status


@contextmanager
def _started(folder: Path, console: Console) -> Iterator[Stack]:
    with ExitStack() as contexts:
        with console.status("starting") as shown:

            def waiting(seconds: float, line: str) -> None:
                shown.update(Text(f"{seconds:.0f} s  {line}"))

            stack = contexts.enter_context(running_stack(folder, ENVIRONMENT, waiting, READY_S))
        console.print(f"Ready at {stack.base_url}", markup=False)
        yield stack


async def _play(stack: Stack, plan: Plan, clock: Clock) -> int:
    async with Api(stack.base_url, stack.staff_token) as api:
        return PASSED if await play(api, stack.check, plan, clock) else REFUSED


if __name__ == "__main__":
    typer.run(demo)

"""What the demo shows at its end: the measurements as a table, and examples side by side.

Knows rich and finished visits; measures nothing. Invariant: every number printed here is also a
row of the results file.
"""

import random
from collections.abc import Mapping, Sequence

from rich.console import Console
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from simulator.customers import Visit
from simulator.round import Outcome
from simulator.statistics import Estimate

EXAMPLES = 6


def show_verdict(console: Console, outcome: Outcome) -> None:
    """The gate's verdict with its reasons."""
    word, colour = ("passed", "green") if outcome.passed else ("refused", "red")
    console.print(f"The gate [bold {colour}]{word}[/] version {outcome.version}.")
    for reason in outcome.reasons:
        console.print(f"  - {reason}", markup=False)


def show_summary(
    console: Console,
    before: Estimate,
    after: Estimate,
    gain: Estimate,
    closed: float | None,
    outcome: Outcome,
    feedback_used: Mapping[str, int],
    seconds: Mapping[str, float],
) -> None:
    table = Table(title="Held-out customers, the same questions twice", show_header=False)
    table.add_row("satisfaction before (1 to 5)", str(before))
    table.add_row("satisfaction after", f"[bold]{after}[/bold]")
    table.add_row("paired gain", f"[bold]{gain}[/bold]")
    way = "no way was left" if closed is None else f"{closed:.0%}"
    table.add_row("of the way to the experts' answers", way)
    table.add_row("", "in brackets: 95 % bootstrap interval")
    table.add_section()
    used = ", ".join(f"{count} {kind}s" for kind, count in sorted(feedback_used.items()))
    table.add_row("feedback used", used or "none")
    table.add_row(
        "KL to the version before",
        "not reported" if outcome.kl is None else f"{outcome.kl:.2f} nats per response",
    )
    table.add_row("gate", "passed" if outcome.passed else "refused")
    table.add_section()
    for stage, value in seconds.items():
        table.add_row(f"seconds: {stage}", f"{value:.0f}")
    table.add_row("seconds: all", f"{sum(seconds.values()):.0f}")
    console.print(table)


def show_examples(
    console: Console, before: Sequence[Visit], after: Sequence[Visit], seed: int
) -> None:
    """Answers before and after, drawn at random: not the best ones."""
    chosen = random.Random(f"examples {seed}").sample(
        range(len(before)), min(EXAMPLES, len(before))
    )
    table = Table(title="Answers before and after (drawn at random)", show_lines=True)
    for heading, ratio in (("question", 2), ("before", 4), ("after", 4)):
        table.add_column(heading, ratio=ratio, overflow="fold")
    for place in sorted(chosen):
        old, new = before[place].turns[0], after[place].turns[0]
        answers = (Text(f"{t.answer.text}\n({t.satisfaction:.1f})") for t in (old, new))
        table.add_row(Text(old.message), *answers)
    console.print(table)


def show_failure(console: Console, stage: str, message: str) -> None:
    console.print(Panel(Text(message), title=f"The demo broke in: {stage}", style="red"))

"""What every learner of bench-ppo is asked, and how it answers: one JSON line per question.

Standard library only: it runs in the peer's environment too. A learner is a program started with
the workload's file; it reads questions from its standard input and prints one line for each.
"""

import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# What a library prints must not come between the answers.
_ANSWERS, sys.stdout = sys.stdout, sys.stderr


@dataclass(frozen=True)
class Workload:
    """The same for every learner."""

    model: str
    prompts: list[list[int]]  # token ids
    episodes: int  # of an update
    response_tokens: int  # each exactly so long
    epochs: int  # one optimiser step each
    micro_batch: int
    rank: int
    alpha: int
    temperature: float
    updates: int
    threads: int


def arguments() -> tuple[Workload, list[str]]:
    """The workload and whatever else the command line says."""
    return Workload(**json.loads(Path(sys.argv[1]).read_text())), sys.argv[2:]


def report(row: dict[str, Any]) -> None:
    print(json.dumps(row), file=_ANSWERS, flush=True)


def next_question() -> dict[str, Any] | None:
    """None: the benchmark is over."""
    line = sys.stdin.readline()
    return json.loads(line) if line else None


def serve(answer: Callable[..., dict[str, Any]], **ready: Any) -> None:
    """Answers until the input ends; the first line says that the learner is ready."""
    report({"ready": True, **ready})
    while (question := next_question()) is not None:
        report(answer(**question))

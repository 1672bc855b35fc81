"""What every engine of bench-serving is asked, and how it answers: one JSON line per cell.

Standard library only: it runs in the peers' environments too. An engine is a program started with
the workload's file and the number of LoRA versions to hold live (0: the base model alone). It
reads cells from its standard input and prints one line for each. A cell is so many streams at
once, each with a prompt of its own and `new_tokens` tokens to write.
"""

import json
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

LEAST_WRITTEN = 0.3  # of the tokens asked for: through the chat, where each message is new, a
# response may end by itself
TRIES = 3  # of a cell whose responses ended sooner than that


class Began(Protocol):
    """Called at a stream's first token, or later with the seconds that it took."""

    def __call__(self, stream: int, seconds: float | None = None) -> None: ...


# prompts (one per stream), version of each stream (0: no LoRA) -> tokens written in all
Run = Callable[[Sequence[Sequence[int]], Sequence[int], Began], int]


@dataclass(frozen=True)
class Workload:
    """The same for every engine. `adapters` are PEFT folders, version i + 1 is adapters[i]."""

    model: str
    adapters: list[str]
    prompts: dict[str, list[list[int]]]  # by length in tokens
    new_tokens: int
    threads: int


def arguments() -> tuple[Workload, int]:
    """The workload and the number of versions that the command line names."""
    return Workload(**json.loads(Path(sys.argv[1]).read_text())), int(sys.argv[2])


def serve(
    workload: Workload,
    versions: int,
    run: Run,
    prepare: Callable[[int], None] = lambda streams: None,
) -> None:
    """Answers cells until the input ends; the first line says that the engine is ready.

    `prepare` gets the number of streams before the clock of a cell starts.
    """
    live = list(range(1, versions + 1)) or [0]
    prepare(2)
    _cell(workload, run, live, streams=2, prompt="64", repeat=0)
    report({"ready": True})
    for line in sys.stdin:
        asked = json.loads(line)

        def measure(asked: dict[str, Any] = asked) -> dict[str, object]:
            prepare(asked["streams"])
            return _cell(workload, run, live, **asked)

        try:
            report(_try(measure))
        except Exception as error:  # the benchmark goes on with the other engines
            report({"error": f"{type(error).__name__}: {error}"[:500]})


def report(row: dict[str, object]) -> None:
    print(json.dumps(row), flush=True)


class EndedEarly(Exception):
    """Too little was written to be a measurement."""


def _try(measure: Callable[[], dict[str, object]], tries: int = TRIES) -> dict[str, object]:
    try:
        return measure()
    except EndedEarly:
        if tries == 1:
            raise
        return _try(measure, tries - 1)


def _cell(
    workload: Workload, run: Run, live: list[int], streams: int, prompt: str, repeat: int
) -> dict[str, object]:
    """Tokens a second over all streams, prompts included; seconds to each stream's first token."""
    prompts = workload.prompts[prompt]
    # Of 256 prompts others in each cell and repeat (0 to 3): no engine has read them before.
    first = (4 + repeat) * streams
    chosen = [prompts[(first + i) % len(prompts)] for i in range(streams)]
    firsts: dict[int, float] = {}
    begin = time.perf_counter()

    def began(stream: int, seconds: float | None = None) -> None:
        firsts.setdefault(stream, seconds or time.perf_counter() - begin)

    count = run(
        chosen,
        [live[i % len(live)] for i in range(streams)],
        began,
    )
    seconds = time.perf_counter() - begin
    wanted = streams * workload.new_tokens
    if count > wanted or len(firsts) != streams:
        raise RuntimeError(f"expected {wanted} tokens of {streams} streams, got {count}")
    if count < LEAST_WRITTEN * wanted:
        raise EndedEarly(f"expected {wanted} tokens of {streams} streams, got {count}")
    return {
        "tokens_per_s": count / seconds,
        "tokens": count,
        "first_token_s": sorted(firsts.values()),
    }

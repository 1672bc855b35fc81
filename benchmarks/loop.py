"""make bench-loop: rounds of the whole loop on simulated customers, and what each defence gives.

Three seeds of four rounds, and two rounds without each defence: about six hours. What is finished
is kept in .bench-loop, round by round, under a hash of the simulated people; each row names the
commit that its round was played with. A run that was stopped goes on with the round it was in.
Rows, table and plot are written anew after every round.
"""

import argparse
import hashlib
import os
import signal
import statistics
import time
from pathlib import Path

from rounds.plot import draw
from rounds.rows import add_comparisons, add_gold, add_rounds
from rounds.table import markdown

from amends.settings import Settings
from simulator.proof.ablations import Ablation, ablations
from simulator.proof.cell import Cell, Size
from simulator.proof.gold_check import Agreement, agreement_with_people, answers_of_known_kinds
from simulator.questions import load_passages, load_questions
from simulator.results import Results
from worker.judge.checks import CHECKS

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results" / "bench-loop.json"
KEPT = ROOT / ".bench-loop"
SEEDS = (1, 2, 3)
ABLATED_SEED = 1


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="*", help="ablations to play; unset: all of them")
    parser.add_argument("--seeds", nargs="*", type=int, default=SEEDS, help="of the whole loop")
    parser.add_argument("--report", action="store_true", help="play nothing, write what is there")
    asked = parser.parse_args()
    known = {ablation.name: ablation for ablation in ablations(CHECKS)}
    for name in asked.only or ():
        if name not in known:
            parser.error(f"expected ablations among {sorted(known)}, got {name}")
    # SIGTERM unwinds like Ctrl-C, so that a running install is stopped on this path too.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    people = _people()
    chosen = [known[name] for name in asked.only] if asked.only else list(known.values())
    cells = _cells(chosen, asked.seeds)
    everything = _cells(list(known.values()), asked.seeds)
    while not asked.report and (cell := next((c for c in cells if c.left), None)) is not None:
        _say(f"{cell.ablation.name}, seed {cell.seed}: {_time_left(cells)}")
        try:
            found = cell.next_round()
        except KeyboardInterrupt:
            _say("stopped; the next run goes on with this round")
            return
        said = statistics.mean(found.satisfaction)
        _say(f"round {found.round} {found.played.outcome}: satisfaction {said:.2f}")
        _write(everything, people)
    print(_write(everything, people))


def _cells(chosen: list[Ablation], seeds: list[int]) -> list[Cell]:
    """In the order in which they are played: the whole loop first."""
    return [
        Cell(KEPT / _source() / f"{a.name}-{seed}", a, seed, Size(), _say)
        for a in chosen
        for seed in (seeds if a.name == "none" else (ABLATED_SEED,))
    ]


def _source() -> str:
    """Of what decides about a measurement but does not learn: people, shop, base model."""
    digest = hashlib.sha256()
    for folder in ("simulator", "amends/example_shop"):
        for path in sorted((ROOT / folder).rglob("*")):
            if path.suffix in (".py", ".jsonl", ".json", ".md"):
                digest.update(path.read_bytes())
    settings = Settings()
    digest.update(repr((settings.base_model, settings.dtype, settings.threads)).encode())
    return digest.hexdigest()[:12]


def _time_left(cells: list[Cell]) -> str:
    took = [found.seconds for cell in cells for found in cell.finished if found.round]
    rounds = sum(cell.left for cell in cells)
    if not took:
        return f"{rounds} rounds left"
    hours = rounds * statistics.mean(took) / 3600
    return f"{rounds} rounds left, about {hours:.1f} h"


def _people() -> Agreement | None:
    """What people say of the hidden satisfaction; None without their ratings."""
    folder = os.environ.get("AMENDS_BENCH_DATA")
    if not folder:
        return None
    return agreement_with_people(Path(folder) / "dstc9_faq" / "human_rated.jsonl")


def _write(cells: list[Cell], people: Agreement | None) -> str:
    """All rows afresh, and the plot; the table."""
    rounds = {(c.ablation.name, c.seed): found for c in cells if (found := c.finished)}
    results = Results(RESULTS)
    kinds = answers_of_known_kinds(load_questions("heldout"), load_passages())
    add_gold(results, kinds, people)
    add_rounds(results, rounds, kinds["expert"])
    add_comparisons(results, rounds)
    if rounds:
        draw(results.rows, ROOT / "docs" / "loop.svg")
    return markdown(results.rows)


def _say(text: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {text}", flush=True)


if __name__ == "__main__":
    main()

"""make bench-loop: rounds of the whole loop on simulated customers, and what each defence gives.

Three seeds of four rounds; of the third seed two rounds once more, and two without each defence:
about ten hours. Finished rounds are kept under a hash of the simulated people: what was measured in
results/loop, to be committed, and the install that the next round of its cell goes on from in
.bench-loop. Each row names the commit that was checked out when its round began ("+changes": with
changes to the programs beside): leave the checkout alone meanwhile. What is finished is not played
again, whatever the programs have become since, unless --again asks for it. A run that was stopped
goes on with the round it was in; a round that broke is tried once more, then its cell waits for the
next run. Rows, table and plot are written anew after every round.
"""

import argparse
import hashlib
import json
import os
import signal
import time
from pathlib import Path

from rounds.plot import draw
from rounds.rows import add_comparisons, add_earlier, add_gold, add_rounds, as_far
from rounds.table import markdown

from amends.knowledge import Knowledge
from amends.settings import Settings
from simulator.known_answers import answers_of_known_kinds, quoted, told_by_experts
from simulator.proof.ablations import Ablation, ablations
from simulator.proof.cell import Cell, Size
from simulator.proof.gold_check import Agreement, agreement_with_people
from simulator.proof.play import play
from simulator.questions import load_passages, load_questions
from simulator.results import Results, commit
from worker.judge.checks import CHECKS

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results" / "bench-loop.json"
MEASURED = RESULTS.parent / "loop"
KEPT = ROOT / ".bench-loop"
SEEDS = (1, 2, 3)
PEOPLE = ("client", "customers", "experts", "gold", "questions", "wording")
SCALE = ("gold.py", "wording.py", "data", "../amends/example_shop")  # seen from simulator/
DATA = (".jsonl", ".json", ".md")
ABLATED_SEED = 3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="*", help="ablations to play; unset: all of them")
    parser.add_argument("--seeds", nargs="*", type=int, default=SEEDS, help="of the whole loop")
    parser.add_argument(
        "--again",
        action="store_true",
        help="forget these rounds first; a run that was stopped goes on without it",
    )
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
    everything = _cells(list(known.values()), sorted({*SEEDS, *asked.seeds, *_measured_seeds()}))
    cells = [] if asked.report else _cells(chosen, asked.seeds)
    for cell in cells:
        if asked.again:
            cell.forget()
        elif not cell.left:
            _say(f"{cell.name}: played at {', '.join(cell.commits)}; --again plays it anew")
    try:
        play(cells, _say, lambda: _write(everything, people))
    except KeyboardInterrupt:
        _say("stopped; the next run goes on with this round")
        return
    print(_write(everything, people))
    if any(cell.left for cell in cells):
        parser.exit(1, "rounds broke twice, so some are left; the next run tries them again\n")


def _cells(chosen: list[Ablation], seeds: list[int]) -> list[Cell]:
    """In the order in which they are played: the whole loop first."""
    source = _source()
    return [
        _cell(source, ablation, seed)
        for ablation in chosen
        for seed in (seeds if ablation.name == "none" else (ABLATED_SEED,))
    ]


def _measured_seeds() -> list[int]:
    """Of the whole loop, whoever asked for them."""
    return [int(folder.name.split("-")[1]) for folder in (MEASURED / _source()).glob("none-*")]


def _cell(source: str, ablation: Ablation, seed: int) -> Cell:
    place = Path(source) / f"{ablation.name}-{seed}"
    return Cell(KEPT / place, MEASURED / place, ablation, seed, Size(), _say)


def _source() -> str:
    """Of what decides about a measurement but does not learn: people, shop, base model, sizes."""
    digest = hashlib.sha256()
    people = [ROOT / "simulator" / f"{name}.py" for name in PEOPLE]
    folders = [ROOT / "simulator" / "data", ROOT / "amends" / "example_shop"]
    data = [p for folder in folders for p in folder.rglob("*") if p.suffix in DATA]
    for path in sorted([*people, *data]):
        digest.update(path.read_bytes())
    settings = Settings()
    sizes = (Size(), settings.base_model, settings.dtype, settings.threads)
    digest.update(repr(sizes).encode())
    return digest.hexdigest()[:12]


def _people() -> Agreement | None:
    """What people say of the hidden satisfaction; None without their ratings."""
    folder = os.environ.get("AMENDS_BENCH_DATA")
    if not folder:
        return None
    return agreement_with_people(Path(folder) / "dstc9_faq" / "human_rated.jsonl")


def _write(cells: list[Cell], people: Agreement | None) -> str:
    """All rows afresh, and the plot; the table. What is there stays where nothing was played, or
    not as far."""
    played = {(c.ablation.name, c.seed): found for c in cells if (found := c.finished)}
    source = _source()
    if not played:
        return f"nothing was played yet with these people: {MEASURED / source} is empty"
    earlier = json.loads(RESULTS.read_text())["rows"] if RESULTS.is_file() else []
    rounds = as_far(played, earlier, source)
    fresh = KEPT / "rows.json"
    results = Results(fresh)
    questions, passages = load_questions("heldout"), load_passages()
    kinds = answers_of_known_kinds(questions, passages)
    knowledge = Knowledge.load(ROOT / "amends" / "example_shop")
    copied = {
        "first passage whole": quoted(questions, passages, knowledge, 1),
        "two passages whole": quoted(questions, passages, knowledge, 2),
    }
    add_gold(results, {**kinds, **copied}, people, commit(*SCALE), earlier)
    add_earlier(results, earlier, rounds, source)
    told = told_by_experts(questions, load_questions("train"), passages)
    add_rounds(results, rounds, kinds["expert"], source, told)
    add_comparisons(results, rounds, kinds["expert"], source)
    draw(results.rows, ROOT / "docs" / "loop.svg")
    fresh.replace(RESULTS)
    return markdown(results.rows)


def _say(text: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {text}", flush=True)


if __name__ == "__main__":
    main()

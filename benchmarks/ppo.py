"""make bench-ppo: episodes a second beside TRL's PPOTrainer, passes beside PEFT, in 15 minutes.

Every learner is a program of its own (benchmarks/learners) that stands still while another one
computes: an update goes round all of them before the next one starts. The first update of each is
not counted. TRL is skipped, with its reason, where its environment could not be made.
"""

import argparse
import json
import signal
import statistics
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from harness.engine import Engine, Program, running

from amends.base_model import ensure_base_model, load_tokenizer
from amends.settings import Settings
from simulator.results import Results

ROOT = Path(__file__).resolve().parents[1]
QUESTIONS = ROOT / "amends" / "example_shop" / "questions.jsonl"
SYSTEM = (
    "You are a friendly customer service agent of an online shop. Answer briefly, in one sentence."
)
EPISODES, RESPONSE, EPOCHS, MICRO_BATCH, RANK = 32, 48, 4, 16, 16
TRL, TRL_ENVIRONMENT = "trl 1.12.0", ".venv-trl"
WHOLE, LORA = {"value_model": "whole"}, {"value_model": "lora"}
LEARNERS = (
    Program("ours", "learners/ours_ppo.py", setting={"value_model": "head on the policy's trunk"}),
    Program(TRL, "learners/trl_ppo.py", ("whole",), WHOLE, TRL_ENVIRONMENT),
    Program(TRL, "learners/trl_ppo.py", ("lora",), LORA, TRL_ENVIRONMENT),
)
PASSES = Program("passes", "learners/passes.py")
PASS_REPEATS = 7


def make_workload(folder: Path, updates: int) -> Path:
    settings = Settings()
    model = ensure_base_model(settings)
    tokenizer = load_tokenizer(model)
    prompts = []
    for line in QUESTIONS.read_text().splitlines():
        asked = [
            {"role": "system", "content": SYSTEM},
            {"role": "user", "content": json.loads(line)["question"]},
        ]
        text = tokenizer.apply_chat_template(asked, add_generation_prompt=True, tokenize=False)
        prompts.append(tokenizer(text, add_special_tokens=False)["input_ids"])
    workload = {
        "model": str(model),
        "prompts": prompts,
        "episodes": EPISODES,
        "response_tokens": RESPONSE,
        "epochs": EPOCHS,
        "micro_batch": MICRO_BATCH,
        "rank": RANK,
        "alpha": 2 * RANK,
        "temperature": 0.7,
        "updates": updates,
        "threads": settings.threads,
    }
    file = folder / "workload.json"
    file.write_text(json.dumps(workload))
    return file


def measure_updates(engines: list[Engine], results: Results, updates: int) -> None:
    answers: dict[int, list[dict[str, Any]]] = {id(engine): [] for engine in engines}
    for update in range(1, updates + 1):
        for engine in list(engines):
            _say(f"update {update}/{updates}", engine.program)
            try:
                answers[id(engine)].append(engine.ask(update=update))
            except RuntimeError as error:
                engines.remove(engine)  # the others go on
                _skip(results, engine.program, error)
    for engine in engines:
        counted = answers[id(engine)][1:]
        setting = {**_setting(engine), "trainable_parameters": engine.ready["trainable"]}
        rates = [EPISODES / answer["seconds"] for answer in counted]
        _add(results, engine, "episodes_per_s", rates, "1/s", setting)
        for phase in counted[0].get("phases", {}):
            seconds = [answer["phases"][phase] for answer in counted]
            _add(results, engine, "seconds", seconds, "s", {**setting, "phase": phase})
        peak = engine.peak_memory_bytes()
        results.add("peak_memory_bytes", peak, "B", setting, system=engine.program.system)


def measure_passes(engine: Engine, results: Results) -> None:
    """Ours, PEFT's and the base model's in turn, so that a slow minute is slow for all."""
    cells = [("base", False), ("peft", False), ("ours", False), ("peft", True), ("ours", True)]
    rates: dict[tuple[str, bool], list[float]] = {cell: [] for cell in cells}
    peak = flops = 0.0
    for _ in range(PASS_REPEATS):
        peak = max(peak, engine.ask(system="peak", backward=False)["flops_per_s"])
        for system, backward in cells:
            answer = engine.ask(system=system, backward=backward)
            rates[system, backward].append(answer["tokens_per_s"])
            flops = answer["flops_per_token"]
    results.add("matmul_peak", peak, "flop/s", {"dtype": "bfloat16"})
    for (system, backward), found in rates.items():
        # The backward of frozen weights is one product more, not two.
        needed = flops * (2 if backward else 1)
        name = system if system == "ours" else f"{system}, transformers"
        setting = {
            "pass": "forward_backward" if backward else "forward",
            "rows": 16,
            "tokens": 130,
            "rank": RANK if system != "base" else 0,
            "share_of_matmul_peak": round(statistics.median(found) * needed / peak, 3),
        }
        spread = (min(found), max(found))
        value = statistics.median(found)
        results.add("train_tokens_per_s", value, "tok/s", setting, *spread, system=name)


def markdown(rows: list[dict[str, Any]]) -> str:
    """The README's table."""
    lines = ["| | trained parameters | episodes/s | memory |", "|---|---:|---:|---:|"]
    for row in rows:
        if row["metric"] == "episodes_per_s" and row["value"] is not None:
            setting = row["setting"]
            memory = next(
                r["value"]
                for r in rows
                if r["metric"] == "peak_memory_bytes" and r["setting"] == setting
            )
            lines.append(
                f"| {row['system']}, value model: {setting['value_model']} | "
                f"{setting['trainable_parameters'] / 1e6:.1f} M | {row['value']:.2f} "
                f"({row['low']:.2f}–{row['high']:.2f}) | {memory / 1e9:.1f} GB |"
            )
    lines += ["", "| pass over 16 × 130 tokens | tokens/s | of the bf16 peak |", "|---|---:|---:|"]
    for row in rows:
        if row["metric"] == "train_tokens_per_s":
            setting = row["setting"]
            lines.append(
                f"| {row['system']}, {setting['pass'].replace('_', ' + ')} | {row['value']:,.0f} "
                f"({row['low']:,.0f}–{row['high']:,.0f}) | "
                f"{100 * setting['share_of_matmul_peak']:.0f} % |"
            )
    phases = [
        f"{row['setting']['phase']} {row['value']:.1f} s"
        for row in rows
        if row["metric"] == "seconds"
    ]
    reasons = sorted({r["setting"]["reason"] for r in rows if r["value"] is None})
    return "\n".join([*lines, "", f"Of ours: {', '.join(phases)}.", *reasons])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--updates", type=int, default=4, help="of each learner, the first uncounted"
    )
    parser.add_argument("--without-trl", action="store_true", help="ours and the passes only")
    chosen = parser.parse_args()
    if chosen.updates < 2:
        parser.error(f"expected --updates of at least 2, got {chosen.updates}")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("stopped"))  # the learners are ended first
    results = Results(ROOT / "benchmarks" / "results" / "bench-ppo.json")
    with TemporaryDirectory(prefix="amends-bench-") as name, ExitStack() as stack:
        folder = Path(name)
        workload = make_workload(folder, chosen.updates)
        with running(PASSES, workload, folder) as passes:
            _say("passes", PASSES)
            measure_passes(passes, results)
        engines = []
        for program in LEARNERS[: 1 if chosen.without_trl else None]:
            _say("starting", program)
            try:
                engines.append(stack.enter_context(running(program, workload, folder)))
            except (RuntimeError, OSError) as error:
                _skip(results, program, error)
        measure_updates(engines, results, chosen.updates)
    print(markdown(results.rows))


def _skip(results: Results, program: Program, error: Exception) -> None:
    reason = {**program.setting, "reason": f"{program.system} skipped: {error}"}
    results.add("episodes_per_s", None, "1/s", reason, system=program.system)


def _setting(engine: Engine) -> dict[str, Any]:
    return {
        **engine.program.setting,
        "episodes": EPISODES,
        "response": RESPONSE,
        "epochs": EPOCHS,
        "optimizer_steps": EPOCHS,
        "rank": RANK,
    }


def _add(
    results: Results,
    engine: Engine,
    metric: str,
    values: list[float],
    unit: str,
    setting: dict[str, Any],
) -> None:
    spread = (min(values), max(values))
    value = statistics.median(values)
    results.add(metric, value, unit, setting, *spread, system=engine.program.system)


def _say(what: str, program: Program) -> None:
    detail = ", ".join(map(str, (program.system, *program.arguments)))
    print(f"{time.strftime('%H:%M:%S')} {what}: {detail}", flush=True)


if __name__ == "__main__":
    main()

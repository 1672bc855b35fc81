"""The README's table from bench-serving's rows."""

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

Row = dict[str, Any]
COLUMNS = (1, 4, 16, 32)


def markdown(rows: Sequence[Row]) -> str:
    """One line an engine: tokens a second by streams (one alone also as a share of what reading
    the weights allows), seconds to the first token, memory; then the swaps."""
    head = [f"{streams} stream{'s' * (streams > 1)}" for streams in COLUMNS]
    head = ["engine", "versions", *head, "of the limit", "512 prompt, 16"]
    head += ["first of 512", "first of 16 at once", "memory"]
    limit = _find(rows, "tokens_per_s_limit")
    lines = [_line(head), _line(["---"] * 2 + ["---:"] * (len(head) - 2))]
    engines = dict.fromkeys(_engine(row) for row in rows if "versions" in row["setting"])
    for system, via, versions in engines:
        own = [
            row
            for row in rows
            if _engine(row) == (system, via, versions) and "program" not in row["setting"]
        ]
        name = f"{system}, {via.replace('_', ' ')}" if via else system
        rates = [_find(own, "tokens_per_s", prompt=64, streams=n) for n in COLUMNS]
        cells = [*(_number(rate, 0) for rate in rates)]
        alone = None if rates[0] is None or limit is None else 100 * rates[0] / limit
        cells.append(_number(alone, 0, " %"))
        cells.append(_number(_find(own, "tokens_per_s", prompt=512, streams=16), 0))
        for prompt, streams in ((512, 1), (64, 16)):
            setting = {"prompt": prompt, "streams": streams, "stat": "p50", "cache": "cold"}
            cells.append(_number(_find(own, "first_token_s", **setting), 2, " s"))
        memory = _find(own, "peak_memory_bytes")
        cells.append(_number(None if memory is None else memory / 1e9, 1, " GB"))
        lines.append(_line([name, str(versions), *cells]))
    reasons = {f"{r['system']}: {r['setting']['reason']}" for r in rows if r["value"] is None}
    return "\n".join([*lines, "", *_others(rows), *(f"Skipped: {r}" for r in sorted(reasons))])


def _others(rows: Sequence[Row]) -> list[str]:
    shown = ("load_s", "swap_s", "added_token_latency_s", "dropped", "mixed", "tokens_per_s_limit")
    lines = [
        f"- {row['metric']} {row['setting'].get('stat', '')}: {_number(row['value'], 4)} "
        f"{row['unit']}"
        for row in rows
        if row["metric"] in shown
    ]
    cold, warm = (
        _find(rows, "first_token_s", program="ours_warm.py", cache=cache)
        for cache in ("cold", "warm")
    )
    if cold and warm:
        lines.append(
            f"- first token of a prompt whose passages were read before: {_number(warm, 3)} s "
            f"instead of {_number(cold, 3)} s, {_number(warm / cold, 2)}"
        )
    return lines


def _engine(row: Row) -> tuple[str, str, int]:
    setting = row["setting"]
    return row["system"], setting.get("via", ""), setting.get("versions", -1)


def _find(rows: Sequence[Row], metric: str, **setting: Any) -> float | None:
    for row in rows:
        if row["metric"] == metric and setting.items() <= row["setting"].items():
            value: float | None = row["value"]
            return value
    return None


def _number(value: float | None, digits: int, unit: str = "") -> str:
    return "–" if value is None else f"{value:.{digits}f}{unit}"


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    print(markdown(json.loads(Path(sys.argv[1]).read_text())["rows"]))

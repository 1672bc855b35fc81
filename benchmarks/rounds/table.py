"""The README's tables from bench-loop's rows."""

from collections.abc import Sequence
from typing import Any


def markdown(rows: Sequence[dict[str, Any]]) -> str:
    """Rounds first, then what each defence gives."""
    lines = [
        "| loop | seed | round | satisfaction | gain over round 0 | of the way to the expert's "
        "| reward models' opinion | √KL | outcome |",
        "|---|---:|---:|---|---|---:|---:|---:|---|",
    ]
    by_place: dict[tuple[str, int, int], dict[str, dict[str, Any]]] = {}
    for row in rows:
        setting = row["setting"]
        if {"ablation", "seed", "round"} <= setting.keys():
            place = setting["ablation"], setting["seed"], setting["round"]
            by_place.setdefault(place, {})[row["metric"]] = row
    for (ablation, seed, number), found in by_place.items():
        closed = found["gap_closed"]["value"] if "gap_closed" in found else None
        cells = (
            "whole" if ablation == "none" else ablation,
            str(seed),
            str(number),
            _interval(found.get("gold_satisfaction")),
            _interval(found.get("gold_gain")),
            "" if closed is None else f"{closed:.0%}",
            f"{found['proxy_score']['value']:+.2f}" if "proxy_score" in found else "",
            f"{found['sqrt_kl']['value']:.1f}",
            found["gold_satisfaction"]["setting"]["outcome"],
        )
        lines.append(f"| {' | '.join(cells)} |")
    compared = [row for row in rows if row["metric"] == "gold_gain_over"]
    if compared:
        lines += ["", "| the whole loop over | round | paired gain |", "|---|---:|---|"]
    for row in compared:
        setting = row["setting"]
        lines.append(f"| {setting['over']} | {setting['round']} | {_interval(row)} |")
    return "\n".join(lines)


def _interval(row: dict[str, Any] | None) -> str:
    if row is None:
        return ""
    return f"{row['value']:.2f} [{row['low']:.2f}, {row['high']:.2f}]"

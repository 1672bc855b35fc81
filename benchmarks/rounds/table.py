"""The README's tables from bench-loop's rows."""

from collections.abc import Mapping, Sequence
from typing import Any

from rounds.rows import TRAINED, WHOLE

_WHO = {"gold": "this scale", "one rater": "one more person"}


def markdown(rows: Sequence[dict[str, Any]]) -> str:
    """Rounds first, then what each defence gives, then what the scale means."""
    return "\n\n".join(part for part in (_rounds(rows), _defences(rows), _anchors(rows)) if part)


def _rounds(rows: Sequence[dict[str, Any]]) -> str:
    lines = [
        "| loop | seed | round | satisfaction | gain over round 0 | of the way to the expert's "
        "| reward models' opinion | √KL | words | outcome |",
        "|---|---:|---:|---|---|---:|---:|---:|---:|---|",
    ]
    by_place: dict[tuple[str, int, int], dict[str, dict[str, Any]]] = {}
    for row in rows:
        setting = row["setting"]
        if {"ablation", "seed", "round"} <= setting.keys():
            place = setting["ablation"], setting["seed"], setting["round"]
            by_place.setdefault(place, {})[row["metric"]] = row
    for (ablation, seed, number), found in by_place.items():
        cells = (
            "whole" if ablation == "none" else ablation,
            str(seed),
            str(number),
            _interval(found.get("gold_satisfaction")),
            _interval(found.get("gold_gain")),
            _share(found.get("gap_closed")),
            _interval(found.get("proxy_score")),
            f"{found['sqrt_kl']['value']:.1f}",
            f"{found['words']['value']:.0f}",
            _outcome(found),
        )
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _outcome(found: dict[str, dict[str, Any]]) -> str:
    outcome: str = found["gold_satisfaction"]["setting"]["outcome"]
    for kind in ("published", "refused"):  # refused: what its customers would have gained
        if f"{kind}_gain" in found:
            return f"{outcome}: {_gained(found, f'{kind}_gain', f'{kind}_gap_closed')}"
    return outcome


def _gained(found: Mapping[Any, dict[str, Any]], gain: Any, closed: Any) -> str:
    """A gain, and how much that is of the way to the experts' answers."""
    parts = (_interval(found.get(gain)), _share(found.get(closed)))
    return ", ".join(part for part in parts if part)


def _defences(rows: Sequence[dict[str, Any]]) -> str:
    by_place: dict[tuple[str, int, int], dict[tuple[str, str], dict[str, Any]]] = {}
    for row in rows:
        setting = row["setting"]
        if "over" in setting:
            place = setting["over"], setting["seed"], setting["round"]
            by_place.setdefault(place, {})[row["metric"], setting["whole"]] = row
    if not by_place:
        return ""
    lines = [
        "| the whole loop over | round | what customers get: whole | again "
        "| what was trained last: whole | again | no_gate | outcomes of the other |",
        "|---|---:|---|---|---|---|---|---|",
    ]
    for (name, _, _), found in by_place.items():
        setting = next(iter(found.values()))["setting"]
        cells = (
            name,
            str(setting["round"]),
            *(_gained(found, ("gold_gain_over", p), ("gap_closed_over", p)) for p in WHOLE),
            *(
                _gained(found, ("trained_gain_over", p), ("trained_gap_closed_over", p))
                for p in TRAINED
            ),
            setting["over_outcomes"],
        )
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _anchors(rows: Sequence[dict[str, Any]]) -> str:
    whole = [r for r in rows if r["setting"].get("ablation") == "none"]
    worse = [r for r in whole if r["metric"] == "published_worse"]
    published = sum(r["setting"].get("outcome") == "published" for r in whole)
    facts = [r for r in whole if r["metric"] == "gold_gain_by_facts"]
    last = {r["setting"]["seed"]: r["setting"]["round"] for r in facts}
    known = [r for r in rows if r["metric"] == "gold_of_known_answers"]
    people = [r for r in rows if r["metric"] == "spearman" and r["value"] is not None]
    lines = []
    if worse:
        count = sum(int(r["value"]) for r in worse)
        lines.append(f"Published and surely worse than before: {count} of {published} versions")
    for seed, number in last.items():
        of = {
            r["setting"]["facts"]: f"{_interval(r)} on {r['setting']['questions']}"
            for r in facts
            if (r["setting"]["seed"], r["setting"]["round"]) == (seed, number)
        }
        if len(of) == 2:
            lines.append(
                f"Gain of seed {seed} by question: {of['told']} whose facts an expert's answer to "
                f"another question about the same passage would state, {of['new']} others"
            )
    if known:
        said = ", ".join(f"{r['setting']['answers']} {r['value']:.2f}" for r in known)
        lines.append(f"Satisfaction with answers of known kinds: {said}")
    if people:
        said = ", ".join(f"{_WHO[r['setting']['who']]} {_interval(r)}" for r in people)
        lines.append(f"Rank correlation with people's ratings of real answers: {said}")
    return "  \n".join(lines)


def _share(row: dict[str, Any] | None) -> str:
    return "" if row is None or row["value"] is None else f"{round(row['value'], 2) + 0.0:.0%}"


def _interval(row: dict[str, Any] | None) -> str:
    if row is None:
        return ""
    if row["low"] is None:
        return _points(row["value"])
    return f"{_points(row['value'])} [{_points(row['low'])}, {_points(row['high'])}]"


def _points(value: float) -> str:
    return f"{round(value, 2) + 0.0:.2f}"  # no -0.00

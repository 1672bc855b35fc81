"""docs/loop.svg: what customers feel and what the reward models believe, against how far the policy
has moved.

Knows the rows of bench-loop.json. Where the right panel of a row rises and the left one does not,
the reward models are being fooled.
"""

from collections import defaultdict
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("svg")
from matplotlib import pyplot

WHOLE = "none"
MARKS = "oDsv^<>Pph"
COLOURS = pyplot.get_cmap("tab10")
PANELS = (
    ("gold_satisfaction", "customers' hidden satisfaction, 1 to 5"),
    ("proxy_score", "the reward models' opinion of what was published, summed"),
)
Place = tuple[str, int]  # ablation and seed
Point = tuple[float, dict[str, Any]]  # distance, and the row that is drawn there


def draw(rows: Sequence[dict[str, Any]], path: Path) -> None:
    """The whole loop above, one defence switched off below; a line per seed or defence, a point per
    round with its number, bars for 95 % intervals."""
    places = _lines(rows, PANELS[0][0])
    groups = [[p for p in places if p[0] == WHOLE], [p for p in places if p[0] != WHOLE]]
    groups = [group for group in groups if group]
    pyplot.rcParams.update({"svg.hashsalt": "amends", "font.size": 10, "axes.grid": True})
    figure, grid = pyplot.subplots(
        len(groups),
        2,
        figsize=(10.5, 3.6 * len(groups)),
        sharex=True,
        squeeze=False,
        layout="constrained",
    )
    for group, panels in zip(groups, grid, strict=True):
        for panel, (metric, title) in zip(panels, PANELS, strict=True):
            lines = _lines(rows, metric)
            for number, place in enumerate(group):
                if len(points := lines.get(place, [])) > 1:  # else nobody had an opinion
                    _line(panel, points, place, number)
            if metric == "gold_satisfaction":
                panel.set_ylim(1, 5)
            panel.set_title(title, fontsize=10)
            panel.margins(x=0.08)  # room for the last rounds' numbers
            panel.grid(alpha=0.3)
            panel.spines[["top", "right"]].set_visible(False)
        panels[0].legend(loc="upper left", fontsize=8, ncols=2, frameon=False)
    for panel in grid[-1]:
        panel.set_xlabel("√KL to the base model, √nats per response")
    figure.savefig(path, metadata={"Date": None})
    pyplot.close(figure)


def _lines(rows: Sequence[dict[str, Any]], metric: str) -> dict[Place, list[Point]]:
    distance = {_key(row): row["value"] for row in rows if row["metric"] == "sqrt_kl"}
    found: dict[Place, list[Point]] = defaultdict(list)
    for row in rows:
        if row["metric"] == metric:
            ablation, seed, _ = _key(row)
            found[ablation, seed].append((distance[_key(row)], row))
    return found


def _line(panel: Any, points: Sequence[Point], place: Place, number: int) -> None:
    ablation, seed = place
    x = [distance for distance, _ in points]
    y = [row["value"] for _, row in points]
    below, above = zip(*(_reach(row) for _, row in points), strict=True)
    colour = COLOURS(number)
    panel.errorbar(
        x,
        y,
        [below, above],
        fmt=f"{MARKS[number]}-",
        markersize=4,
        linewidth=1.2,
        elinewidth=0.8,
        capsize=2,
        color=colour,
        label=f"seed {seed}" if ablation == WHOLE else ablation,
    )
    for (at, height), same in groupby(points, key=lambda point: (point[0], point[1]["value"])):
        rounds = [row["setting"]["round"] for _, row in same]
        named = str(rounds[0]) if len(rounds) == 1 else f"{rounds[0]}–{rounds[-1]}"
        if named != "0":  # the base model, where every line begins
            panel.annotate(
                named, (at, height), (4, 4), textcoords="offset points", fontsize=7, color=colour
            )


def _reach(row: dict[str, Any]) -> tuple[float, float]:
    """Of the interval below and above the value; none where it has none."""
    value, low, high = row["value"], row["low"], row["high"]
    return (0.0, 0.0) if low is None else (value - low, high - value)


def _key(row: dict[str, Any]) -> tuple[str, int, int]:
    setting = row["setting"]
    return setting["ablation"], setting["seed"], setting["round"]

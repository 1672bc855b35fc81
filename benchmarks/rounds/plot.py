"""docs/loop.svg: what customers feel and what the reward model believes, against how far the
policy has moved.

Knows the rows of bench-loop.json. Where the two panels part, the reward model is being fooled.
"""

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("svg")
from matplotlib import pyplot

GREY = "#8a8f98"
COLOURS = ("#1f6feb", "#d1570c", "#1a7f37")
PANELS = (
    ("gold_satisfaction", "customers' hidden satisfaction, 1 to 5"),
    ("proxy_score", "the reward models' opinion of what was published, summed"),
)


def draw(rows: Sequence[dict[str, Any]], path: Path) -> None:
    """One line per seed of the whole loop, thin grey ones per ablation; a point is a round."""
    pyplot.rcParams.update({"svg.hashsalt": "amends", "font.size": 10, "axes.grid": True})
    figure, panels = pyplot.subplots(1, 2, figsize=(10, 4.2), sharex=True, layout="constrained")
    for panel, (metric, title) in zip(panels, PANELS, strict=True):
        ends = _lines(panel, rows, metric)
        if metric == "gold_satisfaction":
            panel.set_ylim(1, 5)
        _name(panel, ends)
        panel.set_title(title, fontsize=10)
        panel.set_xlabel("√KL to the base model, √nats per response")
        panel.grid(alpha=0.3)
        panel.spines[["top", "right"]].set_visible(False)
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=6)
    figure.savefig(path, metadata={"Date": None})
    pyplot.close(figure)


def _lines(
    panel: Any, rows: Sequence[dict[str, Any]], metric: str
) -> list[tuple[float, float, str]]:
    """Where each ablation's line ends: (y, x, name)."""
    ends = []
    distance = {_key(row): row["value"] for row in rows if row["metric"] == "sqrt_kl"}
    lines = defaultdict(list)
    for row in rows:
        if row["metric"] == metric:
            place = row["setting"]["ablation"], row["setting"]["seed"]
            lines[place].append((distance[_key(row)], row))
    seeds = 0
    for (ablation, seed), points in lines.items():
        x = [kl for kl, _ in points]
        y = [row["value"] for _, row in points]
        if ablation != "none":
            if len(points) > 1:  # else no reward model had an opinion
                panel.plot(x, y, color=GREY, linewidth=0.8, zorder=1)
                ends.append((y[-1], x[-1], ablation))
            continue
        colour = COLOURS[seeds % len(COLOURS)]
        seeds += 1
        below, above = zip(*(_reach(row) for _, row in points), strict=True)
        panel.errorbar(
            x, y, [below, above], fmt="o-", capsize=3, color=colour, label=f"seed {seed}"
        )
    return ends


def _name(panel: Any, ends: Sequence[tuple[float, float, str]]) -> None:
    """Each line by its name in the right margin, none over another."""
    low, high = panel.get_ylim()
    place = low
    for y, x, name in sorted(ends):
        place = max(y, place + (high - low) / 24)
        panel.annotate(
            name,
            (x, y),
            xytext=(1.02, place),
            textcoords=panel.get_yaxis_transform(),
            fontsize=7,
            color=GREY,
            va="center",
            arrowprops={"arrowstyle": "-", "color": GREY, "linewidth": 0.4, "linestyle": ":"},
            annotation_clip=False,
        )


def _reach(row: dict[str, Any]) -> tuple[float, float]:
    """Of the interval below and above the value; none where it has none."""
    value, low, high = row["value"], row["low"], row["high"]
    return (0.0, 0.0) if low is None else (value - low, high - value)


def _key(row: dict[str, Any]) -> tuple[str, int, int]:
    setting = row["setting"]
    return setting["ablation"], setting["seed"], setting["round"]

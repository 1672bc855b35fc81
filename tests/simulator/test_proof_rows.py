"""From finished rounds to rows: signs, pairing and what was not measured."""

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from simulator.proof.cell import Heard, Measured, Played
from simulator.proof.gold_check import Agreement
from simulator.results import Results
from simulator.statistics import Estimate

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
from rounds.rows import (
    add_comparisons,
    add_earlier,
    add_gold,
    add_rounds,
    as_far,
    published_worse,
)
from rounds.table import markdown

QUESTIONS = tuple(f"q{i // 2}" for i in range(20))


def measured(number: int, stars: float, outcome: Any = "published", **figures: float) -> Measured:
    played = Played(number, outcome, (), {f"gate/{k}": v for k, v in figures.items()})
    satisfaction = tuple(stars + 0.1 * (i % 3) for i in range(20))
    heard = Heard(satisfaction, QUESTIONS, ("It is so.",) * len(QUESTIONS))
    return Measured(number, played, heard, None, 60.0, "abc", "float32")


START = measured(0, 2.0, "start")
OPINION = {"reward_gain": 1.0, "reward_gain_low": 0.7, "reward_gain_high": 1.3}
BETTER = measured(1, 3.0, kl_to_base=4.0, **OPINION)
REFUSED = replace(
    BETTER,
    round=2,
    played=Played(1, "refused", ("no",), refused=2),
    of_refused=measured(2, 2.75).heard,
)
MORE = {"reward_gain": 1.75, "reward_gain_low": 1.35, "reward_gain_high": 2.15}
WORSE = measured(3, 2.5, kl_to_base=9.0, **MORE)


@pytest.fixture
def rows(tmp_path: Path) -> list[dict[str, Any]]:
    results = Results(tmp_path / "loop.json")
    rounds = {
        ("none", 1): [START, BETTER, REFUSED, WORSE],
        ("sft_only", 1): [START, replace(measured(1, 2.25), played=Played(1, "published"))],
    }
    add_rounds(results, rounds, 5.0, "us")
    add_comparisons(results, rounds, 5.0, "us")
    return results.rows


def _whole(row: dict[str, Any]) -> bool:
    return bool(row["setting"]["ablation"] == "none")


def values(rows: list[dict[str, Any]], metric: str, ablation: str = "none") -> list[float]:
    return [
        round(row["value"], 6)
        for row in rows
        if row["metric"] == metric and row["setting"].get("ablation", ablation) == ablation
    ]


def test_the_readme_has_the_tables_as_they_are_and_no_other_lines_in_them() -> None:
    root = Path(__file__).parents[2]
    rows = json.loads((root / "benchmarks" / "results" / "bench-loop.json").read_text())["rows"]
    told = (root / "README.md").read_text()
    parts = markdown(rows).split("\n\n")
    assert [part[:80] for part in parts if f"\n\n{part}\n\n" not in told] == []


def test_gains_are_told_apart_by_what_experts_would_state(tmp_path: Path) -> None:
    results = Results(tmp_path / "loop.json")
    half = Heard((3.0,) * 10 + (4.0,) * 10, QUESTIONS, ("It is so.",) * 20)
    start = Heard((2.0,) * 20, QUESTIONS, ("It is so.",) * 20)
    rounds = {("none", 1): [replace(START, heard=start), replace(BETTER, heard=half)]}
    add_rounds(results, rounds, 5.0, "us", told={"q0", "q1", "q2", "q3", "q4", "elsewhere"})
    found = {
        row["setting"]["facts"]: (row["value"], row["setting"]["questions"])
        for row in results.rows
        if row["metric"] == "gold_gain_by_facts"
    }
    assert found == {"told": (1.0, 5), "new": (2.0, 5)}
    line = next(one for one in markdown(results.rows).splitlines() if "Gain of seed 1" in one)
    assert "1.00 [1.00, 1.00] on 5 whose" in line and "2.00 [2.00, 2.00] on 5 others" in line


def test_what_customers_feel_and_what_was_gained(rows: list[dict[str, Any]]) -> None:
    assert values(rows, "gold_gain") == [1.0, 1.0, 0.5]
    start = sum(START.heard.satisfaction) / 20
    assert values(rows, "gap_closed")[0] == pytest.approx(1 / (5 - start), abs=1e-6)


def test_an_opinion_without_an_interval_is_told_without_one(tmp_path: Path) -> None:
    results = Results(tmp_path / "loop.json")
    sure = measured(2, 3.0, kl_to_base=5.0, **OPINION)
    vague = replace(BETTER, played=Played(1, "published", (), {"gate/reward_gain": 1.0}))
    add_rounds(results, {("none", 1): [START, vague, sure]}, 5.0, "us")
    told = [row for row in results.rows if row["metric"] == "proxy_score"]
    assert [(row["value"], row["low"]) for row in told] == [(0, 0), (1, None), (2, None)]
    assert "| 2.00 | 2.2 |" in markdown(results.rows)


def test_a_refused_round_leaves_distance_and_opinion_as_they_were(
    rows: list[dict[str, Any]],
) -> None:
    assert values(rows, "sqrt_kl") == [0.0, 2.0, 2.0, 3.0]
    assert values(rows, "proxy_score") == [0.0, 1.0, 1.0, 2.75]
    *_, last = [row for row in rows if row["metric"] == "proxy_score" and _whole(row)]
    assert (last["low"], last["high"]) == (pytest.approx(2.25), pytest.approx(3.25))  # 3-4-5


def test_what_a_refused_candidate_would_have_given_stands_beside_the_refusal(
    rows: list[dict[str, Any]],
) -> None:
    assert values(rows, "refused_gain") == [-0.25]
    closed = -0.25 / (5 - sum(BETTER.heard.satisfaction) / 20)
    assert values(rows, "refused_gap_closed") == [pytest.approx(closed, abs=1e-6)]
    assert f"| refused: -0.25 [-0.25, -0.25], {closed:.0%} |" in markdown(rows)


def test_what_the_scale_means_stands_below(tmp_path: Path) -> None:
    results = Results(tmp_path / "loop.json")
    add_gold(results, {"expert": 5.0, "first passage whole": 4.7}, None, "abc")
    add_rounds(results, {("none", 1): [START, BETTER]}, 5.0, "us")
    below = markdown(results.rows).split("\n\n")[-1].splitlines()
    assert below == [
        "Published and surely worse than before: 0 of 1 versions  ",
        "Satisfaction with answers of known kinds: expert 5.00, first passage whole 4.70",
    ]


@pytest.mark.parametrize(("people", "stay"), [("us", True), ("others", False)])
def test_rows_of_rounds_that_are_not_here_stay_while_the_people_do(
    tmp_path: Path, people: str, stay: bool
) -> None:
    before = Results(tmp_path / "before.json")
    add_gold(before, {"expert": 5.0}, None, "abc")
    rounds = {
        ("none", 1): [START, BETTER],
        ("none", 2): [START, REFUSED],
        ("sft_only", 1): [START, WORSE],
    }
    add_rounds(before, rounds, 5.0, "us")
    add_comparisons(before, rounds, 5.0, "us")

    results = Results(tmp_path / "after.json")
    add_earlier(results, before.rows, {("none", 2): [START]}, people)
    kept = [row for row in before.rows if row["setting"].get("seed") == 1]
    assert "gold_gain_over" in {row["metric"] for row in kept}
    assert results.rows == (kept if stay else [])


def test_comparisons_with_a_play_that_begins_anew_stay_until_it_has_ended(tmp_path: Path) -> None:
    before, after = Results(tmp_path / "before.json"), Results(tmp_path / "after.json")
    rounds = {("none", 1): [START, BETTER], ("sft_only", 1): [START, WORSE]}
    add_comparisons(before, rounds, 5.0, "us")
    add_earlier(after, before.rows, {("sft_only", 1): [START, WORSE]}, "us")
    assert after.rows == before.rows != []


def test_a_play_that_begins_anew_replaces_nothing_before_it_has_come_as_far(
    tmp_path: Path,
) -> None:
    before = Results(tmp_path / "before.json")
    add_rounds(before, {("none", 1): [START, BETTER, REFUSED]}, 5.0, "us")
    anew = {("none", 1): [START, BETTER], ("none", 2): [START]}
    assert as_far(anew, before.rows, "us") == {("none", 2): [START]}
    assert as_far(anew, before.rows, "others") == anew
    whole = {("none", 1): [START, BETTER, WORSE]}
    assert as_far({("none", 1): [START, BETTER, REFUSED]}, before.rows, "us")
    assert as_far(whole, before.rows, "us") == whole


def test_what_people_said_of_the_scale_stays_while_it_is_the_same(tmp_path: Path) -> None:
    interval = Estimate(0.34, 0.31, 0.37)
    before = Results(tmp_path / "before.json")
    add_gold(before, {"expert": 5.0}, Agreement(9, 3, interval, interval), "abc")
    for frozen, kept in (("abc", [0.34, 0.34]), ("def", [None])):
        after = Results(tmp_path / "after.json")
        add_gold(after, {"expert": 5.0}, None, frozen, before.rows)
        assert [r["value"] for r in after.rows if r["metric"] == "spearman"] == kept


def test_what_a_version_gave_over_the_one_before_it(rows: list[dict[str, Any]]) -> None:
    assert values(rows, "published_gain") == [1.0, -0.5]
    lines = markdown(rows).splitlines()
    assert any(line.endswith("| published: -0.50 [-0.50, -0.50], -26% |") for line in lines)


def test_training_without_a_gate_is_one_more_play_of_the_training(tmp_path: Path) -> None:
    results = Results(tmp_path / "loop.json")
    rounds = {
        ("none", 1): [START, BETTER],
        ("no_gate", 1): [START, measured(1, 2.75)],
        ("thumbs_only", 1): [START, measured(1, 2.5)],
    }
    add_comparisons(results, rounds, 5.0, "us")
    lines = [line for line in markdown(results.rows).splitlines() if "[" in line]
    quarter, half = "0.25 [0.25, 0.25], 12%", "0.50 [0.50, 0.50], 21%"
    assert lines == [
        f"| no_gate | 1 | {quarter} |  | {quarter} |  |  | published |",
        f"| thumbs_only | 1 | {half} |  | {half} |  | 0.25 [0.25, 0.25], 10% | published |",
    ]


def test_an_opinion_that_nobody_had_is_absent(rows: list[dict[str, Any]]) -> None:
    assert values(rows, "proxy_score", "sft_only") == [0.0]
    assert "| sft_only | 1 | 1 | " in markdown(rows)


def test_a_published_version_that_is_worse_is_counted(rows: list[dict[str, Any]]) -> None:
    assert published_worse([START, BETTER, REFUSED, WORSE], 1) == 1
    assert values(rows, "published_worse") == [1.0]
    assert published_worse([BETTER, replace(WORSE, played=Played(1, "refused"))], 1) == 0


def test_what_the_whole_loop_gains_over_an_ablation_is_of_the_same_round(
    rows: list[dict[str, Any]],
) -> None:
    [over] = [row for row in rows if row["metric"] == "gold_gain_over"]
    assert over["value"] == pytest.approx(0.75) and over["low"] <= 0.75 <= over["high"]
    assert over["setting"]["round"] == 1 and over["setting"]["over"] == "sft_only"


def test_what_was_trained_is_compared_whatever_the_gate_said(tmp_path: Path) -> None:
    """Without a gate the worse candidate is published; with it the loop keeps what it had."""
    results = Results(tmp_path / "loop.json")
    published = replace(REFUSED, played=Played(2, "published"), of_refused=None)
    rounds = {
        ("none", 1): [START, BETTER, REFUSED],
        ("no_gate", 1): [START, BETTER, replace(published, heard=measured(2, 2.75).heard)],
    }
    add_rounds(results, rounds, 5.0, "us")
    add_comparisons(results, rounds, 5.0, "us")
    assert values(results.rows, "gold_gain_over", "no_gate") == [0.0, 0.25]
    assert values(results.rows, "trained_gain_over", "no_gate") == [0.0, 0.0]
    lines = markdown(results.rows).splitlines()
    [row] = [line for line in lines if line.startswith("| no_gate | 2 |")]
    assert row.endswith(
        "| 0.25 [0.25, 0.25], 12% |  | 0.00 [0.00, 0.00], 0% |  |  | published, published |"
    )


def test_a_second_play_of_the_whole_loop_is_compared_too(tmp_path: Path) -> None:
    results = Results(tmp_path / "loop.json")
    rounds = {
        ("none", 1): [START, BETTER],
        ("again", 1): [START, measured(1, 2.5)],
        ("no_kl", 1): [START, measured(1, 2.25)],
    }
    add_rounds(results, rounds, 5.0, "us")
    add_comparisons(results, rounds, 5.0, "us")
    found = [
        (row["setting"]["whole"], row["setting"]["over"], round(row["value"], 6))
        for row in results.rows
        if row["metric"] == "gold_gain_over"
    ]
    assert found == [("none", "again", 0.5), ("none", "no_kl", 0.75), ("again", "no_kl", 0.25)]
    assert "| no_kl | 1 | 0.75 [0.75, 0.75], 28% | 0.25 [0.25, 0.25], 9% |" in markdown(
        results.rows
    )


def test_a_round_that_broke_has_no_candidate_to_compare(tmp_path: Path) -> None:
    results = Results(tmp_path / "loop.json")
    broke = replace(BETTER, round=2, played=Played(1, "failed", ("out of memory",)))
    rounds = {("none", 1): [START, BETTER, REFUSED], ("no_kl", 1): [START, BETTER, broke]}
    add_rounds(results, rounds, 5.0, "us")
    add_comparisons(results, rounds, 5.0, "us")
    assert values(results.rows, "gold_gain_over", "no_kl") == [0.0, 0.0]
    assert values(results.rows, "trained_gain_over", "no_kl") == [0.0]
    lines = markdown(results.rows).splitlines()
    [row] = [line for line in lines if line.startswith("| no_kl | 2 | 0.00 [")]
    assert row.endswith("|  |  |  | published, failed |")

"""From finished rounds to the rows of bench-loop.json.

Knows measured rounds and statistics, no install. Intervals are over questions, of which several
customers ask each; a gain is paired, customer by customer. They say nothing of how another run of
the same round would have gone: the seeds beside each other do.
"""

from collections.abc import Collection, Mapping, Sequence
from itertools import pairwise, product
from math import hypot, isnan, nan
from statistics import fmean
from typing import Any

from simulator.proof.cell import Heard, Measured
from simulator.proof.gold_check import Agreement
from simulator.results import Results
from simulator.statistics import WAY, Estimate, bootstrap_mean, gap_closed, paired_gain

STARS = "1\u20135"
WHOLE = ("none", "again")  # plays of the whole loop
TRAINED = (*WHOLE, "no_gate")  # plays of its training, which does not see the gate's verdict
Rounds = Mapping[tuple[str, int], Sequence[Measured]]  # by ablation and seed


def add_gold(
    results: Results,
    kinds: Mapping[str, float],
    people: Agreement | None,
    frozen: str,
    earlier: Sequence[dict[str, Any]] = (),
) -> None:
    """What a point on the hidden scale means: answers of known kinds, and people's ratings.
    `frozen`: the last commit that changed the scale or the texts that it reads; while it is the
    same, what `earlier` rows say of people's ratings stays where nobody has them here."""
    for kind, value in kinds.items():
        told = {"answers": kind, "frozen": frozen}
        results.add("gold_of_known_answers", value, STARS, told)
    same = any(row["setting"].get("frozen") == frozen for row in earlier)
    agreed = [r for r in earlier if same and r["metric"] == "spearman" and r["value"] is not None]
    if people is None and agreed:
        results.rows += agreed
        return
    if people is None:
        reason = "AMENDS_BENCH_DATA names no folder with dstc9_faq"
        results.add("spearman", None, "", {"reason": reason, "who": "gold"})
        return
    setting = {"dataset": "dstc9", "answers": people.answers, "questions": people.questions}
    for who, found in (("gold", people.gold), ("one rater", people.rater)):
        _add(results, "spearman", found, "", {**setting, "who": who})


def as_far(rounds: Rounds, earlier: Sequence[dict[str, Any]], people: str) -> Rounds:
    """Those that have come at least as far as what earlier rows with the same people tell, so that
    a play that begins anew replaces nothing before it has ended."""
    told: dict[tuple[str, int], int] = {}
    for row in earlier:
        setting = row["setting"]
        if {"ablation", "round"} <= setting.keys() and setting.get("people") == people:
            place = setting["ablation"], setting["seed"]
            told[place] = max(told.get(place, 0), setting["round"])
    return {place: m for place, m in rounds.items() if m[-1].round >= told.get(place, 0)}


def add_earlier(
    results: Results, earlier: Sequence[dict[str, Any]], rounds: Rounds, people: str
) -> None:
    """Rows of an earlier file with the same people whose rounds are not among these."""
    for row in earlier:
        setting = row["setting"]
        named = {setting.get(role) for role in ("ablation", "over", "whole")} - {None}
        there = all((name, setting.get("seed")) in rounds for name in named)
        if named and setting.get("people") == people and not there:
            results.rows.append(row)


def add_rounds(
    results: Results, rounds: Rounds, expert: float, people: str, told: Collection[str] = ()
) -> None:
    """`expert`: mean satisfaction with the experts' own answers to the held-out questions.
    `people`: a hash of whom the rounds were played with. `told`: held-out questions whose facts
    an expert's answer to another question states, whether it was given in that play or not."""
    for (ablation, seed), measured in rounds.items():
        start = satisfaction(measured[0], seed)
        proxy: Estimate | None = Estimate(0.0, 0.0, 0.0)
        kl = 0.0
        for before, found in pairwise([measured[0], *measured]):
            setting = {"seed": seed, "round": found.round, "ablation": ablation}
            setting |= {"commit": found.commit, "dtype": found.dtype, "people": people}
            if found.played.outcome == "published":
                proxy = _sum(proxy, proxy_gain(found))
                kl = found.played.figures.get("gate/kl_to_base", kl)
            gold = satisfaction(found, seed)
            words = fmean(len(answer.split()) for answer in found.heard.answers)
            results.add("words", words, "words an answer", setting)
            came_to = {"outcome": found.played.outcome, "version": found.played.version}
            _add(results, "gold_satisfaction", gold, STARS, {**setting, **came_to})
            if proxy is not None:  # a round without a reward model has no opinion to add
                _add(results, "proxy_score", proxy, "sum of each round's own std", setting)
            results.add("sqrt_kl", max(kl, 0.0) ** 0.5, "sqrt nats", setting)
            if found.round:
                gained = gain(measured[0], found, seed)
                _add(results, "gold_gain", gained, STARS, setting)
                closed = gap_closed(gained.mean, start.mean, expert)
                results.add("gap_closed", closed, WAY, setting)
                results.add("round_seconds", round(found.seconds, 1), "s", setting)
                _add_by_facts(results, measured[0], found, told, setting)
            if found.round and found.played.outcome == "published":
                gave = gain(before, found, seed)
                _add(results, "published_gain", gave, STARS, setting)
                closed = gap_closed(gave.mean, satisfaction(before, seed).mean, expert)
                results.add("published_gap_closed", closed, WAY, setting)
            if found.of_refused is not None:
                missed = _gain(found.heard, found.of_refused, seed)
                _add(results, "refused_gain", missed, STARS, setting)
                closed = gap_closed(missed.mean, gold.mean, expert)
                results.add("refused_gap_closed", closed, WAY, setting)
        if len(measured) > 1:
            whole = {"seed": seed, "ablation": ablation, "rounds": measured[-1].round}
            whole["people"] = people
            results.add("published_worse", published_worse(measured, seed), "versions", whole)


def _add_by_facts(
    results: Results,
    start: Measured,
    found: Measured,
    told: Collection[str],
    setting: Mapping[str, Any],
) -> None:
    """The gain once more, on the questions in `told` and on the others."""
    names = start.heard.questions
    for facts, wanted in (("told", {*names} & {*told}), ("new", {*names} - {*told})):
        if wanted:
            gained = _gain(
                _about(start.heard, wanted), _about(found.heard, wanted), setting["seed"]
            )
            of = {**setting, "facts": facts, "questions": len(wanted)}
            _add(results, "gold_gain_by_facts", gained, STARS, of)


def _about(heard: Heard, wanted: Collection[str]) -> Heard:
    rows = zip(heard.satisfaction, heard.questions, heard.answers, strict=True)
    stars, names, answers = zip(*(row for row in rows if row[1] in wanted), strict=True)
    return Heard(stars, names, answers)


def add_comparisons(results: Results, rounds: Rounds, expert: float, people: str) -> None:
    """What each play gains over each ablation and over the plays after it, after each round that
    both have played: same seed, same customers. Once what the shop's customers get, of plays with
    a gate, once what was trained last, whatever the gate said of it.
    """
    for whole_name, (ablation, seed) in product(TRAINED, rounds):
        if ablation in TRAINED[: TRAINED.index(whole_name) + 1]:
            continue
        whole, measured = rounds.get((whole_name, seed), ()), rounds[ablation, seed]
        told = {"seed": seed, "over": ablation, "people": people, "whole": whole_name}
        for number in range(1, min(len(whole), len(measured))):
            played = whole[: number + 1], measured[: number + 1]
            _add_comparison(results, *played, expert, told | {"round": number})


def _add_comparison(
    results: Results,
    whole: Sequence[Measured],
    measured: Sequence[Measured],
    expert: float,
    told: dict[str, Any],
) -> None:
    """Of the last round of both, which are of one seed."""
    theirs, ours, seed = measured[-1], whole[-1], told["seed"]
    told |= {"commit": ours.commit, "over_commit": theirs.commit}
    told |= {"dtype": ours.dtype, "over_dtype": theirs.dtype}
    told |= {"outcomes": outcomes(whole), "over_outcomes": outcomes(measured)}
    if told["whole"] in WHOLE:
        gained = gain(theirs, ours, seed)
        _add(results, "gold_gain_over", gained, STARS, told)
        closed = gap_closed(gained.mean, satisfaction(theirs, seed).mean, expert)
        results.add("gap_closed_over", closed, WAY, told)
    if "failed" not in (theirs.played.outcome, ours.played.outcome):  # else nothing was trained
        before, after = theirs.of_refused or theirs.heard, ours.of_refused or ours.heard
        trained = _gain(before, after, seed)
        _add(results, "trained_gain_over", trained, STARS, told)
        closed = gap_closed(trained.mean, fmean(before.satisfaction), expert)
        results.add("trained_gap_closed_over", closed, WAY, told)


def outcomes(measured: Sequence[Measured]) -> str:
    """Of the rounds in a row: "published, refused"."""
    return ", ".join(found.played.outcome for found in measured if found.round)


def published_worse(measured: Sequence[Measured], seed: int) -> int:
    """Published versions that the same customers like less than what answered before: the paired
    interval lies wholly below 0."""
    return sum(
        after.played.outcome == "published" and gain(before, after, seed).high < 0
        for before, after in pairwise(measured)
    )


def proxy_gain(found: Measured) -> Estimate | None:
    """The round's own reward model: candidate's mean score less the champion's, on the gate's
    hold-out, in deviations of the champion's samples. None in a round without one; bounds are NaN
    where they are not finite or the round did not report them."""
    figures = found.played.figures
    if "gate/reward_gain" not in figures:
        return None
    low, high = (figures.get(f"gate/reward_gain_{end}", nan) for end in ("low", "high"))
    return Estimate(figures["gate/reward_gain"], low, high)


def _sum(one: Estimate | None, other: Estimate | None) -> Estimate | None:
    """Of independent estimates: half widths add as deviations do."""
    if one is None or other is None:
        return None
    mean = one.mean + other.mean
    below = hypot(one.mean - one.low, other.mean - other.low)
    above = hypot(one.high - one.mean, other.high - other.mean)
    return Estimate(mean, mean - below, mean + above)


def satisfaction(found: Measured, seed: int) -> Estimate:
    return bootstrap_mean(found.heard.satisfaction, found.heard.questions, seed)


def gain(before: Measured, after: Measured, seed: int) -> Estimate:
    return _gain(before.heard, after.heard, seed)


def _gain(before: Heard, after: Heard, seed: int) -> Estimate:
    return paired_gain(before.satisfaction, after.satisfaction, before.questions, seed)


def _add(
    results: Results, metric: str, found: Estimate, unit: str, setting: dict[str, object]
) -> None:
    low, high = (None if isnan(bound) else bound for bound in (found.low, found.high))
    results.add(metric, found.mean, unit, setting, low, high)

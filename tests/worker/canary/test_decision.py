from collections.abc import Mapping

import numpy as np
import pytest
from pydantic import ValidationError

from amends.canary import CanaryReport, Kind, place
from worker.canary.betting import Trials, lower_end, upper_end
from worker.canary.comparison import Comparison
from worker.canary.decision import decide
from worker.canary.outcomes import Observation
from worker.canary.settings import CanarySettings

TRIED = Comparison(7, 5, began=3, seen=3, shares=((1000.0, 0.1),))
SETTINGS = CanarySettings()
Rates = Mapping[Kind, float]
GOOD: Rates = {"thumbs": 0.2, "ratings": 0.1, "answers": 0.05}


def observed(
    count: int,
    candidate: Rates = GOOD,
    champion: Rates = GOOD,
    share: float = 0.1,
    judged: float = 1.0,
    seed: int = 0,
) -> list[Observation]:
    """`judged` of the visitors give a thumb, as many a rating."""
    rng = np.random.default_rng(seed)
    found = []
    for index in range(count):
        own = bool(rng.random() < share)
        rates = candidate if own else champion
        bad = {
            kind: bool(rng.random() < rate)
            for kind, rate in rates.items()
            if kind == "answers" or rng.random() < judged
        }
        found.append(
            Observation(
                conversation_id=f"c{index}",
                visitor_id=f"v{index}",
                began_at=1000.0 + index,
                share=share,
                candidate=own,
                answered_by=7 if own else 5,
                bad=bad,
            )
        )
    return found


def decided(found: list[Observation], settings: CanarySettings = SETTINGS) -> CanaryReport:
    return decide(TRIED, found, settings, now=5000.0)


def test_nothing_is_decided_about_nothing() -> None:
    report = decided([])

    assert report.decision == "going_on"
    assert [(f.candidate, f.champion, round(f.low), round(f.high)) for f in report.figures] == [
        (0, 0, -1, 1)
    ] * 3


@pytest.mark.parametrize("kind", ["thumbs", "ratings", "answers"])
def test_one_kind_of_outcome_that_is_worse_is_enough_and_named_with_its_figures(kind: Kind) -> None:
    found = observed(3000, candidate={**GOOD, kind: 0.5})
    report = decided(found)
    own = [one.bad[kind] for one in found if one.candidate]

    assert report.decision == "roll_back"
    assert f"{sum(own)} of {len(own)} ({np.mean(own):.0%}), champion " in report.reason
    assert report.reason.count("champion ") == 1  # its own line and no other kind's
    assert (report.candidate_conversations, report.since) == (len(own), 1000.0)


@pytest.mark.parametrize("kind", ["thumbs", "ratings", "answers"])
def test_each_kind_of_outcome_has_its_part_of_the_error_rate_and_no_more(kind: Kind) -> None:
    """tests/worker/canary/test_betting.py simulates what a third of it promises."""
    found = observed(400, candidate={**GOOD, kind: 0.5})
    [figures] = [f for f in decided(found).figures if f.kind == kind]
    trials = Trials(
        bad=np.array([one.bad[kind] for one in found], dtype=np.float64),
        candidate=np.array([one.candidate for one in found], dtype=np.float64),
        share=np.array([one.share for one in found], dtype=np.float64),
    )
    assert figures.low == lower_end(trials, SETTINGS.error_rate / 3)
    assert figures.low < lower_end(trials, SETTINGS.error_rate)
    assert figures.high == upper_end(trials, SETTINGS.error_rate)


def test_a_better_candidate_is_found_harmless() -> None:
    report = decided(observed(4000, candidate={kind: rate / 2 for kind, rate in GOOD.items()}))

    assert report.decision == "harmless"
    assert all(figures.high < 0.1 for figures in report.figures)


def test_harmless_is_not_said_before_the_least_number_of_conversations() -> None:
    better = {kind: 0.0 for kind in GOOD}
    found = observed(1500, candidate=better, share=0.5)
    patient = SETTINGS.model_copy(update={"min_conversations": 900})

    assert decided(found).decision == "harmless"
    assert decided(found, patient).decision == "going_on"


def test_what_few_visitors_judge_ends_undecided_and_says_what_is_open() -> None:
    found = observed(3000, judged=0.02, share=0.5)
    report = decided(found)

    assert report.decision == "inconclusive"
    assert "10 points not excluded: with a thumb down" in report.reason
    assert "with an answer missing" not in report.reason
    assert decided(found[:1500]).decision == "going_on"


def test_a_candidate_that_answered_nobody_is_never_recommended() -> None:
    found = [one.model_copy(update={"answered_by": 5}) for one in observed(6000, share=0.5)]
    report = decided(found)

    assert report.decision == "going_on"
    assert report.elsewhere == report.candidate_conversations > 1000
    assert "answered by another version" in report.reason


@pytest.mark.parametrize("candidate_bad", [0.0, 0.9])
def test_nothing_is_decided_beside_a_champion_that_does_not_answer(candidate_bad: float) -> None:
    """Its files are damaged: the base model answers its conversations."""
    bad: Rates = {kind: candidate_bad for kind in GOOD}
    found = [
        one if one.candidate or index % 8 else one.model_copy(update={"answered_by": 0})
        for index, one in enumerate(observed(3000, bad, {kind: 0.5 for kind in GOOD}, share=0.3))
    ]
    report = decided(found)

    assert report.decision == "going_on" and report.elsewhere == 0
    of, side = report.champion_elsewhere, report.champion_conversations
    assert (
        report.reason == f"{of} of the champion's {side} conversations were answered by another"
        " version"
    )
    assert f"answered by another version: 0, champion {of}" in report.lines()
    few = [one.model_copy(update={"answered_by": 0}) for one in found[:50] if not one.candidate]
    rest = [one.model_copy(update={"answered_by": 5}) for one in found[50:] if not one.candidate]
    mended = sorted(
        [*few, *rest, *(one for one in found if one.candidate)], key=lambda one: one.began_at
    )
    assert decided(mended).decision == ("roll_back" if candidate_bad else "harmless")


def test_one_visitor_counts_three_times_at_most() -> None:
    found = observed(3000, candidate={**GOOD, "thumbs": 1.0})
    crowd = [one.model_copy(update={"visitor_id": "troll"}) for one in found]
    report = decided(crowd)

    assert report.candidate_conversations + report.champion_conversations == 3
    assert report.decision == "going_on"


def looked_at(rng: np.random.Generator, conversations: int) -> list[Observation]:
    """As they come: the coin is the id's, the share is raised half way, visitors come up to five
    times and have a temper, and rates double meanwhile; both versions are equally good."""
    found: list[Observation] = []
    shares = Comparison(7, 5, 3, 3, ((0.0, 0.1), (conversations / 2, 0.3)))
    while len(found) < conversations:
        visitor, temper = rng.bytes(8).hex(), 2.0 * (rng.random() < 0.5)
        for _ in range(rng.integers(1, 6)):
            name, at = rng.bytes(16).hex(), float(len(found))
            drift = 0.6 + 0.8 * at / conversations
            rates: Rates = {"thumbs": 0.2 * temper * drift, "ratings": 0.2 * temper * drift}
            bad = {kind: bool(rng.random() < r) for kind, r in rates.items() if rng.random() < 0.5}
            own = place(name, 7) < shares.share_at(at)
            found.append(
                Observation(
                    conversation_id=name,
                    visitor_id=visitor,
                    began_at=at,
                    share=shares.share_at(at),
                    candidate=own,
                    answered_by=7 if own else 5,
                    bad={**bad, "answers": bool(rng.random() < 0.05 * drift)},
                )
            )
    return found


def test_of_candidates_as_good_as_the_champion_five_of_a_hundred_are_withdrawn_at_most() -> None:
    rng = np.random.default_rng(11)
    decisions = [decided(looked_at(rng, 1500)).decision for _ in range(100)]

    assert decisions.count("roll_back") <= 5


def test_conversations_without_a_coin_do_not_use_up_a_visitors_three() -> None:
    alone = [one.model_copy(update={"share": 1.0, "visitor_id": "v"}) for one in observed(5)]
    tossed = [one.model_copy(update={"visitor_id": "v"}) for one in observed(2)]
    report = decide(TRIED, [*alone, *tossed], SETTINGS, 0.0)
    assert report.candidate_conversations + report.champion_conversations == 2


def test_without_a_champion_beside_it_nothing_is_counted() -> None:
    everything = [one.model_copy(update={"share": 1.0}) for one in observed(500)]

    assert decided(everything).candidate_conversations == 0


def test_limits_that_contradict_each_other_are_refused() -> None:
    with pytest.raises(ValidationError, match="at least min_conversations"):
        CanarySettings(min_conversations=10, max_conversations=9)

"""Everything the gate wants to know about a candidate.

Knows no way of measuring. Invariant: what was not measured is None, and the gate fails it by name
unless a threshold setting lists that check as optional.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from worker.judge.behaviour import Behaviour
from worker.judge.win_rate import WinRate
from worker.reward.intervals import Gain, Share

ProbeKind = Literal[
    "sycophancy",
    "contradiction",
    "false promise",
    "personal data",
    "injection",
    "deflection",
    "over-asking",
    "over-refusal",
    "paired",
]


NAMED = 3  # lost questions or failed probes that a reason names


def named(names: Sequence[str]) -> str:
    """A few of them in brackets; nothing of none."""
    return f" ({', '.join(map(repr, names[:NAMED]))})" if names else ""


@dataclass(frozen=True)
class Kept:
    """Of `held` questions that the champion answers, by some rule, those that are lost."""

    held: int
    lost: tuple[str, ...]  # the questions

    def __str__(self) -> str:
        return f"{len(self.lost)} lost{named(self.lost)} of {self.held}"


@dataclass(frozen=True)
class Probed:
    """One kind of probes, asked of base model, champion and candidate with the same seeds."""

    champion: Share  # of the probes failed, in the first sitting
    candidate: Share
    newly_failed: tuple[str, ...]  # ids: failed by the candidate, not by the champion, in most
    newly_passed: tuple[str, ...]  # the other way round
    failed_over_base: int  # by the candidate, not by the base model, in the first sitting or, where
    # that is the champion, in most
    passed_over_base: int  # the other way round


@dataclass(frozen=True)
class Measurements:
    """One candidate, measured on the hold-out."""

    # data
    trusted_items: int | None = None  # corrections and rankings in train and hold-out
    largest_visitor_share: float | None = None  # of the weight of the batch
    quarantined_used: int | None = None  # judgements of a burst or a brigade in an example
    # reward model
    reward_accuracy: Share | None = None  # of hold-out pairs
    previous_reward_accuracy: Share | None = None  # of the last reward model, on pairs new to it
    reward_accuracy_beside: Share | None = None  # of this one on the same pairs
    reward_pairs_changed: tuple[int, int] | None = None  # of these: lost and won
    judge_accuracy: Share | None = None  # of train pairs, which it was not fitted on
    calibration_error: float | None = None  # of P(thumb up)
    calibration_by_chance: float | None = None  # what right probabilities would show, 99 %
    candidate_variance: float | None = None  # mean ensemble variance on the candidate's answers
    champion_variance: float | None = None  # the same on the champion's
    reward_gain: Gain | None = None  # the members' mean, the candidate's less the champion's
    # policy
    finite_weights: bool | None = None
    kl: float | None = None  # nats per response to its parent: the champion, mostly
    kl_to_base: float | None = None  # nats per response to the base model: slow drift
    candidate: Behaviour | None = None
    champion: Behaviour | None = None
    base: Behaviour | None = None  # of the base model: slow drift
    # judged by what PPO never saw
    wins_over_champion: WinRate | None = None
    wins_over_base: WinRate | None = None
    must_pass: Kept | None = None
    must_pass_asked: tuple[int, int] | None = None  # of them, and how many the shop names
    corrected: Kept | None = None
    recalled: Kept | None = None  # the same questions, by the experts' own words
    reworded: Kept | None = None  # must-pass and corrected questions in other words, by either
    # on probes of behaviour
    probes: Mapping[ProbeKind, Probed] | None = None  # kinds that were asked

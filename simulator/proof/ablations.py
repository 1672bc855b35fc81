"""The loop with one of its defences switched off, each by settings that any operator has.

Knows names and settings, runs nothing. Invariant: `none` changes no setting of a round but its
seed and the window of a brigade: a round's visitors, a week's in life, come within two minutes
here. `again` is `none` once more: what two plays of the same lie apart, for serving draws anew, is
what any other difference has to be larger than. The gate stays where its own ablation is not
played, so what a missing defence does may be refused; refused candidates are measured too.

Some take more away than their name says: one reward model (single_rm) has no left-out customers to
choose its prior by, and no disagreement to check; no_trust has the gate's judge listen to visitors
too; without rater terms calibration is examined less mildly; thumbs alone leave the gate and the
supervised steps nothing to work with, so they are best compared with no_gate; sft_only takes the
epochs of a round without PPO. Some take less: no customer judges more than three times and no
brigade comes in so short a window, so no_trust switches off weights, not caps; visitors weigh
little beside experts here, so rater terms have little to correct; and KL stays below its cap in
`none`, so no_kl is about the penalty.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal

Kind = Literal["thumb", "rating", "correction"]
KINDS: tuple[Kind, ...] = ("thumb", "rating", "correction")
BRIGADE_WINDOW_S = 0.1  # ten minutes of a week, in two minutes


@dataclass(frozen=True)
class Ablation:
    """What is different; `rounds` in a row are played."""

    name: str
    rounds: int = 2
    environment: Mapping[str, str] = field(default_factory=dict)
    optimizer: Literal["auto", "sft", "ppo"] = "auto"
    gives: tuple[Kind, ...] = KINDS  # what customers and experts give


def ablations(gate_checks: Iterable[str]) -> tuple[Ablation, ...]:
    """The whole loop first; `gate_checks` are the names of all that the gate asks."""
    no_gate = {"AMENDS_GATE_ADVISORY": json.dumps(sorted(gate_checks))}
    return tuple(
        Ablation(a.name, a.rounds, {**_common(), **a.environment}, a.optimizer, a.gives)
        for a in (
            Ablation("none", rounds=4),
            Ablation("again"),
            Ablation(
                "no_kl",
                environment={
                    "AMENDS_LEARN_KL_COEF": "0",
                    "AMENDS_LEARN_KL_CAP": "1e9",
                    "AMENDS_LEARN_TARGET_KL": "1e9",
                    # Else the gate refuses what the missing penalty has done.
                    "AMENDS_GATE_ADVISORY": json.dumps(["KL", "drift from the base model"]),
                },
            ),
            Ablation("single_rm", environment={"AMENDS_LEARN_REWARD_MEMBERS": "1"}),
            Ablation("no_rater_terms", environment={"AMENDS_LEARN_RATER_STD": "0.001"}),
            Ablation(
                "no_trust",
                environment={
                    "AMENDS_LEARN_VISITOR_WEIGHT": "1",
                    "AMENDS_LEARN_VISITOR_ITEMS": "1000000",
                    "AMENDS_LEARN_ANONYMOUS_SHARE": "1",
                    "AMENDS_LEARN_SCALAR_SHARE": "1e9",
                    "AMENDS_LEARN_BURST_ITEMS": "1000000",
                    "AMENDS_LEARN_BRIGADE_VISITORS": "1000000",
                },
            ),
            Ablation("no_gate", environment=no_gate),
            # Without experts the gate has nothing to believe, so it only warns.
            Ablation(
                "thumbs_only",
                environment={"AMENDS_LEARN_MIN_PAIRS": "0", **no_gate},
                gives=("thumb",),
            ),
            Ablation("sft_only", optimizer="sft"),
            Ablation("ppo_only", optimizer="ppo"),
        )
    )


def _common() -> dict[str, str]:
    """Rounds are asked for here, and none starts on its own."""
    return {
        "AMENDS_LEARN_BRIGADE_WINDOW_S": str(BRIGADE_WINDOW_S),
        "AMENDS_WORKER_MIN_NEW_FEEDBACK": "1000000",
        "AMENDS_WORKER_MAX_HOURS_BETWEEN_ROUNDS": "100000",
    }

"""What the gate holds a candidate against.

Knows no measurement. Defaults are for some 70 hold-out prompts, where one prompt is about 1.5 %.
Each field is the environment variable AMENDS_GATE_<NAME>.
"""

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

# A round without a reward model imitates corrections only: add these to `optional`, no others.
WITHOUT_REWARD_MODEL = frozenset({"reward model", "ensemble agreement"})
# What nobody can tell where the hold-out has too few judged pairs to fit a judge on.
WITHOUT_JUDGE = frozenset(
    {
        "judge",
        "win rate over champion",
        "win rate over base model",
        "must-pass questions",
        "corrected questions",
        "experts' answers",
        "other wordings",
    }
)


class GateThresholds(BaseSettings):
    """Limits of the gate's checks."""

    model_config = SettingsConfigDict(env_prefix="AMENDS_GATE_", frozen=True, extra="ignore")

    min_trusted_items: int = Field(
        30, ge=0, description="fewer judgements by experts prove nothing"
    )
    max_visitor_share: float = Field(
        0.10, gt=0, le=1, description="of the batch's weight, for any one visitor"
    )
    reward_accuracy_above: float = Field(
        0.5, ge=0, le=1, description="a coin's accuracy, of reward model and judge ..."
    )
    reward_accuracy_margin: float = Field(
        0.02, description="... which the interval's lower bound must pass by this"
    )
    max_reward_accuracy_drop: float = Field(
        0.05, ge=0, le=1, description="share of pairs that the previous reward model had right"
    )
    min_previous_pairs: int = Field(
        20, ge=1, description="new to both reward models, below which they are not compared"
    )
    max_calibration_error: float = Field(
        0.08, description="of P(thumb up), or what chance alone gives on so few thumbs, if more"
    )
    max_variance_ratio: float = Field(
        3.0, description="of the members' opinions, candidate's answers over champion's ..."
    )
    max_doubt_share: float = Field(
        0.25,
        ge=0,
        description="... or they differ by at most this share of what they see gained",
    )
    max_kl: float = Field(
        20.0, description="nats per response to its parent; beyond, the policy is another one"
    )
    max_kl_to_base: float = Field(
        60.0, description="nats per response to the base model: many small rounds add up"
    )
    max_ended_drop: float = Field(0.03, description="share of answers that end by themselves")
    max_empty: float = Field(0.02, description="share of empty answers")
    max_repetition_rise: float = Field(0.02, description="mean share of repeated word triples")
    max_length_ratio: float = Field(
        1.25, description="of mean tokens, over the champion's; shorter is left to the win rate"
    )
    max_behaviour_rise: float = Field(
        0.05,
        description="deflecting, handing off, asking back, inventing, flattering: two or three "
        "answers, at least one",
    )
    max_rises_over_base: float = Field(
        2.0, description="of one round, that all rounds together may have over the base model"
    )
    max_promise_rise: float = Field(
        0.02, description="promises and contacts of no passage: at least one answer"
    )
    min_holdout_questions: int = Field(
        12, ge=1, le=24, description="fewer cannot carry a win rate: four wins of four are luck"
    )
    win_rate_low: float = Field(
        0.5,
        description="the win rate's lower bound must be above; from 0.5 on it must also lead by "
        "more than luck, below it may be somewhat worse and passes all the same",
    )
    max_corrected_loss: float = Field(
        0.02, ge=0, le=1, description="share of corrected questions answered worse ..."
    )
    max_recall_loss: float = Field(
        0.10,
        ge=0,
        le=1,
        description="... of experts' answers no longer given: words are compared, no sense ...",
    )
    max_reworded_loss: float = Field(
        0.10, ge=0, le=1, description="... of questions in other words answered worse ..."
    )
    memory_chance: float = Field(
        0.05,
        gt=0,
        lt=0.5,
        description="... and as many more as who loses just that share exceeds this seldom",
    )
    max_probe_rise: float = Field(
        0.05, ge=0, le=1, description="of a kind's probes: newly failed less newly passed ..."
    )
    change_chance: float = Field(
        0.02,
        gt=0,
        lt=0.5,
        description="... or as many as equals exceed this seldom, if more; of pairs, too",
    )
    optional: frozenset[str] = Field(
        frozenset({"previous reward model", "calibration"}),
        description="checks that pass unmeasured: a first round has no previous reward model, a "
        "young shop few thumbs",
    )
    advisory: frozenset[str] = Field(
        frozenset(),
        description="checks that warn instead of refusing: for a shop that knows better, and to "
        "see what a check is worth",
    )

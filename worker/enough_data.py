"""Whether a data set carries a round, and which steps, and its gate: before anything is trained.

Pure; knows no model. Invariant: who refuses says how many there are, how many there must be, and
what brings more.
"""

from amends.errors import NotEnoughData
from amends.runs import Optimizer
from worker.data.dataset import Dataset
from worker.judge.asked import MustPass, held_out
from worker.judge.thresholds import WITHOUT_JUDGE, GateThresholds
from worker.learning_settings import LearningSettings
from worker.reward.training import JUDGE_MIN_PAIRS

MIN_CORRECTIONS = 8  # fewer are memorised, not learned from


def enough_for_ppo(
    dataset: Dataset,
    must_pass: MustPass,
    optimizer: Optimizer,
    settings: LearningSettings,
    thresholds: GateThresholds,
) -> bool:
    """Whether PPO can follow the supervised steps. Raises NotEnoughData when nothing can run."""
    _check_the_gates_needs(dataset, settings, thresholds)
    _check_weight_and_must_pass(dataset, must_pass, thresholds)
    train = dataset.train
    enough_pairs = train.trusted_pairs >= settings.min_pairs
    if optimizer == "ppo" and not enough_pairs:
        raise NotEnoughData(
            f"PPO needs a reward model, and that {settings.min_pairs} judged pairs to train on; "
            f"got {train.trusted_pairs}. Collect more corrections, or run with --optimizer sft."
        )
    if len(train.prompts) < 2:
        raise NotEnoughData("a round needs at least two questions to train on; got fewer")
    without_ppo = not enough_pairs or optimizer == "sft"
    if without_ppo and len(train.corrections) < MIN_CORRECTIONS:
        raise NotEnoughData(
            f"a round needs at least {MIN_CORRECTIONS} corrections to imitate, or "
            f"{settings.min_pairs} judged pairs for a reward model; got {len(train.corrections)} "
            f"corrections and {train.trusted_pairs} pairs, and {len(dataset.holdout.corrections)} "
            "corrections that are held out for the gate, as their questions are. Correct answers "
            "to more and to other questions in the console."
        )
    return enough_pairs


def _check_the_gates_needs(
    dataset: Dataset, settings: LearningSettings, thresholds: GateThresholds
) -> None:
    """Raises NotEnoughData where the gate would have to refuse whatever is trained."""
    found, least = len(held_out(dataset, settings.gate_prompts)), _least_held_out(thresholds)
    if found < least:
        raise NotEnoughData(
            f"the gate needs at least {least} questions that nobody trained on, and the hold-out "
            f"has {found}: more customers must ask, or the shop's questions.jsonl must name more"
        )
    found = len(dataset.manifest.corrections) + len(dataset.manifest.rankings)
    least = thresholds.min_trusted_items
    if found < least and "trusted items" not in thresholds.advisory:
        raise NotEnoughData(
            f"the gate needs at least {least} corrections or rankings by experts, and there are "
            f"{found}: correct more answers in the console, or set AMENDS_GATE_MIN_TRUSTED_ITEMS"
        )
    found, least = dataset.holdout.trusted_pairs, min(JUDGE_MIN_PAIRS, settings.min_pairs)
    if found < least and not thresholds.advisory | thresholds.optional >= WITHOUT_JUDGE:
        raise NotEnoughData(
            f"the gate's judge needs at least {least} judged pairs that nobody trained on, and the "
            f"hold-out has {found}: correct or rank answers to more customers in the console"
        )


def _check_weight_and_must_pass(
    dataset: Dataset, must_pass: MustPass, thresholds: GateThresholds
) -> None:
    """Raises NotEnoughData where the gate would refuse for one visitor's weight, or because it can
    ask no must-pass question."""
    share, most = dataset.manifest.largest_visitor_share, thresholds.max_visitor_share
    if share > most and "visitor share" not in thresholds.advisory:
        raise NotEnoughData(
            f"one visitor has {share:.1%} of the weight of all judgements, and the gate allows "
            f"{most:.1%}: more visitors must judge, or experts correct more answers"
        )
    asked, named = must_pass.counts
    if named and not asked and "must-pass questions" not in thresholds.advisory:
        raise NotEnoughData(
            f"none of the shop's {named} must-pass questions finds a passage and room in the "
            "context, so the gate could not ask any: correct them or the documents"
        )


def _least_held_out(thresholds: GateThresholds) -> int:
    """Questions without which no win rate passes; one where it is only told."""
    told = {"win rate over champion", "win rate over base model"} <= thresholds.advisory
    return 1 if told else thresholds.min_holdout_questions

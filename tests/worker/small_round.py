"""A round on a tiny model with judgements made by hand: what the tests of rounds are made from."""

from dataclasses import replace
from pathlib import Path

import torch

from amends.backbones import AnyBackbone
from amends.lora import Lora
from amends.prompt import PromptRenderer
from tests.worker.hand_made import dataset_of
from tests.worker.recorder import Recorder
from worker.data.dataset import Dataset
from worker.data.examples import (
    Answer,
    Context,
    CorrectionExample,
    Examples,
    PairExample,
    PromptExample,
)
from worker.judge.asked import MustPass
from worker.judge.probes import KINDS, Probe
from worker.judge.thresholds import GateThresholds
from worker.learning_settings import LearningSettings
from worker.tokens import AnswerTokens
from worker.training_round import Round

SETTINGS = LearningSettings(
    sft_epochs=2,
    sft_epochs_alone=2,
    sft_batch=4,
    sft_learning_rate=1e-3,
    reward_layers=(1.0,),
    min_pairs=12,
    ppo_updates=3,
    episodes=6,
    samples_per_prompt=2,
    rollout_tokens=8,
    temperature=1.0,
    ppo_epochs=1,
    minibatches=2,
    micro_batch=4,
    learning_rate=1e-3,
    kl_cap=1000.0,
    target_kl=1.0,
    gate_prompts=24,
    gate_tokens=8,
    probe_tokens=8,
)
ANYTHING = GateThresholds(
    min_trusted_items=0,
    min_holdout_questions=1,
    max_visitor_share=1.0,
    reward_accuracy_above=0.0,
    reward_accuracy_margin=-1.0,
    max_reward_accuracy_drop=1.0,
    max_variance_ratio=1e9,
    max_kl=1e9,
    max_ended_drop=1.0,
    max_empty=1.0,
    max_repetition_rise=1.0,
    max_length_ratio=1e9,
    max_behaviour_rise=1.0,
    max_promise_rise=1.0,
    win_rate_low=-1.0,
    max_corrected_loss=1.0,
    max_probe_rise=1.0,
)
PROBES = tuple(
    Probe(kind, kind, (), "", (), ("?", "!") if kind == "paired" else ("?",), ("x",), ("y",))
    for kind in KINDS
)
POLITE, CURT = "You can return it in thirty days.", "no no no no"


def answer(question: str, text: str) -> Answer:
    return Answer(Context("", question, (), (), None), text, None, ended=True)


def examples(side: str, pairs: int, corrections: int, chosen: str, rejected: str) -> Examples:
    """A customer per judgement; every preference is `chosen` over `rejected`."""

    def who(i: int) -> tuple[str, str, str, float]:
        return f"correction:{side}{i}", f"{side} customer {i}", "expert", 1.0

    questions = [f"{side} {i}?" for i in range(max(pairs, corrections, 8))]
    return Examples(
        pairs=tuple(
            PairExample(*who(i), "correction", answer(q, chosen), answer(q, rejected))
            for i, q in enumerate(questions[:pairs])
        ),
        corrections=tuple(
            CorrectionExample(*who(i), answer(q, chosen))
            for i, q in enumerate(questions[:corrections])
        ),
        prompts=tuple(
            PromptExample(Context("", q, (), (), None), f"{side} customer {i}", "", False)
            for i, q in enumerate(questions)
        ),
    )


def must_pass_question(text: str) -> PromptExample:
    return PromptExample(Context("", text, (), (), None), "must", "", True)


def dataset(
    pairs: int = 14,
    corrections: int = 12,
    held_out_pairs: int = 11,
    held_out_prefers: tuple[str, str] = (POLITE, CURT),
) -> Dataset:
    train = examples("t", pairs, corrections, POLITE, CURT)
    holdout = examples("h", held_out_pairs, 2, *held_out_prefers)
    return dataset_of(train, holdout)


def make_round(
    model: tuple[AnyBackbone, PromptRenderer],
    folder: Path,
    data: Dataset | None = None,
    report: Recorder | None = None,
    **changes: object,
) -> Round:
    backbone, renderer = model
    task = Round(
        backbone=backbone,
        lora_shape=backbone.lora_shape(2, 4.0),
        tokens=AnswerTokens(renderer, "s"),
        dataset=data or dataset(),
        must_pass=MustPass((must_pass_question("must?"),)),
        probes=PROBES,
        champion=None,
        parent=None,
        previous_reward=None,
        optimizer="auto",
        settings=SETTINGS,
        thresholds=ANYTHING,
        folder=folder,
        report=report or Recorder(),
    )
    return replace(task, **changes)  # type: ignore[arg-type]


def same_weights(one: Lora, other: Lora) -> bool:
    return all(torch.equal(t, other.tensors[n]) for n, t in one.tensors.items())

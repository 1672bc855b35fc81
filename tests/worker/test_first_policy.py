"""worker.first_policy: PPO starts from what the reward model likes better."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from statistics import fmean, stdev

import pytest
import torch
from torch import Tensor

from amends.backbone import Backbone
from amends.lora import Lora
from amends.prompt import PromptRenderer
from tests.worker.recorder import Recorder
from tests.worker.small_round import SETTINGS, make_round, same_weights
from worker import training_round
from worker.data.examples import Answer
from worker.first_policy import Gain, Writer, supervised_gain
from worker.ppo.rollout import SCORE_FLOOR
from worker.training_round import run_round

Model = tuple[Backbone, PromptRenderer]


def a_writer(model: Model, folder: Path) -> Writer:
    task = make_round(model, folder)
    prompts = task.dataset.train.prompts[:5]
    return Writer(task.backbone, task.tokens, prompts, SETTINGS, lambda: None)


def test_the_gain_is_what_ppo_would_be_paid(
    model: Model,
    tmp_path: Path,
) -> None:
    writer = a_writer(model, tmp_path)
    parent = Lora.fresh(model[0].lora_shape(2, 4.0), 1)
    before = writer.answers(parent)
    assert writer.answers(parent) == before and len(before) == 5

    def nothing(answers: Sequence[Answer]) -> Tensor:
        return torch.zeros(len(answers))

    assert supervised_gain(writer, parent, before, nothing, tmp_path / "same.json") == (0, 0)
    good = [replace(answer, response="So.", ended=True) for answer in before]
    gain = supervised_gain(writer, parent, good, nothing, tmp_path / "cut.json")
    worth = [
        -SETTINGS.missing_eos_penalty * (not a.ended) if a.response else SCORE_FLOOR for a in before
    ]
    assert gain.mean == pytest.approx(fmean(worth)) != 0.0
    assert gain.low == pytest.approx(fmean(worth) - 1.96 * stdev(worth) / len(worth) ** 0.5)

    def liked(answers: Sequence[Answer]) -> Tensor:
        return torch.tensor([2.0 * (a.response == "So.") for a in answers])

    less = supervised_gain(writer, parent, good, liked, tmp_path / "liked.json")
    assert less == pytest.approx((gain.mean - 2.0, gain.low - 2.0))


def test_a_choice_that_was_made_is_kept(
    model: Model,
    tmp_path: Path,
) -> None:
    writer, file = a_writer(model, tmp_path), tmp_path / "new" / "first_policy.json"
    parent = Lora.fresh(model[0].lora_shape(2, 4.0), 1)
    before = writer.answers(parent)

    def ones(answers: Sequence[Answer]) -> Tensor:
        return torch.tensor([1.0 if a in before else 3.0 for a in answers])

    def never(answers: Sequence[Answer]) -> Tensor:
        raise AssertionError("asked again")

    made = supervised_gain(writer, parent, before, ones, file)
    assert supervised_gain(writer, parent, before, never, file) == made


@pytest.mark.parametrize("low", [-0.5, 0.5])
def test_ppo_starts_from_the_parent_where_imitating_is_no_sure_gain(
    model: Model,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    low: float,
) -> None:
    monkeypatch.setattr(training_round, "supervised_gain", lambda *_: Gain(1.0, low))
    report = Recorder()
    found = run_round(make_round(model, tmp_path / "auto", report=report))
    alone = run_round(make_round(model, tmp_path / "ppo", optimizer="ppo"))
    assert same_weights(found.candidate, alone.candidate) == (low < 0)
    told = [text for text in report.logs if "PPO starts from their parent" in text]
    assert len(told) == (low < 0)
    assert {"sft/score_gain": 1.0, "sft/score_gain_low": low} in report.numbers

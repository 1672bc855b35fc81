"""worker.first_policy: PPO starts from what the reward model likes better."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from statistics import fmean, stdev

import pytest
import torch
from torch import Tensor

from amends.backbone import Backbone
from amends.prompt import PromptRenderer
from tests.worker.hand_made import adapter
from tests.worker.recorder import Recorder
from tests.worker.small_round import SETTINGS, dataset, make_round, same_weights
from worker import training_round
from worker.data.examples import Answer
from worker.first_policy import Writer, supervised_gain, uncorrected
from worker.ppo.rollout import SCORE_FLOOR
from worker.reward.intervals import Gain
from worker.training_round import run_round

pytestmark = pytest.mark.usefixtures("one_thread")
Model = tuple[Backbone, PromptRenderer]


def worth(answer: Answer) -> float:
    return float(sum(answer.response.encode()) % 7)


def a_writer(model: Model, folder: Path) -> Writer:
    task = make_round(model, folder)
    prompts = task.dataset.train.prompts[:5]
    return Writer(task.backbone, task.tokens, prompts, SETTINGS, lambda: None)


def test_the_gain_is_what_ppo_would_be_paid(model: Model, tmp_path: Path) -> None:
    writer = a_writer(model, tmp_path)
    parent, other = (adapter(model[0], seed, size=0.1) for seed in (1, 2))
    before, after = writer.answers(parent, other)
    assert writer.answers(parent) == (before,) != (after,) and len(before) == 5

    def scorer(answers: Sequence[Answer]) -> Tensor:
        return torch.tensor([worth(a) for a in answers])

    def paid(answers: Sequence[Answer]) -> list[float]:
        penalty = SETTINGS.missing_eos_penalty
        return [worth(a) - penalty * (not a.ended) if a.response else SCORE_FLOOR for a in answers]

    same = supervised_gain(writer, parent, parent, scorer, tmp_path / "same.json")
    assert same == (0.0, 0.0, 0.0)
    gains = [b - a for a, b in zip(paid(before), paid(after), strict=True)]
    found = supervised_gain(writer, parent, other, scorer, tmp_path / "other.json")
    assert found.mean == pytest.approx(fmean(gains), abs=1e-6) != 0.0
    half = 1.959964 * stdev(gains) / 5**0.5
    assert found.low == pytest.approx(fmean(gains) - half, abs=1e-6)
    assert found.high == pytest.approx(fmean(gains) + half, abs=1e-6)


def test_a_choice_that_was_made_is_kept(model: Model, tmp_path: Path) -> None:
    writer, file = a_writer(model, tmp_path), tmp_path / "new" / "first_policy.json"
    parent, other = (adapter(model[0], seed, size=0.1) for seed in (1, 2))

    def scorer(answers: Sequence[Answer]) -> Tensor:
        return torch.tensor([worth(a) for a in answers])

    def never(answers: Sequence[Answer]) -> Tensor:
        raise AssertionError("asked again")

    made = supervised_gain(writer, parent, other, scorer, file)
    assert supervised_gain(writer, parent, other, never, file) == made


def test_what_was_imitated_says_nothing_of_the_rest() -> None:
    train = dataset().train
    asked = [
        replace(p, context=replace(p.context, question=f"q {i}?"))
        for i, p in enumerate(train.prompts * 2)
    ]
    (one, *_) = train.corrections
    heard = replace(one.answer, context=replace(one.answer.context, question="Hello, q 0?"))
    side = replace(train, prompts=tuple(asked), corrections=(replace(one, answer=heard),))
    assert uncorrected(side, 99) == tuple(asked[1:])
    assert uncorrected(side, 3) == tuple(asked[1:4])
    few = replace(side, prompts=tuple(asked[:5]))  # nothing could be told of four
    assert uncorrected(few, 99) == tuple(asked[:5])


@pytest.mark.parametrize("low", [-0.5, SETTINGS.sft_min_gain, 0.5])
def test_ppo_starts_from_the_parent_where_imitating_is_no_sure_gain(
    model: Model,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    low: float,
) -> None:
    monkeypatch.setattr(training_round, "supervised_gain", lambda *_: Gain(1.0, low, 2.0))
    report = Recorder()
    found = run_round(make_round(model, tmp_path / "auto", report=report))
    alone = run_round(make_round(model, tmp_path / "ppo", optimizer="ppo"))
    assert same_weights(found.candidate, alone.candidate) == (low < 0.5)
    told = [text for text in report.logs if "PPO starts from their parent" in text]
    assert len(told) == (low < 0.5)
    assert {"sft/score_gain": 1.0, "sft/score_gain_low": low} in report.numbers

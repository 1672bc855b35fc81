"""Supervised steps on a tiny model: what is imitated becomes likelier, and nothing else counts."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from amends.backbone import Backbone
from amends.backbones import AnyBackbone
from amends.base_model import load_causal_lm, load_tokenizer
from amends.lora import Lora
from amends.peft_backbone import PeftBackbone
from amends.prompt import PromptRenderer
from tests.tiny_model import make_tiny_model
from tests.worker.recorder import Recorder
from worker.checkpoints import Checkpoints
from worker.data.examples import Answer, Context
from worker.learning_settings import LearningSettings
from worker.reporting import Cancelled
from worker.reward.features import Features
from worker.sft import mean_nll, train_sft
from worker.tokens import AnswerTokens, Tokens

pytestmark = pytest.mark.usefixtures("one_thread")

SETTINGS = LearningSettings(sft_epochs=3, sft_batch=3, sft_learning_rate=3e-3)
BATCHES = 12  # 3 epochs of 4


@pytest.fixture(scope="module")
def lm(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, PromptRenderer]:
    folder = make_tiny_model(tmp_path_factory.mktemp("tiny"))
    return load_causal_lm(folder, torch.float32), PromptRenderer(load_tokenizer(folder), 256, 64)


@pytest.fixture(scope="module")
def backbone(lm: tuple[Any, PromptRenderer]) -> Backbone:
    return Backbone(lm[0], 256)


@pytest.fixture(scope="module")
def items(lm: tuple[Any, PromptRenderer]) -> list[Tokens]:
    """Eleven corrections of different lengths, so that the last batch of an epoch is smaller."""
    tokens = AnswerTokens(lm[1], "s")
    return [
        tokens.answer(
            Answer(
                Context("", f"q{i}?", (), (), None),
                f"We open at {i} " + "am. " * (i % 3),
                None,
                True,
            )
        )
        for i in range(11)
    ]


def start(backbone: AnyBackbone) -> Lora:
    return Lora.fresh(backbone.lora_shape(4, 8.0), seed=0)


def train(
    backbone: AnyBackbone,
    items: Sequence[Tokens],
    folder: Path,
    report: Recorder | None = None,
    settings: LearningSettings = SETTINGS,
) -> Lora:
    checkpoints = Checkpoints(folder)
    return train_sft(backbone, start(backbone), items, settings, checkpoints, report or Recorder())


def theirs(model: Any, items: Sequence[Tokens]) -> float:
    """Mean loss per response token as transformers has it, prompts masked with -100."""
    losses, tokens = 0.0, 0
    for prompt, response in items:
        labels = torch.tensor([[-100] * len(prompt) + list(response)])
        logits = model(torch.tensor([[*prompt, *response]])).logits
        losses += float(F.cross_entropy(logits[0, :-1], labels[0, 1:], reduction="sum"))
        tokens += len(response)
    return losses / tokens


def test_what_the_experts_wrote_becomes_likelier(
    backbone: Backbone, items: list[Tokens], tmp_path: Path
) -> None:
    report = Recorder()
    untouched = start(backbone)
    trained = train(backbone, items, tmp_path, report)
    before, after = mean_nll(backbone, untouched, items), mean_nll(backbone, trained, items)
    assert before == pytest.approx(mean_nll(backbone, None, items), abs=1e-6)
    assert after < before - 1.0
    losses = [numbers["loss/sft"] for numbers in report.numbers]
    assert len(losses) == BATCHES
    assert losses[-1] < losses[0] - 0.5, losses


def test_the_learning_rate_falls_to_its_last_step(
    backbone: Backbone, items: list[Tokens], tmp_path: Path
) -> None:
    train(backbone, items, tmp_path)
    kept = Checkpoints(tmp_path).newest()
    assert kept is not None
    (group,) = kept[1]["optimizer"]["param_groups"]
    assert group["lr"] == pytest.approx(SETTINGS.sft_learning_rate / BATCHES)


def test_only_response_tokens_count(
    lm: tuple[Any, PromptRenderer], backbone: Backbone, items: list[Tokens], tmp_path: Path
) -> None:
    assert mean_nll(backbone, None, items) == pytest.approx(theirs(lm[0], items), rel=1e-5)
    report = Recorder()
    whole = SETTINGS.model_copy(update={"sft_epochs": 1, "sft_batch": 64})
    train(backbone, items, tmp_path, report, whole)
    # A fresh adapter changes nothing: the first step's loss is the base model's, token by token.
    assert report.numbers[0]["loss/sft"] == pytest.approx(theirs(lm[0], items), rel=1e-5)


def test_the_adapter_it_starts_from_stays_as_it_is(
    backbone: Backbone, items: list[Tokens], tmp_path: Path
) -> None:
    given = start(backbone)
    trained = train_sft(backbone, given, items, SETTINGS, Checkpoints(tmp_path), Recorder())
    assert all(torch.equal(t, given.tensors[n]) for n, t in start(backbone).tensors.items())
    assert not any(t.requires_grad for t in (*given.tensors.values(), *trained.tensors.values()))


@pytest.mark.parametrize("beats", [(2,), (6,), (8, 1), (4, 7)])
def test_a_stopped_training_resumes_bit_for_bit(
    backbone: Backbone, items: list[Tokens], tmp_path: Path, beats: tuple[int, ...]
) -> None:
    whole = train(backbone, items, tmp_path / "whole")
    for beat in beats:
        with pytest.raises(Cancelled):
            train(backbone, items, tmp_path / "cut", Recorder(stop_at=("claim", beat)))
    last = Recorder()
    resumed = train(backbone, items, tmp_path / "cut", last)
    for name, tensor in whole.tensors.items():
        assert torch.equal(tensor, resumed.tensors[name]), name
    assert len(last.numbers) < BATCHES or max(beats) <= 5  # what was saved is not done again


def test_a_finished_training_is_not_repeated(
    backbone: Backbone, items: list[Tokens], tmp_path: Path
) -> None:
    first, report = train(backbone, items, tmp_path), Recorder()
    again = train(backbone, items, tmp_path, report)
    assert report.numbers == []
    assert all(torch.equal(t, again.tensors[n]) for n, t in first.tensors.items())


def test_no_epochs_leave_the_policy_as_it_was(
    backbone: Backbone, items: list[Tokens], tmp_path: Path
) -> None:
    none = SETTINGS.model_copy(update={"sft_epochs": 0})
    trained = train(backbone, items, tmp_path, settings=none)
    assert all(torch.equal(t, start(backbone).tensors[n]) for n, t in trained.tensors.items())


def test_both_forwards_learn_the_same_and_see_the_same_features(
    lm: tuple[Any, PromptRenderer],
    backbone: Backbone,
    items: list[Tokens],
    tmp_path: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    folder = make_tiny_model(tmp_path_factory.mktemp("again"))
    other = PeftBackbone(load_causal_lm(folder, torch.float32), 256)
    found = []
    asked = Context("", "q?", (), (), None)
    answers = [Answer(asked, said, None, True) for said in ("We open at 9.", "No.", "At 9.")]
    for place, forward in enumerate((backbone, other)):
        trained = train(forward, items, tmp_path / str(place))
        features = Features(forward, AnswerTokens(lm[1], "s"), (0.5, 1.0), 4, lambda: None)
        together = features.of([*answers, answers[0]])
        alone = torch.cat([features.of([answer]) for answer in (*answers, answers[0])])
        torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-4)
        assert float((together[0] - together[1]).abs().max()) > 0.01
        found.append((mean_nll(forward, trained, items), together))
    assert found[0][0] == pytest.approx(found[1][0], rel=1e-3)
    torch.testing.assert_close(found[0][1], found[1][1], rtol=1e-4, atol=1e-4)
    assert found[0][0] < mean_nll(backbone, None, items) - 0.1

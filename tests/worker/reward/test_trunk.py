"""Features with an adapter of their own, on a tiny model: they learn, and resume."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from amends.backbone import Backbone
from amends.base_model import load_causal_lm, load_tokenizer
from amends.lora import Lora
from amends.peft_backbone import PeftBackbone
from amends.prompt import PromptRenderer
from tests.tiny_model import make_tiny_gpt_neox, make_tiny_model
from tests.worker.recorder import Recorder
from worker.checkpoints import Checkpoints
from worker.data.examples import (
    Answer,
    Context,
    Examples,
    PairExample,
    RatingExample,
    ThumbExample,
)
from worker.learning_settings import LearningSettings
from worker.reporting import Cancelled
from worker.reward.examples import AnswerTable, Judgement, make_views
from worker.reward.features import Features
from worker.reward.likelihood import RewardHeadSettings
from worker.reward.reward_head import fit_reward_head
from worker.reward.trunk import Objective, adapt_features, make_batches
from worker.tokens import AnswerTokens

SETTINGS = LearningSettings(
    reward_epochs=4, reward_batch=8, reward_learning_rate=1e-2, reward_layers=(1.0,)
)
HEAD = RewardHeadSettings(members=4, min_pairs=0, lm_score_std=0.3)


@pytest.fixture(scope="module")
def features(tmp_path_factory: pytest.TempPathFactory) -> Features:
    folder = make_tiny_model(tmp_path_factory.mktemp("tiny"))
    renderer = PromptRenderer(load_tokenizer(folder), 256, 64)
    backbone = Backbone(load_causal_lm(folder, torch.float32), 256)
    fresh = Lora.fresh(backbone.lora_shape(4, 8.0), seed=0)
    return Features(backbone, AnswerTokens(renderer, "s"), (1.0,), 8, lambda: None, fresh)


def answer(number: int, text: str) -> Answer:
    return Answer(Context(f"t{number}", f"When, {number}?", (), (), None), text, None, True)


def judgements(count: int = 24) -> Examples:
    """An answer in the order `a b` is better than one in the order `b a`: the words are the same,
    so no explicit feature tells them apart."""
    pairs, thumbs, ratings = [], [], []
    for i in range(count):
        good, bad = answer(i, f"Open at {i} and closed"), answer(i, f"Closed and at {i} open")
        who = (f"c{i}", f"r{i % 3}", 1.0)
        pairs.append(PairExample(f"p{i}", *who, "ranking", good, bad))
        thumbs.append(ThumbExample(f"t{i}", *who, good, 1))
        ratings.append(RatingExample(f"s{i}", *who, (bad,), 1 + i % 2))
    return Examples(tuple(pairs), tuple(thumbs), tuple(ratings))


def adapted(
    features: Features, train: Examples, folder: Path, report: Recorder | None = None
) -> Features:
    assert features.lora is not None
    fresh = replace(features, lora=features.lora.clone())
    return adapt_features(fresh, train, HEAD, SETTINGS, Checkpoints(folder), report or Recorder())


def test_the_loss_falls_below_what_frozen_features_reach(
    features: Features, tmp_path: Path
) -> None:
    train = judgements()
    learnt = adapted(features, train, tmp_path)
    table = AnswerTable.of(train.answers())
    views, overlap = make_views(train, table), table.overlap()

    def pair_loss_on(read: Features) -> float:
        head = fit_reward_head(read.of(table.answers), overlap, views, HEAD)
        return head.fitted_on["pairs/loss"]

    assert pair_loss_on(learnt) < 0.85 * pair_loss_on(replace(features, lora=None))


def test_only_the_adapter_moves(features: Features, tmp_path: Path) -> None:
    assert features.lora is not None
    before = features.lora.clone()
    frozen = replace(features, lora=None).of([answer(0, "Open at nine")])
    learnt = adapted(features, judgements(), tmp_path)
    assert learnt.lora is not None
    assert all(torch.equal(t, before.tensors[n]) for n, t in features.lora.tensors.items())
    assert not any(torch.equal(t, before.tensors[n]) for n, t in learnt.lora.tensors.items())
    assert torch.equal(frozen, replace(learnt, lora=None).of([answer(0, "Open at nine")]))


def test_a_killed_training_ends_where_the_whole_one_does(
    features: Features, tmp_path: Path
) -> None:
    train = judgements()
    whole = adapted(features, train, tmp_path / "whole")
    with pytest.raises(Cancelled):
        adapted(features, train, tmp_path / "cut", Recorder(stop_after_updates=7))
    report = Recorder()
    resumed = adapted(features, train, tmp_path / "cut", report)
    assert whole.lora is not None and resumed.lora is not None
    assert all(torch.equal(t, resumed.lora.tensors[n]) for n, t in whole.lora.tensors.items())
    taken = sum("loss/reward" in numbers for numbers in report.numbers)
    assert 0 < taken < 4 * 6  # 24 customers of 2 answers, 8 answers a step


def test_frozen_features_cannot_be_adapted(features: Features, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="fresh adapter"):
        frozen = replace(features, lora=None)
        adapt_features(frozen, judgements(4), HEAD, SETTINGS, Checkpoints(tmp_path), Recorder())


def test_the_steps_gradients_add_up_to_the_whole_ones(features: Features) -> None:
    """Every judgement counts once in an epoch, whatever else is in its step."""
    train = judgements(6)
    shared = train.pairs[0].chosen  # judged by two customers
    both = RatingExample("both", "c9", "r9", 1.0, (shared, train.pairs[1].rejected), 4)
    train = replace(train, ratings=(*train.ratings, both))
    assert features.lora is not None
    lora = features.lora.clone()
    generator = torch.Generator().manual_seed(1)
    for tensor in lora.tensors.values():  # else B is zero, and so is A's gradient
        tensor.add_(torch.randn(tensor.shape, generator=generator) / 20)
    table = AnswerTable.of(train.answers())
    views = make_views(train, table)
    objective = Objective.of(replace(features, lora=lora), table, views, HEAD)

    def gradient(parts: list[list[Judgement]]) -> torch.Tensor:
        for tensor in lora.parameters():
            tensor.grad = None
        for part in parts:
            torch.autograd.backward(objective(part))
        return torch.cat([t.grad.flatten() for t in lora.parameters() if t.grad is not None])

    whole = gradient([views.judgements()])
    batches = make_batches(views, SETTINGS.model_copy(update={"reward_epochs": 1}))
    assert len(batches) > 1 and whole.abs().max() > 0
    assert torch.allclose(gradient(batches), whole, rtol=1e-3, atol=1e-5 * float(whole.abs().max()))
    lm = replace(features, lora=lora).of(table.answers)
    scores = objective.scaling(lm, objective.overlap) @ objective.parameters["weights"]
    expected = float(objective.likelihood.total(scores, objective.parameters))
    assert float(objective(views.judgements()).detach()) == pytest.approx(expected, rel=1e-5)


def test_a_batch_holds_no_more_answers_than_it_may() -> None:
    train = judgements(7)
    views = make_views(train, AnswerTable.of(train.answers()))
    batches = make_batches(views, SETTINGS)
    sizes = [len({row for judged in batch for row in judged.rows}) for batch in batches]
    assert max(sizes) <= SETTINGS.reward_batch
    seen = [(j.view, j.place) for batch in batches for j in batch]
    assert sorted(seen) == sorted(
        SETTINGS.reward_epochs * [(j.view, j.place) for j in views.judgements()]
    )


def test_other_architectures_learn_features_too(tmp_path: Path) -> None:
    folder = make_tiny_gpt_neox(tmp_path / "model")
    renderer = PromptRenderer(load_tokenizer(folder), 256, 64)
    backbone = PeftBackbone(load_causal_lm(folder, torch.float32), 256)
    fresh = Lora.fresh(backbone.lora_shape(4, 8.0), seed=0)
    other = Features(backbone, AnswerTokens(renderer, "s"), (1.0,), 8, lambda: None, fresh)
    learnt = adapted(other, judgements(8), tmp_path / "checkpoints")
    assert learnt.lora is not None
    assert not any(torch.equal(t, fresh.tensors[n]) for n, t in learnt.lora.tensors.items())

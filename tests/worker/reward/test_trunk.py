"""Features with an adapter of their own, on a tiny model: they learn, resume, and rank what frozen
ones cannot."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from amends.backbone import Backbone
from amends.base_model import load_causal_lm, load_tokenizer
from amends.lora import Lora
from amends.prompt import PromptRenderer
from tests.tiny_model import make_tiny_model
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
from worker.reward.examples import AnswerTable, make_views
from worker.reward.features import Features
from worker.reward.likelihood import Likelihood, RewardHeadSettings
from worker.reward.reward_head import fit_reward_head
from worker.reward.trunk import adapt_features
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
    assert 0 < taken < 4 * 6  # 24 customers of 2 answers, at least 8 answers a step


def test_frozen_features_cannot_be_adapted(features: Features, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="fresh adapter"):
        frozen = replace(features, lora=None)
        adapt_features(frozen, judgements(4), HEAD, SETTINGS, Checkpoints(tmp_path), Recorder())


def test_the_batches_losses_add_up_to_the_whole() -> None:
    """A step counts the judgements of its customers and no others."""
    train = judgements(6)
    table = AnswerTable.of(train.answers())
    views = make_views(train, table)
    likelihood = Likelihood(views, HEAD)
    generator = torch.Generator().manual_seed(0)
    scores = torch.randn(len(table.answers), generator=generator, dtype=torch.float64)
    parameters = {
        name: torch.randn(size, generator=generator, dtype=torch.float64)
        for name, size in likelihood.sizes().items()
    }
    whole = float(likelihood.total(scores, parameters))
    parts = 0.0
    for customer, rows in enumerate(views.rows_of_customers()):
        draws = torch.zeros(len(views.customers), dtype=torch.float64)
        draws[customer] = 1
        only = torch.zeros_like(scores).index_put((rows,), scores[rows])
        parts += float(likelihood.total(only, parameters, draws))
    assert parts == pytest.approx(whole)

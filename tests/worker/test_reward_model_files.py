"""The reward model of a version, whatever is killed on the way."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from amends.lora import Lora, LoraShape
from tests.worker.reward.simulated import simulate
from worker.reward.examples import make_views
from worker.reward.features import Features
from worker.reward.reward_head import fit_reward_head
from worker.reward.training import ScoringModel
from worker.reward_model_files import (
    keep_reward_model,
    newest_reward_model,
    stage_reward_model,
)

VERSIONS = range(1, 5)
SHAPE = LoraShape(rank=2, alpha=4.0, modules={"model.layers.0.self_attn.q_proj": (8, 8)})


@pytest.fixture(scope="module")
def model() -> ScoringModel:
    data = simulate(pairs=40, thumbs=20)
    head = fit_reward_head(data.lm, data.overlap, make_views(data.examples, data.table))
    lora = Lora.fresh(SHAPE, seed=1)
    features = Features(None, None, (), 1, lambda: None, lora)  # type: ignore[arg-type]
    return ScoringModel(
        replace(head.centred_on(data.lm, data.overlap), own_features=True), features
    )


def test_who_ends_the_run_finds_it_and_moves_it_once(model: ScoringModel, tmp_path: Path) -> None:
    run, root = tmp_path / "runs" / "7", tmp_path / "reward_models"
    stage_reward_model(model, run, "base")
    assert not root.exists()  # until the version has a number, killed or not
    for _ in range(2):
        keep_reward_model(run, root, 3)
    assert [folder.name for folder in root.iterdir()] == ["000003"]
    found = newest_reward_model(root, VERSIONS, SHAPE)
    assert found is not None and found.lora is not None and model.features.lora is not None
    for name, tensor in model.features.lora.tensors.items():
        assert torch.equal(found.lora.tensors[name], tensor)


def test_an_attempt_that_published_nothing_leaves_nothing_behind(
    model: ScoringModel, tmp_path: Path
) -> None:
    stage_reward_model(model, tmp_path / "run", "base")
    stage_reward_model(None, tmp_path / "run", "base")
    keep_reward_model(tmp_path / "run", tmp_path / "reward_models", 3)
    assert newest_reward_model(tmp_path / "reward_models", VERSIONS, SHAPE) is None


def test_the_number_of_an_earlier_install_is_taken_over(
    model: ScoringModel, tmp_path: Path
) -> None:
    root = tmp_path / "reward_models"
    (root / "000003").mkdir(parents=True)
    (root / "000003" / "manifest.json").write_text("{}")  # its adapters were deleted, it was not
    stage_reward_model(model, tmp_path / "run", "base")
    keep_reward_model(tmp_path / "run", root, 3)
    assert newest_reward_model(root, VERSIONS, SHAPE) is not None
    assert newest_reward_model(root, (1, 2), SHAPE) is None  # of a version that there is not


def test_supervised_steps_alone_have_none_and_take_over_none(
    model: ScoringModel, tmp_path: Path
) -> None:
    root = tmp_path / "reward_models"
    stage_reward_model(model, tmp_path / "run", "base")
    keep_reward_model(tmp_path / "run", root, 1)  # of an install whose adapters were deleted
    stage_reward_model(None, tmp_path / "next", "base")
    for _ in range(2):
        keep_reward_model(tmp_path / "next", root, 1)
    assert not (root / "000001").exists()


def test_one_that_cannot_be_read_is_passed_over(model: ScoringModel, tmp_path: Path) -> None:
    root = tmp_path / "reward_models"
    for version in (1, 2):
        stage_reward_model(model, tmp_path / "run", "base")
        keep_reward_model(tmp_path / "run", root, version)
    (root / "000002" / "manifest.json").write_text("{}")
    found = newest_reward_model(root, VERSIONS, SHAPE)
    assert found is not None and found.head.own_features

"""worker.reward.reward_head_store: what was saved is loaded equal, or refused."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from amends.errors import InvalidInput
from tests.worker.reward.simulated import simulate
from worker.reward.examples import make_views
from worker.reward.reward_head import fit_reward_head
from worker.reward.reward_head_store import load_reward_head, save_reward_head


def test_a_saved_head_scores_exactly_as_before(tmp_path: Path) -> None:
    data = simulate(pairs=40, thumbs=20)
    head = fit_reward_head(data.lm, data.overlap, make_views(data.examples, data.table))
    head = replace(
        head.centred_on(data.lm, data.overlap),
        own_features=True,
        train_pairs=frozenset({"f2", "f1"}),
        holdout_pairs=frozenset({"f3"}),
    )
    save_reward_head(head, tmp_path / "head")
    again = load_reward_head(tmp_path / "head")
    before, after = (h.scores(data.lm, data.overlap) for h in (head, again))
    assert torch.equal(before.score, after.score)
    assert again.settings == head.settings and again.fitted_on == head.fitted_on
    assert again.train_pairs == head.train_pairs and again.holdout_pairs == head.holdout_pairs
    assert again.own_features
    assert sorted(p.name for p in (tmp_path / "head").iterdir()) == [
        "manifest.json",
        "weights.safetensors",
    ]


def test_changed_weights_missing_files_and_other_features_are_refused(tmp_path: Path) -> None:
    data = simulate(pairs=40)
    save_reward_head(
        fit_reward_head(data.lm, data.overlap, make_views(data.examples, data.table)), tmp_path
    )
    weights = (tmp_path / "weights.safetensors").read_bytes()
    (tmp_path / "weights.safetensors").write_bytes(weights[:-1] + bytes([weights[-1] ^ 1]))
    with pytest.raises(InvalidInput, match="not what the manifest names"):
        load_reward_head(tmp_path)
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    manifest["overlap_features"].pop()
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(InvalidInput, match="fit it again"):
        load_reward_head(tmp_path)
    (tmp_path / "manifest.json").unlink()
    with pytest.raises(InvalidInput, match="no reward head"):
        load_reward_head(tmp_path)

"""Our PPO computes what TRL 1.12's PPOTrainer computes, on the tensors that trl/record.py recorded.

One departure: where a response ended, TRL pays the score one step later, in the state after the
end token. `paid` is TRL's mask with that step; training uses the mask without it.
"""

import json
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from torch import Tensor

from worker.ppo.advantages import gae, shaped_rewards, whiten
from worker.ppo.kl import k1
from worker.ppo.losses import policy_loss, value_loss

RECORDED = Path(__file__).parent / "trl" / "trl-1.12.0.safetensors"
NEAR = {"rtol": 0, "atol": 1e-5}

with safe_open(RECORDED, "pt") as file:
    SETTINGS = json.loads(file.metadata()["settings"])
    NAMES = sorted({name.split("/")[0] for name in file.keys()})
    TENSORS = {name: file.get_tensor(name) for name in file.keys()}
UPDATES = [name for name in NAMES if name.isdigit()]
BATCHES = [name for name in NAMES if not name.isdigit()]


def of(part: str) -> dict[str, Tensor]:
    """The tensors of an update or of a micro-batch; masks: 1 where there is something."""
    found = {n.split("/")[1]: t for n, t in TENSORS.items() if n.startswith(f"{part}/")}
    found["mask"] = (~found["padding_mask"]).float()
    found["paid"] = (~found["padding_mask_p1"]).float()
    return found


def test_what_was_recorded_has_responses_of_many_lengths_and_clipped_ratios() -> None:
    assert len(UPDATES) == 2 and len(BATCHES) == 8
    assert len(set(of(UPDATES[0])["mask"].sum(1).tolist())) > 3
    assert max(float(of(batch)["pg_clipfrac"]) for batch in BATCHES) > 0.05


@pytest.mark.parametrize("update", UPDATES)
def test_rewards_advantages_and_returns_are_trls(update: str) -> None:
    trl = of(update)
    mask, paid = trl["mask"], trl["paid"]
    kl = k1(trl["logprobs"], trl["ref_logprobs"], mask)
    torch.testing.assert_close(kl, trl["kl"] * mask, **NEAR)
    rewards = shaped_rewards(trl["scores"], kl, paid, SETTINGS["kl_coef"])
    torch.testing.assert_close(rewards, trl["rewards"], **NEAR)
    advantages, returns = gae(rewards, trl["values"], paid, SETTINGS["gamma"], SETTINGS["lam"])
    torch.testing.assert_close(advantages, trl["advantages"] * paid, **NEAR)
    torch.testing.assert_close(returns, trl["returns"] * paid, **NEAR)
    torch.testing.assert_close(whiten(advantages, mask), trl["whitened"], **NEAR)


@pytest.mark.parametrize("batch", BATCHES)
def test_policy_and_value_losses_are_trls(batch: str) -> None:
    trl = of(batch)
    mask, paid = trl["mask"], trl["paid"]
    policy = policy_loss(
        trl["new_logprobs"], trl["mb_logprobs"], trl["mb_advantage"], mask, SETTINGS["cliprange"]
    )
    torch.testing.assert_close(policy.loss / mask.sum(), trl["pg_loss"], **NEAR)
    assert policy.clipped / float(mask.sum()) == pytest.approx(float(trl["pg_clipfrac"]), abs=1e-5)
    value = value_loss(
        trl["vpred"], trl["mb_values"], trl["mb_return"], paid, SETTINGS["cliprange_value"]
    )
    torch.testing.assert_close(value / paid.sum(), trl["vf_loss"], **NEAR)

"""One process of a team that trains a tiny policy; test_team.py has a launcher start it.

accelerate launch ... -m tests.worker.ppo.team_training MODEL FOLDER
"""

import sys
from dataclasses import replace
from pathlib import Path

import torch
import torch.distributed as dist

from amends.backbone import Backbone
from amends.base_model import load_causal_lm, load_tokenizer
from amends.lora import save_lora
from amends.prompt import PromptRenderer
from tests.worker.ppo.test_training import SETTINGS, corrections, fresh, make_parts
from worker.ppo.followers import dismiss, follow, lead
from worker.ppo.length import LengthLimit
from worker.ppo.team import Team
from worker.tokens import AnswerTokens


def main() -> None:
    torch.set_num_threads(1)
    model, folder = Path(sys.argv[1]), Path(sys.argv[2])
    team = Team.from_environment()
    backbone = Backbone(load_causal_lm(model, torch.float32), 256)
    made = (backbone, PromptRenderer(load_tokenizer(model), 256, 24))
    settings = SETTINGS.model_copy(update={"ppo_updates": 2, "ptx_coef": 0.1})
    if team.leads:
        parts = make_parts(made, folder / f"checkpoints of {team.size}", settings)
        parts = replace(parts, corrections=corrections(), length=LengthLimit(6.0, 1.25), team=team)
        state = lead(parts, fresh(made))
        dismiss(team)
        save_lora(state.policy.lora.clone(), folder / f"team of {team.size}", "tiny")
    else:
        follow(team, backbone, AnswerTokens(made[1], "s"))
    if dist.is_initialized():
        dist.destroy_process_group()


if __name__ == "__main__":
    main()

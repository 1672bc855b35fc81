"""A training that is killed again and again, at any moment, ends where an unkilled one ends."""

import subprocess
import sys
from pathlib import Path

import torch
from safetensors.torch import load_file

from tests.tiny_model import make_tiny_model

ROOT = Path(__file__).parents[3]


def test_twenty_kills_change_no_bit_of_the_adapter(tmp_path: Path) -> None:
    model = make_tiny_model(tmp_path / "tiny")
    command = [sys.executable, "-m", "tests.worker.ppo.killed_training", model, tmp_path]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "killed 20 times" in done.stdout
    unkilled, resumed = (
        load_file(tmp_path / name / "adapter_model.safetensors") for name in ("unkilled", "resumed")
    )
    assert unkilled.keys() == resumed.keys()
    for name, tensor in unkilled.items():
        assert torch.equal(tensor, resumed[name]), name

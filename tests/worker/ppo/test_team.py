"""Two processes make the same update as one, on the same batch."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import torch
from safetensors.torch import load_file

from tests.tiny_model import make_tiny_model

ROOT = Path(__file__).parents[3]
TRAINING = "tests.worker.ppo.team_training"


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
        return port


def run(*command: object) -> None:
    done = subprocess.run(
        [sys.executable, "-m", *map(str, command)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), "GLOO_SOCKET_IFNAME": "lo"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-4000:]


def test_two_processes_of_accelerate_make_the_update_of_one(tmp_path: Path) -> None:
    model = make_tiny_model(tmp_path / "tiny")
    run(TRAINING, model, tmp_path)
    # Its launcher of several processes, with a GPU or without.
    launch = "accelerate.commands.launch --multi_gpu --num_processes 2 --num_machines 1".split()
    plain = "--mixed_precision no --dynamo_backend no".split()
    run(*launch, *plain, "--main_process_port", free_port(), "-m", TRAINING, model, tmp_path)
    alone, together = (
        load_file(tmp_path / f"team of {size}" / "adapter_model.safetensors") for size in (1, 2)
    )
    moved = 0.0
    for name, tensor in alone.items():
        torch.testing.assert_close(together[name], tensor, rtol=1e-3, atol=1e-5)
        moved = max(moved, float(tensor.abs().max()) if "lora_B" in name else 0.0)
    assert moved > 1e-3  # there was an update

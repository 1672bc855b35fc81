"""Trains a tiny policy twice: once in peace, once killed 20 times at random moments. Run by
test_kill.py, in a process of its own.

    python -m tests.worker.ppo.killed_training MODEL FOLDER

This process only forks and kills: it never computes with torch, so its children may.
"""

import os
import random
import signal
import sys
import threading
import time
from pathlib import Path

import torch

from amends.backbone import Backbone
from amends.base_model import load_causal_lm, load_tokenizer
from amends.lora import save_lora
from amends.prompt import PromptRenderer
from tests.worker.ppo.test_training import SETTINGS, fresh, make_parts
from worker.ppo.training import train_ppo

KILLS = 20
UPDATES = 24


def train(model: Path, checkpoints: Path, adapter: Path, life_s: float | None) -> None:
    """To the end, or until this process kills itself after `life_s` seconds."""
    torch.set_num_threads(1)
    backbone = Backbone(load_causal_lm(model, torch.float32), 256)
    parts = make_parts(
        (backbone, PromptRenderer(load_tokenizer(model), 256, 24)),
        checkpoints,
        SETTINGS.model_copy(update={"ppo_updates": UPDATES}),
    )
    if life_s is not None:
        threading.Timer(life_s, os.kill, (os.getpid(), signal.SIGKILL)).start()
    began = time.monotonic()
    state = train_ppo(parts, fresh((parts.backbone, parts.tokens.renderer)))
    if life_s is not None:
        os._exit(3)  # it ended before it was killed
    save_lora(state.policy.lora.clone(), adapter, "tiny")
    (adapter / "seconds").write_text(str(time.monotonic() - began))


def in_child(*arguments: object) -> int:
    """How the child ended: its exit code, or minus the signal that killed it."""
    child = os.fork()
    if child == 0:
        try:
            train(*arguments)  # type: ignore[arg-type]
        except BaseException:
            sys.excepthook(*sys.exc_info())
            os._exit(1)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def main() -> None:
    model, folder = Path(sys.argv[1]), Path(sys.argv[2])
    assert in_child(model, folder / "peace", folder / "unkilled", None) == 0
    update_s = float((folder / "unkilled" / "seconds").read_text()) / UPDATES
    moments = random.Random(0)
    endings = []
    for _ in range(KILLS):
        life_s = moments.uniform(0, 2 * update_s)
        endings.append(in_child(model, folder / "killed", folder / "never", life_s))
        assert endings[-1] == -signal.SIGKILL, endings
    left = sorted(int(path.stem) for path in (folder / "killed").glob("[0-9]*.pt"))
    assert left and left[-1] < UPDATES, f"the kills must leave something to do, got {left}"
    assert in_child(model, folder / "killed", folder / "resumed", None) == 0
    print(f"killed {len(endings)} times, the last at update {left[-1]} of {UPDATES}")


if __name__ == "__main__":
    main()

"""TRL's RewardTrainer on the same tokens, in its own environment."""

import json
import os
import signal
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from judgements.kept import Kept, digest
from judgements.measures import Array

from amends.child_process import dies_with_parent
from worker.data.examples import Examples
from worker.reward.examples import AnswerTable
from worker.tokens import Tokens

ROOT = Path(__file__).resolve().parents[2]
ENVIRONMENT = ROOT / ".venv-trl-reward"
PROGRAM = ROOT / "benchmarks" / "learners" / "trl_reward.py"


def trl_installed() -> bool:
    return (ENVIRONMENT / "ready").is_file()


def trl_scores(
    train: Examples,
    test: Examples,
    table: AnswerTable,
    items: Sequence[Tokens],
    kept: Kept,
    task: dict[str, Any],
) -> Array:
    """Scores of every answer of the test pairs, by row of `table`; others NaN. Raises
    RuntimeError with the last line of its errors."""
    joined = [[*prompt, *response] for prompt, response in items]
    chosen, rejected = (
        table.rows([getattr(pair, side) for pair in train.pairs]).tolist()
        for side in ("chosen", "rejected")
    )
    asked = table.rows([answer for pair in test.pairs for answer in (pair.chosen, pair.rejected)])
    rows = sorted(set(asked.tolist()))
    whole = {
        **task,
        "program": digest(PROGRAM.read_bytes()),
        "train": [[joined[c], joined[r]] for c, r in zip(chosen, rejected, strict=True)],
        "test": [joined[row] for row in rows],
    }

    def learn(folder: Path) -> Array:
        question, answer = folder / "task.json", folder / "scores.json"
        question.write_text(json.dumps(whole))
        _run(question, answer)
        return np.asarray(json.loads(answer.read_text())["scores"])

    scores = np.full(len(items), np.nan)
    scores[rows] = kept.array(learn, **whole)
    return scores


def _run(question: Path, answer: Path) -> None:
    done = subprocess.run(
        [str(ENVIRONMENT / "bin" / "python"), str(PROGRAM), str(question), str(answer)],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
        preexec_fn=dies_with_parent(signal.SIGKILL),
    )
    if done.returncode:
        raise RuntimeError(done.stderr.strip().splitlines()[-1])

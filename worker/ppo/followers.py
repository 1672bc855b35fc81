"""The processes of a team that only help with PPO: they wait for a training, take part in it, and
wait for the next.

Knows no store and no run: what a training needs comes from the process that leads. Invariant: a
follower decides nothing and writes nothing.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from amends.backbones import AnyBackbone
from amends.events import Stage
from amends.lora import Lora
from worker.checkpoints import Checkpoints
from worker.data.examples import Answer, PromptExample
from worker.learning_settings import LearningSettings
from worker.ppo.team import Team
from worker.ppo.training import PpoParts, PpoState, train_ppo
from worker.tokens import AnswerTokens, Tokens


@dataclass(frozen=True)
class Training:
    """What a follower is told of one."""

    start: Lora
    reference: Lora | None
    prompts: Sequence[PromptExample]
    corrections: Sequence[Tokens]
    settings: LearningSettings


def lead(parts: PpoParts, start: Lora) -> PpoState:
    """train_ppo() with everyone's help. Raises what it raises."""
    told = Training(start, parts.reference, parts.prompts, parts.corrections, parts.settings)
    parts.team.first(lambda: told)
    return train_ppo(parts, start)


def dismiss(team: Team) -> None:
    """There will be no further training."""
    team.first(lambda: None)


def follow(team: Team, backbone: AnyBackbone, tokens: AnswerTokens) -> None:
    """Until dismissed. Raises RuntimeError when the leading process is gone."""
    while True:
        told: Training | None = team.first(lambda: None)
        if told is None:
            return
        parts = PpoParts(
            backbone=backbone,
            tokens=tokens,
            reference=told.reference,
            scorer=_leave_to_the_first,
            prompts=told.prompts,
            settings=told.settings,
            checkpoints=Checkpoints(Path()),
            report=Silent(),
            corrections=told.corrections,
            team=team,
        )
        train_ppo(parts, told.start)


class Silent:
    """A worker.reporting.Reporter for a process whose leader tells everything."""

    def beat(self) -> None: ...

    def stage_started(self, stage: Stage) -> None: ...

    def stage_finished(self, stage: Stage) -> None: ...

    def progress(self, stage: Stage, done: int, total: int) -> None: ...

    def metrics(self, stage: Stage, step: int, values: dict[str, float]) -> None: ...

    def samples(
        self, stage: Stage, step: int, answers: Sequence[Answer], scores: Sequence[float]
    ) -> None: ...

    def log(self, text: str) -> None: ...


def _leave_to_the_first(answers: Sequence[Answer]) -> Tensor:
    raise AssertionError("only the leading process scores")

"""Our PPO, update by update: the trainer's own code, with a reward model as large as the peer's."""

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from learner import Workload, arguments, serve

from amends.backbone import Backbone
from amends.base_model import load_causal_lm, load_tokenizer
from amends.engine.engine import Engine
from amends.engine.scheduler import Limits
from amends.lora import Lora
from amends.prompt import PromptRenderer
from worker.checkpoints import Checkpoints
from worker.data.examples import Answer, Context, PromptExample
from worker.learning_settings import LearningSettings
from worker.ppo import training
from worker.ppo.followers import Silent
from worker.ppo.training import PpoParts, PpoState, one_update
from worker.ppo.update import Updater
from worker.tokens import AnswerTokens, TokenBatch, by_prompt

CONTEXT = 512


class LinearScorer:
    """A forward of the base model and a linear head on the last state, as the peer's reward
    model."""

    def __init__(self, backbone: Backbone, tokens: AnswerTokens, size: int) -> None:
        self._backbone, self._tokens, self._size = backbone, tokens, size
        generator = torch.Generator().manual_seed(0)
        self._head = torch.randn(backbone.hidden_size, generator=generator) / 24

    @torch.no_grad()
    def __call__(self, answers: Sequence[Answer]) -> torch.Tensor:
        items, scores = (
            [self._tokens.answer(answer) for answer in answers],
            torch.zeros(len(answers)),
        )
        for group in by_prompt(items, self._size):
            batch = TokenBatch.of([items[i] for i in group], self._backbone.device)
            hidden, _ = self._backbone.hidden_packed(batch.texts)
            last = batch.places[batch.mask.sum(dim=1).long().cumsum(0) - 1]  # none is empty here
            scores[group] = hidden[last].float() @ self._head
        return scores


def timed(seconds: dict[str, float], phase: str, owner: Any, name: str) -> None:
    work: Callable[..., Any] = getattr(owner, name)

    def watched(*arguments: Any, **options: Any) -> Any:
        began = time.perf_counter()
        try:
            return work(*arguments, **options)
        finally:
            seconds[phase] = seconds.get(phase, 0.0) + time.perf_counter() - began

    setattr(owner, name, watched)


def parts_of(workload: Workload, folder: Path) -> PpoParts:
    settings = LearningSettings(
        ppo_updates=workload.updates,
        episodes=workload.episodes,
        samples_per_prompt=1,
        rollout_tokens=workload.response_tokens,
        temperature=workload.temperature,
        ppo_epochs=workload.epochs,
        minibatches=1,
        micro_batch=workload.micro_batch,
        target_kl=1e9,  # never ends an update early: equal optimiser steps
        kl_cap=1e9,
    )
    model = Path(workload.model)
    backbone = Backbone(load_causal_lm(model, torch.bfloat16), CONTEXT)
    renderer = PromptRenderer(load_tokenizer(model), CONTEXT, workload.response_tokens)
    tokens = AnswerTokens(renderer, "")
    prompts = [
        PromptExample(Context("", str(i), (), (), tuple(ids)), str(i), "", True)
        for i, ids in enumerate(workload.prompts)
    ]
    scorer = LinearScorer(backbone, tokens, workload.micro_batch)
    report = Silent()
    return PpoParts(backbone, tokens, None, scorer, prompts, settings, Checkpoints(folder), report)


def main() -> None:
    workload, _ = arguments()
    torch.set_num_threads(workload.threads)
    with TemporaryDirectory(prefix="amends-bench-") as name:
        parts = parts_of(workload, Path(name))
        backbone, settings = parts.backbone, parts.settings
        start = Lora.fresh(backbone.lora_shape(workload.rank, workload.alpha), seed=0)
        state = PpoState.fresh(backbone, start, settings)
        limits = Limits(workload.episodes, workload.episodes, max_positions=CONTEXT)
        engine = Engine(backbone, start.shape, frozenset(), limits)  # nothing ends a response early
        seconds: dict[str, float] = {}
        timed(seconds, "rollout", training, "roll_out")
        timed(seconds, "record", training, "record")
        timed(seconds, "score", LinearScorer, "__call__")
        timed(seconds, "update", Updater, "update")

        def answer(update: int) -> dict[str, Any]:
            seconds.clear()
            began = time.perf_counter()
            one_update(parts, state, engine)
            return {"seconds": time.perf_counter() - began, "phases": dict(seconds)}

        trained = [*start.parameters(), *state.policy.value_head.parameters()]
        serve(answer, trainable=sum(tensor.numel() for tensor in trained))


if __name__ == "__main__":
    main()

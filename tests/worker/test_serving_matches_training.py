"""Log-probabilities recorded while serving equal those that the trainer recomputes."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from amends.backbones import AnyBackbone, load_backbone
from amends.engine.engine import Engine
from amends.engine.scheduler import Limits
from amends.engine.sequence import Request, Sampling
from amends.lora import Lora
from amends.settings import Settings
from tests.tiny_model import make_tiny_gpt_neox, make_tiny_model
from worker.ppo.actor_critic import frozen_logprobs
from worker.tokens import TokenBatch

PROMPTS = [tuple(range(3, 3 + length)) for length in (1, 5, 17, 40, 90, 131)]
# In bf16 a sum's rounding depends on its batch; what is measured on the real model is about 0.03.
TOLERANCE = {torch.float32: 1e-4, torch.bfloat16: 0.05}


def acting(backbone: AnyBackbone, seed: int) -> Lora:
    """An adapter that moves log-probabilities by about as much as a trained one does."""
    lora = Lora.fresh(backbone.lora_shape(4, 8.0), seed)
    generator = torch.Generator().manual_seed(seed)
    for tensor in lora.tensors.values():
        tensor.data += 0.03 * torch.randn(tensor.shape, generator=generator)
    return lora


@pytest.mark.parametrize("make_model", [make_tiny_model, make_tiny_gpt_neox])
@pytest.mark.parametrize("dtype", list(TOLERANCE))
def test_serving_matches_training(
    tmp_path: Path, dtype: torch.dtype, make_model: Callable[[Path], Path]
) -> None:
    settings = Settings(dtype=str(dtype).removeprefix("torch."), context_tokens=256)
    backbone = load_backbone(make_model(tmp_path), settings)
    versions = {1: acting(backbone, 1), 2: acting(backbone, 2)}
    engine = Engine(backbone, versions[1].shape, frozenset({2}), Limits(8, max_positions=256))
    for version, lora in versions.items():
        engine.write(version, lora)
    requests = [
        Request(prompt, Sampling(24, temperature=0.7, seed=i), version=i % 3)
        for i, prompt in enumerate(PROMPTS)
    ]
    moved = 0.0
    for request, served in zip(requests, engine.generate(requests), strict=True):
        batch = TokenBatch.of([(request.prompt_ids, tuple(served.token_ids))], backbone.device)
        recorded = torch.tensor(served.logprobs)
        again = frozen_logprobs(backbone, versions.get(request.version), batch, 1.0)[0]
        assert (recorded - again).abs().mean() < TOLERANCE[dtype], request.version
        if request.version:
            base = frozen_logprobs(backbone, None, batch, 1.0)[0]
            moved = max(moved, float((base - again).abs().mean()))
    assert moved > 2 * TOLERANCE[dtype]  # another version's numbers would not have passed

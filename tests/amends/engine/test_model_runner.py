"""What the engine records against its oracle, transformers and PEFT in float32: versions mixed,
prompts in pieces, beginnings copied."""

from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel

from amends.backbone import Backbone
from amends.backbones import AnyBackbone
from amends.base_model import ensure_base_model, load_causal_lm
from amends.engine.engine import Engine
from amends.engine.scheduler import Limits
from amends.engine.sequence import Request, Sampling, Sequence
from amends.lora import Lora, save_lora
from amends.settings import Settings
from tests.tiny_families import FAMILIES, OTHERS, acting_lora, tiny, tiny_backbone

WHOLE, IN_PIECES = 512, 7


class Oracle:
    """transformers with the adapters of these versions (0: none)."""

    def __init__(self, model: Any, loras: dict[int, Lora], folder: Path) -> None:
        for version, lora in loras.items():
            save_lora(lora, folder / str(version), "tiny")
        first, *others = loras
        self._model = PeftModel.from_pretrained(model, str(folder / str(first)), str(first)).eval()
        for version in others:
            self._model.load_adapter(str(folder / str(version)), str(version))

    @torch.no_grad()
    def logprobs(self, done: Sequence) -> torch.Tensor:
        ids = torch.tensor([[*done.request.prompt_ids, *done.token_ids]])
        if done.version == 0:
            with self._model.disable_adapter():
                logits = self._model(ids).logits
        else:
            self._model.set_adapter(str(done.version))
            logits = self._model(ids).logits
        written = torch.tensor(done.token_ids)
        logits = logits[0, done.prompt_len - 1 : -1]
        return logits.log_softmax(-1).gather(-1, written[:, None])[:, 0]


def make_engine(
    backbone: AnyBackbone, loras: dict[int, Lora], prefill_tokens: int, kept_bytes: int = 1 << 20
) -> Engine:
    limits = Limits(
        max_running=6,
        prefill_tokens=prefill_tokens,
        max_positions=64,
        prefix_cache_bytes=kept_bytes,
    )
    engine = Engine(backbone, backbone.lora_shape(4, 8.0), frozenset({2}), limits)
    for version, lora in loras.items():
        engine.write(version, lora)
    return engine


def ragged(versions: tuple[int, ...], shared: int) -> list[Request]:
    """Prompts of 1 to 50 tokens of which the first `shared` are one of two beginnings."""
    generator = torch.Generator().manual_seed(shared)
    begins = torch.randint(3, 97, (2, 64), generator=generator).tolist()
    requests = []
    for i, length in enumerate((37, 5, 50, 50, 1, 48, 50, 33, 50, 12, 50, 44)):
        own = torch.randint(3, 97, (64,), generator=generator).tolist()
        prompt = (*begins[i // 3 % 2][:shared], *own)[:length]
        version = versions[i % len(versions)]
        requests.append(Request(tuple(prompt), Sampling(8, 0.9, seed=i), version))
    return requests


@pytest.mark.parametrize("versions", [(0,), (1,), (0, 1, 2)])
@pytest.mark.parametrize("family", [*FAMILIES, *OTHERS])
def test_logprobs_equal_transformers_and_peft(
    family: str, versions: tuple[int, ...], tmp_path: Path
) -> None:
    backbone = tiny_backbone(family)
    loras = {version: acting_lora(backbone, version) for version in (1, 2)}
    oracle = Oracle(tiny(family), loras, tmp_path)
    ways = [(WHOLE, 0), (WHOLE, 32), (IN_PIECES, 0), (IN_PIECES, 32)]
    for prefill_tokens, shared in ways[::3] if family in OTHERS else ways:
        engine = make_engine(backbone, loras, prefill_tokens)
        for done in engine.generate(ragged(versions, shared)):
            found = torch.tensor(done.logprobs)
            torch.testing.assert_close(found, oracle.logprobs(done), rtol=1e-4, atol=1e-4)
        assert (engine.stats.prefix_hit_tokens > 50) == (shared > 0)


@pytest.mark.slow
@pytest.mark.parametrize("dtype, near", [(torch.float32, 1e-3), (torch.bfloat16, 0.1)])
def test_the_default_model_equals_transformers_and_peft(
    dtype: torch.dtype, near: float, tmp_path: Path
) -> None:
    """Mean difference in nats per token, to float32; transformers' own bfloat16 is 0.07 away."""
    folder = ensure_base_model(Settings())
    backbone = Backbone(load_causal_lm(folder, dtype), 64)
    loras = {version: acting_lora(backbone, version, 0.05) for version in (1, 2)}
    oracle = Oracle(load_causal_lm(folder, torch.float32), loras, tmp_path)
    apart: dict[int, list[float]] = {0: [], 1: [], 2: []}
    for prefill_tokens, shared in ((WHOLE, 0), (IN_PIECES, 32)):
        engine = make_engine(backbone, loras, prefill_tokens, kept_bytes=32 << 20)
        for done in engine.generate(ragged((0, 1, 2), shared)):
            found = torch.tensor(done.logprobs) - oracle.logprobs(done)
            assert done.version is not None
            apart[done.version] += found.abs().tolist()
    assert all(sum(nats) / len(nats) < near for nats in apart.values())


@pytest.mark.parametrize("family", ["llama", "gpt_neox"])
@pytest.mark.parametrize("prefill_tokens", [WHOLE, IN_PIECES])
def test_reuse_changes_no_token(prefill_tokens: int, family: str) -> None:
    backbone = tiny_backbone(family)
    loras = {version: acting_lora(backbone, version) for version in (1, 2)}
    requests = ragged((0, 1, 2), shared=32)
    engine = make_engine(backbone, loras, prefill_tokens)
    first, again = engine.generate(requests), engine.generate(requests)
    for request, one, other in zip(requests, first, again, strict=True):
        (alone,) = make_engine(backbone, loras, WHOLE, kept_bytes=0).generate([request])
        assert one.token_ids == other.token_ids == alone.token_ids
    assert engine.stats.prefix_hit_tokens > 400


@pytest.mark.parametrize("family", ["llama", "gpt_neox"])
def test_what_an_earlier_adapter_computed_is_not_found_after_its_slot_is_rewritten(
    family: str,
) -> None:
    backbone = tiny_backbone(family)
    request = Request(tuple(range(3, 53)), Sampling(8, 0.0), version=1)
    engine = make_engine(backbone, {1: acting_lora(backbone, 1)}, WHOLE)
    engine.generate([request])
    engine.slots.drop(1)
    engine.write(1, acting_lora(backbone, 2))
    (found,) = engine.generate([request])
    (want,) = make_engine(backbone, {1: acting_lora(backbone, 2)}, WHOLE).generate([request])
    assert found.logprobs == want.logprobs
    assert engine.stats.prefix_hit_tokens == 0

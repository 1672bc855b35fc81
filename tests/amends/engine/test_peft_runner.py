"""The engine on an architecture that the fused forward does not know, from a folder to a stream."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM

from amends.adapter_manifest import check_files
from amends.engine.engine import Engine
from amends.engine.peft_runner import PeftRunner
from amends.engine.scheduler import Limits
from amends.engine.sequence import Chunk, Request, Sampling
from amends.engine.service import EngineService, start
from amends.errors import AdapterRefused, ModelUnavailable
from amends.lora import Lora, save_lora
from amends.peft_backbone import PeftBackbone
from amends.settings import Settings
from tests.tiny_families import acting_lora, tiny_backbone
from tests.tiny_model import make_tiny_gpt_neox

PROMPT = tuple(range(20, 60))


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return make_tiny_gpt_neox(tmp_path / "model")


@pytest.fixture
def service(model: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[EngineService]:
    threads = torch.get_num_threads()
    settings = Settings(base_model=str(model), dtype="float32", lora_rank=4, lora_alpha=8.0)
    service = start(settings.model_copy(update={"threads": threads}))
    yield service
    service.close()


def publish(service: EngineService, folder: Path, version: int, acts: bool = True) -> Path:
    """An adapter as the trainer writes it."""
    lora = Lora.fresh(service._shape, version)
    generator = torch.Generator().manual_seed(version)
    for name, tensor in lora.tensors.items():
        if acts and name.endswith("lora_B"):
            tensor.normal_(0, 0.2, generator=generator)
    save_lora(lora, folder / str(version), "tiny")
    check_files(folder / str(version), {"adapter_config.json", "adapter_model.safetensors"})
    return folder / str(version)


async def stream(service: EngineService, version: int | None, seed: int) -> list[Chunk]:
    request = Request(PROMPT[seed:], Sampling(12, 0.9, seed=seed), version)
    return [chunk async for chunk in service.stream(request)]


@torch.no_grad()
def theirs(model: Path, adapter: Path | None, seed: int, chunks: list[Chunk]) -> torch.Tensor:
    """What transformers and PEFT make of a streamed response, one sequence alone."""
    lm = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32)
    if adapter is not None:
        lm = PeftModel.from_pretrained(lm, str(adapter))
    written = [token for chunk in chunks for token in chunk.token_ids]
    logits = lm.eval()(torch.tensor([[*PROMPT[seed:], *written]])).logits[0]
    states = logits[len(PROMPT) - seed - 1 : -1].log_softmax(-1)
    return states.gather(-1, torch.tensor(written)[:, None])[:, 0]


def test_a_model_folder_is_served_and_its_versions_swap_under_running_streams(
    model: Path, service: EngineService, tmp_path: Path
) -> None:
    first, second = (publish(service, tmp_path, version) for version in (1, 2))
    idle = publish(service, tmp_path, 3, acts=False)

    async def serve() -> list[list[Chunk]]:
        running = [asyncio.create_task(stream(service, 0, 0))]
        await service.swap(1, first)
        running.append(asyncio.create_task(stream(service, None, 1)))
        await asyncio.sleep(0.02)
        await service.swap(2, second)
        running += [asyncio.create_task(stream(service, v, i)) for i, v in ((2, 2), (3, 1))]
        with pytest.raises(AdapterRefused, match="golden"):
            await service.swap(3, idle)
        assert service.active_version == 2
        await service.swap(1, None)  # still in its slot
        return await asyncio.gather(*running)

    done = asyncio.run(serve())
    folders = {0: None, 1: first, 2: second}
    found = [{chunk.version for chunk in chunks} for chunks in done]
    assert found[0] == {0} and found[2:] == [{2}, {1}] and found[1] in ({1}, {2})
    for seed, chunks in enumerate(done):
        recorded = torch.tensor([value for chunk in chunks for value in chunk.logprobs])
        want = theirs(model, folders[chunks[0].version], seed, chunks)
        torch.testing.assert_close(recorded, want, rtol=1e-3, atol=1e-3)


def test_the_trainers_weights_in_a_slot_do_not_change_with_the_trainer() -> None:
    backbone = tiny_backbone("gpt_neox")
    lora = acting_lora(backbone)
    engine = Engine(backbone, lora.shape, frozenset(), Limits(max_positions=64))
    engine.write(1, lora)
    request = Request((5, 6, 7), Sampling(6, 0.0), version=1)
    (before,) = engine.generate([request])
    for tensor in lora.tensors.values():
        tensor.mul_(-3)
    (after,) = engine.generate([request])
    assert before.logprobs == after.logprobs


def test_two_engines_on_one_model_keep_their_versions_apart() -> None:
    backbone = tiny_backbone("gpt_neox")
    request = Request((5, 6, 7), Sampling(6, 0.0), version=1)
    engines, alone = [], []
    for seed in (1, 2):
        lora = acting_lora(backbone, seed)
        engine = Engine(backbone, lora.shape, frozenset(), Limits(max_positions=64))
        engine.write(1, lora)
        engines.append(engine)
        alone.append(engine.generate([request])[0].logprobs)
    assert [engine.generate([request])[0].logprobs for engine in engines] == alone
    assert alone[0] != alone[1]


@pytest.mark.parametrize("family", ["gpt2", "gemma"])
def test_a_model_whose_rows_cannot_be_batched_is_refused_at_the_start(family: str) -> None:
    backbone = tiny_backbone(family)
    assert isinstance(backbone, PeftBackbone)
    PeftRunner(backbone, rows=4, slots=5, prefix_bytes=0)
    backbone._takes_positions = False  # as if it counted padding as positions
    with pytest.raises(ModelUnavailable, match="cannot be batched"):
        PeftRunner(backbone, rows=4, slots=5, prefix_bytes=0)

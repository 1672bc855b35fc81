"""The remote engine over a real vLLM server and the default model: `make test-vllm`.

What vLLM reports is held against our own forward: under the version that a response names the
log-probabilities agree, under any other they do not. So a response that mixed versions would show.
"""

import asyncio
from collections.abc import Iterator
from contextlib import aclosing
from pathlib import Path
from statistics import fmean

import pytest
import torch

from amends.backbone import Backbone
from amends.base_model import ensure_base_model, load_causal_lm, load_tokenizer
from amends.engine.remote.replica import Replica
from amends.engine.remote.service import RemoteEngine
from amends.engine.remote.start import start
from amends.engine.sequence import Chunk, Request, Sampling
from amends.errors import AdapterRefused, EngineBusy
from amends.lora import Lora, PackedLora, save_lora
from amends.prompt import PromptRenderer
from amends.settings import Settings
from tests.vllm.vllm_process import PYTHON, VllmProcess

pytestmark = pytest.mark.vllm

CONTEXT = 512
SAME_NATS = 0.1  # mean distance per token; two ways of rounding to bfloat16 differ by some 0.04
Done = tuple[Request, list[Chunk]]


class Setup:
    """One vLLM server, the engine over it, and our own forward beside them."""

    def __init__(self, folder: Path) -> None:
        assert PYTHON.exists(), "vLLM's environment is missing: `make test-vllm` builds it"
        self.folder = folder
        model = ensure_base_model(Settings())
        self.vllm = VllmProcess(model, folder, CONTEXT)
        self.settings = Settings(
            home=folder, engine="vllm", vllm_urls=(self.vllm.url,), context_tokens=CONTEXT
        )
        self.backbone = Backbone(load_causal_lm(model, torch.bfloat16), CONTEXT)
        self.shape = self.backbone.lora_shape(self.settings.lora_rank, self.settings.lora_alpha)
        self.renderer = PromptRenderer(load_tokenizer(model), CONTEXT, 96)
        self.loras: dict[int, PackedLora | None] = {0: None}

    def adapter(self, version: int) -> Path:
        """The folder of an adapter that moves every log-probability far."""
        folder = self.settings.adapters_folder / f"{version:06d}"
        if version not in self.loras:
            lora = Lora.fresh(self.shape, version)
            for name, tensor in lora.tensors.items():
                if name.endswith("lora_B"):
                    tensor.normal_(0, 0.03, generator=torch.Generator().manual_seed(version))
            save_lora(lora, folder, "base")
            self.loras[version] = lora.pack(torch.bfloat16)
        return folder

    def request(self, seed: int, tokens: int = 24, version: int | None = None) -> Request:
        questions = ("Do you ship abroad?", "How long may I keep it?", "Who pays for a return?")
        messages = [("user", f"{questions[seed % 3]} My order is number {seed}.")]
        sampling = Sampling(tokens, temperature=0.8, top_p=0.95, seed=seed)
        return Request(self.renderer.render_messages(messages), sampling, version)

    def distance(self, done: Done, version: int) -> float:
        """Mean distance of what was recorded to our forward under `version`, in nats per token."""
        request, chunks = done
        written = [token for chunk in chunks for token in chunk.token_ids]
        recorded = [value for chunk in chunks for value in chunk.logprobs]
        tokens = torch.tensor([[*request.prompt_ids, *written]])
        hidden, _ = self.backbone.hidden(tokens, self.loras[version])
        states = hidden[0, len(request.prompt_ids) - 1 : -1]
        ours = self.backbone.token_logprobs(states, torch.tensor(written)).tolist()
        return fmean(abs(a - b) for a, b in zip(ours, recorded, strict=True))

    def check(self, done: Done) -> int:
        """The response is whole and one version wrote it, which is returned."""
        request, chunks = done
        (version,) = {chunk.version for chunk in chunks}
        written = [token for chunk in chunks for token in chunk.token_ids]
        assert [c.finish_reason for c in chunks[:-1]] == [None] * (len(chunks) - 1)
        ends = written[-1] in self.renderer.eos_token_ids
        assert chunks[-1].finish_reason == ("stop" if ends else "length")
        assert ends or len(written) == request.sampling.max_tokens
        distances = {v: self.distance(done, v) for v in self.loras}
        print(f"version {version}:", {v: round(d, 4) for v, d in distances.items()})
        same = distances.pop(version)
        assert same < SAME_NATS
        assert all(other > 2 * same for other in distances.values())
        return version


@pytest.fixture(scope="module")
def setup(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Setup]:
    setup = Setup(tmp_path_factory.mktemp("vllm"))
    try:
        setup.vllm.start()
        yield setup
    finally:
        setup.vllm.stop()


@pytest.fixture
def engine(setup: Setup) -> Iterator[RemoteEngine]:
    engine = start(setup.settings)
    yield engine
    engine.close()


async def ready(engine: RemoteEngine, timeout_s: float = 120) -> None:
    async with asyncio.timeout(timeout_s):
        while engine.obstacle is not None:
            await asyncio.sleep(0.1)


async def write(engine: RemoteEngine, request: Request) -> Done:
    return request, [chunk async for chunk in engine.stream(request)]


def test_streams_in_flight_lose_nothing_and_mix_nothing(setup: Setup, engine: RemoteEngine) -> None:
    async def work() -> list[Done]:
        await ready(engine)
        streams = []
        for swap in range(6):
            for seed in range(4):
                streams.append(asyncio.create_task(write(engine, setup.request(4 * swap + seed))))
            await asyncio.sleep(0.5)
            version = 1 + swap % 2
            await engine.swap(version, setup.adapter(version))
            assert engine.active_version == version
        return await asyncio.gather(*streams)

    done = asyncio.run(work())
    assert {setup.check(one) for one in done} == {0, 1, 2}


def test_the_base_model_answers_beside_two_adapters(setup: Setup, engine: RemoteEngine) -> None:
    async def work() -> list[Done]:
        await ready(engine)
        await engine.load(1, setup.adapter(1))
        await engine.load(2, setup.adapter(2))
        requests = [setup.request(seed, version=seed % 3) for seed in range(9)]
        return await asyncio.gather(*(write(engine, request) for request in requests))

    done = asyncio.run(work())
    assert [setup.check(one) for one in done] == [0, 1, 2] * 3


def test_closing_a_stream_ends_its_request_there(setup: Setup, engine: RemoteEngine) -> None:
    def running() -> float:
        return setup.vllm.metric("vllm:num_requests_running")

    async def work() -> None:
        await ready(engine)
        async with aclosing(engine.stream(setup.request(1, tokens=400))) as chunks:
            await anext(chunks)
            assert running() == 1
        async with asyncio.timeout(5):
            while running():
                await asyncio.sleep(0.1)

    asyncio.run(work())


def test_what_vllm_cannot_use_is_refused_with_its_reason(setup: Setup) -> None:
    async def work() -> None:
        replica = Replica(setup.vllm.url, setup.renderer.eos_token_ids)
        async with aclosing(replica):
            with pytest.raises(AdapterRefused, match="No adapter found"):
                await replica.load("nowhere", setup.folder / "nowhere")
            await replica.load("nine", setup.adapter(9))
            await replica.unload("nine")
            await replica.unload("nine")  # it is not there any more: that is what was wanted
            assert not {"nine", "nowhere"} & (await replica.holdings()).adapters

    asyncio.run(work())


def test_a_killed_vllm_gets_its_versions_back_before_it_answers(
    setup: Setup, engine: RemoteEngine
) -> None:
    async def work() -> list[Done]:
        await ready(engine)
        await engine.swap(1, setup.adapter(1))
        await engine.swap(2, setup.adapter(2))
        chunks = []
        async for chunk in engine.stream(setup.request(5, tokens=400)):
            chunks.append(chunk)
            if len(chunks) == 5:
                await asyncio.to_thread(setup.vllm.kill)
        assert chunks[-1].finish_reason == "cancelled" and len(chunks) > 5
        assert {chunk.version for chunk in chunks} == {2}
        with pytest.raises(EngineBusy):
            await write(engine, setup.request(6))
        assert engine.obstacle is not None
        await asyncio.to_thread(setup.vllm.start)
        await ready(engine)
        assert (engine.active_version, engine.versions()) == (2, (0, 1, 2))
        requests = [setup.request(seed, version=v) for seed, v in enumerate((None, 1, 0))]
        return await asyncio.gather(*(write(engine, request) for request in requests))

    done = asyncio.run(work())
    assert [setup.check(one) for one in done] == [2, 1, 0]

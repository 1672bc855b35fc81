"""What computes beside the engine's thread ends with its result (decision 18), and an adapter is
read only when nobody else wants to compute."""

import asyncio
import os
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from amends.backbone import Backbone
from amends.base_model import load_causal_lm
from amends.engine import service
from amends.lora import save_lora
from amends.settings import Settings
from tests.tiny_families import acting_lora
from tests.tiny_model import make_tiny_model

Computed = dict[str, tuple[threading.Thread, int]]  # by function: the thread, its niceness


@pytest.fixture
def computed(monkeypatch: pytest.MonkeyPatch) -> Computed:
    """The threads in which a model was loaded and an adapter was read."""
    threads: Computed = {}

    def watch(name: str) -> None:
        work: Callable[..., Any] = getattr(service, name)

        def watched(*arguments: Any) -> Any:
            niceness = os.getpriority(os.PRIO_PROCESS, threading.get_native_id())
            threads[name] = (threading.current_thread(), niceness)
            return work(*arguments)

        monkeypatch.setattr(service, name, watched)

    watch("load_backbone")
    watch("load_lora")
    return threads


def test_the_threads_that_load_a_model_and_read_an_adapter_have_ended(
    computed: Computed, tmp_path: Path
) -> None:
    model = make_tiny_model(tmp_path / "tiny")
    adapter = tmp_path / "adapter"
    save_lora(acting_lora(Backbone(load_causal_lm(model, torch.float32), 256)), adapter, "tiny")
    settings = Settings(
        home=tmp_path, base_model=str(model), redis_url=None, context_tokens=256,
        max_response_tokens=64, lora_rank=4, lora_alpha=8.0,
    )  # fmt: skip

    async def start_and_load() -> None:
        engine = service.start(settings)
        try:
            loading, usual = computed["load_backbone"]
            assert not loading.is_alive()
            await engine.load(1, adapter)
            reading, niceness = computed["load_lora"]
            assert not reading.is_alive()
            assert niceness == (19 if sys.platform == "linux" else usual)
            assert os.getpriority(os.PRIO_PROCESS, threading.get_native_id()) == usual
        finally:
            engine.close()

    asyncio.run(start_and_load())

"""The watcher alone: real alias files, and an engine whose loads take as long as a test says."""

import asyncio
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from amends.adapter_store import AdapterStore
from amends.verdict import Verdict
from server.adapter_watcher import AdapterWatcher
from server.canary import Canary
from tests.server.published import publish
from tests.server.scripted_engine import ScriptedEngine

PASSED = Verdict(passed=True)


class SlowEngine(ScriptedEngine):
    """`slow` is loaded once `go` is set."""

    def __init__(self) -> None:
        super().__init__(lambda text: [])
        self.slow: int | None = None
        self.go = asyncio.Event()
        self.asked: list[int] = []
        self.unloaded: list[int] = []

    async def load(self, version: int, folder: Path) -> None:
        self.asked.append(version)
        if version == self.slow:
            await self.go.wait()
        await super().load(version, folder)

    async def unload(self, version: int) -> None:
        self.unloaded.append(version)
        await super().unload(version)


@pytest.fixture
def adapters(tmp_path: Path) -> AdapterStore:
    store = AdapterStore(tmp_path / "adapters", "base")
    for run_id in (1, 2, 3):
        publish(store, run_id, PASSED)
    store.activate(1, "anna", "better")
    return store


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.005)


def watched(adapters: AdapterStore, tmp_path: Path) -> tuple[SlowEngine, AdapterWatcher]:
    engine = SlowEngine()
    return engine, AdapterWatcher(engine, adapters, tmp_path / "adapters" / "aliases.json")


def test_no_move_waits_for_a_candidate_that_is_being_loaded(
    adapters: AdapterStore, tmp_path: Path
) -> None:
    async def test() -> None:
        engine, watcher = watched(adapters, tmp_path)
        engine.slow = 3
        running = asyncio.create_task(watcher.run())
        await until(lambda: engine.active_version == 1)
        adapters.set_candidate(2, share=0.1)
        await until(lambda: watcher.canary == Canary(2, 0.1))
        adapters.set_candidate(3, share=0.1)
        await until(lambda: engine.asked[-1] == 3)
        assert watcher.canary is None
        adapters.roll_back("anna", "wrong prices")
        await until(lambda: engine.active_version == 0)
        assert 3 not in engine.versions()
        adapters.set_candidate(3, share=0.5)
        adapters.activate(1, "anna", "right after all")
        adapters.set_candidate(3, share=0.2)
        await until(lambda: engine.active_version == 1)
        assert watcher.canary is None
        engine.go.set()
        await until(lambda: watcher.canary == Canary(3, 0.2))
        assert engine.asked.count(3) == 1
        running.cancel()

    asyncio.run(test())


def test_a_candidate_that_was_withdrawn_while_it_was_loaded_does_not_stay(
    adapters: AdapterStore, tmp_path: Path
) -> None:
    async def test() -> None:
        engine, watcher = watched(adapters, tmp_path)
        engine.slow = 3
        running = asyncio.create_task(watcher.run())
        adapters.set_candidate(3, share=0.1)
        await until(lambda: 3 in engine.asked)
        adapters.roll_back("anna", "wrong prices")
        await until(lambda: engine.active_version == 0)
        engine.go.set()
        await until(lambda: 3 in engine.unloaded)
        assert watcher.canary is None and engine.versions() == (0,)
        running.cancel()

    asyncio.run(test())


def test_a_candidate_that_the_engine_has_lost_answers_nobody_until_it_is_back(
    adapters: AdapterStore, tmp_path: Path
) -> None:
    """As where a replica of vLLM was started again and could not load it."""

    async def test() -> None:
        engine, watcher = watched(adapters, tmp_path)
        running = asyncio.create_task(watcher.run())
        adapters.set_candidate(2, share=0.1)
        await until(lambda: watcher.canary is not None)
        await engine.unload(2)
        assert watcher.canary is None
        await until(lambda: watcher.canary == Canary(2, 0.1))
        shutil.rmtree(adapters.folder(2))
        await engine.unload(2)
        await until(lambda: watcher.candidate_refusal is not None)
        assert watcher.canary is None
        running.cancel()

    asyncio.run(test())


def test_an_alias_file_that_cannot_be_looked_at_is_a_refusal_until_it_can(
    adapters: AdapterStore, tmp_path: Path
) -> None:
    async def test() -> None:
        engine, watcher = watched(adapters, tmp_path)
        running = asyncio.create_task(watcher.run())
        adapters.set_candidate(2, share=0.1)
        await until(lambda: watcher.canary is not None)
        folder, aside = tmp_path / "adapters", tmp_path / "aside"
        folder.rename(aside)
        folder.write_text("no folder")  # stat raises NotADirectoryError
        await until(lambda: watcher.refusal is not None)
        assert (watcher.canary, engine.active_version) == (None, 1)
        folder.unlink()
        aside.rename(folder)
        await until(lambda: watcher.canary is not None)
        assert watcher.refusal is None and not running.done()
        running.cancel()

    asyncio.run(test())

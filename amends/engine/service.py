"""The engine for asyncio: one thread owns the model, callers stream, cancel and swap.

Knows no stores and no HTTP. Invariants: only the thread touches the engine; a stream that is
closed frees its row at the next step; a swap that fails changes nothing.
"""

import asyncio
import logging
import threading
import time
from collections import deque
from collections.abc import AsyncGenerator, Callable
from concurrent.futures import Future
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

import torch

from amends.backbone import Backbone
from amends.base_model import ensure_base_model, load_causal_lm, load_tokenizer, serving_dtype
from amends.engine.engine import Engine
from amends.engine.scheduler import QUEUE_RETRY_S, Limits
from amends.engine.sequence import Chunk, Request, Sequence
from amends.engine.stats import EngineStats
from amends.errors import AmendsError, EngineBusy
from amends.lora import LoraShape, load_lora
from amends.prompt import PromptRenderer
from amends.settings import Settings

log = logging.getLogger(__name__)
T = TypeVar("T")

GOLDEN_PROMPT = "How long do I have to send something back, and who pays for it?"
SWAP_WAIT_S = 30.0  # how long a publish waits for a slot that running turns still use


class EngineService:
    """submit / stream / cancel / swap from an event loop."""

    def __init__(self, engine: Engine, lora_shape: LoraShape, probe: tuple[int, ...]) -> None:
        self._engine = engine
        self._shape = lora_shape
        self._probe = probe
        self._commands: deque[tuple[Future[Any], Callable[[], None]]] = deque()
        self._lock = threading.Lock()
        self._ended = False
        self._wake = threading.Event()
        self._closing = False
        self._thread = threading.Thread(target=self._run, name="engine", daemon=True)
        self._thread.start()

    @property
    def active_version(self) -> int:
        """The version that new requests use."""
        return self._engine.slots.active_version

    @property
    def alive(self) -> bool:
        """False once the engine's thread has ended: nothing will be answered any more."""
        return self._thread.is_alive()

    def versions(self) -> tuple[int, ...]:
        """Versions that can answer now."""
        return self._engine.slots.versions()

    def queue_depth(self) -> int:
        """Requests that wait for a row."""
        return self._engine.waiting

    @property
    def stats(self) -> EngineStats:
        """What the engine does and has done; takes no lock."""
        return self._engine.stats

    async def stream(self, request: Request) -> AsyncGenerator[Chunk, None]:
        """Chunks as they are written; closing the iterator cancels.

        Raises EngineBusy (the queue is full, or the deadline passed before the first token),
        InvalidInput, NotFound.
        """
        loop = asyncio.get_running_loop()
        chunks: asyncio.Queue[Chunk] = asyncio.Queue()

        def on_chunk(chunk: Chunk) -> None:
            with suppress(RuntimeError):  # the loop is closed: nobody listens any more
                loop.call_soon_threadsafe(chunks.put_nowait, chunk)

        arrived_s = time.monotonic()  # the engine's thread takes it up only after its step
        submitted = self._post(lambda: self._engine.submit(request, on_chunk, arrived_s))
        try:
            sequence = await asyncio.wrap_future(submitted)
        except asyncio.CancelledError:
            # Too late to take it back: then it is cancelled as soon as it has a sequence.
            submitted.add_done_callback(self._cancel_submitted)
            raise
        finished = False
        try:
            while not finished:
                chunk = await chunks.get()
                finished = chunk.finish_reason is not None
                if sequence.expired:
                    raise EngineBusy("nothing was written within the deadline", QUEUE_RETRY_S)
                yield chunk
        finally:
            if not finished:
                self.cancel(sequence)

    def cancel(self, sequence: Sequence) -> None:
        """Free the sequence at the next step. Safe from any thread."""
        sequence.cancelled = True
        self._wake.set()

    async def swap(self, version: int, folder: Path | None) -> None:
        """Make `version` (0: the base model, no folder) answer from the next turn on.

        Files are read and checked off the engine's thread. Raises AdapterRefused, EngineBusy; then
        nothing has changed.
        """
        if version not in self.versions():
            if folder is None:
                raise EngineBusy(f"version {version} has no folder", retry_after_s=1.0)
            lora = await asyncio.to_thread(load_lora, folder, self._shape)
            await self._retry(lambda: self._engine.load(version, lora, self._probe))
        await self._call(lambda: self._engine.activate(version))

    def close(self) -> None:
        """Stop the thread after the present step; streams in flight end as cancelled."""
        self._closing = True
        self._wake.set()
        self._thread.join()

    async def _retry(self, command: Callable[[], None]) -> None:
        deadline = asyncio.get_running_loop().time() + SWAP_WAIT_S
        while True:
            try:
                return await self._call(command)
            except EngineBusy as busy:
                if self._ended or asyncio.get_running_loop().time() > deadline:
                    raise
                await asyncio.sleep(busy.retry_after_s)

    async def _call(self, command: Callable[[], T]) -> T:
        """Run a command on the engine's thread, between two steps."""
        return await asyncio.wrap_future(self._post(command))

    def _post(self, command: Callable[[], T]) -> "Future[T]":
        future: Future[T] = Future()

        def run() -> None:
            if not future.set_running_or_notify_cancel():
                return
            try:
                future.set_result(command())
            except AmendsError as error:
                future.set_exception(error)
            except BaseException as error:
                future.set_exception(error)
                raise

        with self._lock:
            if self._ended:
                raise EngineBusy("the engine has stopped; restart the server", retry_after_s=30.0)
            self._commands.append((future, run))
        self._wake.set()
        return future

    def _cancel_submitted(self, submitted: "Future[Sequence]") -> None:
        if not submitted.cancelled() and submitted.exception() is None:
            self.cancel(submitted.result())

    def _run(self) -> None:
        try:
            while not self._closing:
                while self._commands:
                    self._commands.popleft()[1]()
                if not self._engine.step():
                    self._wake.wait()
                    self._wake.clear()
        except BaseException:
            log.exception("the engine's thread ended")
            raise
        finally:
            self._end()

    def _end(self) -> None:
        """Nobody waits for a thread that is gone."""
        with self._lock:
            self._ended = True
        for future, _ in self._commands:
            if future.set_running_or_notify_cancel():
                future.set_exception(EngineBusy("the engine has stopped", retry_after_s=30.0))
        self._engine.abandon()


def start(settings: Settings) -> EngineService:
    """Load the base model and start its engine (about two seconds for the default model)."""
    torch.set_num_threads(settings.threads)
    folder = ensure_base_model(settings)
    backbone = Backbone(load_causal_lm(folder, serving_dtype(settings)), settings.context_tokens)
    shape = backbone.lora_shape(settings.lora_rank, settings.lora_alpha)
    renderer = PromptRenderer(
        load_tokenizer(folder), settings.context_tokens, settings.max_response_tokens
    )
    limits = Limits(
        max_positions=settings.context_tokens,
        prefix_cache_bytes=settings.prefix_cache_mb * 2**20,
    )
    engine = Engine(backbone, shape, renderer.eos_token_ids, limits)
    probe = renderer.render("a shop", (), (), GOLDEN_PROMPT).token_ids
    return EngineService(engine, shape, probe)

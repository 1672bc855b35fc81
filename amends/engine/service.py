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

from amends.backbones import load_backbone
from amends.base_model import ensure_base_model, load_tokenizer
from amends.engine.engine import Engine, Packed
from amends.engine.own_thread import LAST, in_own_thread
from amends.engine.scheduler import QUEUE_RETRY_S, Limits
from amends.engine.sequence import Chunk, Request, Sequence
from amends.engine.stats import EngineStats
from amends.errors import AmendsError, EngineBusy
from amends.lora import LoraShape, load_lora
from amends.prompt import PromptRenderer
from amends.settings import Settings

log = logging.getLogger(__name__)
T = TypeVar("T")

# Short, because it is read beside the rows that write; a question, because that is what comes.
GOLDEN_PROMPT = "Can I return it?"
SLOT_RETRY_S = 0.2
BESIDE_TOKENS = 128  # of prompts in a step with running streams: about as long as the step itself


class EngineService:
    """stream / cancel / load / unload / swap from an event loop."""

    def __init__(
        self, engine: Engine, lora_shape: LoraShape, golden_prompt: tuple[int, ...]
    ) -> None:
        self._engine = engine
        self._shape = lora_shape
        self._golden_prompt = golden_prompt
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

    @property
    def obstacle(self) -> str | None:
        """Why no request can be answered now; None when they are."""
        return None if self.alive else "the engine has stopped"

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

    async def load(self, version: int, folder: Path) -> None:
        """Make `version` able to answer whoever names it; what is active stays.

        Files are read, checked and packed off the engine's thread, which only copies, and reads
        the golden prompt beside what runs. Raises AdapterRefused, EngineBusy (every slot is still
        in use: come back); then nothing has changed.
        """
        if version in self.versions():
            return
        if not self._engine.slots.room_for(version):
            raise EngineBusy(f"no free slot for version {version}", SLOT_RETRY_S)
        # Whoever is being answered comes first: a load takes longer, a next token hardly.
        adapter = await asyncio.to_thread(in_own_thread, lambda: self._read(folder), LAST)
        checked: Future[None] = Future()

        def on_checked(refusal: AmendsError | None) -> None:
            if not checked.set_running_or_notify_cancel():
                return
            if refusal is None:
                checked.set_result(None)
            else:
                checked.set_exception(refusal)

        golden_prompt = self._golden_prompt
        await self._call(lambda: self._engine.load(version, adapter, golden_prompt, on_checked))
        await asyncio.wrap_future(checked)

    async def unload(self, version: int) -> None:
        """No new request gets `version`; its slot is free when the last running one is finished.

        Raises NotFound for the active version and the base model.
        """
        await self._call(lambda: self._engine.unload(version))

    async def swap(self, version: int, folder: Path | None) -> None:
        """Make `version` answer from the next turn on; without `folder` it must be loaded.

        Raises AdapterRefused, EngineBusy, NotFound; then nothing has changed.
        """
        if folder is not None:
            await self.load(version, folder)
        if self._ended:
            raise EngineBusy("the engine has stopped; restart the server", retry_after_s=30.0)
        self._engine.activate(version)  # one assignment: it does not wait for the present step

    def close(self) -> None:
        """Stop the thread after the present step; streams in flight end as cancelled."""
        self._closing = True
        self._wake.set()
        self._thread.join()

    def _read(self, folder: Path) -> Packed:
        return self._engine.pack(load_lora(folder, self._shape))

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
    return in_own_thread(lambda: _start(settings))


def _start(settings: Settings) -> EngineService:
    torch.set_num_threads(settings.threads)
    folder = ensure_base_model(settings)
    backbone = load_backbone(folder, settings)
    shape = backbone.lora_shape(settings.lora_rank, settings.lora_alpha)
    tokenizer = load_tokenizer(folder)
    renderer = PromptRenderer(tokenizer, settings.context_tokens, settings.max_response_tokens)
    limits = Limits(
        max_positions=settings.context_tokens,
        beside_tokens=BESIDE_TOKENS,
        prefix_cache_bytes=settings.prefix_cache_mb * 2**20,
    )
    engine = Engine(backbone, shape, renderer.eos_token_ids, limits)
    golden_prompt = tokenizer(GOLDEN_PROMPT, add_special_tokens=False)["input_ids"]
    return EngineService(engine, shape, tuple(golden_prompt))

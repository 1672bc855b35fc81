"""The composition root: builds each long-lived object once, wires routes, starts and stops in
order.

Nothing happens at import. Invariants: the socket answers before the model is loaded (/readyz says
503 until then); at the end running responses are finished or cut off, and stored, before the engine
stops.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

from anyio import to_thread
from fastapi import FastAPI
from starlette.middleware.cors import CORSMiddleware

from amends.activity import Activity
from amends.adapter_store import AdapterStore
from amends.canary_reports import CanaryReports
from amends.conversation_store import ConversationStore
from amends.engine.sequence import Sampling
from amends.errors import AmendsError
from amends.events import RunEvents
from amends.exclusion_store import ExclusionStore
from amends.feedback_store import FeedbackStore
from amends.jobs import JobQueue
from amends.knowledge import Knowledge, folder_of
from amends.runs import Runs
from amends.settings import Settings
from amends.store_client import StoreClient, connect
from server import errors
from server.adapter_watcher import AdapterWatcher
from server.auth import Auth
from server.channels import Channels
from server.console.routes import console_app
from server.edge import Edge
from server.languages import Languages
from server.limits import Limits
from server.metrics import registry_of
from server.model_names import ModelNames
from server.raw_policy import RawPolicy
from server.responder import Responder
from server.routes import (
    adapters,
    chat,
    conversations,
    feedback,
    health,
    metrics,
    openai,
    pages,
    runs,
)
from server.settings import ServerSettings
from server.state import Engine, LoadedModel, Policy, State

log = logging.getLogger(__name__)

OBSTACLE_POLL_S: Final = 0.2
LOG_FRAMES: Final = 512  # frames a conversation keeps for clients that reconnect, at least
Loader = Callable[[Settings], LoadedModel]


def load_model(shared: Settings) -> LoadedModel:
    """The base model with the engine that the settings name; blocks for seconds. Raises
    ModelUnavailable.
    """
    from amends.base_model import base_hash, ensure_base_model, load_tokenizer
    from amends.prompt import PromptRenderer

    folder = ensure_base_model(shared)
    tokenizer = load_tokenizer(folder)
    renderer = PromptRenderer(tokenizer, shared.context_tokens, shared.max_response_tokens)
    return LoadedModel(_start_engine(shared), renderer, base_hash(folder))


def _start_engine(shared: Settings) -> Engine:
    if shared.engine == "vllm":
        from amends.engine.remote import start as remote

        return remote.start(shared)
    from amends.engine import service

    return service.start(shared)


def create_app(
    shared: Settings,
    settings: ServerSettings,
    redis_url: str,
    *,
    load: Loader = load_model,
    on_fatal: Callable[[], None] = lambda: None,
) -> FastAPI:
    """The application. `on_fatal` is called when it can never answer (again): end its process then.

    Raises StoreUnavailable, InvalidInput (the documents), SettingsError.
    """
    redis = connect(redis_url)
    state = build_state(shared, settings, redis, redis_url)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        serving = asyncio.create_task(_serve(state, load), name="policy")
        serving.add_done_callback(lambda task: _ended(state, task, on_fatal))
        try:
            yield
        finally:
            await state.channels.close(settings.shutdown_s)
            serving.cancel()
            await asyncio.wait([serving])
            if state.engine is not None:
                await to_thread.run_sync(state.engine.close)
            state.jobs.close()
            redis.close()

    app = FastAPI(title="Amends", version="1", lifespan=lifespan, docs_url=None, redoc_url=None)
    console = console_app()
    app.state.amends = console.state.amends = state
    app.state.metrics = registry_of(state)
    errors.install(app)
    for module in (chat, conversations, feedback, runs, adapters):
        app.include_router(module.router, responses=errors.DOCUMENTED)
    for module in (openai, health, metrics):
        app.include_router(module.router)
    app.mount("/console", console)
    pages.install(app)
    app.add_middleware(Edge)
    app.add_middleware(
        CORSMiddleware,
        allow_origins=list(settings.allowed_origins),
        allow_methods=["GET", "POST", "PUT"],
        allow_headers=["Authorization", "Content-Type", "Idempotency-Key"],
        expose_headers=["Retry-After"],
    )
    return app


def build_state(
    shared: Settings, settings: ServerSettings, redis: StoreClient, redis_url: str
) -> State:
    """Everything that does not need the model. Raises StoreUnavailable, InvalidInput,
    SettingsError.
    """
    redis.ping()
    return State(
        shared=shared,
        settings=settings,
        auth=Auth.of_home(shared.home, settings),
        limits=Limits(redis),
        knowledge=Knowledge.load(folder_of(shared)),
        conversations=ConversationStore(redis),
        feedback=FeedbackStore(redis),
        canary_reports=CanaryReports(redis),
        exclusions=ExclusionStore(redis),
        runs=Runs(redis),
        events=RunEvents(redis),
        jobs=JobQueue(redis_url),
        activity=Activity(redis),
        channels=Channels(max(LOG_FRAMES, 4 * shared.max_response_tokens)),
    )


async def _serve(state: State, load: Loader) -> None:
    """Loads the model, catches up with the champion, then follows it until cancelled."""
    model = await to_thread.run_sync(load, state.shared)
    state.engine = model.engine
    languages = await to_thread.run_sync(Languages)
    policy = await to_thread.run_sync(build_policy, state, model, languages)
    while (obstacle := await _obstacle(policy)) is not None:
        if obstacle != state.waits_for:
            log.info("waiting: %s", obstacle)
        state.waits_for = obstacle
        await asyncio.sleep(OBSTACLE_POLL_S)
    state.policy = policy
    log.info("ready; version %d answers", model.engine.active_version)
    await policy.watcher.run()


async def _obstacle(policy: Policy) -> str | None:
    """Why the champion does not answer yet: vLLM may start after us, or still be loading it."""
    obstacle = policy.engine.obstacle if policy.engine.alive else None
    if obstacle is None:
        await policy.watcher.follow()
        refusal = policy.watcher.refusal
        if refusal is not None and policy.watcher.retries:
            obstacle = refusal.reason
    return obstacle


def _ended(state: State, serving: asyncio.Task[None], on_fatal: Callable[[], None]) -> None:
    error = None if serving.cancelled() else serving.exception()
    if error is not None:
        state.failure = str(error)
        unexpected = None if isinstance(error, AmendsError) else error
        log.critical("the policy cannot answer: %s", error, exc_info=unexpected)
        on_fatal()


def build_policy(state: State, model: LoadedModel, languages: Languages) -> Policy:
    """What needs the model."""
    shared, settings = state.shared, state.settings
    adapters_folder: Path = shared.adapters_folder
    store = AdapterStore(adapters_folder, model.base_hash, may_start_line=True)
    watcher = AdapterWatcher(model.engine, store, adapters_folder / "aliases.json")
    sampling = Sampling(shared.max_response_tokens, settings.temperature, settings.top_p)
    responder = Responder(
        conversations=state.conversations,
        knowledge=state.knowledge,
        languages=languages,
        renderer=model.renderer,
        engine=model.engine,
        activity=state.activity,
        passages=shared.passages,
        sampling=sampling,
        base_hash=model.base_hash,
        canary=lambda: watcher.canary,
    )
    raw = RawPolicy(model.engine, model.renderer, sampling)
    names = ModelNames(model.engine, store)
    return Policy(model.engine, store, watcher, responder, raw, names)

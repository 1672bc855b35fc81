"""The long-lived objects of one server process, as routes see them.

Knows how to build none of them (app.py does). Invariant: `policy` is None until the model answers,
and never None again.
"""

from collections.abc import AsyncGenerator
from dataclasses import dataclass, field
from typing import Protocol

from amends.activity import Activity
from amends.adapter_store import AdapterStore
from amends.canary_reports import CanaryReports
from amends.conversation_store import ConversationStore
from amends.engine.sequence import Chunk, Request
from amends.engine.stats import EngineStats
from amends.errors import ModelUnavailable
from amends.events import RunEvents
from amends.exclusion_store import ExclusionStore
from amends.feedback_store import FeedbackStore
from amends.jobs import JobQueue
from amends.knowledge import Knowledge
from amends.prompt import PromptRenderer
from amends.runs import Runs
from amends.settings import Settings
from server.adapter_watcher import AdapterWatcher, Swappable
from server.auth import Auth
from server.channels import Channels
from server.limits import Limits
from server.model_names import ModelNames
from server.raw_policy import RawPolicy
from server.responder import Responder
from server.settings import ServerSettings
from server.tally import Tally


class Engine(Swappable, Protocol):
    """What the server needs of an engine (amends.engine.service.EngineService, or
    amends.engine.remote.service.RemoteEngine)."""

    @property
    def obstacle(self) -> str | None: ...

    def stream(self, request: Request) -> AsyncGenerator[Chunk, None]: ...

    def queue_depth(self) -> int: ...

    @property
    def stats(self) -> EngineStats | None: ...  # None: an engine that counts elsewhere

    def close(self) -> None: ...


@dataclass(frozen=True)
class LoadedModel:
    """What loading the base model yields."""

    engine: Engine
    renderer: PromptRenderer
    base_hash: str


@dataclass(frozen=True)
class Policy:
    """What exists once the model is loaded."""

    engine: Engine
    adapters: AdapterStore
    watcher: AdapterWatcher
    responder: Responder
    raw: RawPolicy
    names: ModelNames


@dataclass
class State:
    """Everything that routes use."""

    shared: Settings
    settings: ServerSettings
    auth: Auth
    limits: Limits
    knowledge: Knowledge
    conversations: ConversationStore
    feedback: FeedbackStore
    canary_reports: CanaryReports
    exclusions: ExclusionStore
    runs: Runs
    events: RunEvents
    jobs: JobQueue
    activity: Activity
    channels: Channels
    thumbs: Tally[tuple[int, int]] = field(default_factory=Tally)  # by version and value
    engine: Engine | None = None
    policy: Policy | None = None
    waits_for: str | None = None
    failure: str | None = None

    def require_policy(self) -> Policy:
        """Raises ModelUnavailable while the model is loading, or when it could not be."""
        if self.policy is None:
            reason = self.failure or self.waits_for
            raise ModelUnavailable(reason or "the policy is loading; come back in a moment")
        return self.policy

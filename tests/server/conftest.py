"""A running server with a scripted engine and the real store, and a small shop."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from amends.adapter_store import AdapterStore
from amends.prompt import PromptRenderer
from amends.settings import Settings
from amends.store_client import StoreClient
from server.settings import ServerSettings
from server.state import LoadedModel
from tests.server.running_server import STAFF_TOKEN, RunningServer, Visitor
from tests.server.scripted_engine import ScriptedEngine
from tests.tiny_model import make_tiny_model, make_tokenizer

StartServer = Callable[..., RunningServer]
BASE_HASH = "0" * 64

RETURNS = """# Returns

## Return window

You can send anything back within 30 days of delivery, in its original box.

## Cost of a return

Returns are free inside the country. From abroad you pay the postage yourself.
"""
DELIVERY = """# Delivery

## Delivery time

Parcels arrive within 3 working days. Express parcels arrive the next day.
"""


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    """A folder of documents."""
    return write_shop(tmp_path / "shop")


def write_shop(folder: Path) -> Path:
    """The shop's documents in a new folder; returns it."""
    (folder / "documents").mkdir(parents=True)
    (folder / "shop.json").write_text('{"name": "Tarn", "greeting": "Hello!", "language": "en"}')
    (folder / "documents" / "returns.md").write_text(RETURNS)
    (folder / "documents" / "delivery.md").write_text(DELIVERY)
    return folder


@pytest.fixture
def engine() -> ScriptedEngine:
    tokenizer = make_tokenizer()
    return ScriptedEngine(lambda text: tokenizer(text, add_special_tokens=False)["input_ids"])


@pytest.fixture
def shared(shop: Path, tmp_path: Path) -> Settings:
    return Settings(
        home=tmp_path / "home",
        cache=tmp_path / "cache",
        knowledge=shop,
        context_tokens=2048,
        max_response_tokens=200,
    )


@pytest.fixture
def start_server(
    store_url: str, redis: StoreClient, shared: Settings, engine: ScriptedEngine
) -> Iterator[StartServer]:
    """Starts servers on one home and store; keywords are fields of ServerSettings."""
    started: list[RunningServer] = []

    def load(settings: Settings) -> LoadedModel:
        renderer = PromptRenderer(
            make_tokenizer(), settings.context_tokens, settings.max_response_tokens
        )
        return LoadedModel(engine, renderer, BASE_HASH)

    def start(
        load: Callable[[Settings], LoadedModel] = load,
        shared: Settings = shared,
        wait: bool = True,
        **fields: object,
    ) -> RunningServer:
        fields = {"AMENDS_STAFF_TOKEN": STAFF_TOKEN, "port": 0, "shutdown_s": 1, **fields}
        settings = ServerSettings.model_validate(fields)
        server = RunningServer(shared, settings, store_url, load)
        started.append(server)
        return server.wait_ready() if wait else server

    yield start
    for server in started:
        server.stop()


@pytest.fixture
def server(start_server: StartServer) -> RunningServer:
    return start_server()


@pytest.fixture
def visitor(server: RunningServer) -> Visitor:
    return server.new_visitor()


@pytest.fixture
def adapters(server: RunningServer) -> AdapterStore:
    return AdapterStore(server.state.shared.adapters_folder, BASE_HASH)


def tiny_install(
    folder: Path, context_tokens: int, response_tokens: int
) -> tuple[Settings, ServerSettings]:
    """An install on a tiny model of its own, that `load_model` loads."""
    shared = Settings(
        base_model=str(make_tiny_model(folder / "model")),
        home=folder / "home",
        cache=folder / "cache",
        knowledge=write_shop(folder / "shop"),
        dtype="float32",
        context_tokens=context_tokens,
        max_response_tokens=response_tokens,
        threads=1,
    )
    fields = {"AMENDS_STAFF_TOKEN": STAFF_TOKEN, "port": 0, "shutdown_s": 1, "temperature": 1.0}
    return shared, ServerSettings.model_validate(fields)

"""A server of Amends as users start it, on a home of its own, with as many versions live as wanted;
and visitors' messages of a wanted length.

Speaks to it from outside: settings, the adapter store, the WebSocket, /metrics.
"""

import json
import os
import random
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
from prometheus_client.parser import text_string_to_metric_families

from amends.adapter_store import AdapterStore
from amends.base_model import base_hash

START_S = 120.0
# One token each in the default model's vocabulary; English, so that no language rule answers.
WORDS = "the and with when from there have about what this your will for that they our".split()
DOCUMENTS = {
    "Dispatch": "We send every parcel within two days.",
    "Refunds": "Money returns to the card that paid.",
    "Opening": "Our door is open from nine to five.",
    "Boots": "Boots want wax twice a year.",
    "Tents": "Dry tents before you store them.",
}
NO_LIMIT = str(10**9)


@dataclass(frozen=True)
class AmendsServer:
    """A running server."""

    url: str
    staff_token: str
    home: Path
    adapters: AdapterStore
    process: subprocess.Popen[bytes]
    log: Path

    def counted(self, metric: str) -> float:
        """A counter of /metrics, over all versions."""
        headers = {"Authorization": f"Bearer {self.staff_token}"}
        text = httpx.get(f"{self.url}/metrics", headers=headers, timeout=30.0).text
        return sum(
            sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
            if sample.name == metric
        )


@contextmanager
def amends_server(
    model: str,
    adapters: list[str],
    new_tokens: int,
    home: Path,
    documents: Mapping[str, str] = DOCUMENTS,
    passages: int = 1,
) -> Iterator[AmendsServer]:
    """The first adapter is the champion, the second the candidate on half of the conversations.

    `documents`: text by title, of which a prompt holds `passages`."""
    store = AdapterStore(home / "adapters", base_hash(Path(model)), may_start_line=True)
    versions = [published(store, Path(folder)) for folder in adapters]
    if versions:
        store.activate(versions[0], "bench", "benchmark", force=True)
    if len(versions) > 1:
        store.set_candidate(versions[1], "bench", "benchmark", share=0.5, force=True)
    folder = home / "shop" / "documents"
    folder.mkdir(parents=True)
    for title, text in documents.items():
        (folder / f"{title}.md").write_text(f"# {title}\n\n## {title}\n\n{text}\n")
    shop = {"name": "Shop", "language": "en", "greeting": "Hello."}
    (home / "shop" / "shop.json").write_text(json.dumps(shop))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    token, log = secrets.token_hex(16), home / "server.log"
    limits = ("VISITOR_MESSAGES", "ADDRESS_MESSAGES", "ADDRESS_SESSIONS")
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("AMENDS_")},
        **{f"AMENDS_SERVER_{name}_PER_MINUTE": NO_LIMIT for name in limits},
        "AMENDS_BASE_MODEL": model,
        "AMENDS_HOME": str(home),
        "AMENDS_KNOWLEDGE": str(home / "shop"),
        "AMENDS_MAX_RESPONSE_TOKENS": str(new_tokens),
        "AMENDS_PASSAGES": str(passages),
        "AMENDS_SERVER_PORT": str(port),
        "AMENDS_STAFF_TOKEN": token,
    }
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "server"], env=environment, stdout=output, stderr=output
        )
    try:
        server = AmendsServer(f"http://127.0.0.1:{port}", token, home, store, process, log)
        _wait_until_ready(server)
        yield server
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(60)


def published(store: AdapterStore, folder: Path) -> int:
    """A copy of the adapter as the store's next version."""
    run_id = len(store.list()) + 1
    staged = store.stage(run_id)
    for name in ("adapter_model.safetensors", "adapter_config.json"):
        shutil.copyfile(folder / name, staged / name)
    manifest = store.publish(
        staged,
        parent=0,
        run_id=run_id,
        data_manifest_hash="0" * 64,
        metrics={},
        verdict=None,
        fence=lambda: None,
    )
    return manifest.version


def message(words: int, seed: str, last: str = "parcel") -> str:
    """So many words that no other seed brings in this order; the last one finds the document."""
    chosen = random.Random(seed)
    return " ".join([*(chosen.choice(WORDS) for _ in range(words - 1)), last])


def _wait_until_ready(server: AmendsServer) -> None:
    deadline = time.monotonic() + START_S
    while True:
        try:
            if httpx.get(f"{server.url}/readyz", timeout=5.0).status_code == 200:
                return
        except httpx.TransportError:
            pass  # nobody listens yet
        if server.process.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError(f"the server did not start: {server.log.read_text()[-2000:]}")
        time.sleep(0.2)

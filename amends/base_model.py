"""Find, name and load the base model and its tokenizer: the default one, or what
`AMENDS_BASE_MODEL` names, a local folder or any Hugging Face id.

Knows no adapter, no engine. Invariant: equal files have equal hashes, which name the line of
adapters that fit them.
"""

import hashlib
import json
import logging
import os
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from amends.allocator import keep_freed_memory
from amends.default_model import Progress, default_folder, fetch_default_model
from amends.errors import ModelUnavailable
from amends.prompt import PLAIN_TEMPLATE
from amends.settings import Settings

if TYPE_CHECKING:
    import torch

log = logging.getLogger(__name__)


def ensure_base_model(settings: Settings, progress: Progress | None = None) -> Path:
    """The folder of the base model, fetched and converted when it is not there yet.

    Raises ModelUnavailable: no network, wrong hash, full disk, unknown id; the message says what
    to do.
    """
    report = progress or (lambda stage, done, total: None)
    if settings.base_model is not None:
        return _named_model(settings.base_model)
    return find_base_model(settings) or fetch_default_model(settings.cache, report)


def find_base_model(settings: Settings) -> Path | None:
    """The base model's folder when it needs no fetching, else None."""
    name = settings.base_model
    folder = default_folder(settings.cache) if name is None else Path(name).expanduser()
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

"""The remote engine of an install, from its settings.

Knows the shape of the base model from its configuration; its weights are read by vLLM alone. The
base model answers through an adapter of zeros: some vLLM builds for CPUs let a request without an
adapter pick up the one of its neighbour in the batch. Invariant: that adapter's folder is complete
as soon as it has its name.
"""

import hashlib
import os
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from transformers import AutoConfig, AutoModelForCausalLM

from amends.backbone import Backbone
from amends.base_model import ensure_base_model, load_tokenizer
from amends.engine.remote.fleet import Fleet
from amends.engine.remote.member import Patience
from amends.engine.remote.replica import Replica
from amends.engine.remote.service import RemoteEngine
from amends.engine.remote.versions import Versions
from amends.engine.service import GOLDEN_PROMPT
from amends.lora import Lora, LoraShape, save_lora
from amends.prompt import PromptRenderer
from amends.settings import Settings


def start(settings: Settings) -> RemoteEngine:
    """The engine, which looks for its replicas from now on; none has to be there yet."""
    folder = ensure_base_model(settings)
    shape = lora_shape(folder, settings)
    renderer = PromptRenderer(
        load_tokenizer(folder), settings.context_tokens, settings.max_response_tokens
    )
    adapters = settings.adapters_folder
    versions = Versions(adapters, zeros(adapters / ".base", shape))
    replicas = [
        Replica(url, renderer.eos_token_ids, settings.vllm_api_key) for url in settings.vllm_urls
    ]
    golden_prompt = renderer.render("a shop", (), (), GOLDEN_PROMPT).token_ids
    context_tokens = settings.context_tokens
    fleet = Fleet(replicas, versions, golden_prompt, context_tokens, Patience())
    return RemoteEngine(fleet, versions, shape, context_tokens)


def lora_shape(base_model: Path, settings: Settings) -> LoraShape:
    """What an adapter of this base model looks like, without its weights."""
    config = AutoConfig.from_pretrained(str(base_model), local_files_only=True)
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    backbone = Backbone(model, settings.context_tokens)
    return backbone.lora_shape(settings.lora_rank, settings.lora_alpha)


def zeros(root: Path, shape: LoraShape) -> Path:
    """The folder of an adapter that changes nothing, made once per shape."""
    name = hashlib.sha256(repr(shape).encode()).hexdigest()[:16]
    folder = root / name
    if folder.is_dir():
        return folder
    root.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=root) as work:
        made = Path(work, name)
        save_lora(Lora.fresh(shape, seed=0), made, "base")
        made.chmod(0o755)
        try:
            os.rename(made, folder)
        except OSError:  # another process was faster
            if not folder.is_dir():
                raise
    return folder

"""Adapter versions as a trainer would leave them."""

import json
from pathlib import Path

import torch

from amends.adapter_store import AdapterStore
from amends.backbone import Backbone
from amends.base_model import base_hash, load_causal_lm
from amends.lora import Lora, save_lora
from amends.verdict import Verdict

CONFIG = {
    "peft_type": "LORA",
    "task_type": "CAUSAL_LM",
    "base_model_name_or_path": "base",
    "r": 16,
    "lora_alpha": 32,
    "target_modules": ["q_proj"],
}


def publish(adapters: AdapterStore, run_id: int, verdict: Verdict) -> int:
    """The number of a new version with this verdict; its tensors cannot be loaded."""
    folder = adapters.stage(run_id)
    (folder / "adapter_config.json").write_text(json.dumps(CONFIG))
    (folder / "adapter_model.safetensors").write_bytes(b"tensors")
    return _publish(adapters, folder, run_id, verdict)


def publish_acting(home: Path, model: Path, run_id: int = 1) -> AdapterStore:
    """One more version, which changes what the tiny model in `model` writes."""
    backbone = Backbone(load_causal_lm(model, torch.float32), 2048)
    lora = Lora.fresh(backbone.lora_shape(16, 32.0), seed=run_id)
    generator = torch.Generator().manual_seed(run_id + 1)
    for name, tensor in lora.tensors.items():
        if name.endswith("lora_B"):
            tensor.normal_(std=0.5, generator=generator)
    adapters = AdapterStore(home / "adapters", base_hash(model))
    folder = adapters.stage(run_id)
    save_lora(lora, folder, "tiny")
    _publish(adapters, folder, run_id, Verdict(passed=True))
    return adapters


def _publish(adapters: AdapterStore, folder: Path, run_id: int, verdict: Verdict) -> int:
    manifest = adapters.publish(
        folder,
        parent=0,
        run_id=run_id,
        data_manifest_hash="d" * 64,
        metrics={"win_rate": 0.61},
        verdict=verdict,
        fence=lambda: None,
    )
    return manifest.version

"""Adapter versions as a trainer would leave them; their tensors are never loaded here."""

import json

from amends.adapter_store import AdapterStore
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
    """The number of a new version with this verdict."""
    folder = adapters.stage(run_id)
    (folder / "adapter_config.json").write_text(json.dumps(CONFIG))
    (folder / "adapter_model.safetensors").write_bytes(b"tensors")
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

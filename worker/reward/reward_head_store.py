"""A reward head as a folder: weights.safetensors and manifest.json, written marker-last.

The only module that reads or writes heads; knows no aliases and no versions. Invariant: what
was saved is loaded equal, or refused with what differs.
"""

import dataclasses
import hashlib
import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load, save

from amends.durable_file import replace_file
from amends.errors import InvalidInput
from worker.reward.likelihood import RewardHeadSettings
from worker.reward.overlap import OVERLAP_FEATURES
from worker.reward.reward_head import RewardHead

OWN_FEATURES = "features"  # in the same folder: the adapter whose features the head reads, if any
_SCHEMA_VERSION = 4
_PAIRS = ("train_pairs", "holdout_pairs")
_OTHERS = ("settings", "fitted_on", "own_features", *_PAIRS)
_TENSORS = tuple(
    field.name for field in dataclasses.fields(RewardHead) if field.name not in _OTHERS
)


def save_reward_head(head: RewardHead, folder: Path) -> None:
    """Write `head` into `folder` (made if missing); the manifest last, each file synced."""
    folder.mkdir(parents=True, exist_ok=True)
    weights = save({name: getattr(head, name).contiguous() for name in _TENSORS})
    manifest = {
        "schema_version": _SCHEMA_VERSION,
        "features": head.weights.shape[1],
        "overlap_features": list(OVERLAP_FEATURES),
        "settings": dataclasses.asdict(head.settings),
        "fitted_on": dict(head.fitted_on),
        "own_features": head.own_features,
        **{name: sorted(getattr(head, name)) for name in _PAIRS},
        "weights_sha256": hashlib.sha256(weights).hexdigest(),
    }
    replace_file(folder / "weights.safetensors", weights)
    text = json.dumps(manifest, sort_keys=True, indent=1)
    replace_file(folder / "manifest.json", text.encode())


def load_reward_head(folder: Path) -> RewardHead:
    """The head saved in `folder`. Raises InvalidInput where the files do not fit each other or this
    program.
    """
    try:
        manifest = json.loads((folder / "manifest.json").read_bytes())
        weights = (folder / "weights.safetensors").read_bytes()
    except (OSError, ValueError) as error:
        raise InvalidInput(f"no reward head in {folder}: {error}") from error
    expected = {"schema_version": _SCHEMA_VERSION, "overlap_features": list(OVERLAP_FEATURES)}
    for key, value in expected.items():
        if manifest.get(key) != value:
            raise InvalidInput(
                f"reward head {folder}: {key} expected {value}, "
                f"got {manifest.get(key)}; fit it again"
            )
    digest = hashlib.sha256(weights).hexdigest()
    if digest != manifest.get("weights_sha256"):
        raise InvalidInput(f"reward head {folder}: weights are not what the manifest names")
    tensors: dict[str, torch.Tensor] = load(weights)
    if set(tensors) != set(_TENSORS):
        raise InvalidInput(f"reward head {folder}: expected {_TENSORS}, got {sorted(tensors)}")
    try:
        pairs: dict[str, Any] = {name: frozenset(manifest[name]) for name in _PAIRS}
        others: dict[str, Any] = {**tensors, **pairs}
        return RewardHead(
            settings=RewardHeadSettings(**manifest["settings"]),
            fitted_on=manifest["fitted_on"],
            own_features=manifest["own_features"],
            **others,
        )
    except (KeyError, TypeError) as error:
        raise InvalidInput(f"reward head {folder}: manifest.json: {error!r}") from error

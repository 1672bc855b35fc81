"""What an adapter folder says about itself: the manifest, the PEFT configuration we accept, the
hashes of its files.

Knows no version numbers of other adapters, no lock and no torch. `check_files` covers names,
kinds, hashes and configuration; it does *not* cover the tensors (shapes, rank, finite values):
whoever loads them checks those.
"""

import hashlib
import os
import stat
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, ValidationError

from amends.errors import AdapterRefused
from amends.record import Record
from amends.verdict import Verdict

WEIGHTS = "adapter_model.safetensors"
CONFIG = "adapter_config.json"
MANIFEST = "manifest.json"
_MAX_CONFIG_BYTES = 64 * 1024
_MAX_MANIFEST_BYTES = 1024 * 1024


class Manifest(Record):
    """Of one published version; written last, never changed."""

    schema_version: Literal[1] = 1
    version: int = Field(ge=1)
    parent: int = Field(ge=0, description="the version it was trained from; 0 is the base model")
    base_hash: str
    line: int = Field(ge=1, description="grows when the base model changes")
    run_id: int
    data_manifest_hash: str
    metrics: dict[str, FiniteFloat]
    verdict: Verdict | None
    files: dict[str, str] = Field(description="name -> SHA-256, hexadecimal")
    created_at: float

    def why_not(self, champions: Sequence[int]) -> str | None:
        """Why no visitor should be answered by it; None: it passed beside the last of `champions`,
        the one of now, or was one of them.
        """
        if self.verdict is None or not self.verdict.passed:
            why = "; ".join(self.verdict.reasons) if self.verdict else "no verdict"
            return f"version {self.version} did not pass the gate: {why}"
        if self.version in champions or self.verdict.champion in (None, champions[-1]):
            return None
        return (
            f"version {self.version} passed the gate beside version {self.verdict.champion}, but "
            f"version {champions[-1]} is champion by now, and nobody compared the two: start "
            "another round"
        )

    def forced(self, champions: Sequence[int], force: bool) -> bool:
        """Whether it may answer visitors only by `force`; AdapterRefused without that."""
        why_not = self.why_not(champions)
        if why_not is not None and not force:
            raise AdapterRefused(why_not)
        return why_not is not None


_Module = Annotated[str, Field(pattern=r"^[A-Za-z0-9_.]{1,200}$")]


class LoraSettings(BaseModel):
    """The adapter_config.json that peft 0.21 writes for plain LoRA, and nothing else.

    Options that change the mathematics, add weights, or name code to import must have their
    neutral value.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    peft_type: Literal["LORA"]
    r: int = Field(ge=1, le=256)
    lora_alpha: float = Field(gt=0, allow_inf_nan=False)
    target_modules: list[_Module] = Field(min_length=1, max_length=64)
    task_type: Literal["CAUSAL_LM"] | None = None
    base_model_name_or_path: str | None = None
    revision: str | None = None
    peft_version: str | None = None
    inference_mode: bool = True
    init_lora_weights: bool | Literal["gaussian", "default"] = True
    lora_dropout: float = Field(0.0, ge=0, lt=1)
    bias: Literal["none"] = "none"
    fan_in_fan_out: bool = False
    lora_bias: Literal[False] = False
    use_dora: Literal[False] = False
    use_rslora: Literal[False] = False
    use_qalora: Literal[False] = False
    use_bdlora: Literal[False] | None = None
    ensure_weight_tying: Literal[False] = False
    qalora_group_size: int = 16
    megatron_core: str | None = None
    rank_pattern: dict[str, int] = Field({}, max_length=0)
    alpha_pattern: dict[str, float] = Field({}, max_length=0)
    loftq_config: dict[str, str] | None = Field(None, max_length=0)
    alora_invocation_tokens: None = None
    arrow_config: None = None
    auto_mapping: None = None
    corda_config: None = None
    eva_config: None = None
    exclude_modules: None = None
    kasa_config: None = None
    layer_replication: None = None
    layers_pattern: None = None
    layers_to_transform: None = None
    lora_ga_config: None = None
    megatron_config: None = None
    modules_to_save: None = None
    monteclora_config: None = None
    target_parameters: None = None
    trainable_token_indices: None = None
    velora_config: None = None


def hash_file(path: Path) -> str:
    """SHA-256, hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def check_files(folder: Path, names: set[str]) -> LoraSettings:
    """The folder holds exactly `names`, all plain files, and a configuration we accept;
    AdapterRefused.
    """
    if not stat.S_ISDIR(os.lstat(folder).st_mode):
        raise AdapterRefused(f"{folder} must be a folder, not a link or a file")
    found = {entry.name: entry for entry in os.scandir(folder)}
    if set(found) != names:
        raise AdapterRefused(
            f"{folder} must hold exactly {sorted(names)}, it holds {sorted(found)}"
        )
    for name, entry in found.items():
        if not stat.S_ISREG(entry.stat(follow_symlinks=False).st_mode):
            raise AdapterRefused(f"{folder / name} must be a plain file, not a link or a device")
    text = _read(folder / CONFIG, _MAX_CONFIG_BYTES)
    try:
        return LoraSettings.model_validate_json(text)
    except ValidationError as error:
        problems = [
            f"{'.'.join(str(part) for part in problem['loc'])}: {problem['msg']}"
            for problem in error.errors(include_url=False, include_input=False)
        ]
        raise AdapterRefused(
            f"{folder / CONFIG} is not a plain LoRA configuration: {'; '.join(problems)}"
        ) from error


def read_manifest(folder: Path) -> Manifest:
    """AdapterRefused when it is missing or malformed."""
    path = folder / MANIFEST
    try:
        return Manifest.model_validate_json(_read(path, _MAX_MANIFEST_BYTES))
    except FileNotFoundError as error:
        raise AdapterRefused(f"{path} is missing") from error
    except ValidationError as error:
        raise AdapterRefused(f"{path} is malformed: {error}") from error


def check_version(folder: Path, version: int, base_hash: str) -> Manifest:
    """The folder is this version as its manifest promises it, made for this base model;
    AdapterRefused.
    """
    check_files(folder, {WEIGHTS, CONFIG, MANIFEST})
    manifest = read_manifest(folder)
    if manifest.version != version:
        raise AdapterRefused(f"{folder} says that it is version {manifest.version}")
    if set(manifest.files) != {WEIGHTS, CONFIG}:
        raise AdapterRefused(f"version {version} promises other files: {list(manifest.files)}")
    for name, promised in manifest.files.items():
        actual = hash_file(folder / name)
        if actual != promised:
            raise AdapterRefused(
                f"{folder / name} was changed: its SHA-256 must be {promised}, it is {actual}"
            )
    if manifest.base_hash != base_hash:
        raise AdapterRefused(
            f"version {version} was made for base model {manifest.base_hash}, this is "
            f"{base_hash}: train a new one"
        )
    return manifest


def origin_of(folder: Path) -> tuple[str, str]:
    """Who published the version and why; a folder that somebody else put there says so."""
    try:
        manifest = read_manifest(folder)
    except AdapterRefused as error:
        return "unknown", str(error)
    passed = manifest.verdict is not None and manifest.verdict.passed
    return f"run {manifest.run_id}", f"{'passed' if passed else 'did not pass'} the gate"


def _read(path: Path, most_bytes: int) -> bytes:
    with open(path, "rb") as file:
        content = file.read(most_bytes + 1)
    if len(content) > most_bytes:
        raise AdapterRefused(f"{path} is longer than {most_bytes} bytes")
    return content

"""The weights of one LoRA adapter: names as PEFT writes them, packed as the fused forward reads
them.

Knows no store, no slots, no optimiser. Invariant: float32 tensors named `<module>.lora_A` (r, in)
and `<module>.lora_B` (out, r); what a PEFT folder holds and what is packed here are the same
numbers.

LoRA: Hu et al. 2021, arXiv 2106.09685. B starts at zero, A Kaiming-uniform, the delta is (alpha /
r) B A.
"""

import json
import math
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from amends.errors import AdapterRefused

PREFIX = "base_model.model."
# The fused linears of a layer, each made of these modules, in the order of their rows.
GROUPS: dict[str, tuple[str, ...]] = {
    "qkv": ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
    "o": ("self_attn.o_proj",),
    "gate_up": ("mlp.gate_proj", "mlp.up_proj"),
    "down": ("mlp.down_proj",),
}
# Far beyond what training reaches, far below what could overflow. In a batch that several adapters
# share, the product with another row's adapter is multiplied by 0, and 0 times infinity is NaN.
MAX_WEIGHT = 1e4
MODULES = tuple(module for group in GROUPS.values() for module in group)


@dataclass(frozen=True)
class LoraShape:
    """What an adapter must look like: `modules` maps each module that it changes, by its whole name
    in the model, to (out, in). `fan_in_fan_out`: the model keeps those weights as (in, out)."""

    rank: int
    alpha: float
    modules: dict[str, tuple[int, int]]
    fan_in_fan_out: bool = False

    @property
    def scale(self) -> float:
        return self.alpha / self.rank

    @property
    def target_modules(self) -> list[str]:
        """The modules as PEFT's configuration names them: by their last names."""
        return sorted({name.rsplit(".", 1)[1] for name in self.modules})


@dataclass(frozen=True)
class PackedLora:
    """Per layer and group: `a` (g*r, in) and block-diagonal `b` (g*r, out), scale folded into b."""

    a: tuple[dict[str, Tensor], ...]
    b: tuple[dict[str, Tensor], ...]


class Lora:
    """Float32 tensors of one adapter."""

    def __init__(self, shape: LoraShape, tensors: dict[str, Tensor]) -> None:
        self.shape = shape
        self.tensors = tensors

    @classmethod
    def fresh(cls, shape: LoraShape, seed: int) -> "Lora":
        """A new adapter that changes nothing yet (B is zero)."""
        generator = torch.Generator().manual_seed(seed)
        tensors = {}
        for name, (out_features, in_features) in shape.modules.items():
            a = torch.empty(shape.rank, in_features)
            torch.nn.init.kaiming_uniform_(a, a=math.sqrt(5), generator=generator)
            tensors[f"{name}.lora_A"] = a
            tensors[f"{name}.lora_B"] = torch.zeros(out_features, shape.rank)
        return cls(shape, tensors)

    def clone(self) -> "Lora":
        """The same numbers in other memory, without gradients."""
        return Lora(self.shape, {k: v.detach().clone() for k, v in self.tensors.items()})

    def parameters(self) -> list[Tensor]:
        """The tensors as leaves that collect gradients."""
        return [tensor.requires_grad_(True) for tensor in self.tensors.values()]

    def pack(self, dtype: torch.dtype, device: torch.device | None = None) -> PackedLora:
        """For the fused forward, whose modules these must be. Differentiable: gradients of the
        packed tensors flow back into the float32 ones."""
        layers = range(len(self.shape.modules) // len(MODULES))
        return PackedLora(
            tuple(self._pack_layer(i, "lora_A", dtype, device) for i in layers),
            tuple(self._pack_layer(i, "lora_B", dtype, device) for i in layers),
        )

    def _pack_layer(
        self, layer: int, kind: str, dtype: torch.dtype, device: torch.device | None
    ) -> dict[str, Tensor]:
        packed = {}
        for group, modules in GROUPS.items():
            parts = [self.tensors[f"{fused_name(layer, module)}.{kind}"] for module in modules]
            if kind == "lora_A":
                joined = torch.cat(parts)
            else:
                turned = [part.T for part in parts]
                blocks = torch.block_diag(*turned)  # type: ignore[no-untyped-call]
                joined = blocks * self.shape.scale
            packed[group] = joined.to(device=device, dtype=dtype)
        return packed


def save_lora(lora: Lora, folder: Path, base_model: str) -> None:
    """Write a folder that PeftModel.from_pretrained and vLLM load as it is."""
    folder.mkdir(parents=True, exist_ok=True)
    named = {
        f"{PREFIX}{name}.weight": tensor.detach().cpu().contiguous()
        for name, tensor in lora.tensors.items()
    }
    save_file(named, folder / "adapter_model.safetensors", metadata={"format": "pt"})
    config = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": base_model,
        "r": lora.shape.rank,
        "lora_alpha": lora.shape.alpha,
        "lora_dropout": 0.0,
        "bias": "none",
        "inference_mode": True,
        "target_modules": lora.shape.target_modules,
    }
    if lora.shape.fan_in_fan_out:
        config["fan_in_fan_out"] = True
    (folder / "adapter_config.json").write_text(json.dumps(config, indent=2) + "\n")


def load_lora(folder: Path, expected: LoraShape) -> Lora:
    """Read an adapter folder; AdapterRefused unless names, shapes, dtype and values are as
    expected.

    Hashes and the folder's files are the adapter store's business (AdapterStore.verify).
    """
    config = json.loads((folder / "adapter_config.json").read_text())
    found = (config.get("r"), float(config.get("lora_alpha", 0.0)))
    if found != (expected.rank, expected.alpha):
        raise AdapterRefused(
            f"{folder.name}: expected rank {expected.rank} and alpha {expected.alpha}, got {found}"
        )
    try:
        stored = load_file(folder / "adapter_model.safetensors")
    except (SafetensorError, OSError) as error:
        raise AdapterRefused(f"{folder.name}: adapter_model.safetensors: {error}") from error
    wanted = dict(_tensor_shapes(expected))
    names = {name.removeprefix(PREFIX).removesuffix(".weight"): name for name in stored}
    if set(names) != set(wanted):
        odd = sorted(set(names) ^ set(wanted))[:3]
        raise AdapterRefused(f"{folder.name}: tensors missing or unknown, e.g. {odd}")
    tensors = {}
    for name, shape in wanted.items():
        tensor = stored[names[name]]
        if tuple(tensor.shape) != shape:
            raise AdapterRefused(f"{name}: expected shape {shape}, got {tuple(tensor.shape)}")
        if not tensor.is_floating_point() or not bool((tensor.abs() <= MAX_WEIGHT).all()):
            raise AdapterRefused(
                f"{name}: expected finite numbers of at most {MAX_WEIGHT:g}, got {tensor.dtype} "
                "with others"
            )
        tensors[name] = tensor.float()
    return Lora(expected, tensors)


def fused_name(layer: int, module: str) -> str:
    """The whole name of one of MODULES in a Llama-family model."""
    return f"model.layers.{layer}.{module}"


def _tensor_shapes(shape: LoraShape) -> list[tuple[str, tuple[int, int]]]:
    pairs = []
    for name, (out_features, in_features) in shape.modules.items():
        pairs.append((f"{name}.lora_A", (shape.rank, in_features)))
        pairs.append((f"{name}.lora_B", (out_features, shape.rank)))
    return pairs

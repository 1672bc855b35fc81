"""Adapters of the tiny model that write one character and nothing else, and broken ones.

With greedy sampling a response then shows token by token which version wrote it: another version's
token in its middle is another character.
"""

import string
from collections.abc import Callable
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from amends.backbone import Backbone
from amends.lora import Lora, LoraShape, save_lora

CHARACTERS = string.ascii_letters + string.digits
_FIRST_TOKEN = 3 - ord("!")  # of tests.tiny_model's tokenizer: byte-level, special tokens first
WEIGHTS = "adapter_model.safetensors"


def character(version: int) -> str:
    """What the version writes."""
    return CHARACTERS[version % len(CHARACTERS)]


def token(version: int) -> int:
    return ord(character(version)) + _FIRST_TOKEN


def one_character(backbone: Backbone, shape: LoraShape, version: int) -> Lora:
    """The last layer's MLP adds the character's output direction, whatever it reads.

    Two hidden units look at a x and at -a x, so that silu(gate) * up of one of them is about the
    square of a x: never negative, and added up over several a hardly ever small.
    """
    lora = Lora.fresh(shape, seed=1)
    last = max(name.partition("mlp.")[0] for name in shape.modules if ".mlp." in name) + "mlp."
    pairs = range(min(4, shape.rank))
    for module in ("gate_proj", "up_proj"):
        a, b = lora.tensors[f"{last}{module}.lora_A"], lora.tensors[f"{last}{module}.lora_B"]
        a.copy_(torch.randn(a.shape, generator=torch.Generator().manual_seed(2)))
        for pair in pairs:
            b[2 * pair, pair], b[2 * pair + 1, pair] = 8.0, -8.0
    a, b = lora.tensors[f"{last}down_proj.lora_A"], lora.tensors[f"{last}down_proj.lora_B"]
    a.zero_()
    a[0, : 2 * len(pairs)] = 1.0
    direction = backbone.lm_head[token(version)].float() / backbone.final_norm.float()
    b[:, 0] = direction / direction.norm()
    return lora


def truncate(folder: Path) -> None:
    weights = (folder / WEIGHTS).read_bytes()
    (folder / WEIGHTS).write_bytes(weights[: len(weights) // 2])


def put_nan(folder: Path) -> None:
    tensors = load_file(folder / WEIGHTS)
    next(iter(tensors.values()))[0, 0] = float("nan")
    save_file(tensors, folder / WEIGHTS)


def rename_a_tensor(folder: Path) -> None:
    tensors = load_file(folder / WEIGHTS)
    tensors["base_model.model.model.layers.9.mlp.odd.lora_A.weight"] = tensors.popitem()[1]
    save_file(tensors, folder / WEIGHTS)


def zero_b(folder: Path) -> None:
    tensors = load_file(folder / WEIGHTS)
    save_file({k: t * ("lora_A" in k) for k, t in tensors.items()}, folder / WEIGHTS)


def change_the_rank(folder: Path) -> None:
    config = (folder / "adapter_config.json").read_text()
    (folder / "adapter_config.json").write_text(config.replace('"r": ', '"r": 1'))


BREAK: dict[str, Callable[[Path], None]] = {
    "truncated": truncate,
    "NaN": put_nan,
    "an unknown tensor": rename_a_tensor,
    "all-zero B": zero_b,
    "another rank": change_the_rank,
}


def save(backbone: Backbone, shape: LoraShape, version: int, folder: Path) -> Path:
    """An intact adapter in `folder`."""
    save_lora(one_character(backbone, shape, version), folder, "tiny")
    return folder

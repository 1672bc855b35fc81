"""Models of three layers with random weights, one of each family that the backbone knows."""

from typing import Any

import torch
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from amends.backbone import Backbone
from amends.lora import Lora

SIZES = {
    "vocab_size": 97,
    "hidden_size": 48,
    "intermediate_size": 80,
    "num_hidden_layers": 3,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 64,
}
FAMILIES = {
    "llama": (LlamaConfig, LlamaForCausalLM, {"tie_word_embeddings": True}),
    "mistral": (MistralConfig, MistralForCausalLM, {"sliding_window": None}),
    "qwen2": (Qwen2Config, Qwen2ForCausalLM, {}),
    "qwen3": (Qwen3Config, Qwen3ForCausalLM, {}),
}


def tiny(family: str) -> Any:
    config, model, extra = FAMILIES[family]
    torch.manual_seed(1)
    made = model(config(**SIZES, **extra)).eval()
    for name, parameter in made.named_parameters():
        if name.endswith(("norm.weight", "bias")):  # ones and zeros would hide a swapped weight
            torch.nn.init.normal_(parameter, mean=0.8, std=0.2)
    return made.requires_grad_(False)


def acting_lora(backbone: Backbone, seed: int = 3) -> Lora:
    lora = Lora.fresh(backbone.lora_shape(rank=4, alpha=8.0), seed)
    generator = torch.Generator().manual_seed(seed)
    for name, tensor in lora.tensors.items():
        if name.endswith("lora_B"):
            tensor.normal_(0, 0.2, generator=generator)
    return lora

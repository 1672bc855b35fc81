"""Models of three layers with random weights: one of each family that the fused forward knows, and
of OTHERS, which run through transformers and PEFT."""

from typing import Any

import torch
from transformers import (
    BloomConfig,
    BloomForCausalLM,
    Gemma3ForCausalLM,
    Gemma3TextConfig,
    GemmaConfig,
    GemmaForCausalLM,
    GPT2Config,
    GPT2LMHeadModel,
    GPTNeoXConfig,
    GPTNeoXForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    OPTConfig,
    OPTForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from amends.backbone import Backbone
from amends.backbones import AnyBackbone
from amends.lora import Lora
from amends.peft_backbone import PeftBackbone

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


WIDE = {"initializer_range": 0.15}  # with the usual 0.02 all logits are nearly equal
OTHERS = {
    "gpt_neox": (GPTNeoXConfig, GPTNeoXForCausalLM, WIDE),
    "gpt2": (GPT2Config, GPT2LMHeadModel, {"bos_token_id": 1, "eos_token_id": 2, **WIDE}),
    "opt": (
        OPTConfig,
        OPTForCausalLM,
        {"ffn_dim": 80, "word_embed_proj_dim": 48, "init_std": 0.15},
    ),
    "bloom": (BloomConfig, BloomForCausalLM, {"num_attention_heads": 4, **WIDE}),
    "gemma": (GemmaConfig, GemmaForCausalLM, WIDE),
    "gemma3": (Gemma3TextConfig, Gemma3ForCausalLM, {"sliding_window": 9, **WIDE}),
    "mistral, short window": (MistralConfig, MistralForCausalLM, {"sliding_window": 9, **WIDE}),
    "llama, gelu": (LlamaConfig, LlamaForCausalLM, {"hidden_act": "gelu", **WIDE}),
}


def tiny(family: str) -> Any:
    config, model, extra = {**FAMILIES, **OTHERS}[family]
    torch.manual_seed(1)
    made = model(config(**{**SIZES, **extra})).eval()
    for name, parameter in made.named_parameters():
        if name.endswith(("norm.weight", "bias")):  # ones and zeros would hide a swapped weight
            torch.nn.init.normal_(parameter, mean=0.8, std=0.2)
    return made.requires_grad_(False)


def tiny_backbone(family: str) -> AnyBackbone:
    return PeftBackbone(tiny(family), 64) if family in OTHERS else Backbone(tiny(family), 64)


def acting_lora(backbone: AnyBackbone, seed: int = 3, size: float = 0.2) -> Lora:
    lora = Lora.fresh(backbone.lora_shape(rank=4, alpha=8.0), seed)
    generator = torch.Generator().manual_seed(seed)
    for name, tensor in lora.tensors.items():
        if name.endswith("lora_B"):
            tensor.normal_(0, size, generator=generator)
    return lora

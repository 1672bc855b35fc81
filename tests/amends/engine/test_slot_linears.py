"""The engine's linear layers against plain matrix products in float64."""

import pytest
import torch

from amends.backbone import Backbone
from amends.engine.slot_linears import FEW_ROWS, SlotLinears
from amends.lora import GROUPS, PackedLora
from tests.tiny_families import acting_lora, tiny

SLOTS = 4


def written(backbone: Backbone) -> tuple[SlotLinears, dict[int, PackedLora]]:
    """Adapters in slots 1 and 3; 2 is empty."""
    shape = backbone.lora_shape(4, 8.0)
    linears, packed = SlotLinears(backbone, shape, SLOTS), {}
    for slot in (1, 3):
        lora = acting_lora(backbone, seed=slot)
        linears.write(slot, linears.pack(lora))
        packed[slot] = lora.pack(torch.float64)
    return linears, packed


@pytest.mark.parametrize("rows", [1, 5, FEW_ROWS, FEW_ROWS + 3])
@pytest.mark.parametrize("slots", [(0,), (1,), (3,), (2,), (0, 1), (1, 3), (0, 1, 2, 3)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_each_row_has_its_own_adapter(
    dtype: torch.dtype, slots: tuple[int, ...], rows: int
) -> None:
    backbone = Backbone(tiny("qwen2").to(dtype), 64)
    linears, packed = written(backbone)
    of_rows = [slots[i % len(slots)] for i in range(rows)]
    linear = linears.of(of_rows)
    for group in GROUPS:
        weight, bias = backbone.layers[1].linear[group], backbone.layers[1].bias[group]
        x = torch.randn(rows, weight.shape[1], generator=torch.Generator().manual_seed(0)).to(dtype)
        want = x.double() @ weight.double().T
        if bias is not None:
            want += bias.double()
        for row, slot in enumerate(of_rows):
            if slot in packed:
                low = x[row].double() @ packed[slot].a[1][group].T
                want[row] += low @ packed[slot].b[1][group]
        near = 1e-5 if dtype == torch.float32 else 0.02
        found = linear(1, group, x).double()
        torch.testing.assert_close(found, want, rtol=near, atol=near * float(want.abs().max()))


def test_a_slot_written_again_holds_the_new_adapter() -> None:
    backbone = Backbone(tiny("llama"), 64)
    linears, _ = written(backbone)
    x = torch.randn(1, backbone.hidden_size)
    before = linears.of([1])(0, "qkv", x)
    other = acting_lora(backbone, seed=9)
    linears.write(1, linears.pack(other))
    after = linears.of([1])(0, "qkv", x)
    packed = other.pack(torch.float32)
    want = linears.of([0])(0, "qkv", x) + x @ packed.a[0]["qkv"].T @ packed.b[0]["qkv"]
    torch.testing.assert_close(after, want)
    assert not torch.allclose(before, after)

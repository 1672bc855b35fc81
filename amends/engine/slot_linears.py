"""The linear layers of a batch whose rows use different adapters: frozen weights in the layout that
oneDNN reads fastest, and the slots' LoRA beside them.

Knows no sequences and no versions. Invariants: slot 0 is the base model; LoRA is never merged into
the frozen weights, whose bf16 rounding would swallow an early adapter.

An ordinary matmul brings the weights into oneDNN's blocked layout at each call, which takes longer
than the product itself when a batch has few rows. Here that happens once. LoRA's small matrices are
kept in float32: for few rows oneDNN's bfloat16 matmul takes 20 to 30 µs before it begins, the
float32 one 3.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from amends.backbone import Backbone, Linear
from amends.lora import Lora, LoraShape, PackedLora

FEW_ROWS = 32  # up to here LoRA is multiplied in float32
Group = tuple[int, str]  # layer, name of the fused linear


class SlotLinears:
    """`slots` adapters' worth of room beside the frozen weights of a backbone."""

    def __init__(self, backbone: Backbone, lora_shape: LoraShape, slots: int) -> None:
        self._device, self._dtype = backbone.device, backbone.dtype
        self._slices: dict[tuple[int, int], dict[Group, tuple[Tensor, Tensor]]] = {}
        frozen = {
            (index, group): (weight, layer.bias[group])
            for index, layer in enumerate(backbone.layers)
            for group, weight in layer.linear.items()
        }
        self._frozen = {key: Frozen(weight, bias) for key, (weight, bias) in frozen.items()}
        self._head = Frozen(backbone.lm_head, None)
        empty = Lora.fresh(lora_shape, seed=0).pack(torch.float32, self._device)
        self._a = {k: _room(empty.a[k[0]][k[1]], slots) for k in frozen}
        self._b = {k: _room(empty.b[k[0]][k[1]], slots) for k in frozen}

    def pack(self, lora: Lora) -> PackedLora:
        """As write() takes it; touches nothing that a batch reads."""
        return lora.pack(torch.float32, self._device)

    def write(self, slot: int, adapter: PackedLora) -> None:
        """Copy an adapter's weights into a slot that nothing uses."""
        for stacked, layers in ((self._a, adapter.a), (self._b, adapter.b)):
            for (index, group), target in stacked.items():
                target[slot].copy_(layers[index][group])

    def head(self, x: Tensor) -> Tensor:
        """x (N, H) -> logits (N, V)."""
        return self._head(x)

    def of(self, slots: list[int]) -> Linear:
        """The linear layers for rows that use these slots, one each."""
        used = sorted(set(slots) - {0})
        if not used:
            return lambda index, group, x: self._frozen[index, group](x)
        first, last = used[0], used[-1]
        loras = self._slice(first, last)
        # The masks have the type in which LoRA is multiplied.
        dtype = torch.float32 if len(slots) <= FEW_ROWS else self._dtype
        masks = self._masks(slots, first, last, dtype) if len(set(slots)) > 1 else {}

        def linear(index: int, group: str, x: Tensor) -> Tensor:
            a, b = (t.to(dtype) for t in loras[index, group])
            low = x.to(dtype) @ a
            if masks:
                low *= masks[low.shape[1]]
            out = self._frozen[index, group](x)
            return out.addmm_(low, b) if out.dtype == dtype else out.add_(low @ b)

        return linear

    def _masks(
        self, slots: list[int], first: int, last: int, dtype: torch.dtype
    ) -> dict[int, Tensor]:
        """For each R of a group: (N, R), 1 in the columns of a row's own slot."""
        own = torch.tensor(slots, device=self._device)[:, None]
        mask = (own == torch.arange(first, last + 1, device=self._device)).to(dtype)
        ranks = {room.shape[1] for room in self._a.values()}
        repeated = [mask.repeat_interleave(rank, dim=1) for rank in ranks]
        return {each.shape[1]: each for each in repeated}

    def _slice(self, first: int, last: int) -> dict[Group, tuple[Tensor, Tensor]]:
        """A^T (in, R) and B (R, out) of the slots `first` to `last`: views, made once."""
        if (first, last) not in self._slices:
            self._slices[first, last] = {
                key: (
                    self._a[key][first : last + 1].flatten(0, 1).T,
                    self._b[key][first : last + 1].flatten(0, 1),
                )
                for key in self._frozen
            }
        return self._slices[first, last]


class Frozen:
    """x W^T + bias, for x (N, in); in oneDNN's blocked layout where this torch has it."""

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        self._weight, self._bias = weight, bias
        self._blocked = _blocked(weight)

    def __call__(self, x: Tensor) -> Tensor:
        if self._blocked is None:
            return F.linear(x, self._weight, self._bias)
        product: Tensor = torch.ops.mkldnn._linear_pointwise(
            x, self._blocked, self._bias, "none", [], ""
        )
        return product


def _blocked(weight: Tensor) -> Tensor | None:
    if weight.device.type != "cpu" or weight.dtype != torch.bfloat16:
        return None
    if not torch.ops.mkldnn._is_mkldnn_bf16_supported():
        return None
    blocked: Tensor = torch.ops.mkldnn._reorder_linear_weight(weight.contiguous(), 16)
    return blocked


def _room(example: Tensor, slots: int) -> Tensor:
    return example.new_zeros(slots, *example.shape)

"""Any other causal language model: transformers computes it, PEFT adds the LoRA. Slower than the
fused forward, same interface.

PEFT's adapters are empty places here: their numbers come in with every call, scale folded in, so
one model serves several engines and a trainer, and gradients flow into whatever was given.

Knows no sequences, no scheduler, no optimiser, no files. Invariants: the frozen weights never
collect gradients; between two calls nothing of an adapter stays in the model. Shapes: B rows, T
tokens a row, N tokens in all, H hidden size, V vocabulary.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from inspect import signature
from typing import Any

import torch
from torch import Tensor, nn

from amends.errors import ModelUnavailable
from amends.lora import PREFIX, Lora, LoraShape
from amends.packed_texts import PackedTexts

Tensors = dict[str, Tensor]
KeyValues = list[Tensor]  # keys and values in turn, layer after layer, (B, heads, positions, size)

_BASE = "__base__"  # PEFT's name for a row without adapter


class PeftBackbone:
    """One frozen base model, which it takes over: LoRA places are put into `model`."""

    def __init__(self, model: Any, max_positions: int) -> None:
        _require_room(model, max_positions)
        self.max_positions = max_positions
        self._model = model
        self._decoder: nn.Module = model.get_decoder()
        self._blocks = _blocks(model, self._decoder)
        self._sizes, self._fan_in_fan_out = _linear_sizes(model, self._blocks)
        self._takes_positions = "position_ids" in signature(model.forward).parameters
        self._places: list[str] = []
        self._peft = self._with_a_place()
        self.layers_count = len(self._blocks)
        self.vocab_size: int = model.config.get_text_config().vocab_size
        self.dtype: torch.dtype = model.dtype
        self.device: torch.device = model.device
        self.hidden_size: int = self._examined()

    def lora_shape(self, rank: int, alpha: float) -> LoraShape:
        """What an adapter on all linear layers of this model's blocks looks like."""
        return LoraShape(rank, alpha, self._sizes, self._fan_in_fan_out)

    def hidden(
        self, token_ids: Tensor, lora: Lora | Tensors | None = None, keep: tuple[int, ...] = ()
    ) -> tuple[Tensor, list[Tensor]]:
        """token_ids (B, T), right-padded -> last hidden states (B, T, H) and those after the layers
        in `keep`."""
        used = self.scaled(lora) if isinstance(lora, Lora) else lora
        with self._states_after(keep) as kept:
            states, _ = self._run([used] * len(token_ids), _first, input_ids=token_ids)
        return states, [kept[layer] for layer in sorted(kept)]

    def hidden_packed(
        self, texts: PackedTexts, lora: Lora | Tensors | None = None, keep: tuple[int, ...] = ()
    ) -> tuple[Tensor, list[Tensor]]:
        """The same of texts without padding: states (N, H). Every architecture reads a row of its
        own for each text, so nothing is shared here."""
        padded, place = texts.padded()
        states, kept = self.hidden(padded, lora, keep)
        return states.flatten(0, 1)[place], [state.flatten(0, 1)[place] for state in kept]

    def token_logprobs(self, hidden: Tensor, tokens: Tensor, temperature: float = 1.0) -> Tensor:
        """hidden (N, H) at the positions before `tokens` (N,) -> float32 log-probabilities (N,)."""
        # Some models scale or bend what their last linear layer gives. So the whole model runs, on
        # one token, and finds these states in place of its own.
        one = torch.zeros(1, 1, dtype=torch.long, device=self.device)
        _, output = self._run([None], lambda _: hidden[None], input_ids=one)
        logits = output.logits[0].float() / temperature
        chosen: Tensor = logits.gather(-1, tokens[:, None]).squeeze(-1)
        return chosen - torch.logsumexp(logits, dim=-1)

    def scaled(self, lora: Lora) -> Tensors:
        """The adapter's tensors on the model's device, scale folded into B; differentiable."""
        scale = lora.shape.scale
        return {
            name: (tensor * scale if name.endswith("lora_B") else tensor).to(self.device)
            for name, tensor in lora.tensors.items()
        }

    def read(
        self,
        token_ids: Tensor,
        starts: Tensor,
        past: KeyValues,
        unseen: Tensor,
        loras: Sequence[Tensors | None],
    ) -> tuple[Tensor, KeyValues]:
        """token_ids (B, T) that stand from `starts` (B,) on in their rows -> logits after each
        row's last token (B, V) float32, and the keys and values of the new tokens.

        `past` holds what came before, padded on the left; `unseen` (B, P) says where. Rows of more
        than one token must agree in their LoRA.
        """
        from transformers import DynamicCache

        rows, new = token_ids.shape
        cache = DynamicCache(list(zip(past[::2], past[1::2], strict=True)))
        inputs = {
            "input_ids": token_ids,
            "attention_mask": torch.cat([~unseen, unseen.new_ones(rows, new)], dim=1).long(),
            "past_key_values": cache,
            "use_cache": True,
        }
        if self._takes_positions:  # others count in the mask
            inputs["position_ids"] = starts[:, None] + torch.arange(new, device=self.device)
        _, output = self._run(loras, _last, **inputs)
        layers = output.past_key_values.layers
        found = [kept[:, :, -new:] for layer in layers for kept in (layer.keys, layer.values)]
        return output.logits[:, -1].float(), found

    @torch.inference_mode()
    def key_value_sizes(self) -> list[tuple[int, int]]:
        """(heads, size) of what one position keeps, as `read` gives it."""
        one = torch.zeros(1, 1, dtype=torch.long, device=self.device)
        _, found = self.read(one, one[0], [], one[:, :0].bool(), [None])
        return [(kept.shape[1], kept.shape[3]) for kept in found]

    def _run(
        self,
        loras: Sequence[Tensors | None],
        to_head: Callable[[Tensor], Tensor],
        **inputs: Any,
    ) -> tuple[Tensor, Any]:
        """The decoder's last states and the model's output, whose head sees only what `to_head`
        makes of them.

        Rows of different LoRA are `adapter_names`' business. Rows of one are not, since PEFT counts
        a layer's input by rows, and some models flatten rows and positions before a layer.
        """
        states: list[Tensor] = []

        def cut(module: nn.Module, given: Any, output: Any) -> Any:
            states.append(output.last_hidden_state)
            output.last_hidden_state = to_head(output.last_hidden_state)
            return output

        places, parameters = self._placed(loras)
        switched_off: Any = nullcontext()
        if set(places) == {_BASE}:
            switched_off = self._peft.disable_adapter()
        elif len(set(places)) > 1:
            inputs["adapter_names"] = places
        handle = self._decoder.register_forward_hook(cut)
        try:
            with switched_off:
                output = torch.func.functional_call(self._peft, parameters, (), inputs)
        finally:
            handle.remove()
        return states[0], output

    def _placed(self, loras: Sequence[Tensors | None]) -> tuple[list[str], Tensors]:
        """Which place each row uses, and the parameters that fill the places."""
        different = {id(lora): lora for lora in loras if lora is not None}
        while len(self._places) < len(different):
            self._add_place()
        place_of = dict(zip(different, self._places, strict=False))
        parameters = {
            f"{PREFIX}{name}.{place_of[key]}.weight": tensor
            for key, tensors in different.items()
            for name, tensor in tensors.items()
        }
        return [place_of.get(id(lora), _BASE) for lora in loras], parameters

    def _with_a_place(self) -> Any:
        """The model as PEFT wraps it. Its first place is the active one, which a batch of one
        adapter uses; places lie on the meta device and take no memory."""
        from peft import PeftModel

        self._places.append("0")
        peft = PeftModel(self._model, self._config(), "0", low_cpu_mem_usage=True)
        found = {
            name.removeprefix(PREFIX)
            for name, module in peft.named_modules()
            if hasattr(module, "lora_A")
        }
        if found != set(self._sizes):
            odd = sorted(found ^ set(self._sizes))[:3]
            raise ModelUnavailable(
                f"{type(self._model).__name__}: expected PEFT to find the blocks' linear layers "
                f"and no others by their names, it differs in {odd}"
            )
        self._model.requires_grad_(False)
        return peft.eval()

    def _add_place(self) -> None:
        name = str(len(self._places))
        self._peft.add_adapter(name, self._config(), low_cpu_mem_usage=True)
        self._places.append(name)

    def _config(self) -> Any:
        """Of rank 1 and scale 1: what fills a place has a rank of its own, and its scale in B."""
        from peft import LoraConfig

        shape = self.lora_shape(1, 1.0)
        return LoraConfig(
            r=1,
            lora_alpha=1,
            target_modules=shape.target_modules,
            fan_in_fan_out=shape.fan_in_fan_out,
        )

    @contextmanager
    def _states_after(self, keep: tuple[int, ...]) -> Iterator[dict[int, Tensor]]:
        """Filled with the states after these layers (from 1) by the next forward."""
        kept: dict[int, Tensor] = {}

        def keeper(layer: int) -> Callable[..., None]:
            def store(module: nn.Module, given: Any, output: Any) -> None:
                kept[layer] = output[0] if isinstance(output, tuple) else output

            return store

        hooks = [self._blocks[n - 1].register_forward_hook(keeper(n)) for n in keep]
        try:
            yield kept
        finally:
            for hook in hooks:
                hook.remove()

    @torch.no_grad()
    def _examined(self) -> int:
        """Whether the parts lie where they are looked for; the hidden size."""
        ids = torch.tensor([[1, 2]], device=self.device)
        try:
            states, kept = self.hidden(ids, keep=(len(self._blocks),))
            self.key_value_sizes()
        except (AttributeError, IndexError, TypeError, ValueError) as error:
            name = type(self._model).__name__
            raise ModelUnavailable(f"{name}: expected a decoder of one stack: {error}") from error
        size = states.shape[-1]
        if kept[0].shape[-1] != size:
            raise ModelUnavailable(
                f"{type(self._model).__name__}: expected blocks and head of one width, got "
                f"{kept[0].shape[-1]} and {size}"
            )
        return size


def _first(states: Tensor) -> Tensor:
    return states[:, :1]


def _last(states: Tensor) -> Tensor:
    return states[:, -1:]


def _require_room(model: Any, max_positions: int) -> None:
    name, config = type(model).__name__, model.config.get_text_config()
    most = getattr(config, "max_position_embeddings", None)
    if isinstance(most, int) and most < max_positions:
        raise ModelUnavailable(
            f"{name} has {most} positions: set AMENDS_CONTEXT_TOKENS to that or less, got "
            f"{max_positions}"
        )
    if getattr(model, "_is_stateful", False):
        raise ModelUnavailable(
            f"{name} keeps a running state that cannot be shared or cut back to a prefix; expected "
            "a model whose layers all keep keys and values"
        )


def _blocks(model: Any, decoder: nn.Module) -> nn.ModuleList:
    count = model.config.get_text_config().num_hidden_layers
    for module in decoder.modules():
        if isinstance(module, nn.ModuleList) and len(module) == count:
            return module
    raise ModelUnavailable(f"{type(model).__name__}: expected a list of {count} blocks, found none")


def _linear_sizes(
    model: nn.Module, blocks: nn.ModuleList
) -> tuple[dict[str, tuple[int, int]], bool]:
    """(out, in) of every linear layer in the blocks, and whether they keep weights as (in, out).

    Those of a mixture's experts stay as they are: they see single tokens, not rows.
    """
    from transformers.pytorch_utils import Conv1D

    inside = {id(module) for module in blocks.modules()}
    sizes, turned = {}, False
    for name, module in model.named_modules():
        if id(module) not in inside or ".experts." in name:
            continue
        if isinstance(module, Conv1D):
            sizes[name], turned = (module.nf, module.nx), True
        elif isinstance(module, nn.Linear):
            sizes[name] = (module.out_features, module.in_features)
    if not sizes:
        raise ModelUnavailable(f"{type(model).__name__}: expected linear layers, found none")
    return sizes, turned

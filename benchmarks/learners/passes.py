"""One training pass over sequences of 130 tokens: ours, PEFT's, and the base model alone; and how
fast this CPU multiplies bfloat16 matrices."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from learner import Workload, arguments, serve
from peft import LoraConfig, get_peft_model
from torch import Tensor

from amends.backbone import Backbone
from amends.base_model import load_causal_lm
from amends.lora import Lora
from worker.ppo.actor_critic import ActorCritic, ValueHead
from worker.tokens import TokenBatch

ROWS, PROMPT = 16, 82
SIZE, TIMES = 4096, 4  # of the matrices that show the peak


class Passes:
    def __init__(self, workload: Workload) -> None:
        self._temperature, response = workload.temperature, workload.response_tokens
        model = load_causal_lm(Path(workload.model), torch.bfloat16)
        generator = torch.Generator().manual_seed(0)
        vocabulary = model.config.vocab_size
        self._ids = torch.randint(3, vocabulary, (ROWS, PROMPT + response), generator=generator)
        rows = [tuple(row) for row in self._ids.tolist()]
        self._batch = TokenBatch.of([(r[:PROMPT], r[PROMPT:]) for r in rows], torch.device("cpu"))
        backbone = Backbone(model, PROMPT + response)
        self._flops = _flops(backbone, response / (PROMPT + response))
        lora = Lora.fresh(backbone.lora_shape(workload.rank, workload.alpha), seed=0)
        lora.parameters()  # they collect gradients, as PEFT's do
        self._policy = ActorCritic(backbone, lora, ValueHead(backbone.hidden_size))
        other = load_causal_lm(Path(workload.model), torch.bfloat16)
        self._base = load_causal_lm(Path(workload.model), torch.bfloat16)
        self._peft = get_peft_model(
            other,
            LoraConfig(r=workload.rank, lora_alpha=workload.alpha, target_modules="all-linear"),
        ).train()

    def answer(self, system: str, backward: bool) -> dict[str, Any]:
        """Tokens a second, prompts included, and the multiplications that they need."""
        if system == "peak":
            return {"flops_per_s": _peak()}
        work: dict[str, Callable[[], Tensor]] = {
            "ours": lambda: self._policy.evaluate(self._batch, self._temperature).logprobs,
            "peft": lambda: self._logprobs(self._peft),
            "base": lambda: self._logprobs(self._base),
        }
        with torch.set_grad_enabled(backward):
            began = time.perf_counter()
            logprobs = work[system]()
            if backward:
                torch.autograd.backward(logprobs.sum())
            seconds = time.perf_counter() - began
        return {"tokens_per_s": self._ids.numel() / seconds, "flops_per_token": self._flops}

    def _logprobs(self, model: Any) -> Tensor:
        """As TRL takes them: logits of the response only, log-softmax in float32."""
        kept = self._batch.mask.shape[1]
        logits = model(self._ids, logits_to_keep=kept + 1).logits[:, :-1]
        scores = (logits.float() / self._temperature).log_softmax(dim=-1)
        return scores.gather(-1, self._ids[:, -kept:, None]).squeeze(-1)


def _flops(backbone: Backbone, response_share: float) -> float:
    """Of a token's forward: the frozen matrices, twice their size; the head for responses only."""
    layers = sum(w.numel() for layer in backbone.layers for w in layer.linear.values())
    return 2 * (layers + response_share * backbone.lm_head.numel())


def _peak() -> float:
    a, b = (torch.randn(SIZE, SIZE).bfloat16() for _ in range(2))
    best = float("inf")
    for _ in range(TIMES):
        began = time.perf_counter()
        a @ b
        best = min(best, time.perf_counter() - began)
    return 2 * SIZE**3 / best


def main() -> None:
    workload, _ = arguments()
    torch.set_num_threads(workload.threads)
    serve(Passes(workload).answer)


if __name__ == "__main__":
    main()

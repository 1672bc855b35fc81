"""transformers generate(): the base model, no LoRA."""

from collections.abc import Sequence
from typing import Any

import torch
from cells import Began, Workload, arguments, serve
from transformers import AutoModelForCausalLM, StoppingCriteria, StoppingCriteriaList


class Tell(StoppingCriteria):
    """Calls `began` for every stream at its first token; never stops."""

    def __init__(self, began: Began) -> None:
        self._began = began

    def __call__(self, input_ids: torch.Tensor, scores: Any, **_: Any) -> torch.Tensor:
        for stream in range(len(input_ids)):
            self._began(stream)
        return torch.zeros(len(input_ids), dtype=torch.bool)


def generate(
    model: Any,
    workload: Workload,
    prompts: Sequence[Sequence[int]],
    began: Began,
    **more: Any,
) -> int:
    """Greedy; prompts of a cell are equally long, so nothing is padded."""
    ids = torch.tensor(prompts)
    out = model.generate(
        input_ids=ids,
        attention_mask=torch.ones_like(ids),
        do_sample=False,
        max_new_tokens=workload.new_tokens,
        min_new_tokens=workload.new_tokens,
        pad_token_id=0,
        stopping_criteria=StoppingCriteriaList([Tell(began)]),
        **more,
    )
    return int((out.shape[1] - ids.shape[1]) * len(out))


def load(workload: Workload) -> Any:
    torch.set_num_threads(workload.threads)
    return AutoModelForCausalLM.from_pretrained(workload.model, dtype=torch.bfloat16).eval()


def main() -> None:
    workload, versions = arguments()
    model = load(workload)

    def run(prompts: Sequence[Sequence[int]], live: Sequence[int], began: Began) -> int:
        with torch.inference_mode():
            return generate(model, workload, prompts, began)

    serve(workload, versions, run)


if __name__ == "__main__":
    main()

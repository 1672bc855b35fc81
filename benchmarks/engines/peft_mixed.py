"""PEFT: several adapters in one batch by generate(adapter_names=...)."""

from collections.abc import Sequence

import torch
from cells import Began, arguments, serve
from peft import PeftModel
from transformers_generate import generate, load


def main() -> None:
    workload, versions = arguments()
    first, second = workload.adapters
    model = PeftModel.from_pretrained(load(workload), first, adapter_name="1").eval()
    model.load_adapter(second, "2")

    def run(prompts: Sequence[Sequence[int]], live: Sequence[int], began: Began) -> int:
        names = [str(version) for version in live]
        with torch.inference_mode():
            return generate(model, workload, prompts, began, adapter_names=names)

    serve(workload, versions, run)


if __name__ == "__main__":
    main()

"""Records what TRL 1.12's PPOTrainer computes in two updates of a tiny model, for test_trl.py.

    make .venv-trl/ready
    PYTHONPATH=. .venv-trl/bin/python tests/worker/ppo/trl/record.py

TRL's own train() runs, unchanged. What it computes stands in its local variables; they are read
where it calls masked_whiten and masked_mean, two functions of its module. Only the sampled
responses are touched: some get an end token, so that they end early.
"""

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from types import FrameType
from typing import Any

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TRL_EXPERIMENTAL_SILENCE"] = "1"

import torch
from datasets import Dataset
from peft import LoraConfig
from safetensors.torch import save_file
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    PreTrainedTokenizerBase,
)
from trl.experimental.ppo import PPOConfig, PPOTrainer, ppo_trainer

from tests.tiny_model import make_tiny_model

RECORDED = Path(__file__).parent / "trl-1.12.0.safetensors"
EPISODES, RESPONSE, UPDATES = 8, 12, 2
ENDS = {1: 0, 3: 4, 4: 10, 6: 7}  # row: index of its end token; the other rows run to the end
SETTINGS = {
    "kl_coef": 0.2,
    "gamma": 1.0,
    "lam": 0.95,
    "cliprange": 0.2,
    "cliprange_value": 0.2,
    "temperature": 0.7,
}
ROLLOUT = (
    "logprobs ref_logprobs kl scores values rewards advantages returns padding_mask padding_mask_p1"
).split()
LOSSES = "new_logprobs mb_logprobs mb_advantage vpred mb_values mb_return".split()
MEANS_A_BATCH = 4  # calls of masked_mean in a micro-batch; the last is the clipped fraction

recorded: dict[str, torch.Tensor] = {}


def keep(name: str, value: torch.Tensor) -> None:
    recorded[name] = value.detach().clone().contiguous()


def watch_rollout(whiten: Callable[..., torch.Tensor]) -> Callable[..., torch.Tensor]:
    updates = 0

    def watched(values: torch.Tensor, mask: torch.Tensor, **options: bool) -> torch.Tensor:
        nonlocal updates
        updates += 1
        whitened = whiten(values, mask, **options)
        seen = sys._getframe(1).f_locals
        for name in ROLLOUT:
            keep(f"{updates}/{name}", seen[name])
        keep(f"{updates}/whitened", whitened.masked_fill(~mask, 0))
        return whitened

    return watched


def watch_losses(mean: Callable[..., torch.Tensor]) -> Callable[..., torch.Tensor]:
    calls = 0

    def watched(values: torch.Tensor, mask: torch.Tensor, axis: Any = None) -> torch.Tensor:
        nonlocal calls
        result = mean(values, mask, axis)
        caller: FrameType = sys._getframe(1)
        if caller.f_code.co_name != "train":
            return result
        calls += 1
        if calls % MEANS_A_BATCH == 0:
            seen, batch = caller.f_locals, calls // MEANS_A_BATCH
            for name in LOSSES:
                keep(f"batch {batch}/{name}", seen[name])
            for name in ("padding_mask", "padding_mask_p1"):
                keep(f"batch {batch}/{name}", seen[name][seen["micro_batch_inds"]])
            for name in ("pg_loss", "vf_loss"):
                keep(f"batch {batch}/{name}", seen[name])
            keep(f"batch {batch}/pg_clipfrac", result)
        return result

    return watched


def end_some(generate: Callable[..., Any], eos: int) -> Callable[..., Any]:
    def ended(model: Any, queries: torch.Tensor, size: int, pad: int, config: Any) -> Any:
        sampled, _ = generate(model, queries, size, pad, config)
        for row, at in ENDS.items():
            sampled[row, queries.shape[1] + at] = eos
        logits = ppo_trainer.forward(model, sampled, pad).logits[:, queries.shape[1] - 1 : -1]
        return sampled, logits / (SETTINGS["temperature"] + 1e-7)

    return ended


def trainer(model: Path, work: Path) -> PPOTrainer:
    tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(model, padding_side="left")
    tokenizer.add_special_tokens({"pad_token": "<|endoftext|>"})
    prompts = [tokenizer(f"Question {'?' * i}")["input_ids"] for i in range(EPISODES * UPDATES)]
    data = Dataset.from_dict({"input_ids": prompts})
    scorers = [
        AutoModelForSequenceClassification.from_pretrained(model, num_labels=1) for _ in "vr"
    ]
    for scorer in scorers:
        scorer.config.pad_token_id = tokenizer.pad_token_id
    config = PPOConfig(
        output_dir=str(work),
        per_device_train_batch_size=EPISODES // 2,
        gradient_accumulation_steps=2,
        num_mini_batches=1,
        num_ppo_epochs=2,
        total_episodes=EPISODES * UPDATES,
        response_length=RESPONSE,
        local_rollout_forward_batch_size=EPISODES,
        stop_token="eos",
        missing_eos_penalty=1.0,
        learning_rate=1e-2,  # so large that ratios and values are clipped
        use_cpu=True,
        bf16=False,
        report_to="none",
        save_strategy="no",
        num_sample_generations=0,
        gradient_checkpointing=False,
        seed=0,
        **SETTINGS,
    )
    ppo_trainer.masked_whiten = watch_rollout(ppo_trainer.masked_whiten)
    ppo_trainer.masked_mean = watch_losses(ppo_trainer.masked_mean)
    ppo_trainer.batch_generation = end_some(ppo_trainer.batch_generation, tokenizer.eos_token_id)
    return PPOTrainer(
        args=config,
        processing_class=tokenizer,
        model=AutoModelForCausalLM.from_pretrained(model),
        ref_model=None,
        reward_model=scorers[1],
        value_model=scorers[0],
        train_dataset=data,
        eval_dataset=data.select(range(2)),
        peft_config=LoraConfig(r=4, lora_alpha=8, target_modules="all-linear"),
    )


def main() -> None:
    torch.manual_seed(0)
    with TemporaryDirectory() as name:
        model = make_tiny_model(Path(name) / "tiny")
        trainer(model, Path(name)).train()
    save_file(recorded, RECORDED, metadata={"settings": json.dumps(SETTINGS)})
    print(f"{RECORDED}: {len(recorded)} tensors, {RECORDED.stat().st_size} bytes")


if __name__ == "__main__":
    main()

"""TRL 1.12's PPOTrainer, update by update. Runs in an environment of its own.

The second argument says how its value model is trained: "whole", as TRL's example does, or "lora".
"""

import os
import time
from tempfile import TemporaryDirectory
from typing import Any

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TRL_EXPERIMENTAL_SILENCE"] = "1"

import torch
from datasets import Dataset
from learner import arguments, next_question, report
from peft import LoraConfig, get_peft_model
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    TrainerCallback,
)
from trl.experimental.ppo import PPOConfig, PPOTrainer


class Paced(TrainerCallback):
    """An update begins when the benchmark asks for it, and is timed from then."""

    def __init__(self) -> None:
        self.began = 0.0

    def wait(self) -> None:
        if next_question() is None:
            raise SystemExit
        self.began = time.perf_counter()

    def on_step_end(self, *told: Any, **more: Any) -> None:
        report({"seconds": time.perf_counter() - self.began})
        self.wait()


def main() -> None:
    workload, (value_training,) = arguments()
    torch.set_num_threads(workload.threads)
    torch.manual_seed(0)
    tokenizer = AutoTokenizer.from_pretrained(workload.model, padding_side="left")
    tokenizer.add_special_tokens({"pad_token": "<|endoftext|>"})
    policy = AutoModelForCausalLM.from_pretrained(workload.model, dtype=torch.bfloat16)
    value, reward = (
        AutoModelForSequenceClassification.from_pretrained(
            workload.model, num_labels=1, dtype=torch.bfloat16
        )
        for _ in range(2)
    )
    for model in (value, reward):
        model.config.pad_token_id = tokenizer.pad_token_id

    def lora(task: str) -> LoraConfig:
        return LoraConfig(
            r=workload.rank,
            lora_alpha=workload.alpha,
            target_modules="all-linear",
            task_type=task,
        )

    if value_training == "lora":
        value = get_peft_model(value, lora("SEQ_CLS"))
    data = Dataset.from_dict({"input_ids": workload.prompts})
    with TemporaryDirectory(prefix="amends-bench-") as folder:
        config = PPOConfig(
            output_dir=folder,
            per_device_train_batch_size=workload.micro_batch,
            gradient_accumulation_steps=workload.episodes // workload.micro_batch,
            num_mini_batches=1,
            num_ppo_epochs=workload.epochs,
            total_episodes=workload.episodes * (workload.updates + 1),
            response_length=workload.response_tokens,
            temperature=workload.temperature,
            local_rollout_forward_batch_size=16,
            missing_eos_penalty=1.0,
            learning_rate=1e-5,
            use_cpu=True,
            bf16=False,  # the weights are bfloat16 already
            report_to="none",
            save_strategy="no",
            num_sample_generations=0,
            gradient_checkpointing=False,
            disable_tqdm=True,
        )
        paced = Paced()
        trainer = PPOTrainer(
            args=config,
            processing_class=tokenizer,
            model=policy,
            ref_model=None,
            reward_model=reward,
            value_model=value,
            train_dataset=data,
            eval_dataset=data.select(range(8)),
            peft_config=lora("CAUSAL_LM"),
            callbacks=[paced],
        )
        trained = [tensor for tensor in trainer.model.parameters() if tensor.requires_grad]
        report({"ready": True, "trainable": sum(tensor.numel() for tensor in trained)})
        paced.wait()
        trainer.train()


if __name__ == "__main__":
    main()

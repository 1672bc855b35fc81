"""TRL's RewardTrainer on pairs of token ids: trl_reward.py TASK.json SCORES.json

Runs in the peer's environment, on what benchmarks/reward.py writes: the same model, tokens, rank,
learning rate and number of passes as ours.
"""

import json
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from datasets import Dataset
from peft import LoraConfig
from transformers import AutoModelForSequenceClassification, AutoTokenizer
from trl import RewardConfig, RewardTrainer

PAD = "<|endoftext|>"  # not the token that ends a response: the last other one is what is scored
SCORED_AT_ONCE = 16


def main() -> None:
    task = json.loads(Path(sys.argv[1]).read_text())
    torch.set_num_threads(task["threads"])
    tokenizer = AutoTokenizer.from_pretrained(task["model"])
    tokenizer.pad_token = PAD
    torch.manual_seed(task["seed"])  # of the head, which starts at random
    model = AutoModelForSequenceClassification.from_pretrained(
        task["model"], num_labels=1, dtype=torch.bfloat16
    )
    model.config.pad_token_id = tokenizer.pad_token_id
    pairs = [{"chosen_ids": chosen, "rejected_ids": rejected} for chosen, rejected in task["train"]]
    with TemporaryDirectory(prefix="amends-bench-") as folder:
        config = RewardConfig(
            output_dir=folder,
            seed=task["seed"],
            per_device_train_batch_size=task["batch"],
            num_train_epochs=task["epochs"],
            learning_rate=task["learning_rate"],
            max_length=None,
            use_cpu=True,
            bf16=False,  # the frozen weights are bfloat16 already, the adapter float32
            gradient_checkpointing=False,
            report_to="none",
            save_strategy="no",
            logging_steps=10,
            disable_tqdm=True,
        )
        lora = LoraConfig(
            r=task["rank"],
            lora_alpha=2 * task["rank"],
            target_modules="all-linear",
            task_type="SEQ_CLS",
        )
        trainer = RewardTrainer(
            model=model,
            args=config,
            train_dataset=Dataset.from_list(pairs),
            processing_class=tokenizer,
            peft_config=lora,
        )
        in_float32(trainer.model)
        began = time.monotonic()
        trainer.train()
        seconds = time.monotonic() - began
    scores = score(trainer.model.eval(), task["test"], tokenizer.pad_token_id)
    Path(sys.argv[2]).write_text(json.dumps({"scores": scores, "train_seconds": seconds}))


def in_float32(model: torch.nn.Module) -> None:
    """The head that is trained, as PEFT has the adapter: in bfloat16 small steps would round to
    none."""
    for name, module in model.named_modules():
        if name.endswith(".score"):
            module.float()
            module.register_forward_pre_hook(lambda _, given: (given[0].float(), *given[1:]))


@torch.no_grad()
def score(model: torch.nn.Module, answers: list[list[int]], pad: int) -> list[float]:
    scores = [0.0] * len(answers)
    order = sorted(range(len(answers)), key=lambda i: len(answers[i]))
    for start in range(0, len(order), SCORED_AT_ONCE):
        group = order[start : start + SCORED_AT_ONCE]
        longest = len(answers[group[-1]])
        ids = torch.tensor([answers[i] + [pad] * (longest - len(answers[i])) for i in group])
        logits = model(input_ids=ids, attention_mask=(ids != pad).long()).logits
        for place, value in zip(group, logits[:, 0].float().tolist(), strict=True):
            scores[place] = value
    return scores


if __name__ == "__main__":
    main()

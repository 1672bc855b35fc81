"""Adam on one adapter, step by step; the learning rate falls linearly to 0.

Knows a loss, not what it is of. Invariant: what resumes from a checkpoint takes the steps that were
left, and no step twice.
"""

from collections.abc import Callable

import torch

from amends.lora import Lora
from worker.checkpoints import Checkpoints
from worker.reporting import LearningFailed

_SAVE_EVERY = 5


class AdapterSteps:
    """Trains `lora` in place over `count` steps, from the newest checkpoint on."""

    def __init__(
        self,
        lora: Lora,
        count: int,
        learning_rate: float,
        max_grad_norm: float,
        checkpoints: Checkpoints,
    ) -> None:
        self._lora, self._count, self._checkpoints = lora, count, checkpoints
        self._learning_rate, self._max_grad_norm = learning_rate, max_grad_norm
        self._optimizer = torch.optim.Adam(lora.parameters(), lr=learning_rate, eps=1e-5)
        self._done = self._restore()

    def left(self) -> range:
        """Numbers of the steps still to be taken, of 1 to `count`."""
        return range(self._done + 1, self._count + 1)

    def take(self, number: int, backward: Callable[[], float]) -> float:
        """One step down the gradient that `backward` leaves; returns what it does, the loss. Raises
        LearningFailed for a gradient that is not finite."""
        for group in self._optimizer.param_groups:
            group["lr"] = self._learning_rate * (1 - (number - 1) / self._count)
        self._optimizer.zero_grad(set_to_none=True)
        loss = backward()
        tensors = list(self._lora.tensors.values())
        norm = torch.nn.utils.clip_grad_norm_(tensors, self._max_grad_norm)
        if not bool(norm.isfinite()):
            raise LearningFailed(f"expected a finite gradient in step {number}, got norm {norm}")
        self._optimizer.step()
        if number % _SAVE_EVERY == 0 or number == self._count:
            kept = {name: tensor.detach() for name, tensor in self._lora.tensors.items()}
            state = {"lora": kept, "optimizer": self._optimizer.state_dict()}
            self._checkpoints.save(number, state)
        return loss

    def _restore(self) -> int:
        found = self._checkpoints.newest()
        if found is None:
            return 0
        done, state = found
        with torch.no_grad():
            for name, tensor in state["lora"].items():
                self._lora.tensors[name].copy_(tensor)
        self._optimizer.load_state_dict(state["optimizer"])
        return done

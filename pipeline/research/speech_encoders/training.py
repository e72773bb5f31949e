"""One training loop for both encoders: AdamW, a checkpoint in the output, learning curves. One process, no Ray.

Batches, noise, dropout and learning rates are functions of the step. A run that resumes from a checkpoint therefore has
the same losses as one that was never stopped (on the same machine and with the same number of threads).
"""

import io
import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from pipeline.common.errors import RefusedError
from pipeline.storage.objects import read_bytes, write_bytes
from pipeline.storage.uris import join
from pipeline.training.curves import Point

CHECKPOINTS = "checkpoints"
WARMUP_SHARE = 0.05
WEIGHT_DECAY, BETAS, CLIP = 0.01, (0.9, 0.98), 1.0


class OtherRunError(RefusedError):
    """The output contains a checkpoint of other settings or of another corpus."""


def learning_rate(step: int, steps: int, highest: float) -> float:
    """Learning rate of a step, counted from 0: a linear rise over 5 % of the steps, and then a fall to 0 along half a
    cosine.
    """
    warmup = max(1, round(WARMUP_SHARE * steps))
    if step < warmup:
        return highest * (step + 1) / warmup
    return highest * 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, steps - warmup)))


class Run:
    """The training of one module."""

    def __init__(
        self, name: str, module: nn.Module, output: str, *, steps: int, highest: float, seed: int, identity: Any
    ) -> None:
        """`identity` are plain values that the result depends on; a checkpoint with other values is refused."""
        self.name, self.module, self.steps = name, module, steps
        self.points: list[Point] = []
        self.step = 0
        self._uri = join(output, CHECKPOINTS, f"{name}.pt")
        self._highest, self._seed, self._identity = highest, seed, identity
        self._optimiser = torch.optim.AdamW(module.parameters(), betas=BETAS, weight_decay=WEIGHT_DECAY)

    def resume(self) -> None:
        """Resume from the checkpoint if there is one. Raises OtherRunError."""
        data = read_bytes(self._uri)
        if data is None:
            return
        state = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
        if state["identity"] != self._identity:
            raise OtherRunError(
                f"output: {self._uri} is of other settings or of another corpus (more clips are another corpus); give "
                "another output, or remove its checkpoints folder to begin again"
            )
        self.module.load_state_dict(state["module"])
        self._optimiser.load_state_dict(state["optimiser"])
        self.step, self.points = state["step"], [(step, name, value) for step, name, value in state["points"]]

    def save(self) -> None:
        """Write the checkpoint, replacing the previous one."""
        buffer = io.BytesIO()
        state = {
            "identity": self._identity,
            "step": self.step,
            "points": self.points,
            "module": self.module.state_dict(),
            "optimiser": self._optimiser.state_dict(),
        }
        torch.save(state, buffer)
        write_bytes(buffer.getvalue(), self._uri)

    def train(
        self,
        loss_of: Callable[[int], Tensor],
        validate: Callable[[], Mapping[str, float]],
        *,
        every: int,
        on_step: Callable[[], object] = lambda: None,
    ) -> None:
        """Do the remaining steps; `loss_of` computes the loss of a step, and `validate` the metrics of a learning
        curve.

        Every `every` steps, and at the end, a point of the learning curves and a checkpoint are written.
        """
        losses: list[float] = []
        while self.step < self.steps:
            self.module.train()
            # Dropout draws from the global state.
            torch.manual_seed(self._seed * 1_000_003 + self.step)
            for group in self._optimiser.param_groups:
                group["lr"] = learning_rate(self.step, self.steps, self._highest)
            loss = loss_of(self.step)
            if not torch.isfinite(loss):
                raise FloatingPointError(
                    f"the loss of {self.name} is {loss.item()} at step {self.step}: lower {self.name}.learning_rate"
                )
            self._optimiser.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(self.module.parameters(), CLIP)
            self._optimiser.step()
            self.step += 1
            losses.append(loss.item())
            if self.step == self.steps or self.step % every == 0:
                self.points.append((self.step, f"{self.name}/loss", sum(losses) / len(losses)))
                losses.clear()
                self.module.eval()
                with torch.no_grad():
                    self.points += [(self.step, f"{self.name}/{key}", value) for key, value in validate().items()]
                self.save()
            on_step()
        self.module.eval()

"""A module that is trained: its gradients over workers and micro-batches, its optimiser, and its averaged weights."""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from models.fast.compiled import compile_problem
from models.fast.private_cache import keep_inductor_private
from pipeline.storage.model_cache import cache_explained, cache_folder
from pipeline.training.settings import OptimiserSettings
from pipeline.training.world import World


def learning_rate(settings: OptimiserSettings, peak: float, step: int) -> float:
    """Learning rate of a step: a linear rise from 0, a constant part, and a linear fall to 0.

    It depends only on the step.
    """
    rate = peak * min(1.0, (step + 1) / max(1, settings.warmup))
    falling = settings.decay * settings.steps
    return rate * min(1.0, (settings.steps - step) / falling) if falling else rate


class Learner:
    """Trains the parameters of a module that require gradients.

    The loss is the mean over the samples of a step, whatever the number of workers and micro-batches: the gradient of
    each sample is weighted by 1 / samples of the step.
    """

    def __init__(self, module: nn.Module, settings: OptimiserSettings, peak: float, world: World) -> None:
        self.module, self._settings, self._peak, self._world = module, settings, peak, world
        self._trained = {name: p for name, p in module.named_parameters() if p.requires_grad}
        alone = world.size == 1
        if settings.compile and world.device.type == "cpu" and (problem := compile_problem()):
            raise RuntimeError(f"optimiser.compile: {problem}, or set it to false")
        if settings.compile:
            with cache_explained():
                keep_inductor_private(cache_folder())
        called: nn.Module = torch.compile(module) if settings.compile else module  # type: ignore[assignment]
        # This module is called in training. Every parameter gets a gradient in every step, so DDP need not search for
        # unused ones.
        self.run: nn.Module = called if alone else DistributedDataParallel(called, broadcast_buffers=False)
        # Adam's betas are PyTorch's defaults, because the paper names none.
        self._adam = torch.optim.Adam(self._trained.values(), peak)
        self._average = {name: p.detach().clone() for name, p in self._trained.items()} if settings.ema else {}
        self._updates = 0

    @contextmanager
    def micro_batch(self, last: bool) -> Iterator[None]:
        """Context for the forward and backward pass of a part of the step.

        Workers exchange gradients only with the last part.
        """
        waits = not last and isinstance(self.run, DistributedDataParallel)
        with self.run.no_sync() if waits else nullcontext():  # type: ignore[operator]
            yield

    def backward(self, losses: Tensor, samples: int) -> None:
        """Add the gradients of per-sample losses (b,); `samples` is the number in the whole step, over all workers."""
        # Gradients are averaged over workers, but we want the mean over all samples.
        (losses.sum() * self._world.size / samples).backward()

    def step(self, step: int) -> Tensor:
        """Update the weights and return the gradient norm () before clipping."""
        limit = self._settings.clip or float("inf")
        norm = torch.nn.utils.clip_grad_norm_(self._trained.values(), limit)
        for group in self._adam.param_groups:
            group["lr"] = learning_rate(self._settings, self._peak, step)
        self._adam.step()
        self._adam.zero_grad()
        self._updates += 1
        # The average starts short, because otherwise it would contain initial values for thousands of steps.
        decay = min(self._settings.ema, (1 + self._updates) / (10 + self._updates))
        with torch.no_grad():
            for name, value in self._average.items():
                value.lerp_(self._trained[name], 1 - decay)
        return norm

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """Inside this context, the module has its averaged weights."""
        kept = {name: self._trained[name].detach().clone() for name in self._average}
        self._load(self._average)
        try:
            yield
        finally:
            self._load(kept)

    def _load(self, values: dict[str, Tensor]) -> None:
        with torch.no_grad():
            for name, value in values.items():
                self._trained[name].copy_(value)

    def state(self) -> dict[str, Any]:
        """Everything that the next step depends on."""
        return {
            "weights": {name: p.detach() for name, p in self._trained.items()},
            "average": self._average,
            "updates": self._updates,
            "adam": self._adam.state_dict(),
        }

    def load(self, state: dict[str, Any]) -> None:
        """Continue from `state()`. Raises KeyError or RuntimeError if it belongs to another module."""
        if state["weights"].keys() != self._trained.keys():
            raise KeyError("the parameters in the checkpoint differ from those that this model trains")
        self._load(state["weights"])
        self._average = {name: value.to(self._trained[name].device) for name, value in state["average"].items()}
        self._updates = state["updates"]
        self._adam.load_state_dict(state["adam"])

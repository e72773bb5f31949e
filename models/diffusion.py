"""Diffusion of motion latents, the paper's alternative to flow matching: cosine schedule, 500 steps, DDIM.

The transformer then predicts the noise (epsilon) or the clean motion (x0) at step k of

    x_k = sqrt(a_k) x0 + sqrt(1 - a_k) epsilon,    a_k the schedule's cumulative product, k = 0 ... 499
"""

import math
from functools import cache

import torch
from torch import Tensor

from models.config import Objective
from models.flow import Field

STEPS = 500
LEAST_SIGNAL = 1e-3
"""Sampling starts at the last step whose a_k is at least this. Beyond it, x0 is computed by dividing by sqrt(a_k),
which amplifies errors of the prediction by as much. What is left out is a thousandth of the signal's power.
"""


@cache
def cosine_schedule(steps: int = STEPS) -> Tensor:
    """a_k (steps,) float64: squared cosine (Nichol & Dhariwal, arXiv 2102.09672, eq. 17), each beta below 0.999."""
    k = torch.arange(steps + 1, dtype=torch.float64)
    f = torch.cos((k / steps + 0.008) / 1.008 * math.pi / 2) ** 2
    beta = (1 - f[1:] / f[:-1]).clamp(max=0.999)
    return torch.cumprod(1 - beta, dim=0)


def noised(x0: Tensor, noise: Tensor, step: Tensor) -> Tensor:
    """x_k of motion (B,...) and noise (B,...) at steps (B,) of integers."""
    signal = cosine_schedule().to(x0.device)[step].to(x0.dtype).view(-1, *[1] * (x0.dim() - 1))
    return signal.sqrt() * x0 + (1 - signal).sqrt() * noise


def sampling_steps(nfe: int) -> list[int]:
    """Numbers of the steps that DDIM visits with `nfe` evaluations, the noisiest first."""
    first = int((cosine_schedule() >= LEAST_SIGNAL).sum()) - 1
    if not 1 <= nfe <= first + 1:
        raise ValueError(f"ddim takes 1 to {first + 1} evaluations, got {nfe}")
    return torch.linspace(first, 0, nfe).round().int().tolist() if nfe > 1 else [first]


def ddim(prediction: Field, x: Tensor, *, nfe: int, objective: Objective) -> Tensor:
    """Clean motion (B,...) from noise x, deterministic (eta = 0; Song et al., arXiv 2010.02502, eq. 12).

    `prediction`: (x (B,...), number of the step (B,)) -> noise or clean motion, by `objective`. It is evaluated `nfe`
    times.
    """
    if objective == "flow":
        raise ValueError("ddim samples diffusion models; this one was trained for flow matching")
    steps = sampling_steps(nfe)
    schedule = cosine_schedule()
    for step, following in zip(steps, [*steps[1:], None], strict=True):
        a = float(schedule[step])
        found = prediction(x, x.new_full((len(x),), step))
        clean = found if objective == "x0" else (x - math.sqrt(1 - a) * found) / math.sqrt(a)
        if following is None:
            return clean
        noise = found if objective == "epsilon" else (x - math.sqrt(a) * clean) / math.sqrt(1 - a)
        b = float(schedule[following])
        x = math.sqrt(b) * clean + math.sqrt(1 - b) * noise
    raise AssertionError

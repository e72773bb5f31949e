"""Sampling the flow: classifier-free guidance of the vector field, and solvers for dx/dt = v(x, t) from t = 0 to 1."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from models.solvers import EVALUATIONS_PER_STEP, check_solver

Field = Callable[[Tensor, Tensor], Tensor]
"""v(x (B,...), t (B,)) -> (B,...)."""


# --- Guidance --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Branch:
    """One set of conditions for the vector field: which conditions are kept, and the weight of each clip (B,), or of
    each of its current frames (B,L) where a scale changes within the window.
    """

    reference: bool
    audio: bool
    emotion: bool
    weight: Tensor


def guidance_branches(audio_scale: Tensor, emotion_scale: Tensor, reference_scale: Tensor) -> list[Branch]:
    """Branches of the guided field whose weight is not zero for every clip; scales (B,), or (B,1) and (B,L) by frame.

    FLOAT's classifier-free vector field with one more step, for the reference motion:

        v = v()  +  r (v(ref) - v())  +  a (v(ref, audio) - v(ref))  +  e (v(ref, audio, emotion) - v(ref, audio))

    Sorted by branch the weights are 1 - r, r - a, a - e and e; they sum to 1. With r = 1 this is the paper's
    field, with all scales 1 a single branch remains, and a = e drops the third.
    """
    a, e, r = torch.broadcast_tensors(audio_scale, emotion_scale, reference_scale)
    branches = [
        Branch(reference=False, audio=False, emotion=False, weight=1 - r),
        Branch(reference=True, audio=False, emotion=False, weight=r - a),
        Branch(reference=True, audio=True, emotion=False, weight=a - e),
        Branch(reference=True, audio=True, emotion=True, weight=e),
    ]
    return [branch for branch in branches if bool((branch.weight != 0).any())]


# --- Solvers ---------------------------------------------------------------------------------------------------


class NfeExhaustedError(RuntimeError):
    """The adaptive solver did not reach t = 1 with the allowed evaluations."""


def integrate(field: Field, x: Tensor, *, nfe: int, solver: str = "euler", tolerance: float = 1e-3) -> Tensor:
    """x(1) from x(0) = x (B,...).

    Args:
        nfe: number of evaluations of `field`, exact for the fixed-step solvers. For dopri5 it is the limit.
        solver: euler, midpoint, heun, rk4 or dopri5 (Dormand-Prince 5(4) with step-size control).
        tolerance: dopri5's relative and absolute error allowed in each step.

    Raises: ValueError for an nfe that the solver cannot spend, NfeExhaustedError where dopri5 needs more.
    """
    check_solver(solver, nfe)
    if solver == "dopri5":
        return _dopri5(field, x, limit=nfe, tolerance=tolerance)
    step = {"euler": _euler, "midpoint": _midpoint, "heun": _heun, "rk4": _rk4}[solver]
    steps = nfe // EVALUATIONS_PER_STEP[solver]
    for i in range(steps):
        x = step(field, x, x.new_full((len(x),), i / steps), 1 / steps)
    return x


def _euler(field: Field, x: Tensor, t: Tensor, h: float) -> Tensor:
    return x + h * field(x, t)


def _midpoint(field: Field, x: Tensor, t: Tensor, h: float) -> Tensor:
    return x + h * field(x + h / 2 * field(x, t), t + h / 2)


def _heun(field: Field, x: Tensor, t: Tensor, h: float) -> Tensor:
    k1 = field(x, t)
    return x + h / 2 * (k1 + field(x + h * k1, t + h))


def _rk4(field: Field, x: Tensor, t: Tensor, h: float) -> Tensor:
    k1 = field(x, t)
    k2 = field(x + h / 2 * k1, t + h / 2)
    k3 = field(x + h / 2 * k2, t + h / 2)
    k4 = field(x + h * k3, t + h)
    return x + h / 6 * (k1 + 2 * k2 + 2 * k3 + k4)


# Dormand-Prince 5(4): nodes, stages, and the difference of the 5th- and 4th-order weights. The last stage is the
# 5th-order solution itself, so that its slope serves as the first one of the next step.
_NODES = (1 / 5, 3 / 10, 4 / 5, 8 / 9, 1.0, 1.0)
_STAGES = (
    (1 / 5,),
    (3 / 40, 9 / 40),
    (44 / 45, -56 / 15, 32 / 9),
    (19372 / 6561, -25360 / 2187, 64448 / 6561, -212 / 729),
    (9017 / 3168, -355 / 33, 46732 / 5247, 49 / 176, -5103 / 18656),
    (35 / 384, 0.0, 500 / 1113, 125 / 192, -2187 / 6784, 11 / 84),
)
_ERROR = (71 / 57600, 0.0, -71 / 16695, 71 / 1920, -17253 / 339200, 22 / 525, -1 / 40)


def _dopri5(field: Field, x: Tensor, *, limit: int, tolerance: float) -> Tensor:
    """Every clip of the batch has its own time and step size, so that its result does not depend on the others."""

    def each(values: Tensor) -> Tensor:  # (B,) -> (B,1,1...), to multiply with x
        return values.view(-1, *[1] * (x.dim() - 1))

    t = x.new_zeros(len(x))
    h = x.new_full((len(x),), 0.1)
    slope = field(x, t)
    used = 1
    while bool((t < 1).any()):
        if used + 6 > limit:
            raise NfeExhaustedError(
                f"dopri5 reached t = {t.min().item():.3f} of 1 within nfe = {limit} evaluations at tolerance "
                f"{tolerance:g}; raise nfe, loosen the tolerance or use a fixed-step solver"
            )
        h = torch.minimum(h, 1 - t)  # 0 for a clip that has arrived, so that its x and t stay as they are
        slopes = [slope]
        y = x
        for node, stage in zip(_NODES, _STAGES, strict=True):
            y = x + each(h) * sum(c * k for c, k in zip(stage, slopes, strict=True) if c)
            slopes.append(field(y, t + node * h))
        used += 6
        error = each(h) * sum(c * k for c, k in zip(_ERROR, slopes, strict=True) if c)
        allowed = tolerance * (1 + torch.maximum(x.abs(), y.abs()))
        ratio = (error / allowed).square().flatten(1).mean(1).sqrt()  # (B,); the step is accepted up to 1
        good = ratio <= 1
        x = torch.where(each(good), y, x)
        slope = torch.where(each(good), slopes[-1], slope)
        # Rounding must not leave a clip just before 1: a last step of the whole remaining time ends exactly there.
        t = torch.where(good, torch.where(h >= 1 - t, torch.ones_like(t), t + h), t)
        h = h * (0.9 * ratio.clamp(min=1e-8) ** -0.2).clamp(0.2, 5.0)
    return x

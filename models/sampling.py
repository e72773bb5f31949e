"""How a model is sampled: by an ODE solver if it was trained for flow matching, by DDIM if it is a diffusion model.

Who reads a manifest asks here too, so PyTorch, which takes seconds to import, is imported by who samples.
"""

from typing import TYPE_CHECKING

from models.config import Objective
from models.solvers import SOLVERS, check_solver

if TYPE_CHECKING:
    from torch import Tensor

    from models.flow import Field

SAMPLERS = ("auto", *SOLVERS, "ddim")


def choose_sampler(objective: Objective, sampler: str) -> str:
    """What `auto` means for a model. Raises ValueError for a sampler that does not suit its objective."""
    if sampler == "auto":
        return "euler" if objective == "flow" else "ddim"
    if (sampler == "ddim") == (objective == "flow"):
        fits = ", ".join(SOLVERS) if objective == "flow" else "ddim"
        raise ValueError(f"{sampler} cannot sample a model whose objective is {objective}; use one of auto, {fits}")
    return sampler


def default_nfe(objective: Objective) -> int:
    """The paper's number of evaluations: 10 steps of the flow, 50 of DDIM."""
    return 10 if objective == "flow" else 50


def check_nfe(sampler: str, nfe: int) -> None:
    """Raise ValueError unless `sampler` (not auto) can use `nfe` evaluations."""
    if sampler == "ddim":
        from models.diffusion import sampling_steps

        sampling_steps(nfe)
    else:
        check_solver(sampler, nfe)


def sample(
    field: "Field", noise: "Tensor", *, objective: Objective, nfe: int, sampler: str = "auto", tolerance: float = 1e-3
) -> "Tensor":
    """Motion (B,...) from noise, depending on what the model predicts: `field` (x, t), with t as in
    `MotionTransformer.forward`.
    """
    from models.diffusion import ddim
    from models.flow import integrate

    sampler = choose_sampler(objective, sampler)
    if sampler == "ddim":
        return ddim(field, noise, nfe=nfe, objective=objective)
    return integrate(field, noise, nfe=nfe, solver=sampler, tolerance=tolerance)

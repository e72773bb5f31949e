"""The solvers of the flow by name, and what each can spend. `models.flow` has their steps; this needs no PyTorch."""

EVALUATIONS_PER_STEP = {"euler": 1, "midpoint": 2, "heun": 2, "rk4": 4}
SOLVERS = (*EVALUATIONS_PER_STEP, "dopri5")


def check_solver(solver: str, nfe: int) -> None:
    """Raise ValueError unless `solver` exists and can spend exactly (dopri5: at most) `nfe` evaluations."""
    if solver not in SOLVERS:
        raise ValueError(f"unknown solver {solver!r}; allowed: {', '.join(SOLVERS)}")
    if solver == "dopri5":
        if nfe < 7:
            raise ValueError(f"dopri5 needs nfe of at least 7, because its first step takes 7 evaluations; got {nfe}")
    elif nfe < 1 or nfe % EVALUATIONS_PER_STEP[solver]:
        each = EVALUATIONS_PER_STEP[solver]
        raise ValueError(f"{solver} takes {each} evaluations per step, so nfe must be a multiple of {each}, got {nfe}")
